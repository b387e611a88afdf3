"""Figures over held-out pairs: accuracy with its uncertainty, log loss, and the length baseline beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class ScoredPair:
    """A pair's two rewards with what the figures need of its texts."""

    prompt_id: str
    chosen_reward: float
    rejected_reward: float
    chosen_characters: int
    rejected_characters: int

    @property
    def margin(self) -> float:
        """Reward of chosen minus reward of rejected."""
        return self.chosen_reward - self.rejected_reward


def evaluate_pairs(pairs: Sequence[ScoredPair], *, bootstrap_samples: int, seed: int) -> dict[str, object]:
    """The figures for one set of pairs.

    Returns:
        n; accuracy, in which a tie counts half; accuracy_ci95; ties; loss, the mean of -log sigmoid(margin) in nats;
        margin_mean; longer_wins, the accuracy of preferring the longer response in characters.
    """
    margins = margins_of(pairs)
    correct = wins(margins)
    lengths = np.array([pair.chosen_characters - pair.rejected_characters for pair in pairs], dtype=float)
    interval = clustered_interval(correct, [pair.prompt_id for pair in pairs], bootstrap_samples, seed)
    return {
        "n": len(pairs),
        "accuracy": float(correct.mean()),
        "accuracy_ci95": list(interval),
        "ties": int((margins == 0).sum()),
        "loss": float(np.logaddexp(0, -margins).mean()),
        "margin_mean": float(margins.mean()),
        "longer_wins": float(wins(lengths).mean()),
    }


def rewards_of(pairs: Sequence[ScoredPair]) -> tuple[FloatArray, FloatArray]:
    """The rewards of chosen and of rejected, each of shape (pairs,)."""
    return np.array([pair.chosen_reward for pair in pairs]), np.array([pair.rejected_reward for pair in pairs])


def margins_of(pairs: Sequence[ScoredPair]) -> FloatArray:
    """Reward of chosen minus reward of rejected, shape (pairs,)."""
    return np.array([pair.margin for pair in pairs])


def wins(differences: FloatArray) -> FloatArray:
    """1 where chosen is ahead, 0 where rejected is, one half for a tie."""
    return (differences > 0) + 0.5 * (differences == 0)


def clustered_interval(values: FloatArray, clusters: Sequence[str], samples: int, seed: int) -> tuple[float, float]:
    """95% percentile bootstrap interval of the mean, resampling whole clusters.

    Pairs of one prompt are not independent, so prompts are drawn, not pairs (Cameron, Gelbach & Miller 2008).
    """
    _, numbers = np.unique(np.array(clusters), return_inverse=True)
    sums = np.bincount(numbers, weights=values)
    sizes = np.bincount(numbers)
    drawn = np.random.default_rng(seed).integers(len(sums), size=(samples, len(sums)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def margin_histograms(sets: Mapping[str, Sequence[ScoredPair]], bins: int = 20) -> list[dict[str, float]]:
    """Rows for a plot: the middle of each bin as `margin`, and by set's name the share of its pairs in the bin.

    The bins are the same for all sets, and on both sides of zero.
    """
    margins = {name: margins_of(pairs) for name, pairs in sets.items()}
    reach = max(1e-6, *(float(np.abs(of_set).max()) for of_set in margins.values()))
    edges = np.linspace(-reach, reach, bins + 1)
    shares = {name: np.histogram(of_set, edges)[0] / len(of_set) for name, of_set in margins.items()}
    middles = (edges[:-1] + edges[1:]) / 2
    return [
        {"margin": float(middle), **{name: float(share[number]) for name, share in shares.items()}}
        for number, middle in enumerate(middles)
    ]
