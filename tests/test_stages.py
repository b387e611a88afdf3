"""tokenize, train, evaluate and export on the tiny base, as processes; score.py on what they made."""

import json
import os
import shutil
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from conftest import Project
from reward_model import RewardModelManager
from reward_model.batching import padded_batch
from reward_model.encoding import Encoder
from reward_model.errors import UserError
from reward_model.files import read_json, read_jsonl, read_parquet, sha256_of, sha256_of_folder
from reward_model.model import load_reward_model, rewards

STAGES = ("prepare", "tokenize_pairs", "train", "evaluate", "export")


def test_tokens_are_those_of_the_contract_and_cuts_are_counted(trained: Project) -> None:
    folder = trained.folder / "data/tokens"
    encoder = Encoder.load(folder)
    pairs, rows = read_jsonl(trained.folder / "data/pairs/test.jsonl"), read_parquet(folder / "test.parquet")
    assert len(pairs) == len(rows) == trained.read("metrics/tokens.json")["test"]["pairs"]
    for pair, row in zip(pairs, rows, strict=True):
        assert row["id"] == pair["id"]
        encoded = encoder.encode(pair["prompt"], [pair["chosen"], pair["rejected"]])
        assert [row["chosen_ids"], row["rejected_ids"]] == encoded.ids


def test_short_max_length_cuts_and_counts(project: Project) -> None:
    project.set_params({"tokenize.max_length": 24})
    project.stage("prepare")
    project.stage("tokenize_pairs")
    counts = project.read("metrics/tokens.json")["train"]
    assert counts["prompts_cut"] > 0
    assert counts["prompt_tokens_cut"] > counts["prompts_cut"]
    rows = read_parquet(project.folder / "data/tokens/train.parquet")
    assert max(len(row[side]) for row in rows for side in ("chosen_ids", "rejected_ids")) <= 24


def test_the_metrics_have_the_promised_keys(trained: Project) -> None:
    figures = trained.read("metrics/eval.json")
    assert set(figures) == {"heldout", "mt_bench_human"}
    for of_set in figures.values():
        assert set(of_set) == {"n", "accuracy", "accuracy_ci95", "ties", "loss", "margin_mean", "longer_wins"}
        low, high = of_set["accuracy_ci95"]
        assert low <= of_set["accuracy"] <= high
    assert figures["heldout"]["n"] == trained.read("metrics/data.json")["splits"]["test"]["pairs"]
    curve = trained.read("metrics/training_curve.json")
    assert curve[-1]["step"] == trained.read("metrics/train.json")["steps"]


def test_training_evaluation_and_transformers_agree_on_rewards(trained: Project) -> None:
    """The exported folder, used as its model card says, gives the reward of the contract to 1e-4."""
    folder = trained.folder / "models/export"
    model, encoder = load_reward_model(folder)
    plain = AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    compared = 0
    for pair in read_jsonl(trained.folder / "data/pairs/test.jsonl"):
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


def test_two_runs_give_the_same_bytes(project: Project, trained: Project) -> None:
    for name in STAGES:
        project.stage(name)
    for name in ("data/pairs", "data/tokens", "models/reward", "models/export", "metrics"):
        assert sha256_of_folder(project.folder / name) == sha256_of_folder(trained.folder / name), name


def test_no_output_names_this_machine(trained: Project) -> None:
    for path in trained.folder.rglob("*"):
        if path.is_file() and path.suffix in (".json", ".jsonl", ".md", ".jinja", ".yaml"):
            assert str(trained.folder) not in path.read_text(errors="replace"), path


def test_the_export_is_complete_and_its_metadata_true(trained: Project) -> None:
    folder = trained.folder / "models/export"
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "scoring_contract.json",
        "metadata.json",
        "README.md",
    }
    weights = "model.safetensors"
    assert sha256_of(folder / weights) == sha256_of(trained.folder / "models/reward" / weights)
    metadata = read_json(folder / "metadata.json")
    assert metadata["base"]["sha256"] == sha256_of_folder(trained.folder / "models/base")
    assert metadata["data"]["sha256"]["train.jsonl"] == sha256_of(trained.folder / "data/pairs/train.jsonl")
    assert metadata["evaluation"] == trained.read("metrics/eval.json")
    assert metadata["params"]["train"]["learning_rate"] == 1e-3
    assert metadata["versions"]["torch"] == version("torch")
    card = (folder / "README.md").read_text()
    assert f"{metadata['evaluation']['heldout']['accuracy']:.1%}" in card
    assert "| licence of the data | unknown |" in card


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
        result = project.run(f"stages/{name}.py")
        assert result.returncode == 1
        assert "params.yaml has 2 fault(s):" in result.stderr
    assert not (project.folder / "metrics").exists()


