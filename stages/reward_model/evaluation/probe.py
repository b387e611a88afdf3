"""Linear probes (Alain & Bengio 2016, arXiv:1610.01644): what the base's hidden states know of preferences.

One is fitted on the frozen states of each candidate depth. The best depth is where the base may be cut, its probe what
the reward head may start from, and the frozen-features baseline.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from reward_model.data.features import read_arrays
from reward_model.evaluation.regression import FloatArray, PairRegression, fit_pair_regression


def fit_probe(
    chosen: FloatArray,
    rejected: FloatArray,
    prompt_ids: Sequence[str],
    sample_weight: FloatArray | None = None,
) -> PairRegression:
    """Fit on features (pairs, size), each brought to deviation 1; the weights are for the features as they are.

    The other arguments are those of `fit_pair_regression`.
    """
    states = np.concatenate([chosen, rejected])
    scale = states.std(axis=0) if len(states) else np.zeros(states.shape[1])
    scale = np.where(scale > 0, scale, 1)
    fitted = fit_pair_regression((chosen - rejected) / scale, prompt_ids, sample_weight)
    return PairRegression(fitted.weights / scale, fitted.strength, fitted.loss, fitted.accuracy)


def best_depth(probes: Mapping[int, PairRegression]) -> int:
    """The depth with the lowest cross-validated log loss; all layers if there was nothing to validate on."""
    losses = {depth: probe.loss for depth, probe in probes.items() if probe.loss is not None}
    return min(losses, key=losses.__getitem__) if losses else max(probes)


@dataclass(frozen=True)
class ProbeWeights:
    """The fitted probes as data/probe/weights.safetensors has them.

    Attributes:
        best: the depth whose probe predicts preferences best.
        by_depth: weights (size,) by the number of layers that the features went through.
    """

    best: int
    by_depth: dict[int, FloatArray]

    def save(self, path: Path) -> None:
        """Write a file, the weights in float32."""
        tensors = {str(depth): weights.astype(np.float32) for depth, weights in self.by_depth.items()}
        save_file({**tensors, "best": np.array(self.best)}, path)

    @classmethod
    def load(cls, path: Path) -> "ProbeWeights":
        """Read what `save` wrote.

        Raises:
            UserError: the file is absent or damaged.
        """
        tensors = read_arrays(path)
        best = int(tensors.pop("best"))
        return cls(best, {int(depth): weights.astype(float) for depth, weights in tensors.items()})
