import math

import numpy as np
import pytest

from reward_model.metrics import ScoredPair, clustered_interval, evaluate_pairs, margin_histograms


def scored(margin: float, prompt: str = "p", chosen: int = 10, rejected: int = 5) -> ScoredPair:
    return ScoredPair(prompt, margin, 0.0, chosen, rejected)


def figures(pairs: list[ScoredPair]) -> dict[str, object]:
    return evaluate_pairs(pairs, bootstrap_samples=500, seed=0)


def test_the_figures_of_a_few_known_pairs() -> None:
    pairs = [scored(1.0, "a"), scored(-1.0, "b", chosen=5, rejected=10), scored(0.0, "c", chosen=5, rejected=5)]
    found = figures(pairs)
    assert found["n"] == 3
    assert found["accuracy"] == pytest.approx(0.5)
    assert found["ties"] == 1
    assert found["margin_mean"] == pytest.approx(0)
    expected = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(1)) + math.log(2)) / 3
    assert found["loss"] == pytest.approx(expected)
    assert found["longer_wins"] == pytest.approx(0.5)


def test_a_perfect_and_a_constant_model_get_their_verdicts() -> None:
    perfect = figures([scored(5.0, str(n)) for n in range(50)])
    assert perfect["accuracy"] == 1
    assert perfect["accuracy_ci95"] == [1, 1]
    constant = figures([scored(0.0, str(n)) for n in range(50)])
    assert constant["accuracy"] == 0.5
    assert constant["ties"] == 50
    assert constant["loss"] == pytest.approx(math.log(2))


def test_huge_margins_overflow_nothing() -> None:
    assert figures([scored(-1e4), scored(1e4)])["loss"] == pytest.approx(5e3)


def test_the_interval_covers_the_truth_in_about_95_percent_of_simulations() -> None:
    """Clusters of pairs that are right or wrong together; an interval over single pairs would cover far less."""
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        skill = rng.uniform(0.4, 1.0, size=60)
        values = np.concatenate([rng.random(8) < s for s in skill]).astype(float)
        low, high = clustered_interval(values, [str(n) for n in range(60) for _ in range(8)], 400, trial)
        covered += low <= 0.7 <= high
    assert 0.90 <= covered / 200 <= 0.99


def test_the_histograms_count_every_pair_once_in_bins_alike_on_both_sides_of_zero() -> None:
    rows = margin_histograms({"a": [scored(m) for m in (-2.0, -0.1, 0.1, 3.0)], "b": [scored(0.5)]})
    for name in ("a", "b"):
        assert sum(row[name] for row in rows) == pytest.approx(1)
    assert rows[0]["margin"] == pytest.approx(-rows[-1]["margin"])
    assert sum(row["a"] for row in rows if row["margin"] > 0) == pytest.approx(0.5)
