"""How often other models, asked as judges, agree with the labels of the sample: how far a model may hope to get.

Agreement with two other annotators who agree, not truth.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from reward_model.common.messages import Row
from reward_model.evaluation.bootstrap import Bootstrap
from reward_model.evaluation.metrics import accuracy_figures


def judge_figures(rows: Sequence[Row], bootstrap_samples: int, seed: int) -> dict[str, dict[str, Any]]:
    """n, accuracy and its interval by judge.

    Args:
        rows: of data/pairs/judges.jsonl: prompt_id, and whether each judge `agrees`.
        bootstrap_samples: resamplings of prompts behind each interval.
        seed: of the resampling.
    """
    figures = {}
    for name in sorted({name for row in rows for name in row["agrees"]}):
        own = [row for row in rows if name in row["agrees"]]
        correct = np.array([row["agrees"][name] for row in own], dtype=float)
        bootstrap = Bootstrap([row["prompt_id"] for row in own], bootstrap_samples, seed)
        figures[name] = accuracy_figures(correct, bootstrap)
    return figures
