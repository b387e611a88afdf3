"""The reward head: the linear layer that makes a reward of the last token's hidden state."""

from pathlib import Path
from typing import cast

import torch

from reward_model.contract.classifier import is_reward_model

HEAD = "score"  # what transformers calls the last layer of a sequence classifier


def reward_head(model: torch.nn.Module) -> torch.nn.Linear:
    """The layer that makes a reward of a hidden state."""
    return cast(torch.nn.Linear, model.get_submodule(HEAD))


def has_linear_head(model: torch.nn.Module) -> bool:
    """Whether the model has such a layer, as all of transformers' classifiers do that read the last token."""
    return isinstance(getattr(model, HEAD, None), torch.nn.Linear)


def read_rewards(model: torch.nn.Module, states: torch.Tensor) -> torch.Tensor:
    """The rewards (N,) of hidden states (N, size), always computed in float32."""
    with torch.autocast(states.device.type, enabled=False):
        # A copy, since FSDP does not want views.
        return reward_head(model)(states.float()).squeeze(-1).clone()


def keeps_head(base: Path, head_init: str) -> bool:
    """Whether training goes on from the head of `base`, and so from all layers of it: a reward model, and `auto`.

    Raises:
        UserError: `base` has no config that can be read.
    """
    return head_init == "auto" and is_reward_model(base)


def start_head(model: torch.nn.Module, weights: torch.Tensor | None = None) -> None:
    """Give the head its weights (size,) to start from; None: zero."""
    head = reward_head(model).weight.data
    if weights is None:
        head.zero_()
    else:
        head[0] = weights


@torch.no_grad()
def scale_head(model: torch.nn.Module | dict[str, torch.Tensor], factor: float) -> None:
    """Multiply all rewards by a factor, in place; of a model or of its weights by name."""
    weight = model[f"{HEAD}.weight"] if isinstance(model, dict) else reward_head(model).weight
    weight.mul_(factor)
