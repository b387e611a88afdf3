"""Tables behind the plots of dvc.yaml: lists of rows, one column for each set of pairs."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from reward_model.common.accuracy import pair_accuracy
from reward_model.evaluation.metrics import BINS, column, compute_margins, reliability

Sets = Mapping[str, pd.DataFrame]  # by name, tables as in `metrics`
Rows = list[dict[str, Any]]

POINTS = 200  # responses of each set in the scatter plot
OCTAVES = (-2.0, -1.0, -0.4, -0.1, 0.1, 0.4, 1.0, 2.0)  # bounds between bins of the lengths' ratio, as its logarithm


def margin_histograms(sets: Sets, bins: int = 20) -> Rows:
    """The middle of each bin as `margin`, and the share of each set's pairs in the bin.

    The bins are the same for all sets, and on both sides of zero.
    """
    margins = {name: compute_margins(pairs) for name, pairs in sets.items()}
    reach = max(1e-6, *(float(np.abs(of_set).max()) for of_set in margins.values()))
    edges = np.linspace(-reach, reach, bins + 1)
    shares = {name: np.histogram(of_set, edges)[0] / len(of_set) for name, of_set in margins.items()}
    middles = (edges[:-1] + edges[1:]) / 2
    return [
        {"margin": float(middle), **{name: float(share[number]) for name, share in shares.items()}}
        for number, middle in enumerate(middles)
    ]


def reliability_diagram(sets: Sets, temperature: float) -> Rows:
    """By bin of confidence at the fitted temperature, each set's accuracy; `perfect` is what a true confidence gives.

    A set has no value in a bin without its pairs.
    """
    bins = {
        name: reliability(compute_margins(pairs) / temperature)["accuracy"].to_dict() for name, pairs in sets.items()
    }
    rows = []
    for number in range(BINS):
        middle = 0.5 + (number + 0.5) / (2 * BINS)
        values = {name: of_set.get(number) for name, of_set in bins.items()}
        rows.append({"confidence": middle, "perfect": middle, **values})
    return rows


def accuracy_by_length(sets: Sets) -> Rows:
    """By how many times chosen is longer than rejected, each set's accuracy; the rule "longer wins" beside it.

    `octaves` is the middle of a bin: the binary logarithm of the ratio, 1 for twice as long. A set has no value in a
    bin without its pairs.
    """
    outer = [OCTAVES[0] - 1, *OCTAVES, OCTAVES[-1] + 1]
    middles = [round((low + high) / 2, 2) for low, high in pairwise(outer)]
    accuracies = {}
    for name, pairs in sets.items():
        octaves = np.log2(column(pairs, "chosen_characters") / column(pairs, "rejected_characters"))
        table: Any = pd.DataFrame(
            {"bin": np.digitize(octaves, OCTAVES), "correct": pair_accuracy(compute_margins(pairs))}
        )
        accuracies[name] = table.groupby("bin")["correct"].mean().to_dict()
    return [
        {
            "octaves": middle,
            **{name: of_set.get(number) for name, of_set in accuracies.items()},
            "longer_wins": float(np.sign(middle) / 2 + 0.5),
        }
        for number, middle in enumerate(middles)
    ]


def rewards_by_length(sets: Sets) -> Rows:
    """Length and reward of responses: the first `POINTS` of each set, with the reward in the set's column."""
    rows: Rows = []
    others = dict.fromkeys(sets)  # DVC draws no column that a row lacks
    for name, pairs in sets.items():
        for pair in pairs.head(POINTS // 2).to_dict("records"):
            for side in ("chosen", "rejected"):
                rows.append({"characters": pair[f"{side}_characters"], **others, name: pair[f"{side}_reward"]})
    return rows
