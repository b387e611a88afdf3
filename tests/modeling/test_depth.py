"""A base cut to its first layers is what transformers makes of the same layers, and its states are known before."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from conftest import build_tiny_tokenizer
from reward_model.common.errors import UserError
from reward_model.common.files import write_checksums
from reward_model.contract.base_tokenizer import contract_encoder
from reward_model.contract.encoder import Encoder
from reward_model.modeling.batching import padded_batch
from reward_model.modeling.depth import available_depths, candidate_depths, kept_depth
from reward_model.modeling.forward import last_states, rewards
from reward_model.modeling.model import build_reward_model, load_reward_model, save_reward_model
from reward_model.scoring.inference import compute_features, prepare_for_scoring

GROUPS = [([5, 6, 7, 8], [5, 6, 9]), ([10, 11, 12, 13, 14], [10, 11, 15])]
ROWS = [{"prompt_id": str(number), "chosen_ids": one, "rejected_ids": two} for number, (one, two) in enumerate(GROUPS)]
SMALL: dict[str, Any] = {"vocab_size": 400, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}


def encoder_of(base: Path) -> Encoder:
    return contract_encoder(base, 96, base.parent / "depth_tokenizer")


def save_base(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    build_tiny_tokenizer().save_pretrained(folder)
    return folder


def test_candidate_depths_are_shares_of_the_layers() -> None:
    assert candidate_depths(30) == [10, 15, 20, 25, 30]
    assert candidate_depths(2) == [1, 2]
    assert candidate_depths(1) == [1]


@pytest.mark.parametrize(
    ("layers", "depths", "expected"),
    [
        (0.67, (10, 15, 20, 25, 30), 20),
        (0.67, (8, 12, 16, 20, 24), 16),
        (0.5, (12,), 12),
        (0.01, (1, 2), 1),
        (7, (10, 15, 20, 25, 30), 7),
        (None, (10, 20, 30), 30),
        ("auto", (10, 20, 30), 30),
    ],
)
def test_a_share_of_the_layers_is_the_nearest_candidate(layers: Any, depths: tuple[int, ...], expected: int) -> None:
    assert kept_depth(layers, depths) == expected


def test_features_at_a_depth_are_the_states_of_a_base_cut_there(tiny_base: Path) -> None:
    encoder = encoder_of(tiny_base)
    whole = build_reward_model(tiny_base, encoder, 0)
    prepare_for_scoring(whole, [], 0, "cpu", "fp32")
    features = compute_features(whole, ROWS, 0, 1, available_depths(whole), "test")
    assert features.depths.tolist() == [1, 2]
    for depth in (1, 2):
        cut = build_reward_model(tiny_base, encoder, 0, depth).eval()
        with torch.no_grad():
            expected = last_states(cut, **padded_batch(GROUPS, 0)).numpy()
        found = np.stack(features.at(depth), axis=1).reshape(4, -1)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert np.abs(features.at(1)[0] - features.at(2)[0]).max() > 0.1


def test_a_cut_base_is_that_of_plain_transformers_and_is_saved_as_such(tiny_base: Path, tmp_path: Path) -> None:
    encoder = encoder_of(tiny_base)
    model = build_reward_model(tiny_base, encoder, 0, 1)
    torch.nn.init.normal_(model.get_parameter("score.weight"))
    save_reward_model(model, encoder, tmp_path)
    write_checksums(tmp_path)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert plain.config.num_hidden_layers == len(plain.model.layers) == 1
    whole = AutoModelForSequenceClassification.from_pretrained(tiny_base, num_labels=1, pad_token_id=0)
    whole.model.layers = whole.model.layers[:1]
    whole.score = plain.score
    loaded, _ = load_reward_model(tmp_path)
    ids = [[5, 6, 7, 8], [5, 6, 9, 2]]
    with torch.no_grad():
        found = rewards(loaded, **padded_batch([ids], 0))
        for other in (plain, whole):
            expected = other(input_ids=torch.tensor(ids)).logits.squeeze(-1)
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_too_many_layers_are_one_clear_error(tiny_base: Path) -> None:
    with pytest.raises(UserError, match=r"train\.layers: 3 is more than the 2 layers of the base"):
        build_reward_model(tiny_base, encoder_of(tiny_base), 0, 3)


@pytest.mark.parametrize(
    ("model", "depths"),
    [
        (lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**SMALL, num_hidden_layers=4)), [1, 2, 3, 4]),
        (
            lambda: Qwen3ForCausalLM(Qwen3Config(**SMALL, num_key_value_heads=2, head_dim=8, num_hidden_layers=3)),
            [1, 2, 3],
        ),
        (lambda: GPT2LMHeadModel(GPT2Config(vocab_size=400, n_embd=32, n_head=4, n_layer=3)), [3]),
    ],
    ids=["gpt_neox", "qwen3", "gpt2"],
)
def test_other_architectures_are_cut_alike(model: Callable[[], Any], depths: list[int], tmp_path: Path) -> None:
    """All that transformers can build can be cut; inner states are known where the layers and the norm are found."""
    torch.manual_seed(0)
    base = save_base(model(), tmp_path / "base")
    encoder = encoder_of(base)
    whole = build_reward_model(base, encoder, 0)
    prepare_for_scoring(whole, [], 0, "cpu", "fp32")
    assert available_depths(whole) == depths
    features = compute_features(whole, ROWS, 0, 2, depths, "test")
    for depth in depths:
        cut = build_reward_model(base, encoder, 0, depth).eval()
        assert cut.config.num_hidden_layers == depth
        with torch.no_grad():
            expected = last_states(cut, **padded_batch(GROUPS, 0)).numpy()
        found = np.stack(features.at(depth), axis=1).reshape(4, -1)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
