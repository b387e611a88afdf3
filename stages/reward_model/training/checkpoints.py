"""Checkpoints of a training that is not finished: kept whole, found again, and removed once it is.

A training has a key of all that it depends on; it resumes from its own checkpoints only.
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from reward_model.common.errors import UserError
from reward_model.common.files import check_checksums, hash_file, write_checksums, writing

BEST_FILE = "best.safetensors"
FOLDER = Path("models/.checkpoints")
KEPT = 2  # the last, and the one before in case the last is damaged


class Checkpoints:
    """The checkpoints of one training.

    Args:
        folder: for this training alone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.staging = folder / ".new"  # the trainer writes here

    def clear_unfinished(self) -> None:
        """Make an empty folder for new states, without what a killed run was just writing.

        Raises:
            UserError: the place cannot be written to.
        """
        shutil.rmtree(self.staging, ignore_errors=True)
        with writing(self.folder):
            self.staging.mkdir(parents=True, exist_ok=True)

    def keep(self, step: int) -> None:
        """Take up the state that was written to `staging`, and drop all but the last few."""
        written = self.staging / f"checkpoint-{step}"
        write_checksums(written)
        target = self.path(step)
        shutil.rmtree(target, ignore_errors=True)
        written.replace(target)
        for old in self._steps()[:-KEPT]:
            shutil.rmtree(self.path(old), ignore_errors=True)

    def keep_best(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Write the best weights so far. Older ones stay in the checkpoints that were made with them."""
        self.staging.mkdir(exist_ok=True)
        new = self.staging / BEST_FILE
        save_file(dict(weights), new)
        new.replace(self.folder / BEST_FILE)

    def add_best(self, checkpoint: Path) -> None:
        """Put the best weights into a checkpoint: the same file, where the disk can."""
        try:
            os.link(self.folder / BEST_FILE, checkpoint / BEST_FILE)
        except OSError:
            shutil.copyfile(self.folder / BEST_FILE, checkpoint / BEST_FILE)

    def restore_best(self, checkpoint: Path) -> None:
        """Go back to the best weights that a checkpoint has, if it has any."""
        (self.folder / BEST_FILE).unlink(missing_ok=True)
        if (checkpoint / BEST_FILE).exists():
            shutil.copyfile(checkpoint / BEST_FILE, self.folder / BEST_FILE)

    def best(self) -> dict[str, torch.Tensor]:
        """The best weights so far."""
        return load_file(self.folder / BEST_FILE)

    def latest(self) -> Path | None:
        """The last whole state; a damaged one is skipped with a line for the one before."""
        for step in reversed(self._steps()):
            path = self.path(step)
            try:
                check_checksums(path)
            except UserError:
                print(f"checkpoint {step} is damaged: trying the one before", file=sys.stderr)
                continue
            return path
        return None

    def remove(self) -> None:
        """Remove all states."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # it holds others' states, or is a link or a disk of its own
            self.folder.parent.rmdir()

    def remove_unused(self) -> None:
        """Remove what is left where no checkpoints are kept, as on a node that does not share the main one's disk."""
        shutil.rmtree(self.staging, ignore_errors=True)
        with suppress(OSError):
            self.folder.rmdir()
            self.folder.parent.rmdir()

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step is."""
        return self.folder / f"step-{step}"

    def step(self, path: Path) -> int:
        """The step of a checkpoint."""
        return int(path.name.removeprefix("step-"))

    def _steps(self) -> list[int]:
        return sorted(map(self.step, self.folder.glob("step-*")))


def training_key(facts: Mapping[str, Any]) -> str:
    """The same 16 digits for trainings that give the same weights, which `facts` decide."""
    return hashlib.sha256(json.dumps(dict(facts), sort_keys=True).encode()).hexdigest()[:16]


def hash_loaded_code() -> dict[str, str]:
    """The hash of each module of the package that this process has imported, but for params: its values are known."""
    files = {name: module.__file__ for name, module in sys.modules.items() if name.startswith("reward_model.")}
    return {name: hash_file(Path(path)) for name, path in files.items() if path and name != "reward_model.params"}
