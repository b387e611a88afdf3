"""What the reward model computes: hidden states and rewards, prompts shared where it can."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel

from reward_model.contract.encoder import Group
from reward_model.modeling.attention import MASKED, PACKED, build_spans, compute_dtype
from reward_model.modeling.batching import Batch, Layout, masked_batch, packed_batch, padded_batch
from reward_model.modeling.head import read_rewards
from reward_model.modeling.quiet import quiet_transformers

# The layouts in which responses share their prefix, by the attention that goes with them.
SHARED_PREFIX: dict[str, Layout] = {PACKED: packed_batch, MASKED: masked_batch}

# Where a model can share prefixes, the hidden states of the layouts differ by rounding only: about a millionth in
# float32, a hundredth in half precision.
TOLERANCE = 1e-4
TOLERANCE_HALF = 0.1
PROBE: list[Group] = [([1, 2, 3, 4, 5], [1, 2, 6]), ([5, 4, 3],)]  # any tokens do


def rewards(model: PreTrainedModel, **batch: torch.Tensor) -> torch.Tensor:
    """The reward of every sequence of a batch, in float32, shape (N,). The head is computed in float32 always.

    Args:
        model: the reward model; for packed and masked batches after `share_prefixes`.
        batch: the fields of a batch of `batching`.
    """
    return read_rewards(model, last_states(model, **batch))


def last_states(
    model: PreTrainedModel, *, rows: torch.Tensor, ends: torch.Tensor, **batch: torch.Tensor
) -> torch.Tensor:
    """The hidden states (N, size) of the sequences' last tokens."""
    return hidden_states(model, **batch)[rows, ends]


def hidden_states(
    model: PreTrainedModel,
    *,
    input_ids: torch.Tensor,
    position_ids: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    **groups: torch.Tensor,
) -> torch.Tensor:
    """The last layer's states (rows, T, size); the arguments are the fields of a batch without `rows` and `ends`."""
    if attention_mask is not None and attention_mask.dim() == 4:
        attention_mask = _as_bias(attention_mask, compute_dtype(attention_mask.device, model.dtype))
    options: dict[str, Any] = {"attention_mask": attention_mask}
    if groups:
        spans = build_spans(groups["prefix_lengths"], groups["rest_lengths"], groups["group_sizes"], input_ids.device)
        # transformers passes a four-dimensional mask on as it is; without one it would build T x T for nothing.
        options = {"attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=input_ids.device), "spans": spans}
    output = model.base_model(input_ids=input_ids, position_ids=position_ids, use_cache=False, **options)
    return output.last_hidden_state


def _as_bias(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A mask as what is added to attention's scores, in the precision of the scores.

    SDPA would make that of a boolean mask in every layer, and keep each for the backward pass.
    """
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min)


def share_prefixes(model: PreTrainedModel, device: torch.device) -> Layout:
    """Set the model up for batches with shared prefixes if its hidden states are then those it has row by row.

    Args:
        model: the reward model, on any device.
        device: where it will compute. CPUs take packed batches, others masked ones.

    Returns:
        The layout for its batches: padded ones, with the model as it was, for architectures that attend in ways of
        their own (state-space layers, sliding windows).
    """
    own = str(model.config._attn_implementation)
    attention = PACKED if device.type == "cpu" else MASKED
    padded, shared = (to_device(layout(PROBE, 0), model.device) for layout in (padded_batch, SHARED_PREFIX[attention]))
    with torch.no_grad(), _in_eval_mode(model), quiet_transformers():
        expected = last_states(model, **padded)
        try:
            model.set_attn_implementation(attention)
            found = last_states(model, **shared)
        except (ValueError, RuntimeError, TypeError):
            found = torch.full_like(expected, torch.inf)
    tolerance = TOLERANCE if model.dtype == torch.float32 else TOLERANCE_HALF
    if not (found - expected).norm() <= tolerance * expected.norm():
        with quiet_transformers():
            model.set_attn_implementation(own)
    return get_layout(model)


def get_layout(model: PreTrainedModel) -> Layout:
    """The layout that `share_prefixes` has set the model up for."""
    return SHARED_PREFIX.get(str(model.config._attn_implementation), padded_batch)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on `device`."""
    return {name: tensor.to(device) for name, tensor in batch.items()}


@contextmanager
def _in_eval_mode(model: PreTrainedModel) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
