"""The figures that the authors of external evaluation sets report."""

from typing import Any

import numpy as np
import pandas as pd

from reward_model.common.accuracy import pair_accuracy
from reward_model.data.external_formats import SECTIONS, STYLES
from reward_model.evaluation.metrics import compute_margins

# RewardBench counts its 447 pairs of mathematics as 984, as many as there are of code.
WEIGHTS = {"math-prm": 984 / 447}


def external_scores(row_format: str, pairs: pd.DataFrame) -> dict[str, Any]:
    """The figures that a benchmark's authors report, from scored pairs with the columns of `ExternalPair`."""
    if row_format == "reward_bench":
        return {"reward_bench": reward_bench_sections(pairs)}
    if row_format == "rm_bench":
        return {"rm_bench": rm_bench_matrix(pairs)}
    return {"best_of_n": best_of_n(pairs)} if row_format == "best_of_n" else {}


def reward_bench_sections(pairs: pd.DataFrame) -> dict[str, float | None]:
    """Accuracy of each section that occurs, in which subsets weigh by their pairs, and `score`, the sections' mean.

    The score is None if no section occurs.
    """
    correct = pair_accuracy(compute_margins(pairs))
    weight = pairs["source"].map(lambda source: WEIGHTS.get(source, 1.0)).to_numpy(dtype=float)
    sections = {}
    for section, subsets in SECTIONS.items():
        own = pairs["source"].isin(subsets).to_numpy()
        if own.any():
            sections[section] = float(np.average(correct[own], weights=weight[own]))
    return {**sections, "score": float(np.mean(list(sections.values()))) if sections else None}


def rm_bench_matrix(pairs: pd.DataFrame) -> dict[str, Any]:
    """Accuracy by the styles of chosen (rows) and rejected (columns), plain to elaborate; the mean over domains.

    `easy` are the cells in which chosen is the more elaborate one, `hard` those in which rejected is, `normal` the
    diagonal.
    """
    table: Any = pairs.assign(
        correct=pair_accuracy(compute_margins(pairs)), domain=pairs["source"].str.split("-").str[0]
    )
    cells = table.groupby(["domain", "source", "chosen_index", "rejected_index"])["correct"].mean()
    by_domain = cells.groupby(["domain", "chosen_index", "rejected_index"]).mean()
    mean = by_domain.groupby(["chosen_index", "rejected_index"]).mean()
    matrix = mean.unstack().reindex(index=range(STYLES), columns=range(STYLES)).to_numpy(dtype=float)
    easy, hard = np.tril_indices(STYLES, -1), np.triu_indices(STYLES, 1)
    figures = {
        "easy": float(matrix[easy].mean()),
        "normal": float(np.diagonal(matrix).mean()),
        "hard": float(matrix[hard].mean()),
    }
    return {"matrix": matrix.tolist(), **figures, "average": float(np.mean(list(figures.values())))}


def best_of_n(pairs: pd.DataFrame) -> dict[str, Any]:
    """How often the response with the highest reward is one that no other is better than, and how often by chance."""
    right, chance = [], []
    rows: Any = pairs.groupby("row")
    for _, row in rows:
        rewards = dict(zip(row["chosen_index"], row["chosen_reward"], strict=True))
        rewards |= dict(zip(row["rejected_index"], row["rejected_reward"], strict=True))
        worse = set(row["rejected_index"])
        highest = max(rewards.values())
        first = [place for place, reward in rewards.items() if reward == highest]
        right.append(float(np.mean([place not in worse for place in first])))
        chance.append(1 - len(worse) / len(rewards))
    return {"n": len(right), "accuracy": float(np.mean(right)), "by_chance": float(np.mean(chance))}
