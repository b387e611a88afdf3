"""Temperature and noise margin, fitted on pairs that the model gave margins before it was trained on their prompts."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import stdtrit

from reward_model.common.accuracy import pair_accuracy
from reward_model.data.pairs import TIE
from reward_model.evaluation.bootstrap import MIN_PROMPTS
from reward_model.evaluation.calibration import Calibration
from reward_model.evaluation.margins import FloatArray, column, compute_margins, read_labels

JUDGED = ("prompt_id", "preference", "margin")  # the columns of `UNSEEN_FILE`

# Where margins tell nothing, or everything, the best temperature is without bound.
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 100.0
MAX_RELIABLE = 10.0  # a higher one says that the margins tell next to nothing
MAX_CHECKS = 200  # sizes of margin at which `noise_margin` looks


def fit_calibration(validation: pd.DataFrame, unseen: pd.DataFrame) -> Calibration:
    """Fit the calibration on validation pairs; temperature and noise margin on unseen training pairs too.

    Args:
        validation: a row a pair with its prompt_id, the rewards of both sides, and its preference if it has one.
        unseen: training pairs, judged before any of their prompt was trained on: the columns `JUDGED`; may be empty.
    """
    margins = np.concatenate([compute_margins(validation), column(unseen, "margin")])
    labels = np.concatenate([read_labels(validation), read_labels(unseen)])
    prompts = np.array([*validation["prompt_id"], *unseen["prompt_id"]])
    rewards = np.concatenate([column(validation, "chosen_reward"), column(validation, "rejected_reward")])
    sided = labels != TIE
    return Calibration(
        temperature=fit_temperature(margins, labels),
        noise_margin=noise_margin(margins[sided], prompts[sided].tolist()),
        reward_mean=float(rewards.mean()),
        reward_std=float(rewards.std()),
        pairs=len(validation),
        training_pairs=len(unseen),
    )


def fit_temperature(margins: FloatArray, labels: FloatArray) -> float:
    """The temperature with the least log loss (Guo et al. 2017, arXiv:1706.04599), between 0.01 and 100.

    A label of 1 among n pairs counts as (n + 1) / (n + 2) (Platt 1999), so that a few pairs that are all judged rightly
    do not make the model certain.
    """
    smoothed = (labels * len(margins) + 1) / (len(margins) + 2)

    def loss(log_temperature: float) -> float:
        log_odds = margins / math.exp(log_temperature)
        return float((smoothed * np.logaddexp(0, -log_odds) + (1 - smoothed) * np.logaddexp(0, log_odds)).mean())

    best: Any = minimize_scalar(loss, bounds=(math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)), method="bounded")
    return math.exp(float(best.x))


def reliable_temperature(margins: FloatArray, labels: FloatArray, prompt_ids: Sequence[str]) -> float | None:
    """As `fit_temperature`; None for fewer than `MIN_PROMPTS` prompts, or where the margins tell next to nothing."""
    if len(set(prompt_ids)) < MIN_PROMPTS:
        return None
    temperature = fit_temperature(margins, labels)
    return temperature if temperature < MAX_RELIABLE else None


def noise_margin(margins: FloatArray, prompt_ids: Sequence[str]) -> float:
    """The largest m for which the pairs with |margin| <= m do not show the model to be better than chance.

    Shown means: they are of `MIN_PROMPTS` prompts or more, and 1/2 lies below the 95% interval (Student's t) of
    their accuracy, whose standard error is the larger of two: clustered by prompt, and Agresti & Coull's (1998), which
    is not zero when all are right.
    """
    order = np.argsort(np.abs(margins), kind="stable")
    sizes = np.abs(margins)[order]
    right = pair_accuracy(margins)[order]
    _, prompts = np.unique(np.array(prompt_ids), return_inverse=True)
    prompts = prompts[order]
    counts = np.unique(np.linspace(1, len(margins), min(MAX_CHECKS, len(margins))).astype(int))
    unsure = [int(count) for count in counts if not _better_than_chance(right[:count], prompts[:count])]
    return float(sizes[unsure[-1] - 1]) if unsure else 0.0


def _better_than_chance(right: FloatArray, prompts: NDArray[np.intp]) -> bool:
    count, clusters = len(right), len(np.unique(prompts))
    if clusters < MIN_PROMPTS:
        return False
    accuracy = (right.sum() + 2) / (count + 4)
    by_prompt = np.bincount(prompts, weights=right - right.mean())
    clustered = math.sqrt((by_prompt**2).sum() * clusters / (clusters - 1)) / count
    independent = math.sqrt(accuracy * (1 - accuracy) / (count + 4))
    return bool(accuracy - float(stdtrit(clusters - 1, 0.975)) * max(clustered, independent) > 0.5)
