"""What training starts from: the depth and the head that params.yaml asks for."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from conftest import ROOT, Project
from reward_model.common.tables import read_parquet
from reward_model.contract.base_tokenizer import contract_encoder
from reward_model.contract.encoder import Encoder
from reward_model.data.features import PairFeatures
from reward_model.evaluation.probe import ProbeWeights
from reward_model.modeling.batching import padded_batch, pairs_to_groups
from reward_model.modeling.forward import last_states, rewards
from reward_model.modeling.head import start_head
from reward_model.modeling.model import build_reward_model, save_reward_model
from reward_model.params import load_params
from reward_model.scoring.base_features import BaseFeatures
from reward_model.training.start import build_starting_model, kept_layers

PARAMS = load_params(ROOT / "params.yaml").train
PROBE = ProbeWeights(1, {1: np.linspace(-1, 1, 32), 2: np.ones(32)})


def build(base: Path, probe: ProbeWeights = PROBE, **changes: Any) -> PreTrainedModel:
    encoder = contract_encoder(base, 96, base.parent / "start_tokenizer")
    return build_starting_model(base, encoder, dataclasses.replace(PARAMS, **changes), probe)


@pytest.mark.parametrize(("layers", "depth"), [("auto", 1), (2, 2), (None, 2), (0.8, 2)])
def test_depth_and_head_are_those_of_the_params(tiny_base: Path, layers: Any, depth: int) -> None:
    """PROBE has what the features stage makes for these layers."""
    probe = PROBE.by_depth[depth]
    for head_init, expected in (("zero", np.zeros(32)), ("probe", probe), ("auto", probe)):
        model = build(tiny_base, layers=layers, head_init=head_init)
        assert model.config.num_hidden_layers == depth
        assert model.get_parameter("score.weight")[0].tolist() == pytest.approx(expected.tolist())


def test_a_reward_model_as_base_keeps_its_head_its_layers_and_its_chat_template(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = contract_encoder(tiny_base, 96, tmp_path / "tokenizer")
    trained = build_reward_model(tiny_base, encoder, 0)
    start_head(trained, torch.linspace(-1, 1, 32))
    base = tmp_path / "base"
    save_reward_model(trained, encoder, base)
    assert contract_encoder(base, 96, tmp_path / "again").template == encoder.template
    found = build(base, head_init="auto", layers=0.67).state_dict()
    assert all(torch.equal(found[name], weight) for name, weight in trained.state_dict().items())
    assert f"goes on from the reward model in {base}, with its head and all of its 2 layers" in capsys.readouterr().err
    for head_init, expected in (("zero", np.zeros(32)), ("probe", PROBE.by_depth[1])):
        model = build(base, head_init=head_init, layers="auto")
        assert model.config.num_hidden_layers == 1
        assert model.get_parameter("score.weight")[0].tolist() == pytest.approx(expected.tolist())
    assert capsys.readouterr().err == ""


def test_the_starting_model_gives_the_probes_margins(trained: Project) -> None:
    """The frozen-features baseline, to the rounding of float32, is the model before its first step."""
    folder = trained.folder
    probe = ProbeWeights.load(folder / "data/probe/weights.safetensors")
    encoder = Encoder.load(folder / "data/tokens/tokenizer")
    params = dataclasses.replace(PARAMS, layers="auto")
    model = build_starting_model(folder / "models/base", encoder, params, probe).eval()
    rows = read_parquet(folder / "data/tokens/heldout.parquet")
    chosen, rejected = PairFeatures.load(folder / "data/evaluation_features/heldout.safetensors").at(probe.best)
    baseline = [row["frozen_features"] for row in read_parquet(folder / "data/baselines/heldout.parquet")]
    assert baseline == pytest.approx(((chosen - rejected) @ probe.by_depth[probe.best]).tolist())
    with torch.no_grad():
        found = rewards(model, **padded_batch(pairs_to_groups(rows), encoder.contract.pad_token_id)).view(-1, 2)
    assert (found[:, 0] - found[:, 1]).tolist() == pytest.approx(baseline, abs=1e-4)
    assert probe.best == trained.read("metrics/probe.json")["best"]
    assert trained.read("metrics/train.json")["layers"] == kept_layers(folder / "models/base", PARAMS, probe)


@pytest.mark.parametrize(("layers", "depths"), [(0.67, [1]), (1, [1]), (0.8, [1, 2]), (None, [1, 2]), ("auto", [1, 2])])
def test_features_are_computed_up_to_the_depth_that_is_kept(trained: Project, layers: Any, depths: list[int]) -> None:
    folder = trained.folder
    params = load_params(folder / "params.yaml")
    params = dataclasses.replace(params, train=dataclasses.replace(params.train, layers=layers, device="cpu"))
    base = BaseFeatures(params, folder / "models/base", folder / "data/tokens")
    rows = read_parquet(folder / "data/tokens/heldout.parquet")[:3]
    found = base.compute(rows, "test")
    assert found.depths.tolist() == depths
    kept = kept_layers(folder / "models/base", params.train, ProbeWeights(1, {depth: np.ones(32) for depth in depths}))
    assert kept == (1 if layers == "auto" else depths[-1])
    encoder = Encoder.load(folder / "data/tokens/tokenizer")
    model = build_reward_model(folder / "models/base", encoder, 0, depths[-1]).eval()
    with torch.no_grad():
        states = last_states(model, **padded_batch(pairs_to_groups(rows), encoder.contract.pad_token_id)).numpy()
    expected = np.stack(found.at(depths[-1]), axis=1).reshape(len(states), -1)
    np.testing.assert_allclose(states, expected, rtol=0, atol=0.02)  # the stage may compute in bf16
