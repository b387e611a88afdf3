"""A training from base to reward model: set up, run, and resumed if it was interrupted or its device failed."""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from datasets import Dataset
from peft.tuners.lora import LoraModel
from transformers import PreTrainedModel
from transformers.trainer_callback import PrinterCallback

from reward_model.common.errors import UserError, first_line
from reward_model.contract.base_tokenizer import load_transformers_tokenizer
from reward_model.contract.encoder import Encoder
from reward_model.modeling.batching import MAX_RESPONSES_PER_GROUP, Layout, pairs_to_groups
from reward_model.modeling.busy_processor import share_processor
from reward_model.modeling.device_check import Compute, choose_compute
from reward_model.modeling.devices import choose_dtype, fsdp_enabled, world_size
from reward_model.modeling.forward import get_layout, rewards, share_prefixes
from reward_model.modeling.processes import telling_of_lost_processes
from reward_model.params import TrainParams
from reward_model.training.adapter import Adapter
from reward_model.training.callbacks import EvaluationCallback, ProgressBar, ResumeAndStopCallback, say
from reward_model.training.checkpoints import Checkpoints
from reward_model.training.compact_embeddings import train_used_embeddings_only
from reward_model.training.config import (
    check_options,
    effective_batch_size,
    evaluation_interval,
    reward_config,
    training_plan,
    why_nothing_is_chosen,
)
from reward_model.training.curve import EVAL_KEYS, CurveCallback, build_curve
from reward_model.training.distributed import is_main_process, require_known_sharding, setup_fsdp, unshard
from reward_model.training.freezing import freeze_layers
from reward_model.training.interrupt import StopRequest, catch_stop_signals
from reward_model.training.lean_layers import lean_layers
from reward_model.training.loggers import dvclive_callback
from reward_model.training.lora import ADAPTER_NAME, lora_adapters
from reward_model.training.oom import DeviceFailed, release_memory
from reward_model.training.rankings import count_rankings, set_ranking_sizes
from reward_model.training.resuming import agreed_checkpoint
from reward_model.training.sampler import PairCollator, TrainingPlan, labelled_row
from reward_model.training.trainer import PairTrainer
from reward_model.training.validation import Validation


@dataclass(frozen=True)
class TrainingResult:
    """What a training run says of itself.

    Attributes:
        summary: for metrics/train.json.
        curve: the points of the training curves.
        unseen: by number of the pair, margins that the model gave pairs of prompts before it was trained on any of the
            prompt, late in the training; empty where the weights are not those of the end of its only epoch.
        weights: all of them, on the main process, if the model holds only a share of each (FSDP); else None.
        adapter: with LoRA, what was merged into the model.
    """

    summary: dict[str, Any]
    curve: list[dict[str, Any]] = field(default_factory=list)
    unseen: dict[int, float] = field(default_factory=dict)
    weights: dict[str, torch.Tensor] | None = None
    adapter: Adapter | None = None


