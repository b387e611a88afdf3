from functools import partial
from pathlib import Path
from typing import cast

import pytest
import torch
from transformers import MistralConfig, MistralForSequenceClassification, PreTrainedModel

from reward_model.attention import MatrixAttention
from reward_model.base_tokenizer import contract_encoder
from reward_model.batching import Batch, packed_batch, packed_length, padded_batch
from reward_model.encoding import Group
from reward_model.model import (
    build_reward_model,
    prepare_for_scoring,
    reward_head,
    rewards,
    score_groups,
    use_packed_batches,
)
from reward_model.training import pair_losses

PAIRS: dict[str, list[Group]] = {
    "a shared prompt": [([5, 6, 7, 8, 9, 2], [5, 6, 7, 10, 2])],
    "an empty prefix": [([5, 6, 2], [7, 8, 9, 2])],
    "responses that begin alike": [([5, 6, 7, 11, 12, 13, 2], [5, 6, 7, 11, 12, 14, 15, 2])],
    "one-token responses": [([5, 6, 2], [5, 6, 3])],
    "equal after truncation": [([5, 6, 7, 2], [5, 6, 7, 2])],
    "several groups of several sizes": [([5, 6, 2], [5, 7, 8, 2]), ([9, 2],), ([4, 4, 2], [4, 5, 2], [4, 6, 6, 6, 2])],
}

# Two equal responses have no gradient, and several groups no pairs.
GRADIENT_CASES = [name for name in PAIRS if name not in ("equal after truncation", "several groups of several sizes")]


@pytest.fixture
def model(tiny_base: Path, tmp_path: Path) -> PreTrainedModel:
    model = build_reward_model(tiny_base, contract_encoder(tiny_base, 64, tmp_path), seed=0)
    torch.nn.init.normal_(reward_head(model).weight)
    assert use_packed_batches(model)
    return model


def test_the_layout_of_the_docstring() -> None:
    batch = packed_batch([([1, 2, 3], [1, 4]), ([5, 6],)], pad_token_id=0)
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "input_ids": [[1, 2, 3, 4, 5, 6]],
        "position_ids": [[0, 1, 2, 1, 0, 1]],
        "rows": [0, 0, 0],
        "ends": [2, 3, 5],
        "prefix_lengths": [1, 1],
        "rest_lengths": [2, 1, 1],
        "group_sizes": [2, 1],
    }
    assert packed_length(([1, 2, 3], [1, 4])) == 4


def gradients(model: PreTrainedModel, batch: Batch, margin: float = 0.0) -> dict[str, torch.Tensor]:
    model.zero_grad()
    chosen, rejected = rewards(model, **batch).view(-1, 2).unbind(1)
    pair_losses(chosen, rejected, torch.full_like(chosen, margin)).mean().backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("case", PAIRS)
def test_packed_rewards_are_those_of_each_sequence_alone(model: PreTrainedModel, case: str) -> None:
    groups = PAIRS[case]
    packed = rewards(model, **packed_batch(groups, 0))
    alone = [rewards(model, **padded_batch([(ids,)], 0)) for group in groups for ids in group]
    torch.testing.assert_close(packed, torch.cat(alone), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", GRADIENT_CASES)
def test_packed_gradients_are_those_of_the_two_sequences(model: PreTrainedModel, case: str) -> None:
    """Every parameter's gradient, to 1e-5 of its norm, in float32."""
    packed = gradients(model, packed_batch(PAIRS[case], 0))
    padded = gradients(model, padded_batch(PAIRS[case], 0))
    assert packed.keys() == padded.keys()
    for name, expected in padded.items():
        difference = (packed[name] - expected).norm()
        assert difference <= 1e-5 * expected.norm() + 1e-7, name


def test_a_reward_depends_on_no_batch_mate_order_or_padding(model: PreTrainedModel) -> None:
    groups = [group for own in PAIRS.values() for group in own]
    alone = [next(score_groups(model, [group], 0, batch_size=1))[1] for group in groups]
    for batch_size in (1, 2, 3, len(groups)):
        scores = dict(score_groups(model, groups, 0, batch_size))
        assert [len(scores[number]) for number in range(len(groups))] == [len(group) for group in groups]
        for number, expected in enumerate(alone):
            assert scores[number] == pytest.approx(expected, abs=1e-5)


def test_an_ordinary_call_of_a_packed_model_is_what_transformers_computes(model: PreTrainedModel) -> None:
    ids = torch.tensor([[5, 6, 2, 0], [5, 7, 8, 2]])
    mask = (ids != 0).long()
    found = model(input_ids=ids, attention_mask=mask).logits
    model.set_attn_implementation("sdpa")
    torch.testing.assert_close(found, model(input_ids=ids, attention_mask=mask).logits)


def test_half_precision_keeps_the_rotary_frequencies(model: PreTrainedModel) -> None:
    prepare_for_scoring(model, torch.device("cpu"), torch.bfloat16)
    assert {parameter.dtype for parameter in model.base_model.parameters()} == {torch.bfloat16}
    assert reward_head(model).weight.dtype == torch.float32
    assert {buffer.dtype for buffer in model.buffers()} == {torch.float32}


def test_a_model_with_a_sliding_window_takes_padded_batches() -> None:
    config = MistralConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        sliding_window=4,
        pad_token_id=0,
    )
    config.num_labels = 1
    torch.manual_seed(0)
    model = MistralForSequenceClassification(config).eval()
    group = ([5, 6, 7, 8, 9, 10, 2], [5, 6, 7, 11, 2])
    assert not use_packed_batches(model)
    [(_, scores)] = score_groups(model, [group], 0, batch_size=1)
    alone = [model(input_ids=torch.tensor([ids])).logits.item() for ids in group]
    assert scores == pytest.approx(alone, abs=1e-5)


def attend_with(mask: torch.Tensor, *states: torch.Tensor) -> torch.Tensor:
    return cast(torch.Tensor, MatrixAttention.apply(*states, mask, 0.3))


def test_attention_by_matrix_products_is_torchs_and_has_its_gradients() -> None:
    """Double precision, shared keys, and a mask that hides one part from another."""
    generator = torch.Generator().manual_seed(0)
    for rows, keys in ((5, 5), (3, 7), (1, 4)):
        query, key, value = (
            torch.randn(1, heads, length, 4, dtype=torch.float64, generator=generator, requires_grad=True)
            for heads, length in ((6, rows), (2, keys), (2, keys))
        )
        mask = torch.ones(rows, keys, dtype=torch.bool).tril(keys - rows)
        attend = partial(attend_with, mask)
        expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, mask, scale=0.3, enable_gqa=True)
        torch.testing.assert_close(attend(query, key, value), expected)
        assert torch.autograd.gradcheck(attend, (query, key, value))


def test_bfloat16_gradients_are_as_close_to_float32_as_those_of_torchs_attention(model: PreTrainedModel) -> None:
    groups = PAIRS["responses that begin alike"]
    exact = gradients(model, packed_batch(groups, 0))
    with torch.autocast("cpu", torch.bfloat16):
        ours = gradients(model, packed_batch(groups, 0))
        torchs = gradients(model, padded_batch(groups, 0))
    assert 0 < distance(ours, exact) <= 1.5 * distance(torchs, exact)


def distance(found: dict[str, torch.Tensor], exact: dict[str, torch.Tensor]) -> float:
    return sum(float((found[name] - gradient).norm()) ** 2 for name, gradient in exact.items()) ** 0.5
