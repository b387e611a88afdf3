"""Command lines whose mistakes are told in a line."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from reward_model.common.errors import UserError

if TYPE_CHECKING:
    from reward_model.scoring.manager import RewardModelManager


class Parser(argparse.ArgumentParser):
    """Tells of a wrong command line in one line."""

    def error(self, message: str) -> NoReturn:
        """End with exit status 2."""
        raise UserError(f"{message} ({self.prog} --help shows the options)")


def hint(unknown: list[str]) -> str:
    """What somebody may have meant who typed arguments that are none."""
    if "--response" in unknown:
        return "; one response is given as --text, two as --response_a and --response_b"
    return "" if unknown[0].startswith("-") else "; a text needs its option, and quotes: --text 'two words'"


def load_manager(arguments: argparse.Namespace, folder: Path, backend: str) -> "RewardModelManager":
    """The model of `folder`, loaded as score.py's or serve.py's options say; what there is to say of it goes to stderr.

    Raises:
        UserError: as `RewardModelManager` and its `load_trained_model`.
    """
    from reward_model.scoring.manager import RewardModelManager  # slow to import, and --help does without

    manager = RewardModelManager(
        arguments.device,
        arguments.dtype,
        arguments.batch_size,
        backend,
        normalize=arguments.normalize,
        max_length=arguments.max_length,
    )
    manager.load_trained_model(folder)
    for note in manager.notes:
        print(f"note: {note}", file=sys.stderr)
    return manager
