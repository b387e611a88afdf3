import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reward_model.common.errors import UserError
from reward_model.evaluation.calibration import Calibration
from reward_model.evaluation.fit_calibration import (
    JUDGED,
    fit_calibration,
    fit_temperature,
    noise_margin,
    reliable_temperature,
)


def judged(margins: np.ndarray, temperature: float, rng: np.random.Generator) -> np.ndarray:
    """Margins of chosen over rejected where people prefer as sigmoid(margin / temperature) says."""
    agree = rng.random(len(margins)) < 1 / (1 + np.exp(-np.abs(margins) / temperature))
    return np.where(agree, np.abs(margins), -np.abs(margins))


NONE = pd.DataFrame(columns=[*JUDGED])


def rewarded(margins: np.ndarray, labels: np.ndarray | None = None, rejected: np.ndarray | None = None) -> pd.DataFrame:
    """Validation pairs with these margins, each of a prompt of its own."""
    rejected = np.zeros(len(margins)) if rejected is None else rejected
    return pd.DataFrame(
        {
            "prompt_id": own_prompts(len(margins)),
            "preference": np.ones(len(margins)) if labels is None else labels,
            "chosen_reward": rejected + margins,
            "rejected_reward": rejected,
        }
    )


def own_prompts(count: int) -> list[str]:
    return [str(number) for number in range(count)]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_fitted_temperature_is_that_of_the_judgements(temperature: float) -> None:
    rng = np.random.default_rng(0)
    margins = judged(rng.normal(0, 2 * temperature, 20_000), temperature, rng)
    assert fit_temperature(margins, np.ones(len(margins))) == pytest.approx(temperature, rel=0.06)


def test_a_temperature_is_reliable_with_enough_prompts_and_margins_that_tell_something() -> None:
    rng = np.random.default_rng(0)
    margins = judged(rng.normal(0, 4, 200), 2.0, rng)
    assert reliable_temperature(margins, np.ones(len(margins)), own_prompts(200)) == fit_temperature(
        margins, np.ones(len(margins))
    )
    assert reliable_temperature(margins, np.ones(len(margins)), [str(number % 9) for number in range(200)]) is None, (
        "nine prompts"
    )
    assert reliable_temperature(-np.abs(margins), np.ones(200), own_prompts(200)) is None, "always wrong"


def test_margins_that_tell_nothing_or_everything_keep_the_temperature_finite() -> None:
    rng = np.random.default_rng(0)
    reversed_margins = -np.abs(rng.normal(size=500))
    assert fit_temperature(reversed_margins, np.ones(len(reversed_margins))) == pytest.approx(100, rel=0.01)
    assert fit_temperature(-reversed_margins, np.ones(len(reversed_margins))) == pytest.approx(0.052, rel=0.1)


def test_a_few_pairs_that_are_all_judged_rightly_make_no_model_certain() -> None:
    """Of five pairs, a label counts as 6/7."""
    margins = np.full(5, 0.1)
    calibration = fit_calibration(rewarded(margins), NONE)
    assert calibration.probability(0.1) == pytest.approx(6 / 7, abs=0.001)
    assert calibration.noise_margin == pytest.approx(0.1), "five pairs show nothing"


def test_fewer_than_ten_prompts_show_nothing_however_many_pairs_they_have() -> None:
    margins = np.linspace(0.01, 1, 100)
    assert noise_margin(margins, [str(number % 9) for number in range(100)]) == 1.0
    assert noise_margin(margins, [str(number % 10) for number in range(100)]) < 0.15


def test_noise_is_where_the_model_was_not_shown_to_be_better_than_chance() -> None:
    """Chance below a margin of 1, nearly always right above it."""
    rng = np.random.default_rng(1)
    sizes = rng.uniform(0, 3, 2000)
    right = rng.random(2000) < np.where(sizes < 1, 0.5, 0.97)
    found = noise_margin(np.where(right, sizes, -sizes), own_prompts(2000))
    assert 0.95 < found < 1.2


