"""Responses to one prompt that were given one by one: computed together, their prompt is computed once."""

from collections.abc import Sequence
from itertools import pairwise

from reward_model.contract.encoder import Group, shared_prefix_length

Merged = list[int]  # the numbers of the groups that are computed as one


def merge_groups(groups: Sequence[Group], most: int) -> list[Merged]:
    """Which groups are to be one. Those of several sequences stay as they are.

    Single sequences are put in order, so that those with a prompt stand together; a new group begins where what two
    neighbours share is less than half of what the neighbours before or after them share.

    Args:
        groups: of token ids.
        most: sequences that may be in a group.
    """
    alone = sorted((number for number, group in enumerate(groups) if len(group) == 1), key=lambda n: groups[n][0])
    # What each has in common with the next.
    shared = [shared_prefix_length([groups[one][0], groups[two][0]]) for one, two in pairwise(alone)]
    merged = [[number] for number, group in enumerate(groups) if len(group) != 1]
    for place, number in enumerate(alone):
        around = shared[max(place - 2, 0) : place + 1]
        if place == 0 or len(merged[-1]) == most or 2 * shared[place - 1] < max(around):
            merged.append([number])
        else:
            merged[-1].append(number)
    return merged
