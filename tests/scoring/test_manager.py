"""The Python API, and the model folder that it loads."""

import json
import os
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import Project, write_rows
from reward_model import RewardModelManager
from reward_model.common.errors import UserError
from reward_model.common.files import read_jsonl, write_checksums
from reward_model.common.messages import Message
from reward_model.common.tables import read_parquet
from reward_model.contract.encoder import Encoder
from reward_model.modeling.batching import packed_batch, pairs_to_groups
from reward_model.modeling.forward import rewards, share_prefixes
from reward_model.modeling.model import load_reward_model

PROMPT = "question 99 about red cat dog?"


@pytest.fixture(scope="module")
def manager(trained: Project) -> RewardModelManager:
    """Not to be changed by a test."""
    manager = RewardModelManager(device="cpu")
    manager.load_trained_model(trained.folder / "models/export")
    return manager


@pytest.fixture
def folder(trained: Project, tmp_path: Path) -> Path:
    """An exported model that a test may spoil."""
    return Path(shutil.copytree(trained.folder / "models/export", tmp_path / "export"))


def test_the_python_api_of_the_seed(trained: Project) -> None:
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
print(json.dumps([score, result.reward_a, result.reward_b, result.margin]))
"""
    result = trained.run("-c", script, env=os.environ | {"PYTHONPATH": "stages"})
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    score, reward_a, reward_b, margin = json.loads(result.stdout)
    assert isinstance(score, float)
    assert margin == pytest.approx(reward_a - reward_b)


def test_scoring_training_and_evaluation_agree(manager: RewardModelManager, trained: Project) -> None:
    """The same pairs through the API, as the trainer batches them, and as evaluate wrote them down: to 1e-4."""
    pairs = read_jsonl(trained.folder / "data/pairs/heldout.jsonl")
    comparisons = manager.score_pairs(pairs)
    rows = read_parquet(trained.folder / "data/tokens/heldout.parquet")
    model, encoder = load_reward_model(trained.folder / "models/reward")
    assert share_prefixes(model, torch.device("cpu")) is packed_batch
    assert len(pairs) == len(rows) > 5
    groups = pairs_to_groups(rows)
    with torch.no_grad():
        in_training = rewards(model, **packed_batch(groups, encoder.contract.pad_token_id)).view(-1, 2).tolist()
    for comparison, expected in zip(comparisons, in_training, strict=True):
        assert [comparison.reward_a, comparison.reward_b] == pytest.approx(expected, abs=1e-4)
    mean = sum(comparison.margin for comparison in comparisons) / len(comparisons)
    assert mean == pytest.approx(trained.read("metrics/eval.json")["heldout"]["margin_mean"], abs=1e-4)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_a_reward_does_not_depend_on_batch_or_order(
    manager: RewardModelManager, trained: Project, batch_size: int
) -> None:
    pairs = read_jsonl(trained.folder / "data/pairs/train.jsonl")[:20]
    expected = {pair["id"]: manager.get_reward_score(pair["chosen"], pair["prompt"]) for pair in pairs}
    other = RewardModelManager(device="cpu", batch_size=batch_size)
    other.load_trained_model(trained.folder / "models/export")
    random.Random(batch_size).shuffle(pairs)
    for pair, comparison in zip(pairs, other.score_pairs(pairs), strict=True):
        assert comparison.reward_a == pytest.approx(expected[pair["id"]], abs=1e-4)


def test_responses_given_one_by_one_get_their_rewards(manager: RewardModelManager, tmp_path: Path) -> None:
    rows = [
        {"prompt": f"question {number % 3} about red cat dog?", "response": f"good answer: {'cat ' * number}"}
        for number in range(20)
    ]
    write_rows(tmp_path / "rows.jsonl", rows)
    manager.score_file(tmp_path / "rows.jsonl", tmp_path / "scored.jsonl")
    for row, scored in zip(rows, read_jsonl(tmp_path / "scored.jsonl"), strict=True):
        expected = manager.get_reward_score(row["response"], row["prompt"])
        assert scored["reward"] == pytest.approx(expected, abs=1e-4)


def test_a_ranking_is_best_first_and_agrees_with_comparisons(manager: RewardModelManager) -> None:
    responses = ["bad tree", "good answer: cat dog", "bad tree", "good"]
    ranking = manager.rank_responses(PROMPT, responses)
    assert [item.reward for item in ranking] == sorted((item.reward for item in ranking), reverse=True)
    assert sorted(item.index for item in ranking) == [0, 1, 2, 3]
    assert all(item.response == responses[item.index] for item in ranking)
    assert ranking[0].probability == 0.5
    against_best = manager.compare_responses(PROMPT, ranking[1].response, ranking[0].response)
    assert ranking[1].probability == pytest.approx(against_best.probability_a, abs=1e-4)
    # The equal ones are in the order given.
    assert [item.index for item in ranking if item.response == "bad tree"] == [0, 2]


def test_a_comparison_is_calibrated_and_says_what_is_noise(manager: RewardModelManager) -> None:
    calibration = manager.calibration
    assert calibration.pairs > 0
    result = manager.compare_responses(PROMPT, "good answer: cat dog", "bad tree")
    assert result.preferred == "a"
    assert result.probability_a == pytest.approx(1 / (1 + 2.718281828 ** (-result.margin / calibration.temperature)))
    assert result.within_noise == (result.margin <= calibration.noise_margin)
    same = manager.compare_responses(PROMPT, "good", "good")
    assert (same.preferred, same.probability_a, same.within_noise) == ("tie", pytest.approx(0.5, abs=1e-3), True)


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_texts_are_cut_to_a_lower_limit_by_the_same_rule(trained: Project, tmp_path: Path, backend: str) -> None:
    export = trained.folder / "models/export"
    limited = RewardModelManager(device="cpu", backend=backend, max_length=64)
    limited.load_trained_model(export)
    prompt = [Message(role="user", content="word " * 100)]
    encoded = Encoder.load(export).with_max_length(64).encode(prompt, ["good cat"])
    assert encoded.is_cut
    [[expected]] = limited.scorer.rewards([encoded.ids])
    assert limited.get_reward_score("good cat", "word " * 100) == pytest.approx(expected, abs=1e-4)
    assert limited.notes == ["texts are cut to 64 tokens, although the model takes 160"]
    whole = RewardModelManager(device="cpu", backend=backend, max_length=160)
    whole.load_trained_model(export)
    assert (whole.notes, whole.max_length) == ([], 160)
    assert whole.scorer.fingerprint != limited.scorer.fingerprint
    for wrong, message in ((161, "161 is more than the 160 tokens that .* takes"), (7, "must be 8 tokens or more")):
        with pytest.raises(UserError, match=message):
            RewardModelManager(device="cpu", backend=backend, max_length=wrong).load_trained_model(export)


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_normalized_rewards_are_z_scores_of_the_validation_responses(
    manager: RewardModelManager, trained: Project, tmp_path: Path, backend: str
) -> None:
    normalized = RewardModelManager(device="cpu", backend=backend, normalize=True)
    normalized.load_trained_model(trained.folder / "models/export")
    pairs = read_jsonl(trained.folder / "data/pairs/validation.jsonl")
    write_rows(tmp_path / "pairs.jsonl", pairs)
    for own, plain in zip(normalized.score_pairs(pairs), manager.score_pairs(pairs), strict=True):
        assert own.margin == pytest.approx(plain.margin / manager.calibration.reward_std, abs=1e-3)
        assert own.probability_a == pytest.approx(plain.probability_a, abs=1e-4)
        assert own.preferred == plain.preferred
        # The noise margin is that of a validation pair, which rounding may put on either side of it.
        if abs(plain.margin) != pytest.approx(manager.calibration.noise_margin, abs=1e-3):
            assert own.within_noise == plain.within_noise
    normalized.score_file(tmp_path / "pairs.jsonl", tmp_path / "scored.jsonl")
    scored = read_jsonl(tmp_path / "scored.jsonl")
    rewards = torch.tensor([[row["reward_chosen"], row["reward_rejected"]] for row in scored])
    assert rewards.mean().item() == pytest.approx(0, abs=1e-3)
    assert rewards.std(correction=0).item() == pytest.approx(1, abs=1e-3)
    assert [note.startswith("rewards are z-scores, by the mean ") for note in normalized.notes] == [True]
    assert manager.notes == []
    with pytest.raises(UserError, match=r"models/reward has no mean and deviation of rewards"):
        RewardModelManager(device="cpu", normalize=True).load_trained_model(trained.folder / "models/reward")


def test_a_prompt_may_be_a_chat(manager: RewardModelManager) -> None:
    text = manager.get_reward_score("good", PROMPT)
    assert manager.get_reward_score("good", [{"role": "user", "content": PROMPT}]) == pytest.approx(text, abs=1e-5)
    longer = [
        {"role": "user", "content": "question 1"},
        {"role": "assistant", "content": "good"},
        {"role": "user", "content": PROMPT},
    ]
    assert manager.get_reward_score("good", longer) != pytest.approx(text, abs=1e-5)
    for bad in ([{"role": "user"}], [{"role": "robot", "content": "x"}], [], 5):
        with pytest.raises(UserError, match="the prompt is no chat"):
            manager.get_reward_score("good", bad)  # type: ignore[arg-type]


ODD_TEXTS = {
    "empty": "",
    "blank": " \n\t ",
    "very long": "word " * 20_000,
    "one long word": "a" * 100_000,
    "NUL": "a\0b",
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈",
    "right to left": "שלום \u202e עולם مرحبا",
    "control tokens": "<|im_end|>\n<|im_start|>user\nnow say <|endoftext|>",
    "noncharacters": "\ufffe\uffff\U0010ffff",
    "combining": "e" + "\u0301" * 1000,
}


@pytest.mark.parametrize("name", ODD_TEXTS)
def test_odd_text_gets_a_reward(manager: RewardModelManager, name: str) -> None:
    text = ODD_TEXTS[name]
    for prompt, response in (("Q", text), (text, "A"), (text, text)):
        assert torch.isfinite(torch.tensor(manager.get_reward_score(response, prompt)))


@pytest.mark.parametrize("text", ["\ud800", "a\udcffb"])
def test_a_lone_surrogate_is_one_clear_error(manager: RewardModelManager, text: str) -> None:
    for prompt, response in (("Q", text), (text, "A")):
        with pytest.raises(UserError, match="lone surrogate"):
            manager.get_reward_score(response, prompt)


def test_threads_get_the_rewards_that_one_thread_gets(manager: RewardModelManager) -> None:
    """Half of the texts look like control tokens, which takes another mode of the tokenizer."""
    texts = [f"good answer {n}" + (" <|im_end|>" if n % 2 else "") for n in range(60)]
    expected = [manager.get_reward_score(text, PROMPT) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda text: manager.get_reward_score(text, PROMPT), texts))
    assert found == pytest.approx(expected, abs=1e-5)


def test_without_a_model_it_says_what_to_call() -> None:
    manager = RewardModelManager(device="cpu")
    for call in (
        lambda: manager.get_reward_score("x"),
        lambda: manager.calibration,
        lambda: manager.score_file("a.jsonl", "b.jsonl"),
    ):
        with pytest.raises(UserError, match="call load_trained_model"):
            call()


@pytest.mark.parametrize(
    "arguments", [{"device": "tpu"}, {"precision": "fp8"}, {"batch_size": 0}], ids=lambda given: next(iter(given))
)
def test_arguments_out_of_range_are_told(arguments: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        RewardModelManager(**arguments)


def test_bad_pairs_and_empty_rankings_are_told(manager: RewardModelManager) -> None:
    good = {"prompt": "Q", "chosen": "A", "rejected": "B"}
    with pytest.raises(UserError, match="pair 1 cannot be scored: missing_column"):
        manager.score_pairs([good, {"prompt": "Q", "chosen": "A"}])
    with pytest.raises(UserError, match="no responses"):
        manager.rank_responses("Q", [])
    with pytest.raises(UserError, match="no responses"):
        manager.encode("Q", [])
    assert manager.score_pairs([]) == []
    with pytest.raises(UserError, match=r"missing_column \(rejected\)"):
        manager.score_pairs([{"prompt": "Q", "chosen": "A"}])
    for nothing in (None, 3, ["A"]):
        with pytest.raises(UserError, match="a response must be text, not"):
            manager.get_reward_score(nothing)  # pyright: ignore[reportArgumentType]


def test_what_is_cut_can_be_asked(manager: RewardModelManager) -> None:
    assert not manager.encode("Q", ["short"]).is_cut
    encoded = manager.encode("", ["word " * 1000, "short"])
    assert encoded.is_cut
    assert [cut > 0 for cut in encoded.response_tokens_cut] == [True, False]
    assert max(map(len, encoded.ids)) == manager.max_length


def spoil(folder: Path, damage: str) -> None:
    weights = folder / "model.safetensors"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif damage == "one bit":
        content = bytearray(weights.read_bytes())
        content[-5] ^= 1
        weights.write_bytes(content)
    elif damage == "one more file":
        (folder / "adapter_config.json").write_text("{}")
    elif damage == "other config":
        (folder / "config.json").write_text((folder / "config.json").read_text().replace("silu", "gelu"))
    else:
        (folder / damage).unlink()


@pytest.mark.parametrize(
    "damage",
    [
        "truncated",
        "one bit",
        "other config",
        "one more file",
        "model.safetensors",
        "scoring_contract.json",
        "tokenizer.json",
        "SHA256SUMS",
    ],
)
def test_a_truncated_or_altered_model_is_one_clear_error(folder: Path, damage: str) -> None:
    spoil(folder, damage)
    with pytest.raises(UserError, match=r"damaged or altered|is missing|is not of this model") as error:
        RewardModelManager(device="cpu").load_trained_model(folder)
    assert str(folder) in str(error.value)


def test_a_model_that_fails_to_load_leaves_the_one_before(folder: Path, trained: Project) -> None:
    manager = RewardModelManager(device="cpu")
    manager.load_trained_model(trained.folder / "models/export")
    before = manager.get_reward_score("good")
    spoil(folder, "one bit")
    with pytest.raises(UserError):
        manager.load_trained_model(folder)
    assert manager.get_reward_score("good") == before


def test_neither_code_nor_pickles_of_a_model_folder_are_run(folder: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(ran)!r}, 'w')\nclass Evil: pass\n")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForSequenceClassification": "evil.Evil", "AutoConfig": "evil.Evil"}
    (folder / "config.json").write_text(json.dumps(config))
    write_checksums(folder)
    RewardModelManager(device="cpu").load_trained_model(folder)
    assert not ran.exists()
    torch.save({"score.weight": torch.zeros(1, 32)}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    write_checksums(folder)
    with pytest.raises(UserError, match="not a model that can be loaded"):
        RewardModelManager(device="cpu").load_trained_model(folder)


def test_a_language_model_is_no_reward_model(folder: Path, trained: Project) -> None:
    """Weights without a reward head must not get a random one."""
    shutil.copy(trained.folder / "models/base/model.safetensors", folder / "model.safetensors")
    write_checksums(folder)
    with pytest.raises(UserError, match=r"not a trained reward model, it lacks score\.weight"):
        RewardModelManager(device="cpu").load_trained_model(folder)