def test_a_model_that_knows_nothing_is_within_noise_everywhere() -> None:
    rng = np.random.default_rng(2)
    margins = rng.normal(size=400)
    assert noise_margin(margins, own_prompts(400)) > np.quantile(np.abs(margins), 0.9)
    assert fit_calibration(rewarded(np.zeros(50)), NONE).noise_margin == 0.0


def test_many_pairs_of_one_prompt_show_less_than_pairs_of_many() -> None:
    """Ten prompts whose pairs are right or wrong together: 7 to 3 is no proof."""
    margins = np.repeat(np.where(np.arange(10) < 7, 1.0, -1.0), 50) * np.linspace(1, 2, 500)
    together = [str(number // 50) for number in range(500)]
    assert noise_margin(margins, together) == pytest.approx(2.0)
    assert noise_margin(margins, own_prompts(500)) < 1.3


def test_normalised_rewards_have_mean_0_and_deviation_1() -> None:
    rng = np.random.default_rng(3)
    chosen, rejected = rng.normal(2, 3, 500), rng.normal(1, 3, 500)
    calibration = fit_calibration(rewarded(chosen - rejected, rejected=rejected), NONE)
    normalised = (np.concatenate([chosen, rejected]) - calibration.reward_mean) / calibration.reward_std
    assert (normalised.mean(), normalised.std()) == (pytest.approx(0, abs=1e-9), pytest.approx(1))
    assert calibration.pairs == 500


def test_probability_is_a_sigmoid_without_overflow() -> None:
    calibration = Calibration(temperature=2.0)
    assert calibration.probability(3.0) == pytest.approx(1 / (1 + math.exp(-1.5)))
    assert calibration.probability(-1e6) == 0.0
    assert calibration.probability(0.0) == 0.5


def test_what_is_saved_is_loaded_and_rubbish_is_told(tmp_path: Path) -> None:
    calibration = Calibration(1.5, 0.25, -0.3, 0.7, 214)
    calibration.save(tmp_path / "calibration.json")
    assert Calibration.load(tmp_path) == calibration
    (tmp_path / "calibration.json").write_text('{"heat": 1}')
    with pytest.raises(UserError, match="damaged"):
        Calibration.load(tmp_path)


def test_the_temperature_of_soft_labels_is_that_at_which_the_probabilities_are_theirs() -> None:
    margins = np.linspace(0.1, 3, 400)
    labels = 1 / (1 + np.exp(-margins / 2))
    assert fit_temperature(margins, labels) == pytest.approx(2, rel=0.02)
    assert fit_temperature(margins, np.ones(400)) < 1


def test_unseen_training_pairs_help_to_tell_temperature_and_noise_margin_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    margins, more = judged(rng.normal(0, 4, 60), 2.0, rng), judged(rng.normal(0, 4, 5000), 2.0, rng)
    alone = fit_calibration(rewarded(margins), NONE)
    rows = [(f"unseen {prompt}", 1.0, margin) for prompt, margin in zip(own_prompts(5000), more, strict=True)]
    both = fit_calibration(rewarded(margins), pd.DataFrame(rows, columns=[*JUDGED]))
    assert both.temperature == pytest.approx(2, abs=0.15)
    assert both.noise_margin < alone.noise_margin / 2
    alike = {"temperature": alone.temperature, "noise_margin": alone.noise_margin, "training_pairs": 0}
    assert replace(both, **alike) == alone


def test_pairs_without_a_side_say_nothing_of_noise() -> None:
    margins = np.concatenate([np.full(40, 0.5), np.full(40, -0.1)])
    labels = np.concatenate([np.ones(40), np.full(40, 0.5)])
    with_ties = fit_calibration(rewarded(margins, labels), NONE)
    assert with_ties.noise_margin == fit_calibration(rewarded(margins[:40]), NONE).noise_margin
