"""A training from base to reward model: set up, run, and taken up again if it was cut off or its device failed."""

import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import PartialState
from datasets import Dataset
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from transformers import PreTrainedModel, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from trl.trainer.reward_config import RewardConfig

from reward_model.base_tokenizer import load_transformers_tokenizer
from reward_model.batching import Layout, groups_of, packed_batch, packed_length
from reward_model.checkpoints import Checkpoints, Interruption, interruption
from reward_model.device_check import Compute, choose_compute
from reward_model.devices import choose_dtype, processes, sharded
from reward_model.encoding import Encoder
from reward_model.errors import UserError
from reward_model.lean_layers import lean_layers
from reward_model.lora import lora_adapters
from reward_model.memory import DeviceFailed, release_memory
from reward_model.model import layout_of, reward_head, rewards, share_prefixes
from reward_model.pair_order import EffectiveBatchSampler, PairCollator, balanced
from reward_model.pair_trainer import PairTrainer, ProgressBar, Steward, say
from reward_model.params import TrainParams
from reward_model.vocabulary import vocabulary_of

CURVE_POINTS = 25
# What accelerate's launcher must have been told of FSDP: its default, and what is wanted. Weights are read whole by
# every process, which checks the model before it is shared out.
SHARDING = {
    "FSDP_VERSION": ("1", "2"),
    "FSDP_AUTO_WRAP_POLICY": ("NO_WRAP", "TRANSFORMER_BASED_WRAP"),
    "FSDP_CPU_RAM_EFFICIENT_LOADING": ("false", "false"),
    "FSDP_STATE_DICT_TYPE": ("SHARDED_STATE_DICT", "SHARDED_STATE_DICT"),
    "FSDP_OFFLOAD_PARAMS": ("false", "false"),
    "FSDP_ACTIVATION_CHECKPOINTING": ("false", "false"),
}
COLUMNS = ("chosen_ids", "rejected_ids", "margin")


@dataclass(frozen=True)
class TrainingResult:
    """What a training run says of itself.

    Attributes:
        summary: for metrics/train.json.
        curve: the points of the training curves.
        weights: all of them, on the main process, if the model holds only a share of each (FSDP); else None.
    """

    summary: dict[str, Any]
    curve: list[dict[str, float]] = field(default_factory=list)
    weights: dict[str, torch.Tensor] | None = None


@dataclass
class Training:
    """What stays the same when a training moves to another device."""

    model: PreTrainedModel
    encoder: Encoder
    pairs: list[dict[str, Any]]
    params: TrainParams
    checkpoints: Checkpoints
    new_ids: torch.Tensor  # the model's id of every token
    wish: Interruption

    def on(self, compute: Compute) -> PairTrainer:
        """Train on one device to the end.

        Raises:
            DeviceFailed: the device could not go on. What was done up to the last whole step is saved, if the device
                still gives it away.
            KeyboardInterrupt: somebody wished it; what was done is saved.
        """
        layout = share_prefixes(self.model, compute.device)
        self.checkpoints.clear_unfinished()
        trainer = self._trainer(compute, layout)
        if sharded():
            share_out(self.model, trainer, compute)
        latest = self.checkpoints.latest()
        if latest is not None:
            trainer.restore_counts(latest)
            say(f"goes on from {latest}")
        progress = ProgressBar(trainer, round(len(self.pairs) * self.params.num_train_epochs))
        trainer.add_callback(progress)
        trainer.add_callback(Steward(trainer, self.wish))
        with closing(progress.bar), lean_layers(self.model):
            try:
                trainer.train(resume_from_checkpoint=None if latest is None else str(latest))
            except DeviceFailed as failure:
                _rescue(trainer)
                self._require_state(trainer, failure)
                raise
            except RuntimeError as error:  # outside of the steps' forward and backward passes; weights may be half new
                if compute.device.type == "cpu" or processes() > 1:
                    raise
                failure = DeviceFailed(str(error).splitlines()[0])
                self._require_state(trainer, failure)
                raise failure from None
        if self.wish.asked and trainer.state.global_step < trainer.state.max_steps:
            say(f"interrupted: step {trainer.state.global_step} is saved, and the same command goes on from there")
            raise KeyboardInterrupt
        return trainer

    def _require_state(self, trainer: PairTrainer, failure: DeviceFailed) -> None:
        if trainer.state.global_step and self.checkpoints.latest() is None:
            raise UserError(f"the device failed, and nothing could be saved ({failure}): set train.device: cpu")

    def _trainer(self, compute: Compute, layout: Layout) -> PairTrainer:
        config = reward_config(self.params, compute, self.checkpoints.staging, len(self.pairs))
        lengths = [packed_length(group) for group in groups_of(self.pairs)]
        filling = min(self.pairs, key=lambda pair: packed_length(groups_of([pair])[0]))  # the shortest will do
        rows = [
            {"number": number, **{key: pair[key] for key in COLUMNS}}
            for number, pair in enumerate([*self.pairs, filling])
        ]
        trainer = PairTrainer(
            model=self.model,
            args=config,
            processing_class=load_transformers_tokenizer(self.encoder.folder),
            data_collator=PairCollator(self.encoder.contract.pad_token_id, layout, self.new_ids),
            train_dataset=Dataset.from_list(rows),
            params=self.params,
            pair_ids=[str(pair.get("id", number)) for number, pair in enumerate(self.pairs)],
            sampler=effective_batch_sampler(lengths, config, layout),
            checkpoints=self.checkpoints,
            on_cpu=compute.device.type == "cpu",
        )
        trainer.remove_callback(PrinterCallback)
        return trainer


