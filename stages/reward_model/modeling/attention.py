"""Attention over batches with shared prefixes.

Packed batches: one call for a group's prefix and first rest, one per other rest. Nothing is computed for padding,
across groups, or between two responses to one prompt. Masked batches: one call, whose mask hides what no token may
see.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

PACKED = "packed_groups"
MASKED = "masked_groups"


@dataclass(frozen=True)
class Span:
    """One group of a packed row.

    Attributes:
        prefix: tokens that all its sequences share.
        masks: of each part that attends, 0 where the query may see the key, else minus infinity: (first, first), and
            for each further rest of R tokens (R, prefix + R).
    """

    prefix: int
    masks: list[torch.Tensor]


def build_spans(
    prefix_lengths: torch.Tensor, rest_lengths: torch.Tensor, group_sizes: torch.Tensor, device: torch.device
) -> list[Span]:
    """The groups of a packed batch; the arguments are its fields of the same names."""
    rests = iter(rest_lengths.tolist())
    spans = []
    for prefix, size in zip(prefix_lengths.tolist(), group_sizes.tolist(), strict=True):
        own = [next(rests) for _ in range(size)]
        first = prefix + own[0]
        shapes = [(first, first), *((rest, prefix + rest) for rest in own[1:])]
        spans.append(Span(prefix, [_causal_mask(rows, keys, device) for rows, keys in shapes]))
    return spans


def _causal_mask(rows: int, keys: int, device: torch.device) -> torch.Tensor:
    """(rows, keys): the last query sees every key. In bfloat16, which has both numbers exactly."""
    return torch.full((rows, keys), -torch.inf, dtype=torch.bfloat16, device=device).triu(keys - rows + 1)


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
        ValueError: the layer attends in a way of its own (a sliding window, sinks), which the spans would ignore.
    """
    if spans is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    _refuse_other_attention(options)
    sizes = [len(mask) for span in spans for mask in span.masks]
    pieces = zip(*(states.split(sizes, dim=2) for states in (query, key, value)), strict=True)
    outputs = []
    for span in spans:
        queries, keys, values = next(pieces)
        outputs.append(_attend(module, queries, keys, values, span.masks[0], options | {"is_causal": True}))
        prefix_keys, prefix_values = keys[:, :, : span.prefix], values[:, :, : span.prefix]
        for mask in span.masks[1:]:
            queries, keys, values = next(pieces)
            keys, values = torch.cat([prefix_keys, keys], dim=2), torch.cat([prefix_values, values], dim=2)
            outputs.append(_attend(module, queries, keys, values, mask, options | {"is_causal": False}))
    return torch.cat(outputs, dim=1), None


def masked_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Transformers' SDPA attention, for layers to which the mask of `batching.masked_batch` says all.

    Raises:
        ValueError: the layer attends in a way of its own (a sliding window, sinks), which the mask does not know.
    """
    _refuse_other_attention(options)
    return sdpa_attention_forward(module, query, key, value, attention_mask, **options)


def _refuse_other_attention(options: dict[str, Any]) -> None:
    if any(options.get(name) is not None for name in ("sliding_window", "s_aux", "softcap", "position_bias")):
        raise ValueError("sliding windows, sinks, capped scores and biases do not go with shared prefixes")


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    options: dict[str, Any],
) -> torch.Tensor:
    if _is_bfloat16_on_cpu(query) and not options.get("dropout"):
        size = query.shape[-1]
        scale = options.get("scaling") or size**-0.5
        output = MatrixAttention.apply(*(states.bfloat16() for states in (query, key, value)), mask, scale)
        return cast(torch.Tensor, output).transpose(1, 2)
    bias = None if options["is_causal"] else mask[None, None].to(query.dtype)
    return sdpa_attention_forward(module, query, key, value, bias, **options)[0]


def _is_bfloat16_on_cpu(states: torch.Tensor) -> bool:
    return states.device.type == "cpu" and compute_dtype(states.device, states.dtype) == torch.bfloat16


def compute_dtype(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """The precision of products there: autocast's where it is on, else that of what is multiplied."""
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else dtype


class MatrixAttention(torch.autograd.Function):
    """Attention as two matrix products, for one sequence: softmax(Q K' / sqrt(size)) V.

    In bfloat16 on a CPU it takes less than two thirds of the time of torch's own, whose backward does not use the fast
    products. Like that one it keeps no matrix of queries by keys, but computes it again (arXiv:2205.14135, appendix B).
    """

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """Attend.

        Args:
            ctx: autograd's.
            query: (1, heads, T, size).
            key: (1, key heads, S, size); a number of query heads that stand together share one.
            value: as key.
            mask: (T, S), added to the products: 0 where the query may see the key, else minus infinity.
            scale: of the products, usually 1 / sqrt(size).

        Returns:
            (1, heads, T, size).
        """
        rows = _stacked(query, key) * scale
        ctx.save_for_backward(rows, key, value, mask)
        ctx.scale = scale
        return torch.bmm(_weights(rows, key[0], mask), value[0]).view_as(query)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradients of query, key and value."""
        rows, key, value, mask = ctx.saved_tensors
        of_output = _stacked(gradients[0], key)
        weights = _weights(rows, key[0], mask)
        of_value = torch.bmm(weights.transpose(1, 2), of_output)
        of_weights = torch.bmm(of_output, value[0].transpose(1, 2))
        of_scores = torch.ops.aten._softmax_backward_data(of_weights, weights, -1, weights.dtype)
        of_query = torch.bmm(of_scores, key[0]).mul_(ctx.scale).view_as(gradients[0])
        of_key = torch.bmm(of_scores.transpose(1, 2), rows)
        return of_query, of_key[None], of_value[None], None, None


def _stacked(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """The queries of all heads that share a key head below each other: (key heads, heads per key * T, size)."""
    return query.reshape(key.shape[1], -1, query.shape[-1])


def _weights(rows: torch.Tensor, key: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The weights (key heads, heads per key * T, S) that the queries give the keys; torch sums them up in float32."""
    scores = torch.bmm(rows, key.transpose(1, 2))
    scores.view(len(rows), -1, *mask.shape).add_(mask)
    return scores.softmax(-1)


# Once registered, transformers takes them by name; ordinary calls get the masks that SDPA gets.
for name, attention in ((PACKED, packed_attention), (MASKED, masked_attention)):
    AttentionInterface.register(name, attention)
    AttentionMaskInterface.register(name, sdpa_mask)
