"""The loss of a pair, and sums over pairs."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from reward_model.common.accuracy import pair_accuracy
from reward_model.data.pairs import TIE


@dataclass
class PairTotals:
    """Sums over pairs, so that means are per pair whatever the batches were.

    Attributes:
        pairs: counted so far.
        sided: those of them that are no ties by their label.
        loss, margin: sums over all pairs.
        correct: sum over the pairs with a side.
        ties: pairs whose two rewards are equal.
    """

    pairs: int = 0
    sided: int = 0
    loss: float = 0.0
    correct: float = 0.0
    ties: int = 0
    margin: float = 0.0

    def add(self, losses: torch.Tensor, margins: torch.Tensor, preferences: torch.Tensor) -> None:
        """Count pairs with these losses, margins (chosen - rejected) and preferences, each of shape (pairs,)."""
        sided = preferences != TIE
        self.pairs += len(margins)
        self.sided += int(sided.sum())
        self.loss += float(losses.sum())
        self.ties += int((margins == 0).sum())
        self.correct += float(pair_accuracy(margins[sided].double().cpu().numpy()).sum())
        self.margin += float(margins.sum())

    def means(self) -> dict[str, float]:
        """Loss, accuracy (equal rewards count half; of pairs with a side) and margin per pair."""
        return {
            "loss": self.loss / self.pairs,
            "accuracy": self.correct / self.sided if self.sided else 0.5,
            "margin": self.margin / self.pairs,
        }


def pair_losses(
    chosen: torch.Tensor,
    rejected: torch.Tensor,
    margin: torch.Tensor,
    label_smoothing: float = 0.0,
    preference: torch.Tensor | float = 1.0,
) -> torch.Tensor:
    """Bradley-Terry loss of each pair, shape (pairs,): -log sigmoid(chosen - rejected - margin).

    With a preference, the probability that chosen is better, it is the cross-entropy with it. The margin is that of
    Llama 2 (arXiv:2307.09288, eq. 2); label smoothing is conservative DPO's (Mitchell 2023: the label is swapped with
    this probability).
    """
    difference = chosen - rejected - margin
    label = preference * (1 - label_smoothing) + (1 - preference) * label_smoothing
    return -F.logsigmoid(difference) * label - F.logsigmoid(-difference) * (1 - label)


def centring_losses(chosen: torch.Tensor, rejected: torch.Tensor, coefficient: float | None) -> torch.Tensor:
    """What keeps the rewards of each pair near zero, shape (pairs,): arXiv:2312.09244, eq. 2, as in TRL."""
    return (coefficient or 0.0) * (chosen + rejected) ** 2
