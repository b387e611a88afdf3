"""Optimizer and schedule: transformers' own, by name, with a rate of its own for the reward head."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from reward_model.common.errors import UserError, first_line
from reward_model.modeling.head import reward_head
from reward_model.params import TrainParams


def separate_head(
    optimizer: torch.optim.Optimizer, model: torch.nn.Module, params: TrainParams
) -> torch.optim.Optimizer:
    """Move the reward head into a group of its own, with `params.head_learning_rate`."""
    head = reward_head(model).weight
    for group in optimizer.param_groups:
        group["params"] = [parameter for parameter in group["params"] if parameter is not head]
    # With FSDP the head was alone in a group; saved states cannot be read into an empty one.
    optimizer.param_groups = [group for group in optimizer.param_groups if group["params"]]
    own = {"lr": params.head_learning_rate, "weight_decay": params.weight_decay}
    optimizer.add_param_group({"params": [head], **own})
    return optimizer


@contextmanager
def refuse_option(key: str, name: str) -> Iterator[None]:
    """Tell of what transformers cannot make, for want of a package or of settings that params.yaml does not have.

    Raises:
        UserError: names the key.
    """
    try:
        yield
    except (ImportError, ValueError, RuntimeError, TypeError) as error:
        raise UserError(f"{key}: {name} cannot be had: {first_line(error)}") from None
