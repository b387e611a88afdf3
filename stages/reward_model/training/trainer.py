"""TRL's RewardTrainer with a loss that is exact over the effective batch, metrics per pair, and steps that survive."""

import math
from collections import deque
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import groupby
from operator import itemgetter
from typing import Any, cast

import torch
from accelerate.utils.operations import broadcast, pad_across_processes
from torch.utils.data import DataLoader

from reward_model.common.errors import UserError, first_line
from reward_model.modeling.batching import Batch
from reward_model.modeling.devices import fsdp_enabled
from reward_model.modeling.processes import gather
from reward_model.params import TrainParams
from reward_model.training.callbacks import say
from reward_model.training.checkpoints import Checkpoints
from reward_model.training.losses import PairTotals, centring_losses, pair_losses
from reward_model.training.oom import DeviceFailed, MemoryFallback, is_out_of_memory, release_memory
from reward_model.training.optimizer import refuse_option, separate_head
from reward_model.training.rankings import NONE, ranking_losses
from reward_model.training.sampler import LABELS, MicroBatch, Step, TrainingPlan
from reward_model.training.saving import SavingTrainer
from reward_model.training.validation import MIN_PROMPTS, Validation

CURE = "lower train.learning_rate, or set train.precision: fp32"  # of what is not finite
WINDOW = 64  # pairs behind the loss that the progress line shows
MAX_UNSEEN = 4096  # more would tell the temperature no better, and checkpoints hold them


