"""The rewards of other reward models in data/baselines."""

import numpy as np

from reward_model.evaluation.fit_calibration import fit_temperature
from reward_model.evaluation.margins import FloatArray

REFERENCES_FILE = "reference_models.json"  # in data/baselines: name and temperature of each


def reference_columns(number: int) -> tuple[str, str]:
    """The columns of data/baselines with a model's rewards of chosen and of rejected."""
    return f"reference_{number}_chosen", f"reference_{number}_rejected"


def reference_temperature(rewards: FloatArray, labels: FloatArray) -> float:
    """The temperature that fits a model's margins on validation pairs; 1 if it has none.

    Args:
        rewards: of chosen and of rejected, shape (2, pairs); nan where there is none.
        labels: the probability that chosen is better, shape (pairs,).
    """
    margins = rewards[0] - rewards[1]
    known = np.isfinite(margins)
    return fit_temperature(margins[known], labels[known]) if known.any() else 1.0
