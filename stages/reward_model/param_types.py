"""The types of params.yaml's values, and what pydantic checks of them."""

import difflib
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, PlainValidator
from pydantic.dataclasses import dataclass

STRICT = ConfigDict(extra="forbid")  # of every section

# What is asked for mostly, the first of a kind first; transformers is only loaded for other names.
COMMON_OPTIMIZERS = ("adamw_torch", "adamw_torch_fused", "adafactor", "sgd", "adagrad", "rmsprop")
SCHEDULES = (
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
    "reduce_lr_on_plateau",
    "greedy",
)
SCHEDULES_WITH_SETTINGS = ("cosine_with_min_lr", "cosine_warmup_with_min_lr", "warmup_stable_decay")


def _not_bool(value: Any) -> Any:
    """YAML's true is no number, though Python's is 1."""
    if isinstance(value, bool):
        raise ValueError("a number is wanted, not true or false")
    return value


def _steps_or_share(value: float) -> float:
    """A number of steps, or below 1 a share of them."""
    if value >= 1 and value != int(value):
        raise ValueError("a whole number of steps, or a share below 1, is wanted")
    return value


def _optimizer(value: str) -> str:
    """A name that transformers knows."""
    if value not in COMMON_OPTIMIZERS:
        from transformers.training_args import OptimizerNames

        names = dict.fromkeys((*COMMON_OPTIMIZERS, *(name.value for name in OptimizerNames)))
        _require_known(value, list(names), "optimizer")
    return value


def _scheduler(value: str) -> str:
    """One of transformers' that needs no settings."""
    if value in SCHEDULES_WITH_SETTINGS:
        raise ValueError(f"it needs lr_scheduler_kwargs, which cannot be set; without work {', '.join(SCHEDULES)}")
    _require_known(value, SCHEDULES, "schedule")
    return value


def _integration(value: str) -> str:
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    _require_known(value, list(INTEGRATION_TO_CALLBACK), "logger")
    return value


def _require_known(value: str, names: Sequence[str], kind: str) -> None:
    """Refuse other names, with the first that begins with what was typed, or the nearest."""
    if value not in names:
        typed = value.lower()
        longer = [name for name in names if typed and name.startswith(typed)]
        near = longer or difflib.get_close_matches(typed, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(names)}"
        raise ValueError(f"transformers has no such {kind} ({hint})")


def _target_modules(value: Any) -> Any:
    """Names of layers, or a regular expression over them, as peft takes them."""
    names = value if isinstance(value, list) else [value]
    fault = ValueError("all-linear, a list of names, or a regular expression is wanted")
    if not names or not all(isinstance(name, str) and name for name in names):
        raise fault
    if isinstance(value, str):
        try:
            re.compile(value)
        except re.error:
            raise fault from None
    return value


def _layers(value: Any) -> Any:
    """A number of layers, a share of them below 1, `auto`, or null for all."""
    value = yaml.safe_load(value) if isinstance(value, str) else value
    if value is None or value == "auto" or _is_number_or_share(value, 1):
        return value
    raise ValueError("auto, null, a number of layers, or a share of them below 1 is wanted")


def _frozen_layers(value: Any) -> Any:
    """A number of layers, or a share of them below 1."""
    value = yaml.safe_load(value) if isinstance(value, str) else value
    if _is_number_or_share(value, 0):
        return value
    raise ValueError("a number of layers, or a share of them below 1 is wanted")


def _is_number_or_share(value: Any, least: int) -> bool:
    """Whether it is a number of at least `least`, or a share between 0 and 1."""
    return value >= least if type(value) is int else type(value) is float and 0 < value < 1


Int = Annotated[int, BeforeValidator(_not_bool)]
Float = Annotated[float, BeforeValidator(_not_bool), Field(allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]
Optimizer = Annotated[str, AfterValidator(_optimizer)]
Scheduler = Annotated[str, AfterValidator(_scheduler)]
Logger = Annotated[str, AfterValidator(_integration)]
StepsOrShare = Annotated[Float, Field(gt=0), AfterValidator(_steps_or_share)]
TargetModules = Annotated[str | list[str], PlainValidator(_target_modules)]
Layers = Annotated[int | float | Literal["auto"] | None, PlainValidator(_layers)]
FrozenLayers = Annotated[int | float, PlainValidator(_frozen_layers)]


PreferenceFormat = Literal["auto", "probability", "index_from_0", "index_from_1", "signed"]


@dataclass(frozen=True, config=STRICT)
class DataSource:
    """One of several sources of pairs; columns that are not given are those of `DataParams`."""

    path: Text
    weight: Annotated[Float, Field(gt=0)] | None = None
    prompt_column: Text | None = None
    chosen_column: Text | None = None
    rejected_column: Text | None = None
    margin_column: Text | None = None
    source_column: Text | None = None
    preference_column: Text | None = None
    preference_format: PreferenceFormat | None = None
    system_column: Text | None = None


@dataclass(frozen=True, config=STRICT)
class LoraParams:
    """Low-rank adapters; the keys have the names and meanings they have in peft's LoraConfig."""

    enabled: bool = Field(
        description="train low-rank adapters (peft) and the reward head instead of all weights; merged when saved"
    )
    r: Annotated[Int, Field(ge=1)] = Field(description="rank of the adapters")
    lora_alpha: Annotated[Int, Field(ge=1)] = Field(description="adapters are scaled by lora_alpha / r")
    target_modules: TargetModules = Field(
        description="layers that get an adapter: `all-linear`, a list of names, or a regular expression"
    )
