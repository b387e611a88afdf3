"""Margins of evaluated pairs, their labels, and the log loss of the one against the other."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def compute_margins(pairs: pd.DataFrame) -> FloatArray:
    """Reward of chosen minus reward of rejected, shape (pairs,)."""
    return column(pairs, "chosen_reward") - column(pairs, "rejected_reward")


def column(pairs: pd.DataFrame, column: str) -> FloatArray:
    """A column as float64, shape (pairs,)."""
    return np.asarray(pairs[column], dtype=float)


def read_labels(pairs: pd.DataFrame) -> FloatArray:
    """The probability that chosen is better, by the labels, shape (pairs,)."""
    return np.asarray(pairs["preference"].fillna(1.0), dtype=float) if "preference" in pairs else np.ones(len(pairs))


def of_one_kind(labels: FloatArray, others: FloatArray) -> NDArray[np.bool_]:
    """Which of `others` are labels of the kind that `labels` are: certain (0 or 1), or shares.

    Margins want another temperature where labels are shares. Labels that are not all certain are of either kind.

    Args:
        labels: probabilities that chosen is better, shape (pairs,).
        others: likewise, shape (others,).
    """
    certain = np.isin(others, (0, 1))
    if np.isin(labels, (0, 1)).all():
        return certain
    return np.full(len(others), not certain.all())


def log_losses(margins: FloatArray, labels: FloatArray | float = 1.0) -> FloatArray:
    """The cross-entropy of sigmoid(margin) with the labels in nats, shape (pairs,); -log sigmoid(margin) where 1."""
    return labels * np.logaddexp(0, -margins) + (1 - labels) * np.logaddexp(0, margins)


def log_loss(margins: FloatArray, labels: FloatArray | float = 1.0) -> float:
    """The mean of `log_losses`."""
    return float(log_losses(margins, labels).mean())
