"""Reward modelling with TRL's trainer, prefixes shared; the loss is the mean over the effective batch's pairs."""

import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from accelerate import PartialState
from datasets import Dataset
from torch.utils.data import Sampler
from tqdm import tqdm
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from trl.trainer.reward_config import RewardConfig
from trl.trainer.reward_trainer import RewardTrainer

from reward_model.base_tokenizer import load_transformers_tokenizer
from reward_model.batching import Batch, Layout, groups_of, packed_batch, packed_length
from reward_model.device_check import Compute, choose_compute
from reward_model.encoding import Encoder
from reward_model.errors import UserError
from reward_model.lean_layers import lean_layers
from reward_model.lora import lora_adapters
from reward_model.model import reward_head, rewards, share_prefixes
from reward_model.params import TrainParams
from reward_model.vocabulary import vocabulary_of

CURVE_POINTS = 25
WINDOW = 64  # pairs behind the loss and accuracy that the progress bar shows

PairRow = Mapping[str, Any]


@dataclass
class PairTotals:
    """Sums over pairs, so that means are per pair whatever the batches were."""

    pairs: int = 0
    loss: float = 0.0
    correct: float = 0.0
    ties: int = 0
    margin: float = 0.0

    def add(self, losses: torch.Tensor, margins: torch.Tensor) -> None:
        """Count pairs with these losses and margins (chosen - rejected), each of shape (pairs,)."""
        self.pairs += len(margins)
        self.loss += float(losses.sum())
        self.ties += int((margins == 0).sum())
        self.correct += float(right(margins).sum())
        self.margin += float(margins.sum())

    def means(self) -> dict[str, float]:
        """Loss, accuracy (a tie counts half) and margin per pair."""
        return {
            "loss": self.loss / self.pairs,
            "accuracy": self.correct / self.pairs,
            "margin": self.margin / self.pairs,
        }


@dataclass
class PairCollator:
    """Make a batch of rows that have chosen_ids, rejected_ids and margin."""

    pad_token_id: int
    layout: Layout
    new_ids: torch.Tensor  # the model's id of every token

    def __call__(self, pairs: Sequence[PairRow]) -> Batch:
        """A batch in the layout, with the margins (pairs,) added."""
        batch = self.layout(groups_of(pairs), self.pad_token_id)
        batch["input_ids"] = self.new_ids[batch["input_ids"]]
        return batch | {"margin": torch.tensor([float(pair["margin"]) for pair in pairs])}


