"""Faults that a user can mend, told in one line."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """Something outside the code is wrong (a file, a param, the network); the message says what to do."""


def run(main: Callable[[], None], exit_status: int = 1) -> None:
    """Call `main`; a `UserError` becomes its message on stderr and `exit_status`, never a traceback."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(exit_status) from None
