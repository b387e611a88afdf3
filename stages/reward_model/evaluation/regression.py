"""Logistic regression on the difference of two responses' features, the model of Bradley and Terry (1952).

Without an intercept, so that swapping the responses swaps the sign. How strongly it is regularised is chosen by
cross-validation over prompts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.model_selection import GroupKFold

from reward_model.common.accuracy import pair_accuracy

FloatArray = NDArray[np.float64]

STRENGTHS = np.logspace(-4, 2, 13)  # values of C, as in scikit-learn's LogisticRegression, weakest fit first
DEFAULT_STRENGTH = 1.0  # where there is nothing to choose by
PATIENCE = 2  # strengths in a row that may be worse before no further one is tried
FOLDS = 5


@dataclass(frozen=True)
class PairRegression:
    """A fitted regression.

    Attributes:
        weights: (size,); features times them give the log odds that chosen is the preferred response.
        strength: the chosen C.
        loss: cross-validated log loss, in nats; None for fewer than two prompts.
        accuracy: likewise, a tie counting half.
    """

    weights: FloatArray
    strength: float
    loss: float | None
    accuracy: float | None


def fit_pair_regression(
    differences: Any,
    prompt_ids: Sequence[str],
    sample_weight: FloatArray | None = None,
) -> PairRegression:
    """Fit with the strength that predicts the comparisons of other prompts best.

    Args:
        differences: features of chosen minus features of rejected, (pairs, size), dense or sparse.
        prompt_ids: of each pair.
        sample_weight: of each pair in the loss, (pairs,); default 1.
    """
    prompts = np.array(prompt_ids)
    weight = np.ones(len(prompts)) if sample_weight is None else sample_weight
    count = len(set(prompt_ids))
    if count < 2:
        return PairRegression(_fit(differences, weight, DEFAULT_STRENGTH), DEFAULT_STRENGTH, None, None)
    folds = list(GroupKFold(min(FOLDS, count)).split(prompts, groups=prompts))
    best, start = _cross_validate(differences, weight, folds)
    return PairRegression(_fit(differences, weight, best.strength, start), best.strength, best.loss, best.accuracy)


@dataclass(frozen=True)
class _Candidate:
    strength: float
    loss: float
    accuracy: float


def _cross_validate(
    differences: Any, weight: FloatArray, folds: Sequence[tuple[Any, Any]]
) -> tuple[_Candidate, FloatArray]:
    """The best strength and the mean of its folds' weights; each fit starts from that of the strength before."""
    found: list[tuple[_Candidate, FloatArray]] = []
    fits = [np.zeros(differences.shape[1]) for _ in folds]
    for strength in map(float, STRENGTHS):
        margins = np.zeros(len(weight))
        for number, (train, test) in enumerate(folds):
            fits[number] = _fit(differences[train], weight[train], strength, fits[number])
            margins[test] = differences[test] @ fits[number]
        candidate = _Candidate(strength, float(np.logaddexp(0, -margins).mean()), float(pair_accuracy(margins).mean()))
        found.append((candidate, np.mean(fits, axis=0)))
        losses = [each.loss for each, _ in found]
        if len(losses) - 1 - int(np.argmin(losses)) >= PATIENCE:
            break
    return min(found, key=lambda item: item[0].loss)


def _fit(differences: Any, weight: FloatArray, strength: float, start: FloatArray | None = None) -> FloatArray:
    """Minimise strength · Σ weight · log(1 + exp(-margin)) + ½ |w|²; gives w, (size,)."""

    def loss_and_gradient(w: FloatArray) -> tuple[float, FloatArray]:
        margins = differences @ w
        loss = strength * float(weight @ np.logaddexp(0, -margins)) + 0.5 * float(w @ w)
        return loss, w - strength * (differences.T @ (weight * expit(-margins)))

    start = np.zeros(differences.shape[1]) if start is None else start
    return minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", options={"maxiter": 1000}).x
