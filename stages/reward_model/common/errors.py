"""Errors that a user can mend, reported in one line."""

import os
import sys
from collections.abc import Callable

INTERRUPTED = 130  # what a shell gives a command that Ctrl-C ended


class UserError(Exception):
    """Something outside the code is wrong (a file, a param, the network); the message says what to do."""


class InvalidRow(ValueError):
    """A row of a data set that is not what is wanted; the message is the reason, as the metrics count it.

    Attributes:
        concerns: the column, value or type that is meant.
        detail: the reason with what it concerns, for people.
    """

    def __init__(self, reason: str, concerns: str = "") -> None:
        super().__init__(reason)
        # With a lone surrogate in it, nobody could print or send it.
        self.concerns = concerns.encode("utf-8", "backslashreplace").decode()
        self.detail = f"{reason} ({self.concerns})" if concerns else reason


def first_line(error: BaseException) -> str:
    """The first line of what an error says; its type's name if it says nothing."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def run(main: Callable[[], None], exit_status: int = 1) -> None:
    """Call `main`; a `UserError` becomes its message on stderr and `exit_status`, never a traceback.

    Ctrl-C ends with status 130, and a reader of stdout that goes away (`| head`) with 0, both without a word.
    """
    try:
        main()
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(exit_status) from None
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        # Python flushes stdout once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
