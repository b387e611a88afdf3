"""From a margin to a probability, as it was fitted and saved with the model."""

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from reward_model.common.errors import UserError
from reward_model.common.files import read_json, write_json

CALIBRATION_FILE = "calibration.json"
UNSEEN_FILE = "unseen_pairs.parquet"  # in models/reward: training pairs, judged before their prompt was trained on


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
