"""The types of params.yaml's values, and what pydantic checks of them."""

import difflib
import re
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, PlainValidator
from pydantic.dataclasses import dataclass

STRICT = ConfigDict(extra="forbid")  # of every section


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
    """A name that transformers knows; it is only loaded for names that are not common."""
    if value not in ("adamw_torch_fused", "adamw_torch", "adafactor", "sgd"):
        from transformers.training_args import OptimizerNames

        _require_known(value, [name.value for name in OptimizerNames], "optimizer")
    return value


def _scheduler(value: str) -> str:
    if value not in ("linear", "cosine", "constant", "constant_with_warmup"):
        from transformers.trainer_utils import SchedulerType

        _require_known(value, [name.value for name in SchedulerType], "schedule")
    return value


def _integration(value: str) -> str:
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    _require_known(value, list(INTEGRATION_TO_CALLBACK), "logger")
    return value


def _require_known(value: str, names: list[str], kind: str) -> None:
    if value not in names:
        near = difflib.get_close_matches(value, names, n=1)
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
