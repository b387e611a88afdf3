"""Batches in which responses share their prompt: a prompt's tokens are computed once."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, cast

import torch

from reward_model.contract.encoder import Group, shared_prefix_length

Batch = dict[str, torch.Tensor]
Layout = Callable[[Sequence[Group], int], Batch]  # of groups, and the id of the pad token
Place = tuple[int, int]  # the numbers of a group and of a sequence in it
MAX_RESPONSES_PER_GROUP = 8
ROUND = 64  # masked rows are as long as the next multiple of it


@dataclass(frozen=True)
class SharedRow:
    """A group's tokens in one row: the prefix that its sequences share, then the rest of every sequence.

    Attributes:
        ids, positions: of each token; the positions of every rest follow the prefix.
        prefix: tokens of the prefix.
        rests: tokens of each rest.
    """

    ids: list[int]
    positions: list[int]
    prefix: int
    rests: list[int]

    @classmethod
    def from_group(cls, group: Group) -> "SharedRow":
        """Lay out one group."""
        prefix = _prefix_length(group)
        ids = [*group[0][:prefix], *(token for sequence in group for token in sequence[prefix:])]
        positions = [*range(prefix), *(place for sequence in group for place in range(prefix, len(sequence)))]
        return cls(ids, positions, prefix, [len(sequence) - prefix for sequence in group])

    @property
    def ends(self) -> list[int]:
        """Where the last token of each sequence is."""
        return [end - 1 for end in accumulate(self.rests, initial=self.prefix)][1:]


def packed_batch(groups: Sequence[Group], pad_token_id: int) -> Batch:
    """Lay all groups out in one row, without padding.

    With `attention.packed_attention` each rest sees its prefix and itself, which is exactly what its sequence sees when
    it stands alone. For the groups ([1, 2, 3], [1, 4]) and ([5, 6],):

        input_ids       1 2 3 4 5 6
        position_ids    0 1 2 1 0 1
        ends                ^ ^   ^      indices 2, 3, 5
        prefix_lengths  1, 1             of each group
        rest_lengths    2, 1, 1          of each sequence
        group_sizes     2, 1             sequences in each group

    Returns:
        input_ids and position_ids (1, T); rows and ends (N,), where the last token of each of the N sequences is;
        prefix_lengths and group_sizes (G,); rest_lengths (N,).
    """
    shared = [SharedRow.from_group(group) for group in groups]
    starts = accumulate((len(row.ids) for row in shared), initial=0)
    ends = [start + end for start, row in zip(starts, shared, strict=False) for end in row.ends]
    return {
        "input_ids": torch.tensor([[token for row in shared for token in row.ids]]),
        "position_ids": torch.tensor([[place for row in shared for place in row.positions]]),
        "rows": torch.zeros(len(ends), dtype=torch.long),
        "ends": torch.tensor(ends),
        "prefix_lengths": torch.tensor([row.prefix for row in shared]),
        "rest_lengths": torch.tensor([rest for row in shared for rest in row.rests]),
        "group_sizes": torch.tensor([len(group) for group in groups]),
    }


def masked_batch(groups: Sequence[Group], pad_token_id: int) -> Batch:
    """Lay each group out in a row of its own, with a mask that hides its responses from each other.

    Accelerators like it: few, large calls, and rows of few different lengths (multiples of `ROUND`), since Apple's
    GPUs keep memory for every new shape. For the group ([1, 2, 3], [1, 4]), but for the padding:

        input_ids       1 2 3 4
        position_ids    0 1 2 1
        attention_mask  1 0 0 0          a row a query, a column a key
                        1 1 0 0
                        1 1 1 0
                        1 0 0 1

    Returns:
        input_ids and position_ids (G, T), padded on the right; attention_mask (G, 1, T, T), true where a query may see
        a key; rows and ends (N,) as `packed_batch`.
    """
    shared = [SharedRow.from_group(group) for group in groups]
    width = -(-max(len(row.ids) for row in shared) // ROUND) * ROUND
    padding = [width - len(row.ids) for row in shared]
    return {
        "input_ids": torch.tensor([row.ids + [pad_token_id] * pad for row, pad in zip(shared, padding, strict=True)]),
        "position_ids": torch.tensor([row.positions + [0] * pad for row, pad in zip(shared, padding, strict=True)]),
        "attention_mask": torch.stack([_mask(row, width) for row in shared])[:, None],
        "rows": torch.tensor([number for number, row in enumerate(shared) for _ in row.ends]),
        "ends": torch.tensor([end for row in shared for end in row.ends]),
    }


def padded_batch(groups: Sequence[Group], pad_token_id: int) -> Batch:
    """The same sequences in the same order, a padded row each: for models that cannot share a prefix.

    Returns:
        input_ids, position_ids and attention_mask (N, T), padded on the right; rows and ends (N,) as `packed_batch`.
    """
    sequences = [sequence for group in groups for sequence in group]
    width = max(map(len, sequences))
    padding = [width - len(sequence) for sequence in sequences]
    return {
        "input_ids": torch.tensor([ids + [pad_token_id] * pad for ids, pad in zip(sequences, padding, strict=True)]),
        "position_ids": torch.arange(width).expand(len(sequences), width),
        "attention_mask": torch.tensor([[1] * (width - pad) + [0] * pad for pad in padding]),
        "rows": torch.arange(len(sequences)),
        "ends": torch.tensor([len(sequence) - 1 for sequence in sequences]),
    }


def pairs_to_groups(rows: Iterable[Mapping[str, Any]]) -> list[Group]:
    """The two sequences of each row of data/tokens."""
    return [[row["chosen_ids"], row["rejected_ids"]] for row in rows]


def distinct_groups(rows: Iterable[Mapping[str, Any]]) -> tuple[list[Group], list[tuple[Place, Place]]]:
    """The sequences of rows of data/tokens, each once, those of a prompt together: prompts are computed once.

    Sequences of one `prompt_id` that begin differently (other turns, a prompt cut elsewhere) stand together only where
    that takes no more tokens.

    Returns:
        Groups of up to `MAX_RESPONSES_PER_GROUP` sequences; and for each row the places of its chosen and its rejected
        sequence.
    """
    groups: list[_OpenGroup] = []
    by_prompt: dict[str, list[_OpenGroup]] = {}
    places: dict[tuple[str, tuple[int, ...]], Place] = {}

    def locate(prompt_id: str, ids: Sequence[int]) -> Place:
        key = prompt_id, tuple(ids)
        if key not in places:
            own = [group for group in by_prompt.get(prompt_id, []) if len(group.sequences) < MAX_RESPONSES_PER_GROUP]
            best = max(own, key=lambda group: group.tokens_saved_by(ids), default=None)
            if best is None or best.tokens_saved_by(ids) < 0:
                best = _OpenGroup(len(groups), len(ids), [])
                groups.append(best)
                own.append(best)
            by_prompt[prompt_id] = own
            places[key] = best.number, len(best.sequences)
            best.add(ids)
        return places[key]

    of_rows = [
        (locate(row["prompt_id"], row["chosen_ids"]), locate(row["prompt_id"], row["rejected_ids"])) for row in rows
    ]
    return [cast(Group, group.sequences) for group in groups], of_rows


@dataclass
class _OpenGroup:
    """A group under construction: its number, the tokens that its sequences share, and the sequences."""

    number: int
    prefix: int
    sequences: list[Sequence[int]]

    def tokens_saved_by(self, ids: Sequence[int]) -> int:
        """How many tokens fewer it takes to have `ids` here than alone: of n sequences, n - 1 are spared the prefix."""
        before = max(len(self.sequences) - 1, 0) * self.prefix
        return len(self.sequences) * self._shared_with(ids) - before

    def add(self, ids: Sequence[int]) -> None:
        self.prefix = self._shared_with(ids)
        self.sequences.append(ids)

    def _shared_with(self, ids: Sequence[int]) -> int:
        return shared_prefix_length([self.sequences[0][: self.prefix], ids]) if self.sequences else len(ids)


def packed_length(group: Group) -> int:
    """Tokens that the group takes in a packed batch."""
    prefix = _prefix_length(group)
    return prefix + sum(len(sequence) - prefix for sequence in group)


def _prefix_length(group: Group) -> int:
    # Every sequence keeps at least its last token to itself: truncation can make two of them equal.
    return min(shared_prefix_length(group), min(map(len, group)) - 1)


def _mask(row: SharedRow, width: int) -> torch.Tensor:
    """Which tokens of a row see which (width, width): those before them in the prefix and in their own rest."""
    # The padding is a rest of its own: each of its tokens sees something, and no token of the group sees it.
    lengths = torch.tensor([row.prefix, *row.rests, width - len(row.ids)])
    part = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    return ((part == 0) | (part[:, None] == part)).tril()