@dataclass
class Training:
    """What stays the same when a training moves to another device."""

    model: PreTrainedModel
    encoder: Encoder
    pairs: list[dict[str, Any]]
    validation: list[dict[str, Any]]
    params: TrainParams
    checkpoints: Checkpoints
    compact_ids: torch.Tensor  # the model's id of every token
    stop: StopRequest
    curve_file: Path | None

    def on(self, compute: Compute) -> PairTrainer:
        """Train on one device to the end.

        Raises:
            DeviceFailed: the device could not go on. What was done up to the last whole step is saved, if the device
                still gives it away.
            KeyboardInterrupt: a stop was requested; what was done is saved.
        """
        layout = share_prefixes(self.model, compute.device)
        self.checkpoints.clear_unfinished()
        trainer = self._trainer(compute, layout)
        if fsdp_enabled():
            setup_fsdp(self.model, trainer, compute)
        with agreed_checkpoint(self.checkpoints) as latest:
            self._run(trainer, compute, latest)
        if self.stop.requested and trainer.state.global_step < trainer.state.max_steps and not trainer.stopped_early:
            say(f"interrupted: checkpoint {trainer.state.global_step} is saved, and the same command resumes from it")
            raise KeyboardInterrupt
        return trainer

    def _run(self, trainer: PairTrainer, compute: Compute, latest: Path | None) -> None:
        """Train from the start, or from a checkpoint."""
        if latest is not None:
            trainer.restore_counts(latest)
            if is_main_process():
                say(f"resumes from {latest}")
        labelled = sum(number < trainer.labelled for number in trainer.plan.comparisons)
        progress = ProgressBar(trainer, labelled)
        trainer.add_callback(progress)
        if self.curve_file is not None:
            trainer.add_callback(CurveCallback(self.curve_file))
        interval = evaluation_interval(self.params.eval_steps, len(trainer.plan.steps))
        if "dvclive" in self.params.report_to and is_main_process():
            trainer.add_callback(dvclive_callback(resumes=latest is not None))
        if trainer.validation is not None and interval is not None:
            trainer.add_callback(EvaluationCallback(interval))
        trainer.add_callback(ResumeAndStopCallback(trainer, self.stop))
        with closing(progress.bar), lean_layers(self.model), telling_of_lost_processes():
            try:
                trainer.train(resume_from_checkpoint=None if latest is None else str(latest))
            except DeviceFailed as failure:
                _rescue(trainer)
                self._require_state(trainer, failure)
                raise
            except RuntimeError as error:  # outside of the steps' forward and backward passes; weights may be half new
                if compute.device.type == "cpu" or world_size() > 1:
                    raise
                failure = DeviceFailed(first_line(error))
                self._require_state(trainer, failure)
                raise failure from None

    def _require_state(self, trainer: PairTrainer, failure: DeviceFailed) -> None:
        if trainer.state.global_step and self.checkpoints.latest() is None:
            raise UserError(f"the device failed, and nothing could be saved ({failure}): set train.device: cpu")

    def _trainer(self, compute: Compute, layout: Layout) -> PairTrainer:
        plan = training_plan(self.pairs, self.params, layout)
        if plan.prompts_in_parts and is_main_process():
            say(
                f"prompts with more than {plan.effective_batch} comparisons or {MAX_RESPONSES_PER_GROUP} responses, "
                f"trained in parts: {plan.prompts_in_parts}"
            )
        config = reward_config(self.params, compute, self.checkpoints.staging, len(plan.steps))
        padding = min(self.pairs, key=lambda pair: len(pair["chosen_ids"]) + len(pair["rejected_ids"]))
        rows = [
            labelled_row(pair, number, weight)
            for number, (pair, weight) in enumerate(zip([*self.pairs, padding], [*plan.weights, 0.0], strict=True))
        ]
        rank = self.params.loss == "plackett_luce"
        collate = PairCollator(self.encoder.contract.pad_token_id, layout, self.compact_ids, rank)
        rankings = self._find_rankings(rows, plan) if rank else 0
        trainer = PairTrainer(
            model=self.model,
            args=config,
            processing_class=load_transformers_tokenizer(self.encoder.folder),
            data_collator=collate,
            train_dataset=Dataset.from_list(rows),
            params=self.params,
            labelled=self._labelled(),
            pair_ids=[str(pair.get("id", number)) for number, pair in enumerate(self.pairs)],
            plan=plan,
            rankings=rankings,
            validation=self._validation(collate, len(plan.steps)),
            checkpoints=self.checkpoints,
            on_cpu=compute.device.type == "cpu",
        )
        trainer.remove_callback(PrinterCallback)
        return trainer

    def _find_rankings(self, rows: Sequence[dict[str, Any]], plan: TrainingPlan) -> int:
        """How many rankings among the rows, of which the last counts for nothing, have one loss; says so."""
        set_ranking_sizes(rows[:-1])
        rankings, ranked = count_rankings(rows, plan.micro_batches)
        told = f"rankings with one loss: {rankings}, of {ranked} comparisons"
        if others := self._labelled() - ranked:
            told += (
                f"; {others} others are trained on as pairs (ties, soft labels, margins, a comparison missing, or more "
                f"of them than an effective batch of {plan.effective_batch})"
            )
        if is_main_process():
            say(told)
        return rankings

    def _labelled(self) -> int:
        return sum(not pair.get("degenerate") for pair in self.pairs)

    def _validation(self, collate: PairCollator, steps: int) -> Validation | None:
        rows = self.validation
        reason = why_nothing_is_chosen(self.params, len({row["prompt_id"] for row in rows}), steps)
        if reason is not None and is_main_process():
            say(reason)
        return Validation(rows, self.params.per_device_train_batch_size, collate) if rows else None


