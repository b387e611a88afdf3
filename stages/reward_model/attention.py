"""Attention over packed batches, in plain SDPA calls: one for a group's prefix and first rest, one per other rest.

Nothing is computed for padding, across groups, or between two responses to one prompt.
"""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

PACKED = "packed_groups"


@dataclass(frozen=True)
class Span:
    """One group of a packed row.

    Attributes:
        prefix: tokens that all its sequences share.
        first: tokens of the prefix and the first rest.
        masks: for each further rest of R tokens, (R, prefix + R), true where the query may see the key.
    """

    prefix: int
    first: int
    masks: list[torch.Tensor]


def spans_of(
    prefix_lengths: torch.Tensor, rest_lengths: torch.Tensor, group_sizes: torch.Tensor, device: torch.device
) -> list[Span]:
    """The groups of a packed batch; the arguments are its fields of the same names."""
    rests = iter(rest_lengths.tolist())
    spans = []
    for prefix, size in zip(prefix_lengths.tolist(), group_sizes.tolist(), strict=True):
        own = [next(rests) for _ in range(size)]
        masks = [torch.ones(rest, prefix + rest, dtype=torch.bool, device=device).tril(prefix) for rest in own[1:]]
        spans.append(Span(prefix, prefix + own[0], masks))
    return spans


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    spans: list[Span] | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Transformers' SDPA attention, group by group where `spans` are given, else as it is.

    Args:
        module: the attention layer.
        query: (1, heads, T, size); key and value may have fewer heads.
        key: as query.
        value: as query.
        attention_mask: for calls without spans.
        spans: the groups of the row, T tokens in all.
        options: what transformers passes to every attention function.

    Returns:
        (1, T, heads, size), and no attention weights.

    Raises:
        ValueError: the layer attends through a sliding window or sinks, which the spans would ignore.
    """
    if spans is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    if options.get("sliding_window") is not None or options.get("s_aux") is not None:
        raise ValueError("sliding windows and attention sinks do not go with packed groups")
    sizes = [size for span in spans for size in (span.first, *(len(mask) for mask in span.masks))]
    pieces = zip(*(states.split(sizes, dim=2) for states in (query, key, value)), strict=True)
    outputs = []
    for span in spans:
        queries, keys, values = next(pieces)
        outputs.append(_attend(module, queries, keys, values, None, options | {"is_causal": True}))
        prefix_keys, prefix_values = keys[:, :, : span.prefix], values[:, :, : span.prefix]
        for mask in span.masks:
            queries, keys, values = next(pieces)
            keys, values = torch.cat([prefix_keys, keys], dim=2), torch.cat([prefix_values, values], dim=2)
            outputs.append(_attend(module, queries, keys, values, mask, options | {"is_causal": False}))
    return torch.cat(outputs, dim=1), None


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    options: dict[str, Any],
) -> torch.Tensor:
    bias = None if mask is None else mask[None, None]
    return sdpa_attention_forward(module, query, key, value, bias, **options)[0]


# Once registered, transformers takes it by name; calls without spans get the masks that SDPA gets.
AttentionInterface.register(PACKED, packed_attention)
AttentionMaskInterface.register(PACKED, sdpa_mask)
