"""Pairs whose texts are on disk, so that a million of them fit into memory."""

from dataclasses import dataclass, field

from reward_model.common.disk_list import DiskList
from reward_model.data.pairs import Pair


@dataclass(frozen=True, slots=True)
class StoredPair:
    """A pair of a store: what it is chosen by, and where its texts are."""

    id: str
    prompt_id: str
    is_tie: bool
    _pairs: DiskList[Pair] = field(repr=False, compare=False)
    _place: int = field(repr=False, compare=False)

    def load(self) -> Pair:
        """The pair with its texts."""
        return self._pairs[self._place]


class PairStore:
    """Takes the texts of pairs to the disk."""

    def __init__(self) -> None:
        self._pairs = DiskList[Pair]()

    def add(self, pair: Pair) -> StoredPair:
        """Store a pair.

        Raises:
            UserError: the disk is full.
        """
        self._pairs.append(pair)
        return StoredPair(pair.id, pair.prompt_id, pair.is_tie, self._pairs, len(self._pairs) - 1)