def train(
    model: PreTrainedModel,
    encoder: Encoder,
    pairs: list[dict[str, Any]],
    params: TrainParams,
    checkpoints: Checkpoints | None = None,
    validation: Sequence[dict[str, Any]] = (),
    curve_file: Path | None = None,
) -> TrainingResult:
    """Train `model` in place on rows of data/tokens.

    Args:
        model: a reward model in float32, on the CPU.
        encoder: its encoder.
        pairs: the rows, degenerate ones last; `weight` (1 if absent) is the pair's in the loss.
        params: the section of params.yaml.
        checkpoints: of this training, which resumes from the last. None: for this call only.
        validation: rows to evaluate on, of which the first `params.eval_pairs` are taken.
        curve_file: gets the training curves while the training runs.

    Raises:
        UserError: a param does not fit, a loss or gradient is not finite, memory is too small, or a file not written.
        KeyboardInterrupt: SIGINT or SIGTERM came; a checkpoint is saved.
    """
    require_known_sharding()
    check_options(params)
    groups, pad_token_id = pairs_to_groups(pairs), encoder.contract.pad_token_id
    compute = choose_compute(model, groups, pad_token_id, params.device, params.precision, gradients=True)
    with ExitStack() as stack:
        stack.enter_context(_rewards_as_forward(model))
        if checkpoints is None:
            checkpoints = Checkpoints(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "states")
        adapted = stack.enter_context(lora_adapters(model, params.lora))
        frozen = stack.enter_context(freeze_layers(model, params.freeze_layers))
        evaluated = list(validation[: params.eval_pairs]) if params.eval_steps is not None else []
        used = [*groups, *pairs_to_groups(evaluated)]
        compact_ids = stack.enter_context(train_used_embeddings_only(used, model, pad_token_id, params))
        stop = stack.enter_context(catch_stop_signals())
        training = Training(model, encoder, pairs, evaluated, params, checkpoints, compact_ids, stop, curve_file)
        trainer, compute = _train_where_possible(training, compute)
        weights = trainer.restore_best()
        adapter = None if adapted is None else _copy_adapter(adapted, model, weights)
    weights = model.state_dict() if adapter is not None and weights else weights  # merged
    summary = summarize(trainer, params, compute, get_layout(model), frozen)
    return TrainingResult(summary, build_curve(trainer.state.log_history), trainer.unseen_margins(), weights, adapter)


def _copy_adapter(adapted: LoraModel, model: PreTrainedModel, weights: dict[str, torch.Tensor] | None) -> Adapter:
    """The adapter as trained; `weights` if the model holds only a share of each, to be merged into its whole ones."""
    if weights:
        unshard(model, weights)
    return Adapter.copy_from(adapted, ADAPTER_NAME)


@contextmanager
def _rewards_as_forward(model: PreTrainedModel) -> Iterator[None]:
    """Have the model compute rewards of batches while the context lasts.

    By an instance attribute, so that what wraps the model (autocast, DDP) calls it as it would the class's own.
    """
    model.forward = partial(rewards, model)
    try:
        yield
    finally:
        del model.forward


def _train_where_possible(training: Training, compute: Compute) -> tuple[PairTrainer, Compute]:
    """Train to the end, on the CPU if the device fails; says where."""
    share_processor()
    try:
        return training.on(compute), compute
    except DeviceFailed as failure:
        compute = _moved_to_cpu(training, compute, str(failure))
        return training.on(compute), compute


def summarize(
    trainer: PairTrainer, params: TrainParams, compute: Compute, layout: Layout, frozen_layers: int
) -> dict[str, Any]:
    """What metrics/train.json says of a training."""
    return {
        "pairs": trainer.totals.pairs,
        "degenerate": len(trainer.pair_ids) - trainer.labelled,
        "layers": int(cast(Any, trainer.model).config.get_text_config().num_hidden_layers),
        "frozen_layers": frozen_layers,
        "steps": trainer.state.global_step,
        "effective_batch": effective_batch_size(params),
        "device": compute.device.type,
        "precision": "bf16" if compute.dtype == torch.bfloat16 else "fp32",
        "device_problems": list(compute.problems),
        "step_downs": trainer.step_downs,
        "layout": layout.__name__.removesuffix("_batch"),
        "rankings": trainer.rankings,
        "ties": trainer.totals.ties,
        **trainer.totals.means(),
        "kept_step": trainer.kept_step,
        "stopped_early": trainer.stopped_early,
        **_figures_at(trainer.kept_step, trainer),
    }


def _figures_at(step: int, trainer: PairTrainer) -> dict[str, float]:
    """What was found on the validation pairs after a step, if they were looked at."""
    entries = [entry for entry in trainer.state.log_history if "eval_loss" in entry and entry["step"] == step]
    return {key: entry[key] for entry in entries for key in EVAL_KEYS}


def _rescue(trainer: PairTrainer) -> None:
    """Save what a failing device still gives away: the state after the last whole step."""
    try:
        trainer._save_checkpoint(trainer.model, None)  # pyright: ignore[reportArgumentType]
    except (RuntimeError, OSError) as error:
        print(f"the device gives its state away no more ({first_line(error)})", file=sys.stderr)


def _moved_to_cpu(training: Training, compute: Compute, fault: str) -> Compute:
    """Have the CPU take over.

    Raises:
        UserError: the device does not even give the model away.
    """
    finding = f"{compute.device.type} failed in training: {fault}"
    say(f"{finding}; the CPU takes over")
    try:
        release_memory()
        training.model.to("cpu")  # pyright: ignore[reportArgumentType]
    except RuntimeError:
        raise UserError(f"{finding}, and it does not answer any more: set train.device: cpu and run again") from None
    cpu = torch.device("cpu")
    dtype = choose_dtype(training.params.precision, cpu)
    return replace(compute, device=cpu, dtype=dtype, problems=(*compute.problems, finding))
