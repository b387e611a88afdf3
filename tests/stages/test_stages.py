"""tokenize, train, evaluate and export on the tiny base, as processes; score.py on what they made."""

import shutil
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from conftest import ROOT, STAGES, Project
from reward_model.common.files import hash_file, hash_folder, read_json, read_jsonl
from reward_model.common.tables import read_parquet
from reward_model.contract.encoder import Encoder
from reward_model.data.evaluation_sets import HELDOUT
from reward_model.data.splits import SPLITS
from reward_model.modeling.batching import padded_batch, pairs_to_groups
from reward_model.modeling.forward import rewards
from reward_model.modeling.model import load_reward_model


def test_tokens_are_those_of_the_contract_and_cuts_are_counted(trained: Project) -> None:
    folder = trained.folder / "data/tokens"
    encoder = Encoder.load(folder / "tokenizer")
    pairs, rows = read_jsonl(trained.folder / "data/pairs/heldout.jsonl"), read_parquet(folder / "heldout.parquet")
    assert len(pairs) == len(rows) == trained.read("metrics/tokens.json")["heldout"]["pairs"]
    for pair, row in zip(pairs, rows, strict=True):
        assert row["id"] == pair["id"]
        encoded = encoder.encode(pair["prompt"], [pair["chosen"], pair["rejected"]])
        assert [row["chosen_ids"], row["rejected_ids"]] == encoded.ids


def test_short_max_length_cuts_and_counts(project: Project) -> None:
    project.set_params({"tokenize.max_length": 24})
    project.stage("prepare")
    output = project.stage("tokenize_pairs").stdout
    counts = project.read("metrics/tokens.json")["train"]
    assert counts["prompts_cut"] > counts["prompts_lost"] > 0
    assert "pairs keep nothing of their prompt, since a response alone is longer than 24 tokens" in output
    assert counts["prompt_tokens_cut"] > counts["prompts_cut"]
    rows = read_parquet(project.folder / "data/tokens/train.parquet")
    assert max(len(row[side]) for row in rows for side in ("chosen_ids", "rejected_ids")) <= 24


def test_the_metrics_have_the_promised_keys(trained: Project) -> None:
    figures = trained.read("metrics/eval.json")
    assert set(figures) == {"heldout", "mt_bench_human", "common_sense"}
    for of_set in figures.values():
        assert set(of_set) >= {
            "n",
            "accuracy",
            "ties",
            "loss",
            "margin_mean",
            "length_correlation",
            "rewards",
            "traits",
        }
        gain = of_set["loss_gain"]
        assert set(gain) == {"baselines", "best", "gain", "ci95", "verdict"}
        assert gain["gain"] == pytest.approx(min(gain["baselines"].values()) - of_set["loss"])
        assert set(of_set["baselines"]) == {"longer_wins", "shorter_wins", "tfidf", "frozen_features"}
        assert set(of_set["length_matched"]) == set(of_set["shorter_preferred"]) == {"n", "accuracy"}
        assert set(of_set["calibration"]) == {
            "temperature",
            "ece_before",
            "ece_after",
            "brier_before",
            "brier_after",
            "loss_before",
            "loss_after",
        }
        for value, interval in (("accuracy", "accuracy_ci95"), ("gain_over_best_baseline", "gain_ci95")):
            if of_set["prompts"] < 10:
                assert of_set[interval] is None
                continue
            low, high = of_set[interval]
            assert low <= of_set[value] <= high
    assert figures["mt_bench_human"]["verdict"]["outcome"] == "too_few_prompts"
    assert figures["heldout"]["prompts"] >= 10
    assert figures["heldout"]["n"] == trained.read("metrics/data.json")["splits"]["heldout"]["pairs"]
    curve = trained.read("metrics/training_curve.json")
    assert curve[-1]["step"] == trained.read("metrics/train.json")["steps"]


def test_training_evaluation_and_transformers_agree_on_rewards(trained: Project) -> None:
    """The exported folder, used as its model card says, gives the reward of the contract to 1e-4."""
    folder = trained.folder / "models/export"
    model, encoder = load_reward_model(folder)
    plain = AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    compared = 0
    for pair in read_jsonl(trained.folder / "data/pairs/heldout.jsonl"):
        encoded = encoder.encode(pair["prompt"], [pair["chosen"], pair["rejected"]])
        ids = encoded.ids
        if encoded.prompt_tokens_cut:
            continue
        compared += 1
        with torch.no_grad():
            expected = rewards(model, **padded_batch([ids], encoder.contract.pad_token_id)).tolist()
            for reward, side in zip(expected, ("chosen", "rejected"), strict=True):
                chat = [*pair["prompt"], {"role": "assistant", "content": pair[side]}]
                text = tokenizer.apply_chat_template(chat, tokenize=False)
                inputs = tokenizer(text, add_special_tokens=False, return_tensors="pt")
                assert plain(**inputs).logits[0, 0].item() == pytest.approx(reward, abs=1e-4)
    assert compared >= 5


