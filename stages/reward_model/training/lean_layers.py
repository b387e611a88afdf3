"""Layers that keep less for the backward pass: most of a training step's memory is what layers keep.

They compute the same functions as transformers' own, and compute again in the backward pass what is cheap.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F

from reward_model.modeling.attention import compute_dtype

Forward = Callable[..., Any]


@contextmanager
def lean_layers(model: torch.nn.Module) -> Iterator[list[torch.nn.Module]]:
    """Have the model's RMS norms and SwiGLU layers keep less while the context lasts; yields the layers that do.

    A layer that gives other outputs then, because it computes something else than its looks promise, stays as it is.
    Under autocast, positions are encoded in its precision too, as by a model whose weights have that precision.
    """
    changed = [(layer, lean) for layer in model.modules() if (lean := _lean_forward(layer)) and _agree(layer, lean)]
    changed += [
        (layer, partial(_rotary, layer))
        for layer in model.modules()
        if type(layer).__name__.endswith("RotaryEmbedding")
    ]
    for layer, lean in changed:
        layer.forward = lean
    try:
        yield [layer for layer, _ in changed]
    finally:
        for layer, _ in changed:
            del layer.forward


def _lean_forward(layer: torch.nn.Module) -> Forward | None:
    if type(layer).__name__.endswith("RMSNorm") and hasattr(layer, "variance_epsilon"):
        return partial(_rms_norm, layer)
    projections = [getattr(layer, name, None) for name in ("gate_proj", "up_proj", "down_proj")]
    is_swiglu = all(type(projection) is torch.nn.Linear for projection in projections)
    if is_swiglu and "down_proj.bias" not in dict(layer.named_parameters()):
        return partial(_swiglu, layer)
    return None


def _agree(layer: torch.nn.Module, lean: Forward) -> bool:
    weight = next(layer.parameters())
    states = torch.linspace(-2, 2, 2 * weight.shape[-1], device=weight.device, dtype=weight.dtype).view(1, 2, -1)
    with torch.no_grad(), torch.autocast(weight.device.type, enabled=False):
        try:
            expected = layer(states)
        except TypeError:  # it wants more than the hidden states
            return False
        return torch.allclose(lean(states), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def _rms_norm(layer: Any, states: torch.Tensor) -> torch.Tensor:
    dtype = compute_dtype(states.device, states.dtype)
    return cast(torch.Tensor, RMSNorm.apply(states, layer.weight, layer.variance_epsilon, dtype))


def _swiglu(layer: Any, states: torch.Tensor) -> torch.Tensor:
    return cast(torch.Tensor, SwiGLUDown.apply(layer.gate_proj(states), layer.up_proj(states), layer.down_proj.weight))


def _rotary(layer: Any, *arguments: Any, **options: Any) -> Any:
    """The sines and cosines by which transformers turns queries and keys; some models have complex ones instead."""
    tables = type(layer).forward(layer, *arguments, **options)
    if not isinstance(tables, tuple):
        return tables
    return tuple(table.to(compute_dtype(table.device, table.dtype)) for table in tables)


class RMSNorm(torch.autograd.Function):
    """Root mean square normalisation (arXiv:1910.07467, eq. 4), in float32; keeps its input and one number a token."""

    @staticmethod
    def forward(
        ctx: Any, states: torch.Tensor, weight: torch.Tensor, epsilon: float, dtype: torch.dtype
    ) -> torch.Tensor:
        """Normalise states (..., size) by their root mean square, times weight (size,); the result is of `dtype`."""
        exact = _exact(states)
        scale = exact.square().mean(-1, keepdim=True).add_(epsilon).rsqrt_()
        ctx.save_for_backward(states, weight, scale)
        return (exact * scale).mul_(weight).to(dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradients of states and weight."""
        states, weight, scale = ctx.saved_tensors
        normed, of_output = _exact(states) * scale, _exact(gradients[0])
        of_weight = None
        if ctx.needs_input_grad[1]:
            of_weight = (of_output * normed).flatten(0, -2).sum(0).to(weight.dtype)
        of_normed = of_output * weight
        # A change of the states along themselves is divided out again.
        mean = torch.linalg.vecdot(of_normed, normed).div_(states.shape[-1]).unsqueeze(-1)
        of_states = of_normed.sub_(normed.mul_(mean)).mul_(scale)
        return of_states.to(states.dtype), of_weight, None, None


class SwiGLUDown(torch.autograd.Function):
    """The end of a SwiGLU layer (arXiv:2002.05202, eq. 6), (silu(gate) * up) W'; it keeps gate and up alone."""

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Gate and up are (..., inner), weight is (size, inner); returns (..., size), in gate's dtype."""
        ctx.save_for_backward(gate, up, weight)
        return F.silu(gate).mul_(up) @ weight.to(gate.dtype).T

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradients of gate, up and weight."""
        gate, up, weight = ctx.saved_tensors
        of_output = gradients[0]
        activated = F.silu(gate)
        of_weight = None
        if ctx.needs_input_grad[2]:
            of_weight = (of_output.flatten(0, -2).T @ (activated * up).flatten(0, -2)).to(weight.dtype)
        of_product = of_output @ weight.to(gate.dtype)
        of_up = activated.mul_(of_product)
        of_gate = torch.ops.aten.silu_backward(of_product.mul_(up), gate)
        return of_gate, of_up, of_weight


def _exact(states: torch.Tensor) -> torch.Tensor:
    return states.to(torch.promote_types(states.dtype, torch.float32))
