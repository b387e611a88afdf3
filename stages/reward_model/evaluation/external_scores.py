"""The figures that the authors of external evaluation sets report, as their own code computes them."""

from typing import Any

import numpy as np
import pandas as pd

from reward_model.data.external_formats import SECTIONS, STYLES, SUBSETS_2, TIES
from reward_model.evaluation.margins import compute_margins


def external_scores(row_format: str, pairs: pd.DataFrame) -> dict[str, Any]:
    """The figures that a benchmark's authors report, from scored pairs with the columns of `ExternalPair`."""
    if row_format == "reward_bench":
        return {"reward_bench": reward_bench_sections(pairs)}
    if row_format == "reward_bench_2":
        return {"reward_bench_2": reward_bench_2_subsets(pairs)}
    if row_format == "rm_bench":
        return {"rm_bench": rm_bench_matrix(pairs)}
    return {"best_of_n": best_of_n(pairs)} if row_format == "best_of_n" else {}


def reward_bench_sections(pairs: pd.DataFrame) -> dict[str, float | None]:
    """Accuracy of each section that occurs, in which subsets have fixed weights, and `score`, the sections' mean.

    A tie is wrong. The score is None if no section occurs.
    """
    correct: Any = pairs.assign(correct=compute_margins(pairs) > 0).groupby("source")["correct"].mean()
    sections = {}
    for section, subsets in SECTIONS.items():
        found = [subset for subset in subsets if subset in correct.index]
        if found:
            sections[section] = float(np.average(correct[found], weights=[subsets[subset] for subset in found]))
    return {**sections, "score": float(np.mean(list(sections.values()))) if sections else None}


def reward_bench_2_subsets(pairs: pd.DataFrame) -> dict[str, float]:
    """The score of each subset that occurs, and `score`, their mean.

    It is how often the best of four is the chosen one, which counts as 1/n where n are the highest; of `TIES`,
    `ties_score`.
    """
    by_subset: Any = pairs.groupby("source")
    subsets = {
        subset: ties_score(own) if subset == TIES else best_of_n(own)["accuracy"]
        for subset, own in sorted(by_subset, key=lambda item: SUBSETS_2.index(item[0]))
    }
    return {**subsets, "score": float(np.mean(list(subsets.values())))}


def ties_score(pairs: pd.DataFrame) -> float:
    """The score of questions with many right answers (`tied:N`), each beside one with a single one (`ref:N`).

    0.3 × how often all right answers of `tied` are above all wrong ones, and 0.3 × the same of `ref`. Of questions in
    both, with two right answers or more: 0.2 × how often the gap between right and wrong is wider than the right
    answers' own range, 0.2 × how often the narrower gap of the two questions is, and 0.01 × the mean of
    tanh(narrower gap / range - 1), where there is a range.
    """
    names: Any = pairs["row_id"].str.split(":")
    rows: Any = pairs.groupby([names.str[0], names.str[1].astype(int)]).agg(
        low=("chosen_reward", "min"),
        high=("chosen_reward", "max"),
        wrong=("rejected_reward", "max"),
        answers=("chosen_index", "nunique"),
    )
    rows = rows.assign(gap=rows["low"] - rows["wrong"], range=rows["high"] - rows["low"])
    tied, ref = (rows[rows.index.get_level_values(0) == kind].droplevel(0) for kind in ("tied", "ref"))
    both = tied[tied["answers"] > 1].join(ref["gap"].rename("ref_gap"), how="inner")
    narrower = np.minimum(both["gap"], both["ref_gap"])
    spread = both["range"] > 0
    return (
        0.3 * _mean(tied["gap"] > 0)
        + 0.3 * _mean(ref["gap"] > 0)
        + 0.2 * _mean(both["gap"] > both["range"])
        + 0.2 * _mean(narrower > both["range"])
        + 0.01 * _mean(np.tanh(narrower[spread] / both["range"][spread] - 1))
    )


def rm_bench_matrix(pairs: pd.DataFrame) -> dict[str, Any]:
    """Accuracy by the styles of chosen (rows) and rejected (columns), plain to elaborate; the mean over domains.

    A tie is wrong. The domain is what stands before the first hyphen. `easy` are the cells in which chosen is the more
    elaborate one, `hard` those in which rejected is, `normal` the diagonal.
    """
    table: Any = pairs.assign(correct=compute_margins(pairs) > 0, domain=pairs["source"].str.split("-").str[0])
    by_domain = table.groupby(["domain", "chosen_index", "rejected_index"])["correct"].mean()
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


def _mean(values: Any) -> float:
    return float(np.mean(values)) if len(values) else 0.0
