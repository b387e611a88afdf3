"""The figures over pairs: constructed models must get the right verdicts, and the formulas those of scikit-learn."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, brier_score_loss
from sklearn.metrics import log_loss as sklearn_log_loss

from reward_model.common.accuracy import pair_accuracy
from reward_model.evaluation.bootstrap import Bootstrap
from reward_model.evaluation.judges import judge_figures
from reward_model.evaluation.margins import log_loss
from reward_model.evaluation.metrics import (
    brier_score,
    calibration_figures,
    evaluate_pairs,
    expected_calibration_error,
    reliability,
)
from reward_model.evaluation.report import set_report

RNG = np.random.default_rng(0)


def table(margins: Any, **columns: Any) -> pd.DataFrame:
    """Pairs with these margins; chosen is 10 characters long, rejected 5, each with a prompt of its own by default."""
    count = len(margins)
    defaults = {
        "prompt_id": [str(number) for number in range(count)],
        "source": "a",
        "chosen_reward": np.asarray(margins, dtype=float),
        "rejected_reward": 0.0,
        "chosen_characters": 10,
        "rejected_characters": 5,
        "tfidf": 0.0,
        "frozen_features": 0.0,
        **{f"{side}_{trait}": False for side in ("chosen", "rejected") for trait in ("lists", "markdown", "refusals")},
    }
    return pd.DataFrame({**defaults, **columns}, index=range(count))


def figures(pairs: pd.DataFrame, temperature: float = 1.0) -> dict[str, Any]:
    return evaluate_pairs(pairs, temperature, bootstrap_samples=500, seed=0)


def random_lengths(count: int) -> dict[str, Any]:
    return {
        "chosen_characters": RNG.integers(10, 1000, count),
        "rejected_characters": RNG.integers(10, 1000, count),
        "tfidf": RNG.normal(size=count),
        "frozen_features": RNG.normal(size=count),
    }


def test_the_figures_of_a_few_known_pairs() -> None:
    pairs = table([1.0, -1.0, 0.0], chosen_characters=[10, 5, 5], rejected_characters=[5, 10, 5])
    found = figures(pairs)
    assert (found["n"], found["ties"], found["prompts"]) == (3, 1, 3)
    assert found["accuracy"] == pytest.approx(0.5)
    assert found["margin_mean"] == pytest.approx(0)
    expected = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(1)) + math.log(2)) / 3
    assert found["loss"] == pytest.approx(expected)
    assert found["baselines"] == {"longer_wins": 0.5, "shorter_wins": 0.5, "tfidf": 0.5, "frozen_features": 0.5}
    assert found["length_matched"] == {"n": 1, "accuracy": 0.5}
    assert found["shorter_preferred"] == {"n": 1, "accuracy": 0.0}
    assert found["rewards"]["chosen"] == {"mean": pytest.approx(0), "std": pytest.approx(math.sqrt(2 / 3))}
    assert found["margin_quantiles"]["p50"] == 0


def test_a_perfect_model_is_better_than_every_baseline() -> None:
    found = figures(table(np.full(300, 5.0), **random_lengths(300)))
    assert found["accuracy"] == 1
    assert found["accuracy_ci95"] == [0.99, 1], "by the rule of three"
    assert found["verdict"] == {"outcome": "better", "over": found["best_baseline"]}
    assert found["gain_ci95"][0] > 0.3


def test_a_random_model_is_shown_to_be_nothing() -> None:
    found = figures(table(RNG.normal(size=400), **random_lengths(400)))
    assert found["verdict"]["outcome"] == "not_shown"
    low, high = found["accuracy_ci95"]
    assert low < 0.5 < high
    assert abs(found["length_correlation"]) < 0.15


def test_a_model_of_length_alone_gains_nothing_over_length() -> None:
    lengths = random_lengths(400)
    longer = lengths["chosen_characters"] - lengths["rejected_characters"]
    swap = (longer < 0) & (RNG.random(400) < 0.5)  # so that the longer one is right more often than not
    chosen = np.where(swap, lengths["rejected_characters"], lengths["chosen_characters"])
    rejected = np.where(swap, lengths["chosen_characters"], lengths["rejected_characters"])
    lengths |= {"chosen_characters": chosen, "rejected_characters": rejected}
    found = figures(table(0.01 * (chosen - rejected), **lengths))
    assert found["best_baseline"] == "longer_wins"
    assert found["gain_over_best_baseline"] == 0
    assert found["gain_ci95"] == [-3 / 400, 3 / 400], "by the rule of three"
    assert found["verdict"] == {"outcome": "not_shown", "over": "longer_wins"}
    assert found["length_correlation"] == pytest.approx(1)
    assert found["shorter_preferred"]["accuracy"] == 0


def test_a_model_that_always_errs_is_worse() -> None:
    assert figures(table(np.full(100, -1.0)))["verdict"] == {"outcome": "worse", "over": "longer_wins"}


def test_a_constant_model_ties_everywhere() -> None:
    constant = figures(table(np.zeros(50)))
    assert constant["accuracy"] == 0.5
    assert constant["ties"] == 50
    assert constant["loss"] == pytest.approx(math.log(2))
    assert constant["length_correlation"] is None


def test_a_mis_scaled_model_has_its_accuracy_and_a_calibration_that_the_temperature_mends() -> None:
    true_margins = RNG.normal(size=4000)
    labels = RNG.random(4000) < 1 / (1 + np.exp(-true_margins))
    margins = np.where(labels, true_margins, -true_margins)
    assert pair_accuracy(20 * margins).mean() == pair_accuracy(margins).mean()
    found = calibration_figures(20 * margins, np.ones(len(margins)), temperature=20.0)
    assert found["ece_before"] > 0.2 > 0.05 > found["ece_after"]
    assert found["brier_before"] > found["brier_after"]
    assert found["loss_before"] == log_loss(20 * margins) > found["loss_after"] == log_loss(margins)


def test_the_log_loss_tells_models_apart_that_are_equally_often_right() -> None:
    """The baseline knows the true log odds; one model says the same, one is ten times as sure, one knows nothing."""
    true_margins = RNG.normal(size=2000)
    labels = RNG.random(2000) < 1 / (1 + np.exp(-true_margins))
    margins = np.where(labels, true_margins, -true_margins)
    columns = {"tfidf": margins, "frozen_features": 0.3 * RNG.normal(size=2000), "chosen_characters": 5}
    same, too_sure, ignorant = (figures(table(own, **columns)) for own in (margins, 10 * margins, 0 * margins))
    assert same["loss_gain"]["best"] == too_sure["loss_gain"]["best"] == "tfidf"
    assert same["loss_gain"]["gain"] == 0
    assert same["loss_gain"]["verdict"] == {"outcome": "not_shown", "over": "tfidf"}
    assert too_sure["accuracy"] == same["accuracy"] == same["baselines"]["tfidf"]
    assert too_sure["verdict"] == {"outcome": "not_shown", "over": "tfidf"}
    assert too_sure["loss_gain"]["verdict"] == ignorant["loss_gain"]["verdict"] == {"outcome": "worse", "over": "tfidf"}
    assert figures(table(margins))["loss_gain"]["verdict"] == {"outcome": "better", "over": "tfidf"}
    assert too_sure["loss_gain"]["baselines"]["tfidf"] == pytest.approx(sklearn_log_loss(labels, _odds(true_margins)))
    low, high = ignorant["loss_gain"]["ci95"]
    assert low < ignorant["loss_gain"]["gain"] < high < 0


def _odds(margins: Any) -> Any:
    return 1 / (1 + np.exp(-margins))


def test_huge_margins_overflow_nothing() -> None:
    assert figures(table([-1e4, 1e4]))["loss"] == pytest.approx(5e3)


def test_the_figures_are_those_of_scikit_learn() -> None:
    """Which has labels: each pair is given in both orders."""
    margins = RNG.normal(size=500)
    probabilities = 1 / (1 + np.exp(-np.concatenate([margins, -margins])))
    labels = np.repeat([1, 0], 500)
    assert pair_accuracy(margins).mean() == pytest.approx(accuracy_score(labels, probabilities > 0.5))
    assert log_loss(margins) == pytest.approx(sklearn_log_loss(labels, probabilities))
    assert brier_score(margins, np.ones(len(margins))) == pytest.approx(brier_score_loss(labels, probabilities))
    accuracy, confidence = calibration_curve(labels, probabilities, n_bins=20)
    bins = reliability(margins, np.ones(len(margins)))
    assert bins["accuracy"].tolist() == pytest.approx(accuracy[-len(bins) :].tolist())
    assert bins["confidence"].tolist() == pytest.approx(confidence[-len(bins) :].tolist())
    assert int(bins["pairs"].to_numpy().sum()) == 500
    assert len(bins) >= 8


def test_soft_labels_count_in_the_loss_and_in_the_calibration() -> None:
    """People who are of two minds: a model that says so has the lower loss, and is calibrated."""
    margins, columns = np.full(200, math.log(3)), {"preference": [0.75, None] * 100}
    labels = np.array([0.75, 1.0] * 100)
    found = figures(table(margins, **columns))
    both = np.stack([labels, 1 - labels]).ravel()
    outcomes, odds = np.repeat([1, 0], 200), np.tile(_odds(margins), 2)
    assert found["loss"] == pytest.approx(sklearn_log_loss(outcomes, odds, sample_weight=both))
    assert found["loss"] > figures(table(margins))["loss"]
    assert found["accuracy"] == 1.0, "the side that most prefer"
    assert figures(table(margins, preference=0.75))["calibration"]["ece_before"] == pytest.approx(0)
    assert figures(table(margins))["calibration"]["ece_before"] == pytest.approx(0.25)


def test_the_calibration_error_of_known_bins() -> None:
    """Four pairs at confidence 0.73, of which half are right: 0.23 off."""
    margins = np.array([1.0, 1.0, -1.0, -1.0])
    assert expected_calibration_error(margins, np.ones(len(margins))) == pytest.approx(1 / (1 + math.exp(-1)) - 0.5)


def test_traits_tell_what_labels_and_model_prefer() -> None:
    lists = [True, True, False, False]
    pairs = table([1.0, -1.0, -1.0, 1.0], chosen_lists=lists, rejected_lists=[False, False, True, False])
    assert figures(pairs)["traits"]["lists"] == {
        "n": 3,
        "preferred_by_labels": pytest.approx(2 / 3),
        "preferred_by_model": pytest.approx(2 / 3),
        "accuracy": pytest.approx(1 / 3),
    }
    assert figures(pairs)["traits"]["refusals"]["n"] == 0


def test_sources_are_told_apart_where_there_are_several() -> None:
    found = figures(table([1.0, 1.0, -1.0] * 10, source=["a", "a", "b"] * 10))["by_source"]
    assert {name: (own["n"], own["accuracy"]) for name, own in found.items()} == {"a": (20, 1.0), "b": (10, 0.0)}
    assert figures(table([1.0]))["by_source"] == {}


@pytest.mark.parametrize(
    ("small", "expected"),
    [
        (["b"] * 9, {"a": 10, "b": 9}),
        (["b"] * 9 + ["c"], {"a": 10, "other": 10}),
        ([str(number) for number in range(300)], {"a": 10, "other": 300}),
    ],
)
def test_several_small_sources_are_taken_together(small: list[str], expected: dict[str, int]) -> None:
    sources = ["a"] * 10 + small
    found = figures(table(np.ones(len(sources)), source=sources))["by_source"]
    assert {name: own["n"] for name, own in found.items()} == expected


@pytest.mark.parametrize("count", [1, 3, 9])
@pytest.mark.parametrize("margin", [-1.0, 1.0])
def test_a_handful_of_prompts_tells_nothing_however_much_they_agree(count: int, margin: float) -> None:
    found = figures(table(np.full(2 * count, margin), prompt_id=[str(n // 2) for n in range(2 * count)]))
    assert (found["n"], found["prompts"]) == (2 * count, count)
    assert found["accuracy_ci95"] is found["gain_ci95"] is found["loss_gain"]["ci95"] is None
    assert found["verdict"]["outcome"] == found["loss_gain"]["verdict"]["outcome"] == "too_few_prompts"


def test_the_accuracy_of_a_few_prompts_judged_alike_is_not_taken_as_certain() -> None:
    bootstrap = Bootstrap([str(number // 2) for number in range(24)], 500, 0)
    assert bootstrap.bounded_interval(np.ones(24), 0, 1) == (0.75, 1)
    assert bootstrap.bounded_interval(np.zeros(24), 0, 1) == (0, 0.25)
    assert bootstrap.bounded_interval(np.zeros(24), -1, 1) == (-0.25, 0.25)
    some = bootstrap.bounded_interval((np.arange(24) < 12).astype(float), 0, 1)
    assert some is not None
    assert 0.1 < some[0] < 0.5 < some[1] < 0.9


@pytest.mark.parametrize(("accuracy", "clusters"), [(0.6, 10), (0.7, 15), (0.9, 10), (0.9, 20)])
def test_the_interval_of_few_prompts_covers_the_truth_as_well(accuracy: float, clusters: int) -> None:
    rng = np.random.default_rng(2)
    prompts = [str(number) for number in range(clusters)]
    covered = 0
    for trial in range(400):
        right = (rng.random(clusters) < accuracy).astype(float)
        interval = Bootstrap(prompts, 400, trial).bounded_interval(right, 0, 1)
        assert interval is not None
        covered += interval[0] <= accuracy <= interval[1]
    assert covered / 400 >= 0.9


def won_and_lost(won: NDArray[np.bool_], lost: NDArray[np.bool_]) -> dict[str, Any]:
    """The figures of a model that is right where the best baseline, TF-IDF, is wrong, and the other way round."""
    model, rule = (np.where(wrong, -1.0, 1.0) for wrong in (lost, won))
    return figures(table(model, tfidf=rule, frozen_features=-2.0, chosen_characters=5))


@pytest.mark.parametrize(("count", "differing"), [(10, 0.2), (10, 0.1), (40, 0.05), (128, 0.02)])
def test_chance_is_seldom_taken_for_a_gain(count: int, differing: float) -> None:
    """Model and baseline are equally good, and differ on a few prompts."""
    rng = np.random.default_rng(3)
    shown = 0
    for _ in range(200):
        luck = rng.random(count)
        shown += won_and_lost(luck < differing, luck > 1 - differing)["verdict"]["outcome"] in ("better", "worse")
    assert shown / 200 <= 0.06


@pytest.mark.parametrize("count", [30, 128])
def test_five_prompts_won_and_none_lost_are_no_proof_and_ten_are(count: int) -> None:
    numbers, none = np.arange(count), np.zeros(count, dtype=bool)
    assert won_and_lost(numbers < 5, none)["verdict"]["outcome"] == "too_few_differences"
    assert won_and_lost(numbers < 10, none)["verdict"] == {"outcome": "better", "over": "tfidf"}
    assert won_and_lost(none, numbers < 10)["verdict"] == {"outcome": "worse", "over": "tfidf"}
    assert won_and_lost(none, none)["gain_ci95"] == [pytest.approx(-3 / count), pytest.approx(3 / count)]


def test_the_interval_covers_the_truth_in_about_95_percent_of_simulations() -> None:
    """Clusters of pairs that are right or wrong together; an interval over single pairs would cover far less."""
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        skill = rng.uniform(0.4, 1.0, size=60)
        values = np.concatenate([rng.random(8) < s for s in skill]).astype(float)
        interval = Bootstrap([str(n) for n in range(60) for _ in range(8)], 400, trial).interval(values)
        assert interval is not None
        covered += interval[0] <= 0.7 <= interval[1]
    assert 0.90 <= covered / 200 <= 0.99


def test_the_paired_interval_of_the_gain_covers_the_truth_too() -> None:
    """Model and baseline err on the same hard pairs; the true gain is 0.1."""
    rng = np.random.default_rng(1)
    covered, widths = 0, []
    for trial in range(200):
        ease = rng.uniform(0.2, 0.9, size=300)
        luck = rng.random(300)
        gains = (luck < ease + 0.1).astype(float) - (luck < ease)
        interval = Bootstrap([str(n) for n in range(300)], 300, trial).interval(gains)
        assert interval is not None
        covered += interval[0] <= 0.1 <= interval[1]
        widths.append(interval[1] - interval[0])
    assert 0.90 <= covered / 200 <= 0.99
    assert np.mean(widths) < 0.08, "an unpaired interval is twice as wide"


def test_judges_are_counted_where_they_judged() -> None:
    rows = [
        {"prompt_id": str(number), "agrees": {"one": number % 4 > 0} | ({"two": True} if number < 5 else {})}
        for number in range(40)
    ]
    found = judge_figures(rows, 200, 0)
    assert (found["one"]["n"], found["one"]["accuracy"]) == (40, 0.75)
    low, high = found["one"]["accuracy_ci95"]
    assert 0.5 < low < 0.75 < high < 0.95
    assert found["two"] == {"n": 5, "accuracy": 1.0, "accuracy_ci95": None}
    line = set_report("heldout", figures(table([1.0, -1.0])) | {"judges": found}).splitlines()[-1]
    assert "one 75.0% of 40 (" in line


def test_every_baseline_has_an_interval_around_its_accuracy() -> None:
    found = figures(table(RNG.normal(size=60), **random_lengths(60)))
    assert set(found["baselines_ci95"]) == set(found["baselines"])
    for name, (low, high) in found["baselines_ci95"].items():
        assert low < found["baselines"][name] < high
    assert set(figures(table([1.0, -1.0]))["baselines_ci95"].values()) == {None}