@pytest.fixture
def scorer(trained: Project, tmp_path: Path) -> Project:
    """A folder with the stages and the exported model only."""
    shutil.copytree(trained.folder / "stages", tmp_path / "stages")
    shutil.copytree(trained.folder / "models/export", tmp_path / "models/export")
    return Project(tmp_path)


def test_score_without_a_model_is_one_line(project: Project) -> None:
    result = project.run("stages/score.py")
    assert result.returncode == 2
    assert result.stderr == (
        "error: no trained model in models/export: run `make repro`, which trains and exports one\n"
    )


def test_score_a_text_a_comparison_and_the_examples(scorer: Project) -> None:
    examples = scorer.run("stages/score.py")
    assert examples.returncode == 0, examples.stderr
    assert examples.stdout.count("is preferred") + examples.stdout.count("a tie") == 3
    text = scorer.run("stages/score.py", "--text", "good answer: cat")
    assert isinstance(float(text.stdout), float)
    question = ["--prompt", "question 99 about red cat dog?"]
    for style in ("_", "-"):
        options = [f"--response{style}a", "good answer: cat dog", f"--response{style}b", "bad tree"]
        result = scorer.run("stages/score.py", *question, *options)
        assert "-> A is preferred" in result.stdout, result.stderr


@pytest.mark.parametrize(
    "arguments", [["--prompt", "Q"], ["--response_a", "A"], ["--prompt", "Q", "--response_a", "A"], ["--nonsense"]]
)
def test_score_with_a_wrong_combination_is_a_usage_line(scorer: Project, arguments: list[str]) -> None:
    result = scorer.run("stages/score.py", *arguments)
    assert result.returncode == 2
    assert "usage: score.py" in result.stderr
    assert "Traceback" not in result.stderr


def test_score_interactively_until_the_input_ends(scorer: Project) -> None:
    result = scorer.run("stages/score.py", "--interactive", input="Q\ngood answer\nbad\nQ\nA\n")
    assert result.returncode == 0
    assert result.stdout.count("preferred") + result.stdout.count("a tie") == 1
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("damage", ["truncate", "no contract", "no tokenizer"])
def test_a_damaged_model_is_one_clear_error(scorer: Project, damage: str) -> None:
    folder = scorer.folder / "models/export"
    if damage == "truncate":
        weights = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    elif damage == "no contract":
        (folder / "scoring_contract.json").unlink()
    else:
        (folder / "tokenizer.json").unlink()
    result = scorer.run("stages/score.py", "--text", "x")
    assert result.returncode == 2
    assert result.stderr.startswith("error: models/export")
    assert len(result.stderr.splitlines()) == 1


def test_the_python_api_of_the_seed(scorer: Project) -> None:
    script = """
import json
from reward_model import RewardModelManager

# Load trained model
manager = RewardModelManager()
model, tokenizer = manager.load_trained_model("models/export")

# Get reward score
score = manager.get_reward_score("Your text here")

# Compare responses
result = manager.compare_responses(
    prompt="How to cook pasta?",
    response_a="Boil water, add salt, cook pasta according to instructions.",
    response_b="I don't know."
)
ranked = manager.rank_responses("How to cook pasta?", ["I don't know.", "Boil water.", "Boil water."])
print(json.dumps([score, result.reward_b, result.margin, ranked]))
"""
    result = scorer.run("-c", script, env=os.environ | {"PYTHONPATH": "stages"})
    assert result.returncode == 0, result.stderr
    score, reward_b, _, ranked = json.loads(result.stdout)
    assert isinstance(score, float)
    assert ranked[0] == pytest.approx(reward_b, abs=1e-5)
    assert ranked[1] == pytest.approx(ranked[2], abs=1e-5)


def test_the_manager_without_a_model_says_what_to_call() -> None:
    with pytest.raises(UserError, match="call load_trained_model"):
        RewardModelManager(device="cpu").get_reward_score("x")
