"""What is cut from inputs that are too long. A change here makes other rewards: raise `encoder.CONTRACT_VERSION`."""

from collections.abc import Sequence


def truncate(sequences: Sequence[list[int]], prompt_length: int, max_length: int) -> tuple[list[list[int]], int]:
    """Cut the sequences of one prompt alike: the oldest prompt tokens go first, then the middle of a response.

    Args:
        sequences: token ids of the prompt with each response.
        prompt_length: tokens that all of them begin with.
        max_length: tokens that may be left of each.

    Returns:
        The sequences, and how many tokens each of them lost of the prompt.
    """
    longest = max(len(ids) for ids in sequences)
    prompt_cut = min(max(longest - max_length, 0), prompt_length)
    return [_cut_middle(ids[prompt_cut:], max_length) for ids in sequences], prompt_cut


def _cut_middle(ids: list[int], length: int) -> list[int]:
    if len(ids) <= length:
        return ids
    tail = length // 2
    return ids[: length - tail] + ids[len(ids) - tail :]
