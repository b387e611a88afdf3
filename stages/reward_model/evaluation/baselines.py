"""A rule that a reward model must beat to have learned anything: fitted on the training pairs, scored on the others."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import TfidfVectorizer

from reward_model.data.pairs import Pair
from reward_model.evaluation.regression import FloatArray, fit_pair_regression


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
        regression = fit_pair_regression(self._differences(pairs), [pair.prompt_id for pair in pairs])
        self._weights = regression.weights

    def margins(self, pairs: Sequence[Pair]) -> FloatArray:
        """The log odds that chosen is the preferred one, shape (pairs,)."""
        return self._differences(pairs) @ self._weights

    def _differences(self, pairs: Sequence[Pair]) -> Any:
        chosen, rejected = ([getattr(pair, side) for pair in pairs] for side in ("chosen", "rejected"))
        lengths = np.log([len(text) for text in chosen]) - np.log([len(text) for text in rejected])
        if self._vectorizer is None:
            return csr_matrix(lengths[:, None])
        words = self._vectorizer.transform(chosen) - self._vectorizer.transform(rejected)
        return hstack([words, csr_matrix(lengths[:, None])]).tocsr()
