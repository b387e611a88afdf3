from functools import partial
from pathlib import Path
from typing import cast

import pytest
import torch
from transformers import MistralConfig, MistralForSequenceClassification, PreTrainedModel

from reward_model.contract.base_tokenizer import contract_encoder
from reward_model.contract.encoder import Group
from reward_model.modeling.attention import MatrixAttention
from reward_model.modeling.batching import (
    Batch,
    Layout,
    _mask,
    distinct_groups,
    masked_batch,
    packed_batch,
    packed_length,
    padded_batch,
    pairs_to_groups,
)
from reward_model.modeling.forward import hidden_states, rewards, share_prefixes
from reward_model.modeling.head import reward_head
from reward_model.modeling.model import build_reward_model
from reward_model.scoring import inference
from reward_model.scoring.inference import prepare_for_scoring, score_groups
from reward_model.training.losses import pair_losses

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
    return model


CPU, ACCELERATOR = torch.device("cpu"), torch.device("cuda")
SHARED = pytest.mark.parametrize(("device", "layout"), [(CPU, packed_batch), (ACCELERATOR, masked_batch)])


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
    batch = masked_batch([([1, 2, 3], [1, 4]), ([5, 6],)], pad_token_id=0)
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4] + [0] * 60, [5, 6] + [0] * 62]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 1] + [0] * 60, [0, 1] + [0] * 62]
    assert batch["attention_mask"][0, 0, :4, :4].int().tolist() == [
        [1, 0, 0, 0],
        [1, 1, 0, 0],
        [1, 1, 1, 0],
        [1, 0, 0, 1],
    ]
    assert (batch["rows"].tolist(), batch["ends"].tolist()) == ([0, 0, 1], [2, 3, 1])
    assert batch["attention_mask"].any(-1).all(), "a query that sees nothing gives NaN"
    assert not batch["attention_mask"][1, 0, :2, 2:].any(), "nothing sees padding"


def test_masked_rows_have_few_different_lengths() -> None:
    widths = {masked_batch([([1] * a, [1] * a)], 0)["input_ids"].shape[1] for a in range(1, 512)}
    assert widths == set(range(64, 64 * 8 + 1, 64))


def gradients(model: PreTrainedModel, batch: Batch, margin: float = 0.0) -> dict[str, torch.Tensor]:
    model.zero_grad()
    chosen, rejected = rewards(model, **batch).view(-1, 2).unbind(1)
    pair_losses(chosen, rejected, torch.full_like(chosen, margin)).mean().backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


@SHARED
@pytest.mark.parametrize("case", PAIRS)
def test_rewards_with_shared_prefixes_are_those_of_each_sequence_alone(
    model: PreTrainedModel, case: str, device: torch.device, layout: Layout
) -> None:
    groups = PAIRS[case]
    alone = [rewards(model, **padded_batch([(ids,)], 0)) for group in groups for ids in group]
    assert share_prefixes(model, device) is layout
    torch.testing.assert_close(rewards(model, **layout(groups, 0)), torch.cat(alone), rtol=1e-5, atol=1e-6)


@SHARED
@pytest.mark.parametrize("case", GRADIENT_CASES)
def test_gradients_with_shared_prefixes_are_those_of_the_two_sequences(
    model: PreTrainedModel, case: str, device: torch.device, layout: Layout
) -> None:
    """Every parameter's gradient, to 1e-5 of its norm, in float32."""
    two_sequences = gradients(model, padded_batch(PAIRS[case], 0))
    share_prefixes(model, device)
    shared = gradients(model, layout(PAIRS[case], 0))
    assert shared.keys() == two_sequences.keys()
    for name, expected in two_sequences.items():
        difference = (shared[name] - expected).norm()
        assert difference <= 1e-5 * expected.norm() + 1e-7, name


@SHARED
def test_a_reward_depends_on_no_batch_mate_order_or_padding(
    model: PreTrainedModel, device: torch.device, layout: Layout
) -> None:
    share_prefixes(model, device)
    groups = [group for own in PAIRS.values() for group in own]
    alone = [next(score_groups(model, [group], 0, batch_size=1))[1] for group in groups]
    for batch_size in (1, 2, 3, len(groups)):
        scores = dict(score_groups(model, groups, 0, batch_size))
        assert [len(scores[number]) for number in range(len(groups))] == [len(group) for group in groups]
        for number, expected in enumerate(alone):
            assert scores[number] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("bf16", [False, True])
def test_all_layers_share_one_mask_and_compute_what_a_boolean_one_gives(model: PreTrainedModel, bf16: bool) -> None:
    """SDPA would keep a mask of numbers for the backward pass of every layer."""
    share_prefixes(model, ACCELERATOR)
    batch = masked_batch([([5] * 40, [5] * 20 + [6] * 30), ([7] * 60, [7] * 30)], 0)
    kept: set[int] = set()

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.shape[-2:] == batch["attention_mask"].shape[-2:] and tensor.dtype in (torch.float32, torch.bfloat16):
            kept.add(tensor.untyped_storage().data_ptr())
        return tensor

    fields = {name: batch[name] for name in ("input_ids", "position_ids", "attention_mask")}
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        expected = model.base_model(**fields, use_cache=False).last_hidden_state
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            states = hidden_states(model, **fields)
    assert torch.equal(states, expected)
    assert len(kept) == 1


