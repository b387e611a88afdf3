"""What training starts from: how much of the base, and with which reward head."""

from pathlib import Path

import torch
from transformers import PreTrainedModel

from reward_model.contract.encoder import Encoder
from reward_model.evaluation.probe import ProbeWeights
from reward_model.modeling.head import keeps_head, start_head
from reward_model.modeling.model import build_reward_model
from reward_model.params import TrainParams
from reward_model.training.callbacks import say
from reward_model.training.distributed import is_main_process


def kept_layers(base: Path, params: TrainParams, probe: ProbeWeights) -> int:
    """The number of layers that the params ask for: the features were computed up to there."""
    chosen_by_probe = params.layers == "auto" and not keeps_head(base, params.head_init)
    return probe.best if chosen_by_probe else max(probe.by_depth)


def build_starting_model(base: Path, encoder: Encoder, params: TrainParams, probe: ProbeWeights) -> PreTrainedModel:
    """The base as `params.layers` and `params.head_init` want it, in float32 on the CPU.

    A reward model keeps its head, which a line says. Fine-tuning from the probe of frozen features distorts them less
    than from a head that knows nothing yet (Kumar et al. 2022, arXiv:2202.10054).

    Raises:
        UserError: as `build_reward_model`.
    """
    depth = kept_layers(base, params, probe)
    model = build_reward_model(base, encoder, params.seed, depth)
    if keeps_head(base, params.head_init):
        if is_main_process():
            say(
                f"goes on from the reward model in {base}, with its head and all of its {depth} layers "
                "(train.head_init: probe gives it another head)"
            )
        return model
    zero = params.head_init == "zero"
    start_head(model, None if zero else torch.tensor(probe.by_depth[depth], dtype=torch.float32))
    return model
