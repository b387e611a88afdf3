"""The one rule for ties."""

import numpy as np
from numpy.typing import NDArray


def pair_accuracy(margins: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 for each pair whose chosen response is ahead (margin above zero), 0 if rejected is, one half for a tie."""
    return np.heaviside(margins, 0.5)
