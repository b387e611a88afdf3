"""Loggers of a training (TensorBoard, Weights & Biases, …): transformers' own, by name."""

import os
from collections.abc import Sequence

from transformers.integrations.integration_utils import get_available_reporting_integrations

from reward_model.common.errors import UserError


def set_up_loggers(names: Sequence[str]) -> None:
    """Make sure that the loggers are there, and say where they write.

    Args:
        names: `train.report_to`, by which transformers starts them.

    Raises:
        UserError: the package of a logger is not installed, or it would change the pipeline.
    """
    if "dvclive" in names:
        raise UserError("train.report_to: dvclive would rewrite dvc.yaml; `dvc plots show` has the training's curves")
    missing = set(names) - set(get_available_reporting_integrations())
    if missing:
        raise UserError(
            f"train.report_to: not installed: {', '.join(sorted(missing))} (pip install it, or leave it out)"
        )
    if "tensorboard" in names:
        os.environ.setdefault("TENSORBOARD_LOGGING_DIR", "runs")  # else it writes beside the checkpoints, which go
