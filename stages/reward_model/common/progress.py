"""Progress bars."""

from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(items: Iterable[Item], name: str, total: int | None = None) -> Iterable[Item]:
    """The items, with a bar on stderr while they are read, if that is a terminal.

    Args:
        items: what is read.
        name: what is done with them.
        total: how many there are, if they have no length.
    """
    return tqdm(items, name, total, leave=False, disable=None)
