"""A base's depth: what it computes after its first N layers, and a base cut to them.

A base cut to its first N layers is a standard model of its architecture whose final norm follows layer N.
"""

from collections.abc import Callable, Sequence
from typing import Literal, cast

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from reward_model.common.errors import UserError
from reward_model.modeling.batching import padded_batch
from reward_model.modeling.forward import PROBE, last_states, to_device

SHARES = (1 / 3, 1 / 2, 2 / 3, 5 / 6, 1)  # of the layers
FINAL_NORMS = ("norm", "final_layer_norm", "final_layernorm")  # what architectures with `layers` call it
PER_LAYER = ("layer_types", "mlp_layer_types", "no_rope_layers")  # lists in configs that have an entry a layer
TOLERANCE = 1e-2  # relative, of half precision


def candidate_depths(num_layers: int) -> list[int]:
    """A third, half, two thirds, five sixths and all of the layers, at least one."""
    return sorted({max(1, round(num_layers * share)) for share in SHARES})


def kept_depth(layers: int | float | Literal["auto"] | None, depths: Sequence[int]) -> int:
    """How many layers of the base `train.layers` keeps at most.

    Args:
        layers: a number, a share of all (the nearest of `depths` is meant), null for all, or auto.
        depths: of `available_depths`.
    """
    if layers is None or layers == "auto":
        return max(depths)
    if isinstance(layers, float):
        share_of_all = layers * max(depths)
        return min(depths, key=lambda depth: abs(depth - share_of_all))
    return layers


def cut_config(config: PreTrainedConfig, layers: int) -> None:
    """Have a config say that the model has its first `layers` layers only.

    Raises:
        UserError: the model has fewer, or its config does not count them.
    """
    text = config.get_text_config()
    available = getattr(text, "num_hidden_layers", None)
    if not isinstance(available, int):
        raise UserError(f"{text.model_type} models cannot be cut: set train.layers: null")
    if layers > available:
        raise UserError(f"train.layers: {layers} is more than the {available} layers of the base")
    text.num_hidden_layers = layers
    for name in PER_LAYER:
        of_layers = getattr(text, name, None)
        if isinstance(of_layers, list) and len(of_layers) == available:
            setattr(text, name, of_layers[:layers])


def available_depths(model: PreTrainedModel) -> list[int]:
    """The candidate depths whose states can be had: the last only, where `layers` and a final norm are not found."""
    num_layers = int(model.config.get_text_config().num_hidden_layers)
    if _layers(model) is None or _final_norm(model) is None:
        return [num_layers]
    batch = to_device(padded_batch(PROBE, 0), model.device)
    with torch.no_grad():
        found, expected = _with_inner_states(model, [num_layers], **batch)
    # What is taken for the final norm must make the model's output of the last layer's.
    is_so = num_layers in found and (found[num_layers] - expected).norm() <= TOLERANCE * expected.norm()
    return candidate_depths(num_layers) if is_so else [num_layers]


def states_at_depths(model: PreTrainedModel, depths: Sequence[int], **batch: torch.Tensor) -> torch.Tensor:
    """The states of the sequences' last tokens after each depth's layer and the final norm, (N, depths, size).

    Args:
        model: with all its layers.
        depths: of `available_depths`.
        batch: the fields of a batch of `batching`.
    """
    num_layers = int(model.config.get_text_config().num_hidden_layers)
    found, last = _with_inner_states(model, [depth for depth in depths if depth < num_layers], **batch)
    return torch.stack([found.get(depth, last) for depth in depths], dim=1)


def _with_inner_states(
    model: PreTrainedModel, depths: Sequence[int], **batch: torch.Tensor
) -> tuple[dict[int, torch.Tensor], torch.Tensor]:
    """The last tokens' normed states (N, size) by depth, and what the model itself gives."""
    layers, norm = _layers(model), _final_norm(model)
    if layers is None or norm is None:
        return {}, last_states(model, **batch)
    seen: dict[int, torch.Tensor] = {}
    hooks = [
        layers[depth - 1].register_forward_hook(_keep_states(seen, depth, batch["rows"], batch["ends"]))
        for depth in depths
    ]
    try:
        last = last_states(model, **batch)
    finally:
        for hook in hooks:
            hook.remove()
    return {depth: norm(states) for depth, states in seen.items()}, last


def _keep_states(
    seen: dict[int, torch.Tensor], depth: int, rows: torch.Tensor, ends: torch.Tensor
) -> Callable[..., None]:
    def hook(module: torch.nn.Module, inputs: object, output: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
        states = output[0] if isinstance(output, tuple) else output
        seen[depth] = states[rows, ends]

    return hook


def _layers(model: PreTrainedModel) -> torch.nn.ModuleList | None:
    layers = getattr(model.base_model, "layers", None)
    return layers if isinstance(layers, torch.nn.ModuleList) else None


def _final_norm(model: PreTrainedModel) -> torch.nn.Module | None:
    found = (getattr(model.base_model, name, None) for name in FINAL_NORMS)
    return cast(torch.nn.Module | None, next((norm for norm in found if isinstance(norm, torch.nn.Module)), None))