class EffectiveBatchSampler(Sampler[int]):
    """A new seeded order every epoch; within each effective batch the pairs are arranged into micro-batches.

    Arranging there changes no step, since a step takes its whole effective batch.
    """

    def __init__(
        self, lengths: Sequence[int], effective_batch: int, seed: int, arrange: Callable[[list[int]], list[int]]
    ) -> None:
        """Sample the pairs that have these lengths.

        Args:
            lengths: tokens of each pair.
            effective_batch: pairs in an optimizer step.
            seed: of the order.
            arrange: gives the lengths' numbers in an effective batch another order; micro-batches are cut from it.
        """
        self.lengths = lengths
        self.effective_batch = effective_batch
        self.seed = seed
        self.arrange = arrange
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """The trainer calls this before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator).tolist()
        for start in range(0, len(order), self.effective_batch):
            yield from self.arrange(order[start : start + self.effective_batch])


def balanced(numbers: Sequence[int], lengths: Sequence[int], batch_size: int) -> list[int]:
    """Order pairs so that micro-batches, `batch_size` numbers each, have about the same number of tokens.

    Packed batches have no padding to save, and the largest of them sets how much memory training takes.
    """
    sizes = [min(batch_size, len(numbers) - start) for start in range(0, len(numbers), batch_size)]
    batches: list[list[int]] = [[] for _ in sizes]
    tokens = [0] * len(sizes)
    for number in sorted(numbers, key=lambda number: -lengths[number]):
        with_room = [place for place, size in enumerate(sizes) if len(batches[place]) < size]
        place = min(with_room, key=lambda place: tokens[place])
        batches[place].append(number)
        tokens[place] += lengths[number]
    return [number for batch in batches for number in batch]


class PairTrainer(RewardTrainer):
    """TRL's RewardTrainer with a loss that is exact over the effective batch and metrics per pair."""

    # The loss of a micro-batch is divided by the pairs of the effective batch in `compute_loss`.
    loss_is_scaled_for_ga = True

    def __init__(self, *, params: TrainParams, sampler: EffectiveBatchSampler, **options: Any) -> None:
        super().__init__(**options)
        self.params = params
        self.sampler = sampler
        self.totals = PairTotals()
        self.since_log = PairTotals()
        self.recent: deque[tuple[float, float]] = deque(maxlen=WINDOW)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return self.sampler

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The trainer's optimizer, with the reward head in a group of its own."""
        optimizer = super().create_optimizer(model)
        head = reward_head(cast(torch.nn.Module, self.model)).weight
        for group in optimizer.param_groups:
            group["params"] = [parameter for parameter in group["params"] if parameter is not head]
        own = {"lr": self.params.head_learning_rate, "weight_decay": self.params.weight_decay}
        optimizer.add_param_group({"params": [head], **own})
        return optimizer

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: torch.device) -> torch.Tensor:
        """Pairs in the effective batch, over all processes."""
        pairs = torch.tensor(sum(len(batch["ends"]) // 2 for batch in batch_samples), device=device)
        return cast(torch.Tensor, self.accelerator.reduce(pairs, "sum"))

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """This micro-batch's share of the mean pair loss of the effective batch."""
        margin = inputs.pop("margin")
        chosen, rejected = model(**inputs).view(-1, 2).unbind(1)
        losses = pair_losses(
            chosen, rejected, margin, self.params.label_smoothing, self.params.center_rewards_coefficient
        )
        self._count(losses.detach(), (chosen - rejected).detach())
        assert num_items_in_batch is not None
        # Gradients are averaged over processes, so each one's share is scaled up by their number.
        return losses.sum() / num_items_in_batch * self.accelerator.num_processes

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log loss, accuracy and margin per pair instead of the trainer's means of batch means."""
        if self.since_log.pairs:
            logs |= self.since_log.means()
            logs["pairs"] = self.totals.pairs
            self.since_log = PairTotals()
        super().log(logs, start_time)

    def _count(self, losses: torch.Tensor, margins: torch.Tensor) -> None:
        losses, margins = self.accelerator.gather_for_metrics((losses.float(), margins.float()))
        if not torch.isfinite(losses).all():
            step = self.state.global_step + 1
            raise UserError(f"the loss is not finite in step {step}: lower train.learning_rate, or use precision fp32")
        self.totals.add(losses, margins)
        self.since_log.add(losses, margins)
        self.recent.extend(zip(losses.tolist(), right(margins).tolist(), strict=True))


class ProgressBar(TrainerCallback):
    """Pairs done, with loss and accuracy over the last `WINDOW` pairs."""

    def __init__(self, trainer: PairTrainer, pairs: int) -> None:
        self.trainer = trainer
        self.bar = tqdm(total=pairs, unit="pair", desc="train", disable=not trainer.is_world_process_zero())

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Advance to the pairs counted so far."""
        recent = self.trainer.recent
        loss, accuracy = (sum(values) / len(recent) for values in zip(*recent, strict=True))
        self.bar.set_postfix_str(f"loss {loss:.3f}, accuracy {accuracy:.2f}", refresh=False)
        self.bar.update(self.trainer.totals.pairs - self.bar.n)


@dataclass(frozen=True)
class TrainingResult:
    """What a training run says of itself: the summary for metrics/train.json, and the points of its curves."""

    summary: dict[str, Any]
    curve: list[dict[str, float]] = field(default_factory=list)


def is_main_process() -> bool:
    """Whether this is the one process of a launch that writes the outputs."""
    return PartialState().is_main_process


def right(margins: torch.Tensor) -> torch.Tensor:
    """1 for each pair whose chosen response is ahead, 0 for one whose rejected is, one half for a tie."""
    return (margins > 0).float() + 0.5 * (margins == 0).float()


def pair_losses(
    chosen: torch.Tensor,
    rejected: torch.Tensor,
    margin: torch.Tensor,
    label_smoothing: float = 0.0,
    center_rewards_coefficient: float | None = None,
) -> torch.Tensor:
    """Bradley-Terry loss of each pair, shape (pairs,): -log sigmoid(chosen - rejected - margin).

    The margin is that of Llama 2 (arXiv:2307.09288, eq. 2); label smoothing is conservative DPO's (Mitchell 2023:
    the label is swapped with this probability); centring is arXiv:2312.09244, eq. 2, as in TRL.
    """
    difference = chosen - rejected - margin
    losses = -F.logsigmoid(difference) * (1 - label_smoothing)
    if label_smoothing:
        losses = losses - F.logsigmoid(-difference) * label_smoothing
    if center_rewards_coefficient is not None:
        losses = losses + center_rewards_coefficient * (chosen + rejected) ** 2
    return losses


def train(model: PreTrainedModel, encoder: Encoder, pairs: list[dict[str, Any]], params: TrainParams) -> TrainingResult:
    """Train `model` in place on rows of data/tokens.

    Raises:
        UserError: `params.device` is not on this machine, or the model lacks `params.lora.target_modules`.
    """
    groups = groups_of(pairs)
    pad_token_id = encoder.contract.pad_token_id
    compute = choose_compute(model, groups, pad_token_id, params.device, params.precision)
    layout = share_prefixes(model, compute.device)
    # An instance attribute, so that what wraps the model (autocast, DDP) calls it as it would the class's own.
    model.forward = partial(rewards, model)
    with ExitStack() as stack:
        stack.enter_context(lora_adapters(model, params.lora))
        new_ids = stack.enter_context(vocabulary_of(groups, model, pad_token_id, params.weight_decay))
        config = reward_config(params, compute, stack.enter_context(tempfile.TemporaryDirectory()), len(pairs))
        trainer = PairTrainer(
            model=model,
            args=config,
            processing_class=load_transformers_tokenizer(encoder.folder),
            data_collator=PairCollator(pad_token_id, layout, new_ids),
            train_dataset=Dataset.from_list([{key: pair[key] for key in COLUMNS} for pair in pairs]),
            params=params,
            sampler=effective_batch_sampler([packed_length(group) for group in groups], config, layout),
        )
        trainer.remove_callback(PrinterCallback)
        progress = ProgressBar(trainer, round(len(pairs) * params.num_train_epochs))
        trainer.add_callback(progress)
        stack.enter_context(closing(progress.bar))
        stack.enter_context(lean_layers(model))
        trainer.train()
    del model.forward
    summary = {
        "pairs": trainer.totals.pairs,
        "steps": trainer.state.global_step,
        "effective_batch": effective_batch_of(config),
        "device": compute.device.type,
        "precision": "bf16" if compute.dtype == torch.bfloat16 else "fp32",
        "device_findings": list(compute.findings),
        "layout": layout.__name__.removesuffix("_batch"),
        "ties": trainer.totals.ties,
        **trainer.totals.means(),
    }
    return TrainingResult(summary, curve_of(trainer.state.log_history))


COLUMNS = ("chosen_ids", "rejected_ids", "margin")


def reward_config(params: TrainParams, compute: Compute, scratch: str, pairs: int) -> RewardConfig:
    """params.yaml's train section as TRL has it."""
    steps = pairs * params.num_train_epochs / (params.per_device_train_batch_size * params.gradient_accumulation_steps)
    config = RewardConfig(
        output_dir=scratch,
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
        save_strategy="no",
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
    return EffectiveBatchSampler(lengths, effective_batch_of(config), config.seed, arrange)


def effective_batch_of(config: RewardConfig) -> int:
    """Pairs in an optimizer step, over all processes."""
    return config.per_device_train_batch_size * config.gradient_accumulation_steps * config.world_size


def curve_of(log_history: list[dict[str, float]]) -> list[dict[str, float]]:
    """The points of the training curves: per-pair means between two logs."""
    keys = ("step", "pairs", "loss", "accuracy", "margin", "grad_norm", "learning_rate")
    return [{key: entry[key] for key in keys if key in entry} for entry in log_history if "learning_rate" in entry]
