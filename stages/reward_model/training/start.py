"""What training starts from: how much of the base, and with which reward head."""

from pathlib import Path
from typing import Literal

import torch
from transformers import PreTrainedModel

from reward_model.common.errors import UserError
from reward_model.contract.encoder import Encoder
from reward_model.evaluation.probe import ProbeWeights
from reward_model.modeling.head import start_head
from reward_model.modeling.model import build_reward_model
from reward_model.params import TrainParams


def kept_layers(layers: int | float | Literal["auto"] | None, probe: ProbeWeights) -> int | None:
    """The number of layers that `train.layers` asks for; None: all."""
    if layers == "auto":
        return probe.best
    if isinstance(layers, float):
        share_of_all = layers * max(probe.by_depth)  # the probes' deepest is of all layers
        return min(probe.by_depth, key=lambda depth: abs(depth - share_of_all))
    return layers


def build_starting_model(base: Path, encoder: Encoder, params: TrainParams, probe: ProbeWeights) -> PreTrainedModel:
    """The base as `params.layers` and `params.head_init` want it, in float32 on the CPU.

    Fine-tuning from the probe of frozen features distorts them less than from a head that knows nothing yet
    (Kumar et al. 2022, arXiv:2202.10054).

    Raises:
        UserError: as `build_reward_model`; or there is no probe at that depth.
    """
    model = build_reward_model(base, encoder, params.seed, kept_layers(params.layers, probe))
    depth = int(model.config.get_text_config().num_hidden_layers)
    if params.head_init == "probe":
        if depth not in probe.by_depth:
            depths = ", ".join(map(str, sorted(probe.by_depth)))
            raise UserError(
                f"train.layers: {depth} has no probe, which train.head_init wants; {depths} have one: take one of "
                "them, or set train.head_init: zero"
            )
        start_head(model, torch.tensor(probe.by_depth[depth], dtype=torch.float32))
    return model
