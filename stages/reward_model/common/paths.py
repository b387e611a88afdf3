"""Paths as users write them."""

import os
from pathlib import Path

from reward_model.common.errors import UserError


def refuse_address(text: str, key: str) -> None:
    """Raise a `UserError` for `https://…` and the like, which are no paths."""
    if "://" in text:
        hub = ", or for one of the hub set data.source: hub:NAME" if key == "data.path" else ""
        raise UserError(f"{key}: {text} is an address, not a path: download it{hub}")


def expand_home(text: str) -> Path:
    """The path with `~` expanded.

    Raises:
        UserError: there is no such home folder.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UserError(f"{text} not found: there is no such home folder") from None


def absolute(path: Path) -> Path:
    """The path from the root, without `..`; links stay, since DVC looks behind them."""
    return Path(os.path.abspath(path))  # noqa: PTH100
