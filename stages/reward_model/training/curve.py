"""The training curves, which plots of DVC and of VS Code show while the training runs."""

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from reward_model.common.files import write_json

EVAL_KEYS = ("eval_loss", "eval_accuracy")


class CurveCallback(TrainerCallback):
    """Writes the curves to a file whenever they get a point; what reads it finds a whole file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write what was logged so far, before an interruption too."""
        if state.is_world_process_zero:
            # DVC complains of plots whose column is not there yet.
            write_json(self.path, [dict.fromkeys(EVAL_KEYS) | point for point in build_curve(state.log_history)])


def build_curve(log_history: list[dict[str, float]]) -> list[dict[str, Any]]:
    """The points of the training curves: per-pair means between two logs, and what the validation pairs gave there."""
    keys = ("step", "pairs", "loss", "accuracy", "margin", "grad_norm", "learning_rate", *EVAL_KEYS)
    points: dict[float, dict[str, float]] = {}
    for entry in log_history:
        if "learning_rate" in entry or "eval_loss" in entry:
            points.setdefault(entry["step"], {}).update(entry)
    # DVC draws nothing of rows with different keys.
    found = [key for key in keys if any(key in point for point in points.values())]
    return [{key: point.get(key) for key in found} for point in points.values()]
