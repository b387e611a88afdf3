"""Command lines whose mistakes are told in a line."""

import argparse
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from reward_model.common.errors import UserError

if TYPE_CHECKING:
    from reward_model.scoring.manager import RewardModelManager


class Parser(argparse.ArgumentParser):
    """Takes --an_option for --an-option, and tells of a wrong command line in one line."""

    def parse_args(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, args: Any = None, namespace: Any = None
    ) -> Any:
        """As argparse does; says what may have been meant by arguments that are none.

        Raises:
            UserError: the command line is wrong.
        """
        typed = sys.argv[1:] if args is None else args
        arguments, unknown = self.parse_known_args([self._with_dashes(word) for word in typed], namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._hint(unknown)}")
        return arguments

    def _with_dashes(self, word: str) -> str:
        name, equals, value = word.partition("=")
        dashed, options = name.replace("_", "-"), self._option_string_actions
        is_known = name in options or dashed not in options
        return word if is_known or not name.startswith("--") else f"{dashed}{equals}{value}"

    def _hint(self, unknown: list[str]) -> str:
        options = self._option_string_actions
        name = unknown[0].partition("=")[0]
        if "--text" in options and "--response" in unknown:
            return "; one response is given as --text, two as --response_a and --response_b"
        if "--text" in options and not name.startswith("-"):
            return "; a text needs its option, and quotes: --text 'two words'"
        near = get_close_matches(name, options, n=1)
        return f"; did you mean {near[0]}?" if near else ""

    def error(self, message: str) -> NoReturn:
        """End with exit status 2."""
        raise UserError(f"{message} ({self.prog} --help shows the options)")


class Once(argparse.Action):
    """An option that may be given one time only, for which the last of two would otherwise be taken in silence."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: str | None = None) -> None:
        """Note the value."""
        if getattr(namespace, self.dest) is not None:
            parser.error(f"{option} is given twice")
        setattr(namespace, self.dest, values)


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
