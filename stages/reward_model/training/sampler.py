"""Which pairs are trained on together: their order, their micro-batches, and the tensors of a batch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Sampler

from reward_model.modeling.batching import Batch, Layout, pairs_to_groups

PairRow = Mapping[str, Any]


@dataclass
class PairCollator:
    """Make a batch of rows that have number, chosen_ids, rejected_ids, margin and weight."""

    pad_token_id: int
    layout: Layout
    compact_ids: torch.Tensor  # the model's id of every token

    def __call__(self, pairs: Sequence[PairRow]) -> Batch:
        """A batch in the layout, with the margins, weights and numbers of the rows added, each (pairs,)."""
        batch = self.layout(pairs_to_groups(pairs), self.pad_token_id)
        batch["input_ids"] = self.compact_ids[batch["input_ids"]]
        of_rows = {name: torch.tensor([float(pair[name]) for pair in pairs]) for name in ("margin", "weight")}
        return batch | of_rows | {"numbers": torch.tensor([pair["number"] for pair in pairs])}


class EffectiveBatchSampler(Sampler[int]):
    """A new seeded order every epoch; within each effective batch the pairs are arranged into micro-batches.

    Arranging there changes no step, since a step takes its whole effective batch.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        effective_batch: int,
        seed: int,
        arrange: Callable[[list[int]], list[int]],
        multiple: int = 1,
    ) -> None:
        """Sample the pairs that have these lengths.

        Args:
            lengths: tokens of each pair.
            effective_batch: pairs in an optimizer step.
            seed: of the order.
            arrange: gives the lengths' numbers in an effective batch another order; micro-batches are cut from it.
            multiple: the order is filled up to a multiple of it with the number after the last pair's, a row that
                counts for nothing. (Several processes need equal shares, and would get some pairs twice.)
        """
        self.lengths = lengths
        self.effective_batch = effective_batch
        self.seed = seed
        self.arrange = arrange
        self.filling = -len(lengths) % multiple
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.lengths) + self.filling

    def set_epoch(self, epoch: int) -> None:
        """The trainer calls this before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator).tolist()
        for start in range(0, len(order), self.effective_batch):
            yield from self.arrange(order[start : start + self.effective_batch])
        yield from [len(self.lengths)] * self.filling


def balanced(numbers: Sequence[int], lengths: Sequence[int], batch_size: int) -> list[int]:
    """Order pairs so that micro-batches, `batch_size` numbers each, have about the same number of tokens.

    Packed batches have no padding to save, and the largest of them sets how much memory training takes.
    """
    sizes = [min(batch_size, len(numbers) - start) for start in range(0, len(numbers), batch_size)]
    batches: list[list[int]] = [[] for _ in sizes]
    tokens = [0] * len(sizes)
    for number in sorted(numbers, key=lambda number: -lengths[number]):
        with_room = [place for place, size in enumerate(sizes) if len(batches[place]) < size]
        place = min(with_room, key=lambda place: tokens[place])
        batches[place].append(number)
        tokens[place] += lengths[number]
    return [number for batch in batches for number in batch]
