"""What a training keeps while it runs: checkpoints with the counts that belong to them, and the best weights."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch.distributed.checkpoint.api import CheckpointException
from transformers import PreTrainedModel
from trl.trainer.reward_trainer import RewardTrainer

from reward_model.common.errors import UserError, first_line
from reward_model.common.files import is_disk_trouble
from reward_model.modeling.devices import fsdp_enabled
from reward_model.modeling.processes import gather
from reward_model.params import TrainParams
from reward_model.training.callbacks import say
from reward_model.training.checkpoints import Checkpoints
from reward_model.training.distributed import full_state_dict
from reward_model.training.losses import PairTotals
from reward_model.training.oom import MemoryFallback

COUNTS_FILE = "pair_counts.json"  # in a checkpoint


class SavingTrainer(RewardTrainer):
    """A trainer whose checkpoints are whole or not there, and that goes on where the disk is full."""

    params: TrainParams
    checkpoints: Checkpoints
    memory_fallback: MemoryFallback
    step_downs: list[dict[str, Any]]
    totals: PairTotals
    since_log: PairTotals
    unseen: list[tuple[int, float]]

    def _keep_best(self) -> bool:
        weights = _trained_weights(cast(PreTrainedModel, self.model))
        reason = self._try_write(lambda: self.checkpoints.keep_best(weights)) if self.is_world_process_zero() else None
        if self._any_process(reason is not None):
            say(f"the weights of step {self.state.global_step} cannot be kept ({reason}): training goes on without")
            return False
        return True

    @property
    def kept_step(self) -> int:
        """The step whose weights are the result: that of the best, where they are wanted, else the last."""
        best = self.state.best_global_step
        return best if self.params.keep == "best" and best is not None else self.state.global_step

    def restore_best(self) -> dict[str, torch.Tensor] | None:
        """Go back to the weights of `kept_step`.

        Returns:
            They, where the model holds only a share of each weight (FSDP), on the main process; else None.
        """
        model = cast(PreTrainedModel, self.model)
        if self.kept_step == self.state.global_step:
            return full_state_dict(model) if fsdp_enabled() else None
        weights = self.checkpoints.best() if self.is_world_process_zero() else {}
        if fsdp_enabled():
            return weights
        parameters = dict(model.named_parameters())
        with torch.no_grad():
            for name, weight in weights.items():
                parameters[name].copy_(weight)
        return None

    def restore_counts(self, checkpoint: Path) -> None:
        """Go on counting pairs, and saving memory, as when a checkpoint was made; likewise with the best weights."""
        if self.is_world_process_zero():
            self.checkpoints.restore_best(checkpoint)
        counts = json.loads((checkpoint / COUNTS_FILE).read_text(encoding="utf-8"))
        self.totals, self.since_log = PairTotals(**counts["totals"]), PairTotals(**counts["since_log"])
        self.unseen = [(number, margin) for number, margin in counts["unseen"]]
        self.step_downs = counts["step_downs"]
        self.memory_fallback = MemoryFallback(**counts["memory_fallback"])
        if self.memory_fallback.checkpointing:
            cast(Any, self.model).activation_checkpointing_enable()

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """As the trainer's, but whole or not at all; without space for it training goes on."""
        step = self.state.global_step
        folder = self.checkpoints.staging / f"checkpoint-{step}"
        reason = self._try_write(lambda: super(SavingTrainer, self)._save_checkpoint(model, trial))
        if self.is_world_process_zero() and reason is None:
            reason = self._try_write(lambda: self._save_counts(folder))
        random_states = self._gather_random_states(folder)
        failed = self._any_process(reason is not None)
        if not self.is_world_process_zero():
            return
        if not failed:
            reason = self._try_write(lambda: self._keep(step, random_states))
        if failed or reason is not None:
            shutil.rmtree(self.checkpoints.staging, ignore_errors=True)
            reason = reason or "another process has the reason"
            say(f"checkpoint {step} cannot be saved ({reason}): training continues, and cannot resume from there")

    def _gather_random_states(self, folder: Path) -> dict[Path, bytes]:
        """The files of the random generators of all processes: other nodes may have theirs on disks of their own."""
        if self.accelerator.num_processes == 1:
            return {}
        own = folder / f"rng_state_{self.accelerator.process_index}.pth"
        contents = gather(own.read_bytes() if own.exists() else b"")
        return {folder / f"rng_state_{number}.pth": content for number, content in enumerate(contents)}

    def _keep(self, step: int, random_states: dict[Path, bytes]) -> None:
        for path, content in random_states.items():
            path.write_bytes(content)
        self.checkpoints.keep(step)

    def _any_process(self, failed: bool) -> bool:
        """Whether it is so on any process; all meet here."""
        count = torch.tensor(int(failed), device=self.accelerator.device)
        return bool(cast(torch.Tensor, self.accelerator.reduce(count, "sum")).item())

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
            return first_line(trouble[0])
        return None

    def _save_counts(self, folder: Path) -> None:
        counts = {
            "totals": asdict(self.totals),
            "since_log": asdict(self.since_log),
            "unseen": self.unseen,
            "step_downs": self.step_downs,
            "memory_fallback": asdict(self.memory_fallback),
        }
        (folder / COUNTS_FILE).write_text(json.dumps(counts), encoding="utf-8")
        if self.params.keep == "best" and self.state.best_global_step:
            self.checkpoints.add_best(folder)


def _trained_weights(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The weights that training changes, on the CPU; of a model in shares (FSDP) all, on the main process."""
    if fsdp_enabled():
        return full_state_dict(model)
    return {name: weight.detach().cpu() for name, weight in model.named_parameters() if weight.requires_grad}


def _causes(error: BaseException) -> list[BaseException]:
    """What stands behind an error: of a sharded model each process writes its share, and all hear who could not."""
    return [cause for cause, _ in error.failures.values()] if isinstance(error, CheckpointException) else [error]