def train(
    model: PreTrainedModel,
    encoder: Encoder,
    pairs: list[dict[str, Any]],
    params: TrainParams,
    checkpoints: Checkpoints | None = None,
) -> TrainingResult:
    """Train `model` in place on rows of data/tokens.

    Args:
        model: a reward model in float32, on the CPU.
        encoder: its encoder.
        pairs: the rows; `id` is told if a pair makes trouble.
        params: the section of params.yaml.
        checkpoints: of this training; what they hold is taken up again. None: for this call only.

    Raises:
        UserError: `params.device` is not on this machine, as `require_known_sharding`, the model lacks
            `params.lora.target_modules`, the loss is not finite, memory is too small for one pair, or `checkpoints`
            cannot be written.
        KeyboardInterrupt: SIGINT or SIGTERM came; the state is saved.
    """
    if sharded():
        require_known_sharding(params)
    groups = groups_of(pairs)
    pad_token_id = encoder.contract.pad_token_id
    compute = choose_compute(model, groups, pad_token_id, params.device, params.precision, gradients=True)
    # An instance attribute, so that what wraps the model (autocast, DDP) calls it as it would the class's own.
    model.forward = partial(rewards, model)
    with ExitStack() as stack:
        if checkpoints is None:
            checkpoints = Checkpoints(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "states")
        stack.enter_context(lora_adapters(model, params.lora))
        new_ids = stack.enter_context(vocabulary_of(groups, model, pad_token_id, params.weight_decay))
        wish = stack.enter_context(interruption())
        training = Training(model, encoder, pairs, params, checkpoints, new_ids, wish)
        try:
            trainer = training.on(compute)
        except DeviceFailed as failure:
            compute = _moved_to_cpu(training, compute, str(failure))
            trainer = training.on(compute)
    del model.forward
    return TrainingResult(
        summary_of(trainer, compute, layout_of(model)),
        curve_of(trainer.state.log_history),
        gathered_weights(model) if sharded() else None,
    )


def require_known_sharding(params: TrainParams) -> None:
    """Refuse what has not been tested with FSDP.

    Raises:
        UserError: LoRA, a single process, or another configuration of accelerate than the README's.
    """
    if params.lora.enabled:
        raise UserError("train.lora does not go with FSDP: set train.lora.enabled: false, or launch without FSDP")
    if processes() == 1:
        raise UserError("FSDP needs several processes: launch without it, or with num_processes: 2 or more")
    for variable, (default, wanted) in SHARDING.items():
        if os.environ.get(variable, default).upper() != wanted.upper():
            raise UserError(
                f"FSDP needs {variable.lower()}: {wanted} in accelerate's configuration (README.md has one)"
            )


def share_out(model: PreTrainedModel, trainer: PairTrainer, compute: Compute) -> None:
    """Prepare the model for FSDP, by which accelerate shares it out when training starts.

    Raises:
        UserError: accelerate will not do it, as on CPUs.
    """
    if not trainer.accelerator.is_fsdp2:
        raise UserError(f"accelerate has no FSDP for {compute.device.type}: launch without it")
    if compute.dtype == torch.bfloat16:
        # accelerate's own policy would also round the rewards, and the gradients' sums, to bfloat16.
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        cast(Any, trainer.accelerator.state.fsdp_plugin).mixed_precision_policy = policy
    # In a unit of its own, which keeps it in float32.
    fully_shard(reward_head(model))


