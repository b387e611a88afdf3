"""Intervals of means over pairs, by resampling whole prompts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
MIN_PROMPTS = 10  # below, an interval would cover the truth far less often than it says
BLOCK = 64  # bootstrap samples drawn at a time
RULE_OF_THREE = 3  # what was never seen in n has a 95% bound of 3/n (Hanley & Lippman-Hand 1983)
Interval = tuple[float, float]


@dataclass(frozen=True)
class Bootstrap:
    """95% intervals of means over pairs, resampling whole prompts.

    Pairs of one prompt are not independent, so prompts are drawn, not pairs (Cameron, Gelbach & Miller 2008). Of few
    prompts a percentile interval is too narrow; it is expanded to what Student's t would give (Hesterberg 2015).

    Attributes:
        prompts: each pair's.
        samples: how often they are drawn.
        seed: of the drawing.
    """

    prompts: Sequence[str]
    samples: int
    seed: int

    def interval(self, values: FloatArray) -> Interval | None:
        """That of the mean of `values`, one a pair; None for fewer than `MIN_PROMPTS` prompts."""
        sums, sizes = self._by_prompt(values)
        if len(sums) < MIN_PROMPTS:
            return None
        generator = np.random.default_rng(self.seed)
        means = []
        for start in range(0, self.samples, BLOCK):
            drawn = generator.integers(len(sums), size=(min(BLOCK, self.samples - start), len(sums)))
            means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
        outside = tail_probability(len(sums))
        low, high = np.quantile(np.concatenate(means), [outside, 1 - outside])
        return float(low), float(high)

    def bounded_interval(self, values: FloatArray, lowest: float, highest: float) -> Interval | None:
        """`interval`, but by the rule of three for values that are all equal, where a bootstrap has no width.

        Args:
            values: one a pair.
            lowest, highest: that a value could have had.
        """
        interval = self.interval(values)
        if interval is None or np.ptp(values) > 0:
            return interval
        value, unseen = float(values[0]), RULE_OF_THREE / len(set(self.prompts))
        return value - unseen * (value - lowest), value + unseen * (highest - value)

    def differing(self, gains: FloatArray) -> int:
        """On how many prompts there is a gain or a loss."""
        sums, _ = self._by_prompt(gains)
        return int(np.count_nonzero(sums))

    def _by_prompt(self, values: FloatArray) -> tuple[NDArray[Any], NDArray[Any]]:
        _, numbers = np.unique(np.array(self.prompts), return_inverse=True)
        return np.bincount(numbers, weights=values), np.bincount(numbers)


def tail_probability(clusters: int) -> float:
    """Which share of bootstrap means to leave out at either end: 0.025, less for few clusters (Hesterberg 2015)."""
    from scipy.stats import norm, t

    width = math.sqrt(clusters / (clusters - 1)) * float(t.ppf(0.975, clusters - 1))
    return float(norm.cdf(-width))


def to_list(interval: Interval | None) -> list[float] | None:
    """An interval for a file."""
    return None if interval is None else list(interval)
