"""Loggers that write to disk; a test is skipped where the logger's package is not installed."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from test_training import encoder_of, run, token_rows

DVC = [sys.executable, "-m", "dvc"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of a pipeline, as DVCLive would change it."""
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    for command in (
        ["git", "init", "-q"],
        [*DVC, "init", "-q"],
        ["git", "add", "-A"],
        ["git", *identity, "commit", "-qm", "start"],
    ):
        subprocess.run(command, check=True)
    return tmp_path


def train_with(logger: str, base: Path) -> list[dict[str, Any]]:
    rows = token_rows(encoder_of(base), 60)
    result, _ = run(base, rows[:40], rows[40:], report_to=[logger], eval_steps=0.5)
    return result.curve


def test_dvclive_logs_the_curve_and_changes_neither_pipeline_nor_experiments(tiny_base: Path, folder: Path) -> None:
    pytest.importorskip("dvclive", reason="needs: pip install dvclive")
    curve = train_with("dvclive", tiny_base)
    metrics = folder / "runs/dvclive/plots/metrics"
    logged = (metrics / "loss.tsv").read_text().splitlines()[1:]
    assert [float(line.split("\t")[1]) for line in logged] == pytest.approx([point["loss"] for point in curve])
    assert len((metrics / "eval/loss.tsv").read_text().splitlines()) > 1
    assert (folder / "dvc.yaml").read_text() == "stages: {}\n"
    changed = subprocess.run(["git", "status", "--porcelain"], check=True, capture_output=True, text=True).stdout
    assert {line.split()[-1] for line in changed.splitlines()} == {"runs/"}
    assert not subprocess.run([*DVC, "exp", "list"], check=True, capture_output=True, text=True).stdout.strip()


def test_tensorboard_gets_the_curve(tiny_base: Path, folder: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs: pip install tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # pyright: ignore[reportMissingImports]

    curve = train_with("tensorboard", tiny_base)
    [events] = (folder / "runs").rglob("events.out.tfevents.*")
    found = EventAccumulator(str(events)).Reload()
    assert [each.value for each in found.Scalars("train/loss")] == pytest.approx([point["loss"] for point in curve])
    assert len(found.Scalars("eval/loss")) > 0
