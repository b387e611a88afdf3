"""Which comparisons are trained on together: whole prompts in an effective batch, groups of responses in a micro-batch.

A comparison is named by its number, that of its row. A prompt's comparisons share an optimizer step, so that its tokens
and each of its responses are computed once (as in arXiv:2203.02155, section 3.4).
"""

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch.utils.data import Dataset

from reward_model.modeling.batching import (
    MAX_RESPONSES_PER_GROUP,
    ROUND,
    Batch,
    Layout,
    distinct_groups,
    packed_batch,
    packed_length,
    padded_batch,
)
from reward_model.training.rankings import NONE, find_rankings

LABELS = ("margin", "preference", "weight")  # of a comparison, numbers

PairRow = Mapping[str, Any]
MicroBatch = list[int]  # the numbers of its comparisons


@dataclass
class PairCollator:
    """Make a batch of rows as `labelled_row` makes them."""

    pad_token_id: int
    layout: Layout
    compact_ids: torch.Tensor  # the model's id of every token
    rank: bool = False  # whether rankings are looked for

    def __call__(self, pairs: Sequence[PairRow]) -> Batch:
        """A batch of the distinct responses in the layout, with a few fields more.

        Returns:
            As the layout, of N sequences; chosen and rejected, which of the sequences each pair compares, margin,
            preference, weight and number of the pairs, and the number of their ranking or `NONE`, each (pairs,);
            rankings (R, M), which sequences they rank, the best first, filled up with `NONE`.
        """
        groups, places = distinct_groups(pairs)
        starts = list(accumulate(map(len, groups), initial=0))
        batch = self.layout(groups, self.pad_token_id)
        batch["input_ids"] = self.compact_ids[batch["input_ids"]]
        sides = [(starts[one] + place, starts[other] + behind) for (one, place), (other, behind) in places]
        rankings, ranking_of = find_rankings(pairs, sides) if self.rank else ([], [NONE] * len(pairs))
        most = max(map(len, rankings), default=0)
        return batch | {
            "chosen": torch.tensor([chosen for chosen, _ in sides]),
            "rejected": torch.tensor([rejected for _, rejected in sides]),
            "rankings": torch.tensor([ranking + [NONE] * (most - len(ranking)) for ranking in rankings]),
            "ranking_of": torch.tensor(ranking_of),
            **{name: torch.tensor([float(pair[name]) for pair in pairs]) for name in LABELS},
            "numbers": torch.tensor([pair["number"] for pair in pairs]),
        }


@dataclass(frozen=True)
class Part:
    """Comparisons of one prompt that are computed together.

    Attributes:
        numbers: of the comparisons.
        rows: that they take in a batch; 1 where all of a batch stand in one row.
        width: the tokens of its longest row.
    """

    numbers: list[int]
    rows: int
    width: int

    @property
    def tokens(self) -> int:
        """What it takes alone, padding included."""
        return self.rows * self.width


@dataclass(frozen=True)
class Step:
    """What one process computes of an optimizer step.

    Attributes:
        micro_batches: as many on each process; the number after the last comparison's is a row that counts for nothing.
        weight: the sum of the weights of all comparisons in the effective batch, over all processes.
    """

    micro_batches: list[MicroBatch]
    weight: float


