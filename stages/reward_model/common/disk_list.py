"""Lists that are larger than memory."""

import pickle
from array import array
from collections.abc import Iterable, Iterator, Sequence
from tempfile import SpooledTemporaryFile
from typing import Any, Generic, TypeVar, overload

from reward_model.common.files import writing

Item = TypeVar("Item")
IN_MEMORY = 2**23  # bytes


class DiskList(Sequence[Item], Generic[Item]):
    """A list to append to. Its items, which must be such as pickle takes, are in a file, their places in memory.

    The file is a temporary one in the current folder, which is gone when the process ends; a short list has none.
    """

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(IN_MEMORY, dir=".")  # noqa: SIM115
        self._ends = array("Q", [0])

    def append(self, item: Item) -> None:
        """Add an item.

        Raises:
            UserError: the disk is full.
        """
        with writing("a temporary file"):
            self._file.seek(self._ends[-1])
            content = pickle.dumps(item)
            self._file.write(content)
            self._file.flush()  # or a full disk would be met later, when an item is read
        self._ends.append(self._ends[-1] + len(content))

    def extend(self, items: Iterable[Item]) -> None:
        """Add items."""
        for item in items:
            self.append(item)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(len(self))[index]]
        place = range(len(self))[index]
        self._file.seek(self._ends[place])
        return pickle.loads(self._file.read(self._ends[place + 1] - self._ends[place]))

    def __iter__(self) -> Iterator[Item]:
        return map(self.__getitem__, range(len(self)))
