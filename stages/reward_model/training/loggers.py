"""Loggers of a training (TensorBoard, Weights & Biases, …): transformers' own, by name."""

import os
from collections.abc import Sequence

from transformers import TrainerCallback
from transformers.integrations.integration_utils import DVCLiveCallback, get_available_reporting_integrations

from reward_model.common.errors import UserError

FOLDER = "runs"


def set_up_loggers(names: Sequence[str]) -> None:
    """Make sure that the loggers are there, and say where they write.

    Args:
        names: `train.report_to`, by which transformers starts them.

    Raises:
        UserError: the package of a logger is not installed.
    """
    missing = set(names) - set(get_available_reporting_integrations())
    if missing:
        raise UserError(
            f"train.report_to: not installed: {', '.join(sorted(missing))} (pip install it, or leave it out)"
        )
    if "tensorboard" in names:
        os.environ.setdefault("TENSORBOARD_LOGGING_DIR", FOLDER)  # else it writes beside the checkpoints, which go


def dvclive_callback(*, resumes: bool) -> TrainerCallback:
    """DVCLive without what it does by itself: dvc.yaml stays as it is, and `dvc exp` makes the experiments.

    Args:
        resumes: whether the training goes on with the steps that are logged already.
    """
    from dvclive.live import Live  # pyright: ignore[reportMissingImports]

    return DVCLiveCallback(Live(f"{FOLDER}/dvclive", resume=resumes, save_dvc_exp=False, dvcyaml=False))