class PairTrainer(SavingTrainer):
    """Trains on pairs, an effective batch of the plan in each step; to transformers that is a batch of one item.

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
        plan: TrainingPlan,
        rankings: int,
        labelled: int,
        validation: Validation | None,
        checkpoints: Checkpoints,
        on_cpu: bool,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.params = params
        self.pair_ids = pair_ids
        self.plan = plan
        self.rankings = rankings  # computed whole
        self.labelled = labelled  # pairs, the first ones; the others are degenerate and not counted
        self.awaited = late_unseen(plan, labelled) if params.num_train_epochs <= 1 else set()
        self.unseen: list[tuple[int, float]] = []  # of `awaited` so far: number, margin before the step
        self.validation = validation
        self.stopped_early = False
        self.checkpoints = checkpoints
        self.on_cpu = on_cpu
        self.memory_fallback = MemoryFallback(plan.largest_micro_batch, params.gradient_checkpointing)
        self.step_downs: list[dict[str, Any]] = []
        self.totals = PairTotals()
        self.since_log = PairTotals()
        self.recent: deque[float] = deque(maxlen=WINDOW)
        # Of this step, on this process: losses, margins, preferences, numbers (labelled pairs, 4) of each micro-batch.
        self._micro_losses: list[torch.Tensor] = []

    def unseen_margins(self) -> dict[int, float]:
        """By number, `unseen`; none if the weights that are kept are not the last, which they are nearly those of."""
        return dict(self.unseen) if self.kept_step == self.state.global_step else {}

    def get_train_dataloader(self) -> DataLoader[Step]:
        """The plan's steps, each process its own."""
        return self.accelerator.prepare(DataLoader(self.plan, batch_size=1, collate_fn=itemgetter(0)))

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted."""
        return 0

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The trainer's optimizer, with the reward head in a group of its own."""
        with refuse_option("train.optim", self.params.optim):
            optimizer = super().create_optimizer(model)
        return separate_head(optimizer, cast(torch.nn.Module, self.model), self.params)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The trainer's schedule."""
        with refuse_option("train.lr_scheduler_type", self.params.lr_scheduler_type):
            return super().create_scheduler(num_training_steps, optimizer)

    def _get_num_items_in_batch(self, batch_samples: list[Step], device: torch.device) -> torch.Tensor:
        """The weight of the effective batch, over all processes."""
        return torch.tensor(batch_samples[0].weight, device=device)

    def training_step(
        self, model: torch.nn.Module, inputs: Step, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Add a step's gradients; if memory runs out on a process, all of them anew on each, in smaller parts."""
        loss, fault = self._attempt(model, inputs, num_items_in_batch)
        while (fault := self._fault_anywhere(fault)) is not None:
            self._step_down(fault)
            # Some parameters may hold the gradients of half a backward pass.
            model.zero_grad()
            self._micro_losses.clear()
            loss, fault = self._attempt(model, inputs, num_items_in_batch)
        if self.adds_up_last:
            # A backward pass that adds nothing to the gradients: the row is the one that counts for nothing.
            super().training_step(model, self._collate([len(self.pair_ids)]), num_items_in_batch)
        self._end_step()
        return loss

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """This micro-batch's share of the weighted mean of the pair losses of the effective batch."""
        margin, preference, weight = (inputs.pop(name) for name in LABELS)
        numbers = inputs.pop("numbers")
        sides = inputs.pop("chosen"), inputs.pop("rejected")
        rankings, ranking_of = inputs.pop("rankings"), inputs.pop("ranking_of")
        scores = model(**inputs)
        chosen, rejected = (scores[side] for side in sides)
        losses = pair_losses(chosen, rejected, margin, self.params.label_smoothing, preference)
        if len(rankings):
            of_rankings = ranking_losses(scores, rankings)[ranking_of.clamp(min=0)]
            losses = torch.where(ranking_of == NONE, losses, of_rankings)
        losses = losses + centring_losses(chosen, rejected, self.params.center_rewards_coefficient)
        are_pairs = numbers < len(self.pair_ids)  # the plan fills up with a row that is none
        self._require_finite(losses[are_pairs], numbers[are_pairs])
        found = torch.stack([each.detach().float() for each in (losses, chosen - rejected, preference, numbers)], dim=1)
        self._micro_losses.append(found[numbers < self.labelled])
        assert num_items_in_batch is not None
        # Gradients are averaged over processes, so each one's share is scaled up by their number.
        return (losses * weight).sum() / num_items_in_batch * self.accelerator.num_processes

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log loss, accuracy and margin per pair instead of the trainer's means of batch means."""
        if self.since_log.pairs:
            logs |= self.since_log.means()
            logs["pairs"] = self.totals.pairs
            self.since_log = PairTotals()
        super().log(logs, start_time)

    def evaluate(self, *arguments: Any, **options: Any) -> dict[str, float]:
        """Log loss and accuracy on the validation pairs; every process computes all, the first one's count."""
        assert self.validation is not None
        model = cast(torch.nn.Module, self.model)
        model.eval()
        metrics = self.validation.evaluate(model, cast(torch.device, self.args.device))
        if self.accelerator.num_processes > 1:
            figures = torch.tensor(list(metrics.values()), device=self.args.device, dtype=torch.float64)
            metrics = dict(zip(metrics, cast(Any, broadcast(figures)).tolist(), strict=True))
        if not math.isfinite(metrics["eval_loss"]):
            raise UserError(f"the loss on validation pairs is not finite after step {self.state.global_step}: {CURE}")
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        model.train()
        return metrics

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Whether the weights are the best so far, and are kept; ends a training that has found no better for long."""
        if self.validation is None or self.validation.prompts < MIN_PROMPTS:
            return False
        best, state = self.state.best_metric, self.state
        if best is None or metrics["eval_loss"] < best:
            if self.params.keep == "best" and state.global_step < state.max_steps and not self._keep_best():
                return False
            state.best_metric, state.best_global_step = metrics["eval_loss"], state.global_step
            return True
        patience, since = self.params.early_stopping_patience, state.best_global_step or 0
        worse = sum("eval_loss" in entry and entry["step"] > since for entry in state.log_history)
        if patience is not None and worse >= patience and state.global_step < state.max_steps:
            self.stopped_early = self.control.should_training_stop = True
            self.control.should_save = False  # a training that resumed there would go on
            say(f"no better validation loss since step {since}: stopped after step {state.global_step}")
        return False

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        """The trainer's, which must be finite: else the step would spoil the weights."""
        norm: Any = super()._get_grad_norm(model, grad_norm)
        if not math.isfinite(float(norm)):
            raise UserError(f"the gradient is not finite in step {self.state.global_step + 1}: {CURE}")
        return norm

    def _attempt(
        self, model: torch.nn.Module, step: Step, weight: torch.Tensor | int | None
    ) -> tuple[torch.Tensor, str | None]:
        """The loss of a step whose gradients were added; or what the device said when it could not.

        It is returned, since an exception would hold on to the memory of the frames that it came through.
        """
        loss = torch.zeros((), device=self.args.device)
        parts = [part for numbers in step.micro_batches for part in self._parts(numbers)]
        try:
            for place, part in enumerate(parts):
                # Processes add up their gradients once: after the last, or when all have computed theirs.
                is_last = place == len(parts) - 1 and not self.adds_up_last
                with nullcontext() if is_last else self.accelerator.no_sync(cast(Any, model)):
                    loss += super().training_step(model, self._collate(part), weight)
        except (RuntimeError, MemoryError) as error:
            fault = first_line(error)
            if not is_out_of_memory(error):
                if self.on_cpu:
                    raise
                if self.accelerator.num_processes > 1:
                    raise UserError(f"the device failed in step {self.state.global_step + 1}: {fault}") from None
                raise DeviceFailed(fault) from None
            return loss, fault
        return loss, None

    @property
    def adds_up_last(self) -> bool:
        """Whether processes meet only after each has computed a step; those of FSDP meet in every layer."""
        return self.accelerator.num_processes > 1 and not fsdp_enabled()

    def _fault_anywhere(self, fault: str | None) -> str | None:
        """What a process ran out of memory with in this attempt, the first of them; None if none did."""
        faults = gather(fault) if self.adds_up_last else [fault]
        return next((each for each in faults if each is not None), None)

    def _parts(self, numbers: MicroBatch) -> Iterator[MicroBatch]:
        """What is computed at a time; a ranking's comparisons stay together, since its loss is one."""
        if len(numbers) <= self.memory_fallback.pairs:
            yield numbers
            return
        whole = self.params.loss == "plackett_luce"
        part: MicroBatch = []
        for _, own in groupby(numbers, key=lambda number: self.plan.rows[number]["prompt_id"] if whole else number):
            unit = list(own)
            if part and len(part) + len(unit) > self.memory_fallback.pairs:
                yield part
                part = []
            part += unit
        yield part

    def _collate(self, numbers: MicroBatch) -> Batch:
        dataset = cast(Any, self.train_dataset)
        return cast(Any, self.data_collator)([dataset[number] for number in numbers])

    def _step_down(self, fault: str) -> None:
        """Need less memory from here on.

        Raises:
            DeviceFailed: nothing is left to give up on this device.
            UserError: likewise, on the CPU or with several processes; or FSDP's processes cannot agree on it.
        """
        step = self.state.global_step + 1
        if fsdp_enabled():
            raise UserError(
                f"out of memory in step {step} ({fault}): set train.per_device_train_batch_size lower and "
                "train.gradient_accumulation_steps as much higher"
            )
        release_memory()
        done = self.memory_fallback.step_down()
        if done is None and not self.on_cpu and self.accelerator.num_processes == 1:
            raise DeviceFailed(f"out of memory with one pair at a time ({fault})")
        if done is None:
            raise UserError(
                f"out of memory in step {step} with one pair at a time ({fault}): close other applications, or lower "
                "tokenize.max_length"
            )
        if self.memory_fallback.checkpointing:
            cast(Any, self.model).activation_checkpointing_enable()
        self.step_downs.append({"step": step, "done": done})
        if self.is_world_process_zero():
            say(f"out of memory in step {step}: {done} from here on")

    def _end_step(self) -> None:
        found = torch.cat(self._micro_losses)
        if self.accelerator.num_processes > 1:
            # They have different numbers of pairs; the losses are finite.
            padded = pad_across_processes(found, pad_index=cast(int, torch.nan))
            found = cast(torch.Tensor, self.accelerator.gather(padded))
            found = found[~found[:, 0].isnan()]
        losses, margins, preferences, numbers = found.unbind(1)
        self.totals.add(losses, margins, preferences)
        self.since_log.add(losses, margins, preferences)
        self.recent.extend(losses.tolist())
        of_step = zip(map(int, numbers.tolist()), margins.tolist(), strict=True)
        self.unseen += [(number, margin) for number, margin in of_step if number in self.awaited]
        self._micro_losses.clear()

    def _require_finite(self, losses: torch.Tensor, numbers: torch.Tensor) -> None:
        finite = torch.isfinite(losses)
        if not finite.all():
            ids = ", ".join(self.pair_ids[number] for number in numbers[~finite].tolist())
            raise UserError(f"the loss is not finite in step {self.state.global_step + 1} (pairs {ids}): {CURE}")


def late_unseen(plan: TrainingPlan, labelled: int) -> set[int]:
    """The last half of the labelled comparisons of unseen prompts, `MAX_UNSEEN` at most.

    What the model says of a prompt just before it trains on it for the first time is as good as a validation
    (progressive validation, Blum, Kalai & Langford 1999); in the last half it is nearly the final model.
    """
    unseen = [number for number in plan.unseen_comparisons() if number < labelled]
    return set(unseen[-min(len(unseen) // 2, MAX_UNSEEN) :]) if len(unseen) > 1 else set()
