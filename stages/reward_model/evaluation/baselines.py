"""Rules that a reward model must beat to have learned anything: fitted on the training pairs, scored on the others.

Both are logistic regressions on the difference of the two responses' features, without intercept, so that swapping the
responses swaps the sign. How strongly they are regularised is chosen by cross-validation over prompts.
"""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack, vstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import GroupKFold

from reward_model.data.pairs import Pair

FloatArray = NDArray[np.float64]

STRENGTHS = np.logspace(-4, 2, 7)  # values of scikit-learn's C that are tried
FOLDS = 5


class TextBaseline:
    """TF-IDF of words and pairs of words, and the logarithm of the length."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        """Fit on training pairs."""
        responses = [text for pair in pairs for text in (pair.chosen, pair.rejected)]
        self._vectorizer: TfidfVectorizer | None = TfidfVectorizer(
            sublinear_tf=True, ngram_range=(1, 2), min_df=2, token_pattern=r"(?u)\b\w+\b"
        )
        try:
            self._vectorizer.fit(responses)
        except ValueError:  # no word occurs twice
            self._vectorizer = None
        self._regression = _fit(self._differences(pairs), [pair.prompt_id for pair in pairs])

    def margins(self, pairs: Sequence[Pair]) -> FloatArray:
        """The log odds that chosen is the preferred one, shape (pairs,)."""
        return self._regression.decision_function(self._differences(pairs))

    def _differences(self, pairs: Sequence[Pair]) -> Any:
        chosen, rejected = ([getattr(pair, side) for pair in pairs] for side in ("chosen", "rejected"))
        lengths = np.log([len(text) for text in chosen]) - np.log([len(text) for text in rejected])
        if self._vectorizer is None:
            return csr_matrix(lengths[:, None])
        words = self._vectorizer.transform(chosen) - self._vectorizer.transform(rejected)
        return hstack([words, csr_matrix(lengths[:, None])]).tocsr()


class FeatureBaseline:
    """A head on features that were not trained for it, brought to equal scale."""

    def __init__(self, chosen: FloatArray, rejected: FloatArray, prompt_ids: Sequence[str]) -> None:
        """Fit on the features (pairs, size) of training pairs."""
        scale = np.concatenate([chosen, rejected]).std(axis=0)
        self._scale = np.where(scale > 0, scale, 1)
        self._regression = _fit((chosen - rejected) / self._scale, prompt_ids)

    def margins(self, chosen: FloatArray, rejected: FloatArray) -> FloatArray:
        """The log odds that chosen is the preferred one, shape (pairs,)."""
        return self._regression.decision_function((chosen - rejected) / self._scale)


def _fit(differences: Any, prompt_ids: Sequence[str]) -> LogisticRegression:
    """A regression on both orders of every pair, with the strength that predicts the pairs of other prompts best."""
    stack = vstack if hasattr(differences, "tocsr") else np.concatenate
    both = cast(Any, stack)([differences, -differences])
    both = both.tocsr() if hasattr(both, "tocsr") else both
    labels = np.repeat([1, 0], len(prompt_ids))
    prompts = np.tile(np.array(prompt_ids), 2)
    if len(set(prompt_ids)) < 2:  # nothing to validate on
        return LogisticRegression(fit_intercept=False, max_iter=1000).fit(both, labels)
    folds = GroupKFold(min(FOLDS, len(set(prompt_ids)))).split(both, labels, prompts)
    # l1_ratios and the next: not scikit-learn's defaults of today, which it warns of.
    options: dict[str, Any] = {"Cs": STRENGTHS, "l1_ratios": (0,), "use_legacy_attributes": False}
    regression = LogisticRegressionCV(
        cv=list(folds), scoring="neg_log_loss", fit_intercept=False, max_iter=1000, **options
    )
    return regression.fit(both, labels)
