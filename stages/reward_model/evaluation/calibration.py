"""From a margin to a probability, fitted on pairs not trained on before and saved with the model."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_model.common.accuracy import pair_accuracy
from reward_model.common.errors import UserError
from reward_model.common.files import read_json, write_json
from reward_model.data.pairs import TIE

CALIBRATION_FILE = "calibration.json"
UNSEEN_FILE = "unseen_pairs.parquet"  # in models/reward: training pairs, judged before their prompt was trained on
JUDGED = ("prompt_id", "preference", "margin")  # its columns

FloatArray = NDArray[np.float64]

MIN_TEMPERATURE, MAX_TEMPERATURE = (
    0.01,
    100.0,
)  # where margins tell nothing, or everything, the best temperature is without bound
MAX_RELIABLE = 10.0  # a higher one says that the margins tell next to nothing
MAX_CHECKS = 200  # sizes of margin at which `noise_margin` looks
MIN_PROMPTS = 10  # below, an interval would cover the truth far less often than it says


@dataclass(frozen=True)
class Calibration:
    """What rewards, and margins between them, are worth.

    Attributes:
        temperature: the probability that the response ahead is the preferred one is sigmoid(margin / temperature).
        noise_margin: up to this margin, the model was not shown to be better than chance on pairs new to it.
        reward_mean, reward_std: of the validation pairs' responses, for users that want rewards around zero.
        pairs: validation pairs behind the figures; 0: nothing was fitted.
        training_pairs: those behind temperature and noise margin besides, judged before any of their prompt was trained
            on.
    """

    temperature: float = 1.0
    noise_margin: float = 0.0
    reward_mean: float = 0.0
    reward_std: float = 1.0
    pairs: int = 0
    training_pairs: int = 0

    def probability(self, margin: float) -> float:
        """The probability that the response with the reward higher by `margin` is the preferred one."""
        return 0.5 + 0.5 * math.tanh(margin / self.temperature / 2)

    def z_score(self, reward: float) -> float:
        """The reward in standard deviations above the mean of the validation pairs' responses."""
        return (reward - self.reward_mean) / self.reward_std

    def of_z_scores(self) -> "Calibration":
        """What z-scores, and margins between them, are worth."""
        deviation = self.reward_std
        scaled = {"temperature": self.temperature / deviation, "noise_margin": self.noise_margin / deviation}
        return replace(self, **scaled, reward_mean=0.0, reward_std=1.0)

    @classmethod
    def load(cls, folder: Path) -> "Calibration":
        """What `save` wrote; for a model that nothing was fitted for, temperature 1.

        Raises:
            UserError: the file holds something else.
        """
        path = folder / CALIBRATION_FILE
        if not path.exists():
            return cls()
        try:
            return cls(**read_json(path))
        except TypeError:
            raise UserError(f"{path} is damaged: run `dvc repro`") from None

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        write_json(path, asdict(self))


@dataclass(frozen=True)
class JudgedPairs:
    """Pairs that a model gave margins before it was trained on any of their prompt.

    Attributes:
        margins: shape (pairs,).
        labels: the probability that chosen is better, shape (pairs,).
        prompt_ids: of each pair; pairs of one prompt are not independent.
    """

    margins: FloatArray = field(default_factory=lambda: np.empty(0))
    labels: FloatArray = field(default_factory=lambda: np.empty(0))
    prompt_ids: Sequence[str] = ()


def fit_calibration(
    chosen: FloatArray,
    rejected: FloatArray,
    prompt_ids: Sequence[str],
    labels: FloatArray,
    unseen: JudgedPairs | None = None,
) -> Calibration:
    """Fit the calibration on validation pairs; temperature and noise margin on unseen training pairs too.

    Args:
        chosen: rewards of the chosen responses, shape (pairs,).
        rejected: rewards of the rejected ones.
        prompt_ids: the pairs' prompts.
        labels: the probability that chosen is better, shape (pairs,).
        unseen: the training pairs.
    """
    unseen = unseen or JudgedPairs()
    rewards = np.concatenate([chosen, rejected])
    margins, labels = np.concatenate([chosen - rejected, unseen.margins]), np.concatenate([labels, unseen.labels])
    prompts = np.array([*prompt_ids, *unseen.prompt_ids])
    sided = labels != TIE
    return Calibration(
        temperature=fit_temperature(margins, labels),
        noise_margin=noise_margin(margins[sided], prompts[sided].tolist()),
        reward_mean=float(rewards.mean()),
        reward_std=float(rewards.std()),
        pairs=len(chosen),
        training_pairs=len(unseen.margins),
    )


def fit_temperature(margins: FloatArray, labels: FloatArray) -> float:
    """The temperature with the least log loss (Guo et al. 2017, arXiv:1706.04599), between 0.01 and 100.

    A label of 1 among n pairs counts as (n + 1) / (n + 2) (Platt 1999), so that a few pairs that are all judged rightly
    do not make the model certain.
    """
    from scipy.optimize import minimize_scalar  # slow to import, and scoring does not fit

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
    from scipy.special import stdtrit  # the quantile of Student's t

    count, clusters = len(right), len(np.unique(prompts))
    if clusters < MIN_PROMPTS:
        return False
    accuracy = (right.sum() + 2) / (count + 4)
    by_prompt = np.bincount(prompts, weights=right - right.mean())
    clustered = math.sqrt((by_prompt**2).sum() * clusters / (clusters - 1)) / count
    independent = math.sqrt(accuracy * (1 - accuracy) / (count + 4))
    return bool(accuracy - float(stdtrit(clusters - 1, 0.975)) * max(clustered, independent) > 0.5)