def test_a_group_too_long_for_a_mask_takes_padded_rows(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    share_prefixes(model, ACCELERATOR)
    groups = PAIRS["several groups of several sizes"]
    expected = dict(score_groups(model, groups, 0, batch_size=1))
    masked: list[int] = []
    monkeypatch.setattr("reward_model.scoring.inference.MAX_MASKED_TOKENS", 6)
    monkeypatch.setattr(
        "reward_model.modeling.batching._mask", lambda row, width: masked.append(len(row.ids)) or _mask(row, width)
    )
    found = dict(score_groups(model, groups, 0, batch_size=1))
    assert sorted(masked) == [2, 6], "the group of 8 tokens is too long"
    for number, of_group in expected.items():
        assert found[number] == pytest.approx(of_group, abs=1e-5)


@SHARED
def test_an_ordinary_call_of_a_set_up_model_is_what_transformers_computes(
    model: PreTrainedModel, device: torch.device, layout: Layout
) -> None:
    share_prefixes(model, device)
    ids = torch.tensor([[5, 6, 2, 0], [5, 7, 8, 2]])
    mask = (ids != 0).long()
    found = model(input_ids=ids, attention_mask=mask).logits
    model.set_attn_implementation("sdpa")
    torch.testing.assert_close(found, model(input_ids=ids, attention_mask=mask).logits)


def test_half_precision_keeps_the_rotary_frequencies(model: PreTrainedModel) -> None:
    prepare_for_scoring(model, [], 0, "cpu", "bf16")
    assert {parameter.dtype for parameter in model.base_model.parameters()} == {torch.bfloat16}
    assert reward_head(model).weight.dtype == torch.float32
    assert {buffer.dtype for buffer in model.buffers()} == {torch.float32}


@pytest.mark.parametrize("device", [CPU, ACCELERATOR])
def test_a_model_with_a_sliding_window_takes_padded_batches(device: torch.device) -> None:
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
    assert share_prefixes(model, device) is padded_batch
    [(_, scores)] = score_groups(model, [group], 0, batch_size=1)
    alone = [model(input_ids=torch.tensor([ids])).logits.item() for ids in group]
    assert scores == pytest.approx(alone, abs=1e-5)


def test_many_responses_are_scored_in_parts(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt with 64 responses takes the memory of eight."""
    share_prefixes(model, CPU)
    groups: list[Group] = [[[5, 6, 7, 10 + number, *[8] * (number % 5), 2] for number in range(64)], [[5, 9, 2]]]
    alone = [next(score_groups(model, [[ids]], 0, batch_size=1))[1][0] for ids in groups[0]]
    sizes: list[int] = []

    def compute(model: PreTrainedModel, **batch: torch.Tensor) -> torch.Tensor:
        sizes.append(len(batch["ends"]))
        return rewards(model, **batch)

    monkeypatch.setattr(inference, "rewards", compute)
    found = dict(score_groups(model, groups, 0, batch_size=1))
    assert found[0] == pytest.approx(alone, abs=1e-5)
    assert sorted(sizes) == [1, *[8] * 8]


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
        attend = partial(attend_with, torch.zeros(rows, keys).masked_fill(~mask, -torch.inf))
        expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, mask, scale=0.3, enable_gqa=True)
        torch.testing.assert_close(attend(query, key, value), expected)
        assert torch.autograd.gradcheck(attend, (query, key, value))


def test_bfloat16_gradients_are_as_close_to_float32_as_those_of_torchs_attention(model: PreTrainedModel) -> None:
    groups = PAIRS["responses that begin alike"]
    share_prefixes(model, CPU)
    exact = gradients(model, packed_batch(groups, 0))
    with torch.autocast("cpu", torch.bfloat16):
        ours = gradients(model, packed_batch(groups, 0))
        torchs = gradients(model, padded_batch(groups, 0))
    assert 0 < distance(ours, exact) <= 1.5 * distance(torchs, exact)


def distance(found: dict[str, torch.Tensor], exact: dict[str, torch.Tensor]) -> float:
    return sum(float((found[name] - gradient).norm()) ** 2 for name, gradient in exact.items()) ** 0.5


def test_rewards_of_distinct_groups_are_those_of_the_pairs(model: PreTrainedModel) -> None:
    """One response in two pairs of a prompt, more responses than one group takes, a prompt alone."""
    prompts = {"a": [5, 6, 7], "b": [5, 9]}
    rows = [
        {"prompt_id": name, "chosen_ids": [*prompts[name], *chosen, 2], "rejected_ids": [*prompts[name], *rejected, 2]}
        for name, chosen, rejected in [
            ("a", [10], [11, 12]),
            ("a", [11, 12], [13]),
            *(("a", [10], [20 + number]) for number in range(9)),
            ("b", [10], [11]),
        ]
    ]
    groups, places = distinct_groups(rows)
    assert sum(map(len, groups)) == 3 + 9 + 2
    assert max(map(len, groups)) == 8
    share_prefixes(model, CPU)
    together = dict(score_groups(model, groups, 0, batch_size=2))
    alone = dict(score_groups(model, pairs_to_groups(rows), 0, batch_size=1))
    for number, of_pair in enumerate(places):
        assert [together[group][place] for group, place in of_pair] == pytest.approx(alone[number], abs=1e-5)


def test_sequences_of_a_prompt_that_begin_differently_stand_together_only_where_it_saves_tokens() -> None:
    """Two questions of one conversation have one prompt_id."""
    long, other = [5, *range(100, 140)], [5, *range(200, 240)]
    rows = [
        {"prompt_id": "a", "chosen_ids": [*prompt, first, 2], "rejected_ids": [*prompt, second, 2]}
        for prompt, first, second in [(long, 10, 11), (other, 10, 11), (long, 12, 10), (other, 13, 14)]
    ]
    groups, places = distinct_groups(rows)
    assert [[ids[-2] for ids in group] for group in groups] == [[10, 11, 12], [10, 11, 13, 14]]
    assert places == [((0, 0), (0, 1)), ((1, 0), (1, 1)), ((0, 2), (0, 0)), ((1, 2), (1, 3))]
