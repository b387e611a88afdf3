"""The regression behind the probes and the text baseline, and what is kept of it."""

from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from conftest import Project
from reward_model.common.errors import UserError
from reward_model.common.tables import read_parquet
from reward_model.data.features import PairFeatures
from reward_model.evaluation.probe import ProbeWeights, best_depth, fit_probe
from reward_model.evaluation.regression import DEFAULT_STRENGTH, PairRegression, fit_pair_regression

RNG = np.random.default_rng(0)


def prompts(count: int) -> list[str]:
    return [str(number // 2) for number in range(count)]


@pytest.mark.parametrize("form", [np.asarray, csr_matrix])
def test_the_fit_is_scikit_learns_on_both_orders(form: type) -> None:
    differences, weight = RNG.normal(size=(80, 4)) + 0.3, RNG.uniform(0.1, 1, 80)
    found = fit_pair_regression(form(differences), prompts(80), weight)
    theirs = LogisticRegression(C=found.strength / 2, fit_intercept=False, tol=1e-8, max_iter=1000).fit(
        np.concatenate([differences, -differences]), np.repeat([1, 0], 80), sample_weight=np.tile(weight, 2)
    )
    assert found.weights == pytest.approx(theirs.coef_[0], abs=1e-3)


def test_a_probe_finds_the_feature_that_tells_whatever_its_scale() -> None:
    scale = np.logspace(-3, 3, 20)
    chosen, rejected = RNG.normal(size=(2, 300, 20)) * scale
    chosen[:, 4] += 3 * scale[4]
    probe = fit_probe(chosen[:200], rejected[:200], prompts(200))
    margins = (chosen[200:] - rejected[200:]) @ probe.weights
    assert (margins > 0).mean() > 0.9
    assert probe.accuracy is not None and probe.accuracy > 0.9


def test_a_feature_that_never_differs_is_no_error() -> None:
    chosen, rejected = RNG.normal(size=(2, 40, 3))
    chosen[:, 1] = rejected[:, 1] = 5.0
    assert np.isfinite(fit_probe(chosen, rejected, prompts(40)).weights).all()


def test_strength_is_chosen_by_other_prompts_and_noise_gets_little() -> None:
    noise = fit_pair_regression(RNG.normal(size=(200, 50)), prompts(200))
    signal = fit_pair_regression(RNG.normal(size=(200, 50)) + 1, prompts(200))
    assert noise.strength < signal.strength
    assert noise.loss is not None and signal.loss is not None
    assert signal.loss < 0.1 < noise.loss < 0.75
    alone = fit_pair_regression(np.ones((3, 2)), ["same"] * 3)
    assert (alone.strength, alone.loss) == (DEFAULT_STRENGTH, None)


def test_weights_count_as_repetitions() -> None:
    differences = RNG.normal(size=(60, 3)) + 0.5
    tripled = fit_pair_regression(np.repeat(differences, 3, axis=0), np.repeat(prompts(60), 3).tolist())
    weighted = fit_pair_regression(differences, prompts(60), np.full(60, 3.0))
    assert weighted.weights == pytest.approx(tripled.weights, abs=1e-4)


def test_no_pairs_at_all_give_a_probe_that_knows_nothing() -> None:
    found = fit_probe(np.empty((0, 3)), np.empty((0, 3)), [], np.empty(0))
    assert (found.weights.tolist(), found.loss) == ([0, 0, 0], None)


def test_the_best_depth_has_the_lowest_cross_validated_loss() -> None:
    def at(loss: float | None) -> PairRegression:
        return PairRegression(np.zeros(1), 1.0, loss, None)

    assert best_depth({10: at(0.6), 15: at(0.5), 30: at(0.55)}) == 15
    assert best_depth({10: at(None), 30: at(None)}) == 30


def test_weights_and_features_are_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    ProbeWeights(2, {1: np.array([1.0, 2.0]), 2: np.array([0.5, 0.0])}).save(path)
    found = ProbeWeights.load(path)
    assert (found.best, {depth: own.tolist() for depth, own in found.by_depth.items()}) == (2, {1: [1, 2], 2: [0.5, 0]})
    path.write_bytes(b"no safetensors")
    for kind in (ProbeWeights, PairFeatures):
        with pytest.raises(UserError, match="damaged"):
            kind.load(path)
        with pytest.raises(UserError, match="missing: run `dvc repro`"):
            kind.load(tmp_path / "absent")


def test_the_stages_keep_each_response_once_up_to_the_depth_that_is_kept(trained: Project) -> None:
    rows = read_parquet(trained.folder / "data/tokens/train.parquet")
    features = PairFeatures.load(trained.folder / "data/features/train.safetensors")
    distinct = {(row["prompt_id"], *row[side]) for row in rows for side in ("chosen_ids", "rejected_ids")}
    assert features.states.shape[1] == len(distinct)
    assert len(features.sides) == len(rows)
    figures = trained.read("metrics/probe.json")
    depths = {str(depth) for depth in features.depths}
    assert set(figures["depths"]) == depths == {"1"}  # two thirds of two layers
    assert figures["best"] == 1
    with pytest.raises(UserError, match="no features at 7 layers"):
        features.at(7)
