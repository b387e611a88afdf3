"""Batches in which responses share their prompt: a prompt's tokens are computed once, and nothing is padded."""

from collections.abc import Sequence

import torch

from reward_model.encoding import Group, shared_prefix_length

Batch = dict[str, torch.Tensor]


def packed_batch(groups: Sequence[Group], pad_token_id: int) -> Batch:
    """Lay all groups out in one row: each the prefix its sequences share, then the rest of every sequence.

    Positions of a rest follow the prefix. With `attention.packed_attention` each rest sees its prefix and itself, which
    is exactly what its sequence sees when it stands alone. For the groups ([1, 2, 3], [1, 4]) and ([5, 6],):

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
    ids: list[int] = []
    positions: list[int] = []
    ends, prefixes, rests = [], [], []
    for group in groups:
        prefix = _prefix_length(group)
        prefixes.append(prefix)
        ids += group[0][:prefix]
        positions += range(prefix)
        for sequence in group:
            ids += sequence[prefix:]
            positions += range(prefix, len(sequence))
            rests.append(len(sequence) - prefix)
            ends.append(len(ids) - 1)
    return {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.tensor([positions]),
        "rows": torch.zeros(len(ends), dtype=torch.long),
        "ends": torch.tensor(ends),
        "prefix_lengths": torch.tensor(prefixes),
        "rest_lengths": torch.tensor(rests),
        "group_sizes": torch.tensor([len(group) for group in groups]),
    }


def padded_batch(groups: Sequence[Group], pad_token_id: int) -> Batch:
    """The same sequences in the same order, a padded row each: for models that cannot take a packed batch.

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


def packed_length(group: Group) -> int:
    """Tokens that the group takes in a packed batch."""
    prefix = _prefix_length(group)
    return prefix + sum(len(sequence) - prefix for sequence in group)


def _prefix_length(group: Group) -> int:
    # Every sequence keeps at least its last token to itself: truncation can make two of them equal.
    return min(shared_prefix_length(group), min(map(len, group)) - 1)
