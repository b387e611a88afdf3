"""Runs side by side, read from a repository of git and DVC."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from conftest import DEFAULTS, ROOT, Project
from report_fixtures import make_metrics
from reward_model.common.tables import write_parquet
from reward_model.reporting.comparison import Run, compare
from test_metrics import table

METRICS = make_metrics(("heldout",))
IDS = [str(number) for number in range(60)]


def write_run(folder: Path, learning_rate: float, margins: list[float]) -> None:
    """The files of a run that a comparison reads."""
    (folder / "metrics").mkdir(exist_ok=True)
    (folder / "data/evaluation").mkdir(parents=True, exist_ok=True)
    params = {**DEFAULTS, "train": {**DEFAULTS["train"], "learning_rate": learning_rate}}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    (folder / "metrics/eval.json").write_text(json.dumps(METRICS.eval))
    (folder / "metrics/training_curve.json").write_text(json.dumps(METRICS.training_curve))
    write_parquet(folder / "data/evaluation/heldout.parquet", table(margins, id=IDS).to_dict("records"))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """With a committed run, and another one in the workspace that is right on ten more pairs."""
    folder = tmp_path_factory.mktemp("runs")

    def run(*command: str) -> None:
        subprocess.run(command, cwd=folder, check=True, capture_output=True)

    run("git", "init", "-q", "-b", "main")
    run(sys.executable, "-m", "dvc", "init", "-q")
    write_run(folder, 0.25, [1.0] * 30 + [-1.0] * 30)
    run(sys.executable, "-m", "dvc", "add", "-q", "data/evaluation")
    run("git", "add", ".")
    run("git", "-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qm", "a run")
    write_run(folder, 0.5, [1.0] * 40 + [-1.0] * 20)
    return Project(folder)


def test_a_commit_stands_beside_the_workspace(repository: Project) -> None:
    result = repository.run(str(ROOT / "stages/report.py"), "--compare", "main")
    assert result.returncode == 0, result.stderr
    page = (repository.folder / "data/comparison.html").read_text()
    assert "train.learning_rate</bdi></th><td>0.5</td><td>0.25</td>" in page
    assert "<bdi>main</bdi></th><td>-16.7% (" in page
    assert "</td><td>0</td><td>10</td></tr>" in page, "pairs that one run alone has right"


@pytest.mark.parametrize(
    ("revisions", "message"),
    [
        (["nothing"], "the results of nothing cannot be read: unknown Git revision 'nothing'"),
        (["main"] * 5, "at most 4 runs can be compared with the workspace, not 5"),
    ],
)
def test_what_cannot_be_compared_is_one_clear_error(repository: Project, revisions: list[str], message: str) -> None:
    result = repository.run(str(ROOT / "stages/report.py"), "--compare", *revisions)
    assert result.returncode == 1
    assert result.stderr == f"error: {message}\n"


def test_without_the_pairs_only_the_figures_are_compared() -> None:
    runs = [Run(name, METRICS.eval, METRICS.training_curve, {"a": 1}, {}) for name in ("workspace", "b")]
    sentence, sections = compare(runs)
    assert sentence.startswith("Of 2 runs, workspace has the lowest log loss")
    assert not any(section.tables for section in sections)
    assert sections[-1].lead == "The runs have the same params."


def test_other_pairs_are_not_compared() -> None:
    scored = [{"heldout": table(np.ones(60), id=[f"{name}{number}" for number in IDS])} for name in "ab"]
    runs = [Run(str(n), METRICS.eval, METRICS.training_curve, {}, each) for n, each in enumerate(scored)]
    assert not compare(runs)[1][0].tables
