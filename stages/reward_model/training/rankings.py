"""Rankings among the comparisons of a prompt, and the loss of a whole ranking."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar

import torch

MIN_RESPONSES = 3  # of two, a ranking's loss is that of the comparison
NONE = -1  # where there is no ranking, or no further response

Response = TypeVar("Response", bound=Hashable)


def find_ranking(comparisons: Sequence[tuple[Response, Response]]) -> list[Response] | None:
    """The responses in order, the best first, if (better, worse) are all comparisons of an order of three or more."""
    responses = list(dict.fromkeys(response for pair in comparisons for response in pair))
    count = len(responses)
    compared = {frozenset(pair) for pair in comparisons}
    if count < MIN_RESPONSES or not len(compared) == len(comparisons) == count * (count - 1) / 2:
        return None
    # In an order without a circle, responses have 0, 1, 2, … wins.
    wins = Counter(better for better, _ in comparisons)
    ordered = sorted(responses, key=lambda response: -wins[response])
    return ordered if [wins[response] for response in ordered] == list(range(count))[::-1] else None


def set_ranking_sizes(rows: Sequence[dict[str, Any]]) -> None:
    """Set ranking_size of each row: how many comparisons its prompt's ranking has, where all of them are one.

    A part of a ranking may look like one, but is none: which comparisons are computed together is chance.

    Args:
        rows: all that are trained on, with prompt_id, chosen_ids, rejected_ids and ranked: whether it may be in one.
    """
    by_prompt: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["ranked"]:
            by_prompt[row["prompt_id"]].append(row)
    for own in by_prompt.values():
        if find_ranking([_sides(row) for row in own]) is not None:
            for row in own:
                row["ranking_size"] = len(own)


def find_rankings(
    rows: Sequence[Mapping[str, Any]], sides: Sequence[tuple[Response, Response]]
) -> tuple[list[list[Response]], list[int]]:
    """The rankings among rows of several prompts.

    Args:
        rows: comparisons with prompt_id, and ranking_size, as `set_ranking_sizes` has set it.
        sides: what each compares, the better one first.

    Returns:
        The rankings, and of each row the number of its own, or `NONE`.
    """
    by_prompt: dict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        if row["ranking_size"]:
            by_prompt[row["prompt_id"]].append(number)
    rankings: list[list[Response]] = []
    of_rows = [NONE] * len(rows)
    for numbers in by_prompt.values():
        ranking = find_ranking([sides[number] for number in numbers])
        if ranking is not None and len(numbers) == rows[numbers[0]]["ranking_size"]:
            for number in numbers:
                of_rows[number] = len(rankings)
            rankings.append(ranking)
    return rankings, of_rows


def count_rankings(rows: Sequence[Mapping[str, Any]], micro_batches: Sequence[Sequence[int]]) -> tuple[int, int]:
    """How many rankings are computed whole, and how many comparisons they have; of rows with their sides' token ids."""
    found: set[frozenset[int]] = set()
    for numbers in micro_batches:
        own = [rows[number] for number in numbers]
        _, of_rows = find_rankings(own, list(map(_sides, own)))
        by_ranking: dict[int, set[int]] = defaultdict(set)
        for number, ranking in zip(numbers, of_rows, strict=True):
            by_ranking[ranking].add(number)
        found |= {frozenset(of_one) for ranking, of_one in by_ranking.items() if ranking != NONE}
    return len(found), sum(map(len, found))


def _sides(row: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(row["chosen_ids"]), tuple(row["rejected_ids"])


def ranking_losses(scores: torch.Tensor, rankings: torch.Tensor) -> torch.Tensor:
    """Plackett-Luce loss of each ranking, shape (rankings,): the mean over its choices of -log their probability.

    Of M responses in order there are M - 1 choices, each of the best among those that are left, whose probability is
    the softmax of the rewards (Plackett 1975; the list-wise loss of Xia et al. 2008). For two responses this is the
    Bradley-Terry loss.

    Args:
        scores: rewards, shape (N,).
        rankings: indices of rewards, the best first, `NONE` after the last, shape (rankings, most responses).
    """
    present = rankings != NONE
    ordered = scores[rankings.clamp(min=0)].masked_fill(~present, -torch.inf)
    of_rest = ordered.flip(1).logcumsumexp(1).flip(1)
    is_choice = present & present.roll(-1, 1)
    is_choice[:, -1] = False
    # masked_fill before the sum: infinity less infinity is not a number, nor is its gradient.
    losses = (of_rest - ordered).masked_fill(~is_choice, 0)
    return losses.sum(1) / is_choice.sum(1)
