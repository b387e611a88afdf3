"""The line that a training shows."""

import json
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest
import torch
from transformers import TrainerControl, TrainerState, TrainingArguments

from reward_model.training.callbacks import ProgressBar, memory_in_use
from reward_model.training.curve import CurveCallback


def test_the_line_has_losses_speed_time_left_and_memory_in_80_columns() -> None:
    trainer = SimpleNamespace(
        totals=SimpleNamespace(pairs=0),
        recent=deque([0.5, 0.25]),
        args=SimpleNamespace(device=torch.device("cpu")),
        is_world_process_zero=lambda: True,
    )
    progress = ProgressBar(cast(Any, trainer), 2927)
    arguments = (cast(TrainingArguments, None), TrainerState(), TrainerControl())
    progress.on_evaluate(*arguments, metrics={"eval_loss": 0.433, "eval_accuracy": 0.7})
    progress.bar.start_t -= 60  # a minute ago
    trainer.totals.pairs = 300
    progress.on_step_end(*arguments)
    progress.bar.ncols = 80
    line = str(progress.bar)
    progress.bar.close()
    assert line.startswith("train 300/2927 [01:00<08:4")
    assert "pair/s, loss 0.375, validation 0.433, " in line
    assert line.endswith(" GB]")


def test_the_curve_is_there_from_its_first_point_on(tmp_path: Path) -> None:
    curve = CurveCallback(tmp_path / "curve.json")
    arguments = cast(TrainingArguments, None)
    entry = {"step": 1, "pairs": 8, "loss": 0.7, "learning_rate": 1e-4}
    curve.on_log(arguments, TrainerState(log_history=[entry], is_world_process_zero=False), TrainerControl())
    assert not curve.path.exists(), "one process writes"
    curve.on_log(arguments, TrainerState(log_history=[entry]), TrainerControl())
    assert json.loads(curve.path.read_text()) == [{**entry, "eval_loss": None, "eval_accuracy": None}]
    evaluated = {"step": 1, "eval_loss": 0.6, "eval_accuracy": 0.75}
    curve.on_log(arguments, TrainerState(log_history=[entry, evaluated]), TrainerControl())
    assert json.loads(curve.path.read_text()) == [entry | evaluated]


def test_on_the_cpu_memory_is_that_of_the_process() -> None:
    assert memory_in_use(torch.device("cpu")) == pytest.approx(psutil.Process().memory_info().rss, rel=0.1)
