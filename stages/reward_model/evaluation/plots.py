"""Tables behind the plots of dvc.yaml: lists of rows, each with its `set` of pairs."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from reward_model.common.accuracy import pair_accuracy
from reward_model.evaluation.margins import column, compute_margins, read_labels
from reward_model.evaluation.metrics import BINS, reliability

Sets = Mapping[str, pd.DataFrame]  # by name, tables as in `metrics`
Rows = list[dict[str, Any]]

PERFECT = "perfect calibration"
LONGER = "the longer wins"
POINTS = 200  # responses of each set in the scatter plot
OCTAVES = (-2.0, -1.0, -0.4, -0.1, 0.1, 0.4, 1.0, 2.0)  # bounds between bins of the lengths' ratio, as its logarithm


def margin_histograms(sets: Sets, bins: int = 20) -> Rows:
    """The middle of each bin as `margin`, and the `share` of the set's pairs in the bin.

    The bins are the same for all sets, and on both sides of zero.
    """
    margins = {name: compute_margins(pairs) for name, pairs in sets.items()}
    reach = max(1e-6, *(float(np.abs(values).max()) for values in margins.values()))
    edges = np.linspace(-reach, reach, bins + 1)
    middles = (edges[:-1] + edges[1:]) / 2
    return [
        {"set": name, "margin": float(middle), "share": float(count / len(values))}
        for name, values in margins.items()
        for middle, count in zip(middles, np.histogram(values, edges)[0], strict=True)
    ]


def reliability_diagram(sets: Sets, temperature: float) -> Rows:
    """By bin of `confidence` at the fitted temperature, the set's `accuracy`, and its `pairs` in the bin.

    The set `PERFECT` is what a true confidence gives. A set has no row for a bin without its pairs.
    """
    middles = [0.5 + (number + 0.5) / (2 * BINS) for number in range(BINS)]
    rows: Rows = [{"set": PERFECT, "confidence": middle, "accuracy": middle, "pairs": 0} for middle in middles]
    for name, pairs in sets.items():
        for number, row in (
            reliability(compute_margins(pairs) / temperature, read_labels(pairs)).to_dict("index").items()
        ):
            middle, count = middles[int(str(number))], int(row["pairs"])
            rows.append({"set": name, "confidence": middle, "accuracy": float(row["accuracy"]), "pairs": count})
    return rows


def accuracy_by_length(sets: Sets) -> Rows:
    """By how many times chosen is longer than rejected, the set's `accuracy`; the rule `LONGER` beside it.

    `octaves` is the middle of a bin: the binary logarithm of the ratio, 1 for twice as long. A set has no row for a
    bin without its pairs.
    """
    outer = [OCTAVES[0] - 1, *OCTAVES, OCTAVES[-1] + 1]
    middles = [round((low + high) / 2, 2) for low, high in pairwise(outer)]
    rows: Rows = [
        {"set": LONGER, "octaves": middle, "accuracy": float(np.sign(middle) / 2 + 0.5)} for middle in middles
    ]
    for name, pairs in sets.items():
        octaves = np.log2(column(pairs, "chosen_characters") / column(pairs, "rejected_characters"))
        correct = pair_accuracy(compute_margins(pairs))
        table: Any = pd.DataFrame({"bin": np.digitize(octaves, OCTAVES), "correct": correct})
        for number, accuracy in table.groupby("bin")["correct"].mean().items():
            rows.append({"set": name, "octaves": middles[number], "accuracy": float(accuracy)})
    return rows


def rewards_by_length(sets: Sets) -> Rows:
    """`characters` and `reward` of the first `POINTS` responses of each set."""
    return [
        {"set": name, "characters": pair[f"{side}_characters"], "reward": pair[f"{side}_reward"]}
        for name, pairs in sets.items()
        for pair in pairs.head(POINTS // 2).to_dict("records")
        for side in ("chosen", "rejected")
    ]
