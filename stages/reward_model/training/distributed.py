"""Several processes: FSDP, and which of them writes."""

import os
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from transformers import PreTrainedModel

from reward_model.common.errors import UserError
from reward_model.modeling.device_check import Compute
from reward_model.modeling.devices import fsdp_enabled, world_size
from reward_model.modeling.head import reward_head
from reward_model.modeling.processes import rank

if TYPE_CHECKING:
    from reward_model.training.trainer import PairTrainer

# What accelerate's launcher must be set to for FSDP: its default, and what is wanted. Weights are read whole by
# every process, which checks the model before it is sharded.
FSDP_SETTINGS = {
    "FSDP_VERSION": ("1", "2"),
    "FSDP_AUTO_WRAP_POLICY": ("NO_WRAP", "TRANSFORMER_BASED_WRAP"),
    "FSDP_CPU_RAM_EFFICIENT_LOADING": ("false", "false"),
    "FSDP_STATE_DICT_TYPE": ("SHARDED_STATE_DICT", "SHARDED_STATE_DICT"),
    "FSDP_OFFLOAD_PARAMS": ("false", "false"),
    "FSDP_ACTIVATION_CHECKPOINTING": ("false", "false"),
}


def is_main_process() -> bool:
    """Whether this is the one process of a launch that writes the outputs."""
    return rank() == 0


def require_known_sharding() -> None:
    """Refuse what has not been tested with FSDP, if that is on.

    Raises:
        UserError: a single process, or another configuration of accelerate than the README's.
    """
    if not fsdp_enabled():
        return
    if world_size() == 1:
        raise UserError("FSDP needs several processes: launch without it, or with num_processes: 2 or more")
    for variable, (default, wanted) in FSDP_SETTINGS.items():
        if os.environ.get(variable, default).upper() != wanted.upper():
            raise UserError(
                f"FSDP needs {variable.lower()}: {wanted} in accelerate's configuration (stages/README.md has one)"
            )


def setup_fsdp(model: PreTrainedModel, trainer: "PairTrainer", compute: Compute) -> None:
    """Prepare the model for FSDP: accelerate shards it when training starts.

    Raises:
        UserError: accelerate will not do it, as on CPUs.
    """
    if not trainer.accelerator.is_fsdp2:
        raise UserError(f"accelerate has no FSDP for {compute.device.type}: launch without it")
    if compute.dtype == torch.bfloat16:
        # accelerate's own policy would also round the rewards, and the gradients' sums, to bfloat16.
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        cast(Any, trainer.accelerator.state.fsdp_plugin).mixed_precision_policy = policy
    # In a unit of its own, which keeps it in float32.
    fully_shard(reward_head(model))


def full_state_dict(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The weights of a model that is sharded over the processes: on the main process, for others nothing."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights = cast(dict[str, torch.Tensor], get_model_state_dict(model, options=options))
    # What was gathered on CPUs has no storage of its own until it is copied.
    return {name: weights.pop(name).clone() for name in list(weights)}


def unshard(model: PreTrainedModel, weights: dict[str, torch.Tensor]) -> None:
    """Give a model that holds shares of its weights all of them, as `full_state_dict` has them; it computes no more."""
    for name in dict(model.named_parameters()):
        module, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(module), attribute, torch.nn.Parameter(weights[name]))