def test_the_trained_head_is_divided_by_the_temperature_of_the_validation_pairs(
    trained: Project, tmp_path: Path
) -> None:
    """With the same weights otherwise; the calibration that is fitted after it finds nothing left to do."""
    divided = trained.read("metrics/train.json")["temperature"]
    assert divided is not None
    assert divided != pytest.approx(1, abs=0.01), "the test would show nothing"
    assert trained.read("metrics/calibration.json")["temperature"] == pytest.approx(1, abs=0.01)
    best = trained.read("metrics/train.json")["validation"]
    shutil.copytree(trained.folder, tmp_path / "project")
    project = Project(tmp_path / "project")
    project.set_params({"train.temperature_scaling": False})
    project.stage("train")
    unscaled = project.read("metrics/train.json")
    assert unscaled["temperature"] is None
    rows = read_parquet(trained.folder / "data/tokens/validation.parquet")
    for each, found in ((trained, best), (project, unscaled["validation"])):
        model, encoder = load_reward_model(each.folder / "models/reward")
        with torch.no_grad():
            both = rewards(model, **padded_batch(pairs_to_groups(rows), encoder.contract.pad_token_id)).view(-1, 2)
        margins = (both[:, 0] - both[:, 1]).double()
        assert found["pairs"] == len(rows)
        assert found["accuracy"] == pytest.approx((margins > 0).double().mean().item())
        assert found["loss"] == pytest.approx(torch.nn.functional.softplus(-margins).mean().item(), abs=0.01)
    plain, scaled = (load_file(each.folder / "models/reward/model.safetensors") for each in (project, trained))
    torch.testing.assert_close(plain.pop("score.weight") / divided, scaled.pop("score.weight"))
    assert all(torch.equal(plain[name], scaled[name]) for name in scaled)


def test_two_runs_give_the_same_bytes(project: Project, trained: Project) -> None:
    for name in STAGES:
        project.stage(name)
    for name in ("data/pairs", "data/tokens", "models/reward", "models/export", "metrics"):
        assert hash_folder(project.folder / name) == hash_folder(trained.folder / name), name


def test_no_output_names_this_machine(trained: Project) -> None:
    for path in trained.folder.rglob("*"):
        if path.is_file() and path.suffix in (".json", ".jsonl", ".md", ".jinja", ".yaml"):
            assert str(trained.folder) not in path.read_text(errors="replace"), path
        if path.suffix == ".onnx":
            content = path.read_bytes()
            assert str(trained.folder).encode() not in content
            assert b"site-packages" not in content


def test_the_export_is_complete_and_its_metadata_true(trained: Project) -> None:
    folder = trained.folder / "models/export"
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "model.safetensors",
        "model.onnx",
        "model.onnx.data",
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "scoring_contract.json",
        "calibration.json",
        "SHA256SUMS",
        "metadata.json",
        "README.md",
    }
    weights = "model.safetensors"
    assert hash_file(folder / weights) == hash_file(trained.folder / "models/reward" / weights)
    metadata = read_json(folder / "metadata.json")
    assert metadata["base"]["sha256"] == hash_folder(trained.folder / "models/base")
    assert metadata["data"]["sha256"]["train.jsonl"] == hash_file(trained.folder / "data/pairs/train.jsonl")
    assert metadata["evaluation"] == trained.read("metrics/eval.json")
    assert metadata["params"]["train"]["learning_rate"] == 1e-3
    assert metadata["versions"]["torch"] == version("torch")
    assert metadata["params"]["tokenize"] == {"max_length": 160}
    assert "dvc_lock" not in metadata
    card = (folder / "README.md").read_text()
    assert f"{metadata['evaluation']['heldout']['accuracy']:.1%}" in card
    assert "| licence of the data | unknown |" in card


def test_no_stage_reads_what_dvc_writes_about_it() -> None:
    """It would be an input that nobody declared, and stale without a word."""
    assert not [path for path in (ROOT / "stages").rglob("*.py") if "dvc.lock" in path.read_text()]


def test_a_set_has_one_name_from_its_split_to_its_figures(trained: Project) -> None:
    for name in SPLITS:
        assert (trained.folder / f"data/pairs/{name}.jsonl").exists()
        assert (trained.folder / f"data/tokens/{name}.parquet").exists()
        assert trained.read("metrics/data.json")["splits"][name]["pairs"]
        assert trained.read("metrics/tokens.json")[name]["pairs"]
    assert HELDOUT in SPLITS
    external = trained.read("metrics/external_sets.json")["sets"]
    assert set(trained.read("metrics/eval.json")) == {HELDOUT, *external}


def test_a_stage_without_its_input_says_what_to_run(project: Project) -> None:
    for name in ("tokenize_pairs", "train", "evaluate", "export"):
        result = project.run(f"stages/{name}.py")
        assert result.returncode == 1, name
        assert result.stderr.startswith("error: "), result.stderr
        assert "run " in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_faults_in_params_stop_every_stage_before_any_work(project: Project) -> None:
    project.set_params({"train.learning_rate": -1, "data.max_samples": "many"})
    for name in ("fetch", *STAGES):
        if name == "probe":  # it reads none
            continue
        result = project.run(f"stages/{name}.py")
        assert result.returncode == 1
        assert "params.yaml has 2 fault(s):" in result.stderr
    assert not (project.folder / "metrics").exists()
