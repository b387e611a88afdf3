"""What goes on beside the steps: progress, resuming, stopping."""

import sys
from statistics import mean
from typing import TYPE_CHECKING, Any, cast

import psutil
import torch
from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from reward_model.training.interrupt import StopRequest

if TYPE_CHECKING:
    from reward_model.training.trainer import PairTrainer


# With a bar it would not fit 80 columns.
LINE = "{desc} {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"


class ProgressBar(TrainerCallback):
    """Pairs done and time left, with the loss over the last `WINDOW` pairs, that on validation pairs, and memory."""

    def __init__(self, trainer: "PairTrainer", pairs: int) -> None:
        self.trainer = trainer
        done = trainer.totals.pairs
        hidden = not trainer.is_world_process_zero()
        self.validation = ""
        self.bar = tqdm(total=pairs, initial=done, unit="pair", desc="train", disable=hidden, bar_format=LINE)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Advance to the pairs counted so far."""
        recent = self.trainer.recent
        if not recent:  # degenerate pairs only so far
            return
        loss, gigabytes = mean(recent), memory_in_use(self.trainer.args.device) / 1e9
        self.bar.set_postfix_str(f"loss {loss:.3f}{self.validation}, {gigabytes:.1f} GB", refresh=False)
        self.bar.update(self.trainer.totals.pairs - self.bar.n)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Show the last loss on the validation pairs from here on."""
        self.validation = f", validation {kwargs['metrics']['eval_loss']:.3f}"


def memory_in_use(device: torch.device) -> int:
    """Bytes that this process holds: of the GPU's memory if it computes on CUDA, otherwise of the machine's."""
    return torch.cuda.memory_reserved(device) if device.type == "cuda" else psutil.Process().memory_info().rss


class EvaluationCallback(TrainerCallback):
    """Has the validation pairs evaluated every so many steps, and after the last, where the curve gets a point too."""

    def __init__(self, interval: int) -> None:
        self.interval = interval

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Ask for it."""
        if state.global_step % self.interval == 0 or state.global_step >= state.max_steps:
            control.should_evaluate = control.should_log = True


class ResumeAndStopCallback(TrainerCallback):
    """Keeps a training that resumes in order; stops it after a whole step, with a checkpoint, if that is requested."""

    def __init__(self, trainer: "PairTrainer", stop: StopRequest) -> None:
        self.trainer = trainer
        self.stop = stop

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Save as often as params.yaml says now, not as it said when the state was saved."""
        state.save_steps = int(args.save_steps)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Save and stop; and save nothing where training is over anyway."""
        accelerator = self.trainer.accelerator
        if accelerator.num_processes > 1:  # all stop in the same step, or none
            requested = torch.tensor(int(self.stop.requested), device=accelerator.device)
            self.stop.requested = bool(cast(torch.Tensor, accelerator.reduce(requested, "sum")).item())
        if state.global_step >= state.max_steps:
            control.should_save = False
            control.should_log = True  # the curve ends where training does
        elif self.stop.requested:
            control.should_save = control.should_training_stop = True


def say(message: str) -> None:
    """Tell of something on stderr, above the progress bar."""
    tqdm.write(message, file=sys.stderr)
