"""Layers that are not trained: the lowest ones and all before them, so that the backward pass stops above them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel

from reward_model.common.errors import UserError


@contextmanager
def freeze_layers(model: PreTrainedModel, wanted: int | float) -> Iterator[int]:
    """Have the lowest layers and the embeddings get no gradient while the context lasts; yields how many layers.

    Args:
        model: the reward model.
        wanted: a number of layers, or a share of them below 1, rounded down. 0 leaves the embeddings as they are, too.

    Raises:
        UserError: the model has fewer layers.
    """
    layers = _layers(model)
    count = int(wanted * len(layers)) if isinstance(wanted, float) else wanted
    if count > len(layers):
        raise UserError(
            f"train.freeze_layers is {count}, but the number of layers kept (train.layers) is {len(layers)}"
        )
    own = [weight for layer in layers[:count] for weight in layer.parameters()]
    frozen = [*_weights_before(model, layers[0]), *own] if count else []
    parameters = [weight for weight in frozen if weight.requires_grad]
    for weight in parameters:
        weight.requires_grad_(False)
    try:
        yield count
    finally:
        for weight in parameters:
            weight.requires_grad_(True)


def _weights_before(model: PreTrainedModel, layer: torch.nn.Module) -> list[torch.nn.Parameter]:
    """The weights of what computes before a layer: embeddings, also of positions, their norms and projections."""
    called: list[torch.nn.Module] = []
    hooks = [module.register_forward_pre_hook(lambda module, _: called.append(module)) for module in model.modules()]
    try:
        with torch.no_grad():
            model.base_model(input_ids=torch.zeros(1, 1, dtype=torch.long), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    before = called[: called.index(layer)]
    return [weight for module in before for weight in module.parameters(recurse=False)]


def _layers(model: PreTrainedModel) -> list[torch.nn.Module]:
    """The model's layers, the lowest first."""
    count = model.config.get_text_config().num_hidden_layers
    lists = (module for module in model.modules() if isinstance(module, torch.nn.ModuleList) and len(module) == count)
    return list(next(lists, []))