class TrainingPlan(Dataset[Step]):
    """All steps of a training, those of the processes in turn: for two processes, items 2n and 2n + 1 are step n.

    The order is a new one every epoch. Nothing but the arguments decides it, so a training that resumes goes on in it.
    """

    def __init__(
        self,
        rows: Sequence[PairRow],
        weights: Sequence[float],
        *,
        epochs: float,
        batch_size: int,
        effective_batch: int,
        seed: int,
        layout: Layout,
        processes: int = 1,
    ) -> None:
        """Plan a training on rows that have prompt_id, chosen_ids and rejected_ids.

        Args:
            rows: the comparisons.
            weights: of the comparisons in the loss.
            epochs: times that each is trained on; of a fraction, that share of an epoch's steps.
            batch_size: comparisons in a micro-batch if all are as long as the longest; of shorter ones more.
            effective_batch: comparisons in a step at most, over all processes.
            seed: of the order.
            layout: of the batches.
            processes: that share each step.
        """
        self.rows, self.weights, self.layout = rows, weights, layout
        self.effective_batch, self.processes = effective_batch, processes
        self.most_tokens = micro_batch_tokens(rows, batch_size, layout)
        self.prompts = plan_prompts(rows, effective_batch, layout)
        self.steps: list[list[Step]] = []
        for epoch in range(math.ceil(epochs)):
            steps = list(self._epoch(torch.Generator().manual_seed(seed + epoch)))
            self.steps += steps[: math.ceil(min(1, epochs - epoch) * len(steps))]

    def __len__(self) -> int:
        return len(self.steps) * self.processes

    def __getitem__(self, item: int) -> Step:
        return self.steps[item // self.processes][item % self.processes]

    @property
    def micro_batches(self) -> list[MicroBatch]:
        """All micro-batches in the order of the steps."""
        return [each for shares in self.steps for share in shares for each in share.micro_batches]

    @property
    def comparisons(self) -> list[int]:
        """The numbers of the comparisons in the order of the steps."""
        return [number for numbers in self.micro_batches for number in numbers if number < len(self.rows)]

    def unseen_comparisons(self) -> list[int]:
        """The numbers of the comparisons whose prompt stands in no earlier step, in the order of the first epoch."""
        seen, unseen = set[Any](), list[int]()
        for shares in self.steps:
            numbers = [number for share in shares for each in share.micro_batches for number in each]
            prompts = {number: self.rows[number]["prompt_id"] for number in numbers if number < len(self.rows)}
            unseen += [number for number, prompt in prompts.items() if prompt not in seen]
            seen.update(prompts.values())
        return unseen

    @property
    def largest_micro_batch(self) -> int:
        """Comparisons in the largest micro-batch."""
        return max(map(len, self.micro_batches))

    @property
    def prompts_in_parts(self) -> int:
        """Prompts that are not computed as one group."""
        pieces = Counter(self.rows[part.numbers[0]]["prompt_id"] for parts in self.prompts for part in parts)
        return sum(count > 1 for count in pieces.values())

    def _epoch(self, generator: torch.Generator) -> Iterator[list[Step]]:
        order = torch.randperm(len(self.prompts), generator=generator).tolist()
        sizes = [sum(len(part.numbers) for part in self.prompts[place]) for place in order]
        for places in first_fit(sizes, self.effective_batch):
            yield self._step([part for place in places for part in self.prompts[order[place]]])

    def _step(self, parts: list[Part]) -> list[Step]:
        """An effective batch divided over the processes."""
        weight = math.fsum(self.weights[number] for part in parts for number in part.numbers)
        shares = balanced(parts, self.processes) if self.processes > 1 else [parts]
        arranged = [arrange(share, self.most_tokens, self.layout) for share in shares]
        most = max(map(len, arranged))
        padding = [len(self.rows)]  # the number of the row that counts for nothing
        return [Step(own + [padding] * (most - len(own)), weight) for own in arranged]


def comparison_weights(rows: Sequence[PairRow], weigh: str) -> list[float]:
    """The weight of each comparison: its own, or with `prompt` its share of those of its prompt."""
    own = [float(row.get("weight", 1.0)) for row in rows]
    if weigh != "prompt":
        return own
    sums: dict[str, float] = defaultdict(float)
    for row, weight in zip(rows, own, strict=True):
        sums[row["prompt_id"]] += weight
    return [weight / sums[row["prompt_id"]] for row, weight in zip(rows, own, strict=True)]


def labelled_row(row: PairRow, number: int, weight: float) -> dict[str, Any]:
    """A row of data/tokens as `PairCollator` takes it."""
    preference = 1.0 if row.get("preference") is None else row["preference"]
    return {
        **{key: row[key] for key in ("prompt_id", "chosen_ids", "rejected_ids", "margin")},
        "preference": preference,
        "weight": weight,
        "number": number,
        "ranked": preference == 1 and row["margin"] == 0 and not row.get("degenerate"),  # by an order and no more
        "ranking_size": 0,
    }


def plan_prompts(rows: Sequence[PairRow], most: int, layout: Layout) -> list[list[Part]]:
    """The parts of each prompt, or of each piece of one that has more than `most` comparisons."""
    return [
        [_part(rows, numbers, layout) for numbers in split_by_responses(rows, piece)]
        for piece in split_prompts(rows, most)
    ]


def micro_batch_tokens(rows: Sequence[PairRow], batch_size: int, layout: Layout) -> int:
    """Tokens that a micro-batch may have: those of `batch_size` comparisons as long as the longest."""
    return batch_size * max(_part(rows, [number], layout).tokens for number in range(len(rows)))


def split_prompts(rows: Sequence[PairRow], most: int) -> list[list[int]]:
    """The numbers of each prompt's rows; a prompt with more than `most` in pieces whose sizes differ by one at most."""
    by_prompt: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        by_prompt.setdefault(row["prompt_id"], []).append(number)
    pieces = []
    for numbers in by_prompt.values():
        count = -(-len(numbers) // most)
        ordered = _near_each_other(_responses(rows, numbers)) if count > 1 else numbers
        bounds = [len(numbers) * part // count for part in range(count + 1)]
        pieces += [ordered[start:end] for start, end in pairwise(bounds)]
    return pieces


def split_by_responses(rows: Sequence[PairRow], numbers: list[int]) -> list[list[int]]:
    """The numbers of rows of one prompt in parts that have no more distinct responses than a group takes."""
    responses = _responses(rows, numbers)
    if len(set().union(*responses.values())) <= MAX_RESPONSES_PER_GROUP:
        return [numbers]
    parts: list[list[int]] = []
    seen: set[int] = set()
    for number in _near_each_other(responses):
        seen |= set(responses[number])
        if not parts or len(seen) > MAX_RESPONSES_PER_GROUP:
            parts.append([])
            seen = set(responses[number])
        parts[-1].append(number)
    return parts


def first_fit(sizes: Sequence[int], room: int) -> list[list[int]]:
    """Put items into bins of `room`, each into the first that it fits in; gives the items' numbers, bin by bin."""
    bins: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(room + 1)]  # by the room that is left, heaps of bins
    for item, size in enumerate(sizes):
        fitting = [(heap[0], left) for left, heap in enumerate(with_room) if heap and left >= size]
        place, left = min(fitting, default=(len(bins), room))
        if place == len(bins):
            bins.append([])
        else:
            heapq.heappop(with_room[left])
        bins[place].append(item)
        heapq.heappush(with_room[left - size], place)
    return bins


def arrange(parts: Sequence[Part], most: int, layout: Layout) -> list[MicroBatch]:
    """Micro-batches of up to `most` tokens; a part that has more is one of its own.

    In packed batches there is no padding to save, and the largest sets how much memory training takes: they get about
    the same number of tokens. In others, parts of about the same length come together.
    """
    if layout is packed_batch:
        sizes = [part.tokens for part in parts]
        full = sum(size >= most for size in sizes)
        count = full + -(-sum(size for size in sizes if size < most) // most)
        return [_numbers(batch) for batch in balanced(parts, count, most) if batch]
    batches: list[list[Part]] = []
    for part in sorted(parts, key=lambda part: part.width):
        if not batches or (sum(each.rows for each in batches[-1]) + part.rows) * part.width > most:
            batches.append([])
        batches[-1].append(part)
    return [_numbers(batch) for batch in batches]


def balanced(parts: Sequence[Part], count: int, most: float = math.inf) -> list[list[Part]]:
    """Share parts out over `count` lists (or more, if need be) with about the same number of tokens each.

    Args:
        parts: to share out.
        count: of the lists.
        most: tokens in a list, unless one part has more.
    """
    batches: list[list[Part]] = [[] for _ in range(count)]
    for part in sorted(parts, key=lambda part: -part.tokens):
        smallest = min(batches, key=_total)
        if smallest and _total(smallest) + part.tokens > most:
            smallest = []
            batches.append(smallest)
        smallest.append(part)
    return batches


def _numbers(parts: Sequence[Part]) -> list[int]:
    return [number for part in parts for number in part.numbers]


def _total(parts: Sequence[Part]) -> int:
    return sum(part.tokens for part in parts)


def _part(rows: Sequence[PairRow], numbers: list[int], layout: Layout) -> Part:
    """Some rows of a prompt, their distinct responses computed once and, where the layout shares it, their prompt."""
    groups, _ = distinct_groups([rows[number] for number in numbers])
    if layout is padded_batch:
        return Part(numbers, sum(map(len, groups)), max(len(sequence) for group in groups for sequence in group))
    lengths = [packed_length(group) for group in groups]
    if layout is packed_batch:
        return Part(numbers, 1, sum(lengths))
    return Part(numbers, len(lengths), -(-max(lengths) // ROUND) * ROUND)


def _responses(rows: Sequence[PairRow], numbers: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Which two responses each of some rows compares; the distinct ones are numbered as they occur."""
    found: dict[tuple[int, ...], int] = {}

    def locate(ids: Sequence[int]) -> int:
        return found.setdefault(tuple(ids), len(found))

    return {number: (locate(rows[number]["chosen_ids"]), locate(rows[number]["rejected_ids"])) for number in numbers}


def _near_each_other(responses: Mapping[int, tuple[int, int]]) -> list[int]:
    """The rows in an order in which neighbours compare the same few responses.

    Responses are taken in blocks of half a group: the comparisons between two blocks have no more than a group's.
    """
    half = MAX_RESPONSES_PER_GROUP // 2
    return sorted(responses, key=lambda number: sorted(response // half for response in responses[number]))
