"""Log loss and accuracy on validation pairs while training runs: a fixed part of them, forward only."""

from collections.abc import Sequence
from typing import Any

import torch

from reward_model.modeling.forward import to_device
from reward_model.training.losses import PairTotals, pair_losses
from reward_model.training.sampler import (
    PairCollator,
    PairRow,
    arrange,
    labelled_row,
    micro_batch_tokens,
    plan_prompts,
)

MIN_PROMPTS = 10  # fewer say too little of which weights are better


class Validation:
    """The validation pairs of one training.

    Attributes:
        pairs, prompts: how many there are.
    """

    def __init__(self, rows: Sequence[PairRow], batch_size: int, collate: PairCollator) -> None:
        """Take rows of data/tokens; `batch_size` and `collate` as in training."""
        self.rows = [labelled_row(row, number, 1.0) for number, row in enumerate(rows)]
        self.collate = collate
        self.pairs, self.prompts = len(rows), len({row["prompt_id"] for row in rows})
        parts = [part for prompt in plan_prompts(rows, len(rows), collate.layout) for part in prompt]
        most_tokens = micro_batch_tokens(rows, batch_size, collate.layout)
        self.micro_batches = arrange(parts, most_tokens, collate.layout)

    @torch.no_grad()
    def evaluate(self, model: torch.nn.Module, device: torch.device) -> dict[str, float]:
        """Log loss and accuracy of a model that is in evaluation mode; each response is computed once.

        Returns:
            eval_loss, the cross-entropy with the labels (without the margins and additions of the training loss), and
            eval_accuracy.
        """
        totals = PairTotals()
        for numbers in self.micro_batches:
            batch: dict[str, Any] = to_device(self.collate([self.rows[number] for number in numbers]), device)
            chosen, rejected, preference = (batch.pop(name) for name in ("chosen", "rejected", "preference"))
            for name in ("margin", "weight", "numbers", "rankings", "ranking_of"):
                del batch[name]
            scores = model(**batch).float()
            margins = scores[chosen] - scores[rejected]
            losses = pair_losses(scores[chosen], scores[rejected], torch.zeros_like(margins), 0.0, preference)
            totals.add(losses, margins, preference)
        means = totals.means()
        return {"eval_loss": means["loss"], "eval_accuracy": means["accuracy"]}