def is_main_process() -> bool:
    """Whether this is the one process of a launch that writes the outputs."""
    return PartialState().is_main_process


def summary_of(trainer: PairTrainer, compute: Compute, layout: Layout) -> dict[str, Any]:
    """What metrics/train.json says of a training."""
    return {
        "pairs": trainer.totals.pairs,
        "steps": trainer.state.global_step,
        "effective_batch": effective_batch_of(trainer.args),
        "device": compute.device.type,
        "precision": "bf16" if compute.dtype == torch.bfloat16 else "fp32",
        "device_findings": list(compute.findings),
        "step_downs": trainer.step_downs,
        "layout": layout.__name__.removesuffix("_batch"),
        "ties": trainer.totals.ties,
        **trainer.totals.means(),
    }


def reward_config(params: TrainParams, compute: Compute, folder: Path, pairs: int) -> RewardConfig:
    """params.yaml's train section as TRL has it; `folder` is for checkpoints."""
    steps = pairs * params.num_train_epochs / (params.per_device_train_batch_size * params.gradient_accumulation_steps)
    config = RewardConfig(
        output_dir=str(folder),
        use_cpu=compute.device.type == "cpu",
        bf16=compute.dtype == torch.bfloat16,
        learning_rate=params.learning_rate,
        num_train_epochs=params.num_train_epochs,
        per_device_train_batch_size=params.per_device_train_batch_size,
        gradient_accumulation_steps=params.gradient_accumulation_steps,
        warmup_steps=params.warmup_ratio,
        lr_scheduler_type="linear",
        weight_decay=params.weight_decay,
        max_grad_norm=params.max_grad_norm,
        center_rewards_coefficient=params.center_rewards_coefficient,
        activation_checkpointing=params.gradient_checkpointing,  # the name that transformers 6 will want
        torch_empty_cache_steps=params.torch_empty_cache_steps,
        seed=params.seed,
        max_length=None,  # the tokenize stage has cut the pairs already; TRL would drop long ones
        logging_steps=max(1, round(steps / CURVE_POINTS)),
        save_strategy="steps",
        save_steps=params.save_steps,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=compute.device.type == "cuda",
        remove_unused_columns=False,
    )
    # With several GPUs in one process the trainer would split batches that cannot be split; `launch` uses them.
    if config.n_gpu > 1:
        config._n_gpu = 1
    return config


def effective_batch_sampler(lengths: Sequence[int], config: RewardConfig, layout: Layout) -> EffectiveBatchSampler:
    """The order in which pairs of these lengths are trained on."""
    if layout is packed_batch:
        arrange = partial(balanced, lengths=lengths, batch_size=config.per_device_train_batch_size)
    else:
        arrange = partial(sorted, key=lambda number: lengths[number])  # for less padding
    multiple = config.per_device_train_batch_size * config.world_size if config.world_size > 1 else 1
    return EffectiveBatchSampler(lengths, effective_batch_of(config), config.seed, arrange, multiple)


def effective_batch_of(config: TrainingArguments) -> int:
    """Pairs in an optimizer step, over all processes."""
    return config.per_device_train_batch_size * config.gradient_accumulation_steps * config.world_size


def gathered_weights(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The weights of a model that is shared out over the processes: on the main process, for others nothing."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights = cast(dict[str, torch.Tensor], get_model_state_dict(model, options=options))
    # What was gathered on CPUs has no storage of its own until it is copied.
    return {name: weights.pop(name).clone() for name in list(weights)}


def curve_of(log_history: list[dict[str, float]]) -> list[dict[str, float]]:
    """The points of the training curves: per-pair means between two logs."""
    keys = ("step", "pairs", "loss", "accuracy", "margin", "grad_norm", "learning_rate")
    return [{key: entry[key] for key in keys if key in entry} for entry in log_history if "learning_rate" in entry]


def _rescue(trainer: PairTrainer) -> None:
    """Save what a failing device still gives away: the state after the last whole step."""
    try:
        trainer._save_checkpoint(trainer.model, None)  # pyright: ignore[reportArgumentType]
    except (RuntimeError, OSError) as error:
        print(f"the device gives its state away no more ({str(error).splitlines()[0]})", file=sys.stderr)


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
    return replace(compute, device=cpu, dtype=dtype, findings=(*compute.findings, finding))
