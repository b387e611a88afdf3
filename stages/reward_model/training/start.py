"""What training starts from: how much of the base, and with which reward head."""

from pathlib import Path
from typing import Literal

import torch
from transformers import PreTrainedModel

from reward_model.contract.encoder import Encoder
from reward_model.evaluation.probe import ProbeWeights
from reward_model.modeling.head import start_head
from reward_model.modeling.model import build_reward_model
from reward_model.params import TrainParams


def kept_layers(layers: int | float | Literal["auto"] | None, probe: ProbeWeights) -> int:
    """The number of layers that `train.layers` asks for: the features were computed up to there."""
    return probe.best if layers == "auto" else max(probe.by_depth)


def build_starting_model(base: Path, encoder: Encoder, params: TrainParams, probe: ProbeWeights) -> PreTrainedModel:
    """The base as `params.layers` and `params.head_init` want it, in float32 on the CPU.

    Fine-tuning from the probe of frozen features distorts them less than from a head that knows nothing yet
    (Kumar et al. 2022, arXiv:2202.10054).

    Raises:
        UserError: as `build_reward_model`.
    """
    depth = kept_layers(params.layers, probe)
    model = build_reward_model(base, encoder, params.seed, depth)
    if params.head_init == "probe":
        start_head(model, torch.tensor(probe.by_depth[depth], dtype=torch.float32))
    return model
