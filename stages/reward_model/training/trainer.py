"""TRL's RewardTrainer with a loss that is exact over the effective batch, metrics per pair, and steps that survive."""

import json
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch.distributed.checkpoint.api import CheckpointException
from torch.utils.data import Sampler
from trl.trainer.reward_trainer import RewardTrainer

from reward_model.common.errors import UserError
from reward_model.common.files import is_disk_trouble
from reward_model.modeling.batching import Batch
from reward_model.modeling.forward import reward_head
from reward_model.params import TrainParams
from reward_model.training.callbacks import say
from reward_model.training.checkpoints import Checkpoints
from reward_model.training.losses import PairTotals, pair_accuracy, pair_losses
from reward_model.training.oom import DeviceFailed, MemoryFallback, is_out_of_memory, release_memory
from reward_model.training.sampler import EffectiveBatchSampler

WINDOW = 64  # pairs behind the loss and accuracy that the progress bar shows


COUNTS_FILE = "pair_counts.json"  # in a checkpoint


class PairTrainer(RewardTrainer):
    """Trains on pairs.

    When memory runs out, the step under way is computed anew in smaller parts. What cannot be mended that way is a
    `DeviceFailed` on an accelerator; the weights are then those of the last whole step.
    """

    # The loss of a micro-batch is divided by the weight of the effective batch in `compute_loss`.
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        *,
        params: TrainParams,
        pair_ids: list[str],
        labelled: int,
        sampler: EffectiveBatchSampler,
        checkpoints: Checkpoints,
        on_cpu: bool,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.params = params
        self.pair_ids = pair_ids
        self.labelled = labelled  # pairs, the first ones; the others are degenerate and not counted
        self.sampler = sampler
        self.checkpoints = checkpoints
        self.on_cpu = on_cpu
        self.memory_fallback = MemoryFallback(params.per_device_train_batch_size, params.gradient_checkpointing)
        self.step_downs: list[dict[str, Any]] = []
        self.totals = PairTotals()
        self.since_log = PairTotals()
        self.recent: deque[tuple[float, float]] = deque(maxlen=WINDOW)
        # Of the step under way: the rows of each micro-batch; the losses and margins so far, and which are labelled.
        self._micro_batches: list[list[int]] = []
        self._micro_losses: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return self.sampler

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The trainer's optimizer, with the reward head in a group of its own."""
        optimizer = super().create_optimizer(model)
        head = reward_head(cast(torch.nn.Module, self.model)).weight
        for group in optimizer.param_groups:
            group["params"] = [parameter for parameter in group["params"] if parameter is not head]
        # With FSDP the head was alone in a group; saved states cannot be read into an empty one.
        optimizer.param_groups = [group for group in optimizer.param_groups if group["params"]]
        own = {"lr": self.params.head_learning_rate, "weight_decay": self.params.weight_decay}
        optimizer.add_param_group({"params": [head], **own})
        return optimizer

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: torch.device) -> torch.Tensor:
        """The weight of the pairs in the effective batch, over all processes."""
        weights = [float(batch["weight"][self._are_pairs(batch["numbers"])].sum()) for batch in batch_samples]
        weight = torch.tensor(sum(weights), device=device)
        return cast(torch.Tensor, self.accelerator.reduce(weight, "sum"))

    def training_step(
        self, model: torch.nn.Module, inputs: Batch, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Add a micro-batch's gradients; if memory runs out, those of the whole step so far, in smaller parts."""
        self._micro_batches.append(inputs["numbers"].tolist())
        loss, fault = self._attempt(model, [inputs], num_items_in_batch)
        while fault is not None:
            self._step_down(fault)
            # Some parameters may hold the gradients of half a backward pass.
            model.zero_grad()
            self._micro_losses.clear()
            loss, fault = self._attempt(model, map(self._collate, self._micro_batches), num_items_in_batch)
        if self.accelerator.sync_gradients:
            self._end_step()
        return loss

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """This micro-batch's share of the weighted mean pair loss of the effective batch."""
        margin, weight, numbers = (inputs.pop(name) for name in ("margin", "weight", "numbers"))
        chosen, rejected = model(**inputs).view(-1, 2).unbind(1)
        losses = pair_losses(
            chosen, rejected, margin, self.params.label_smoothing, self.params.center_rewards_coefficient
        )
        self._require_finite(losses, numbers)
        computed = (losses.detach().float(), (chosen - rejected).detach().float(), numbers < self.labelled)
        self._micro_losses.append(cast(Any, self.accelerator.gather(computed)))
        assert num_items_in_batch is not None
        # Gradients are averaged over processes, so each one's share is scaled up by their number.
        share = (losses * weight * self._are_pairs(numbers)).sum() / num_items_in_batch
        return share * self.accelerator.num_processes

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log loss, accuracy and margin per pair instead of the trainer's means of batch means."""
        if self.since_log.pairs:
            logs |= self.since_log.means()
            logs["pairs"] = self.totals.pairs
            self.since_log = PairTotals()
        super().log(logs, start_time)

    def restore_counts(self, checkpoint: Path) -> None:
        """Go on counting pairs, and saving memory, as when a checkpoint was made."""
        counts = json.loads((checkpoint / COUNTS_FILE).read_text(encoding="utf-8"))
        self.totals, self.since_log = PairTotals(**counts["totals"]), PairTotals(**counts["since_log"])
        self.recent.extend((loss, correct) for loss, correct in counts["recent"])
        self.step_downs = counts["step_downs"]
        self.memory_fallback = MemoryFallback(**counts["memory_fallback"])
        if self.memory_fallback.checkpointing:
            cast(Any, self.model).activation_checkpointing_enable()

    def _are_pairs(self, numbers: torch.Tensor) -> torch.Tensor:
        """Which rows are pairs, (pairs,): `EffectiveBatchSampler` fills up with one that is none."""
        return numbers < len(self.pair_ids)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """As the trainer's, but whole or not at all; without space for it training goes on."""
        step = self.state.global_step
        reason = self._try_write(lambda: super(PairTrainer, self)._save_checkpoint(model, trial))
        if self.is_world_process_zero() and reason is None:
            reason = self._try_write(lambda: self._save_counts(self.checkpoints.staging / f"checkpoint-{step}"))
        # All processes meet here, whatever became of their part.
        failed = torch.tensor(int(reason is not None), device=self.accelerator.device)
        failed = int(cast(torch.Tensor, self.accelerator.reduce(failed, "sum")).item())
        if not self.is_world_process_zero():
            return
        if not failed:
            reason = self._try_write(lambda: self.checkpoints.keep(step))
        if failed or reason is not None:
            shutil.rmtree(self.checkpoints.staging, ignore_errors=True)
            reason = reason or "another process has the reason"
            say(f"the state of step {step} cannot be saved ({reason}): training goes on, and cannot be resumed there")

    def _try_write(self, write: Callable[[], Any]) -> str | None:
        """Write, and say what the disk had against it."""
        try:
            write()
        except UserError as error:  # of `files`, about the disk
            return str(error)
        except (OSError, RuntimeError, SafetensorError, CheckpointException) as error:
            trouble = [cause for cause in _causes(error) if is_disk_trouble(cause)]
            if not trouble:
                raise
            return str(trouble[0]).strip().splitlines()[0]
        return None

    def _save_counts(self, folder: Path) -> None:
        counts = {
            "totals": asdict(self.totals),
            "since_log": asdict(self.since_log),
            "recent": list(self.recent),
            "step_downs": self.step_downs,
            "memory_fallback": asdict(self.memory_fallback),
        }
        (folder / COUNTS_FILE).write_text(json.dumps(counts), encoding="utf-8")

    def _attempt(
        self, model: torch.nn.Module, batches: Iterable[Batch], pairs: torch.Tensor | int | None
    ) -> tuple[torch.Tensor, str | None]:
        """The loss of micro-batches whose gradients were added; or what the device said when it could not.

        It is returned, since an exception would hold on to the memory of the frames that it came through.
        """
        loss = torch.zeros((), device=self.args.device)
        try:
            for batch in batches:
                for part in self._parts(batch):
                    loss += super().training_step(model, part, pairs)
        except (RuntimeError, MemoryError) as error:
            fault = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            if not is_out_of_memory(error):
                if self.on_cpu:
                    raise
                if self.accelerator.num_processes > 1:
                    raise UserError(f"the device failed in step {self.state.global_step + 1}: {fault}") from None
                raise DeviceFailed(fault) from None
            return loss, fault
        return loss, None

    def _parts(self, batch: Batch) -> Iterator[Batch]:
        numbers = batch["numbers"].tolist()
        if len(numbers) <= self.memory_fallback.pairs:
            yield batch
            return
        for start in range(0, len(numbers), self.memory_fallback.pairs):
            yield self._collate(numbers[start : start + self.memory_fallback.pairs])

    def _collate(self, numbers: list[int]) -> Batch:
        dataset = cast(Any, self.train_dataset)
        return cast(Any, self.data_collator)([dataset[number] for number in numbers])

    def _step_down(self, fault: str) -> None:
        """Need less memory from here on.

        Raises:
            DeviceFailed: nothing is left to give up on this device.
            UserError: likewise, on the CPU; or several processes would have to step down together.
        """
        step = self.state.global_step + 1
        if self.accelerator.num_processes > 1:
            raise UserError(
                f"out of memory in step {step} ({fault}): set train.per_device_train_batch_size lower and "
                "train.gradient_accumulation_steps as much higher"
            )
        release_memory()
        done = self.memory_fallback.step_down()
        if done is None and not self.on_cpu:
            raise DeviceFailed(f"out of memory with one pair at a time ({fault})")
        if done is None:
            raise UserError(
                f"out of memory in step {step} with one pair at a time ({fault}): close other applications, or lower "
                "tokenize.max_length"
            )
        if self.memory_fallback.checkpointing:
            cast(Any, self.model).activation_checkpointing_enable()
        self.step_downs.append({"step": step, "done": done})
        say(f"out of memory in step {step}: {done} from here on")

    def _end_step(self) -> None:
        for all_losses, all_margins, are_labelled in self._micro_losses:
            losses, margins = all_losses[are_labelled], all_margins[are_labelled]
            self.totals.add(losses, margins)
            self.since_log.add(losses, margins)
            self.recent.extend(zip(losses.tolist(), pair_accuracy(margins).tolist(), strict=True))
        self._micro_losses.clear()
        self._micro_batches.clear()

    def _require_finite(self, losses: torch.Tensor, numbers: torch.Tensor) -> None:
        finite = torch.isfinite(losses) | ~self._are_pairs(numbers)
        if not finite.all():
            ids = ", ".join(self.pair_ids[number] for number in numbers[~finite].tolist())
            raise UserError(
                f"the loss is not finite in step {self.state.global_step + 1} (pairs {ids}): lower "
                "train.learning_rate, or set train.precision: fp32"
            )


def _causes(error: BaseException) -> list[BaseException]:
    """What stands behind an error: of a sharded model each process writes its share, and all hear who could not."""
    return [cause for cause, _ in error.failures.values()] if isinstance(error, CheckpointException) else [error]
