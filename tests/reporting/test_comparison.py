"""Runs side by side, read from a repository of git and DVC."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from conftest import DEFAULTS, ROOT, Project, write_rows
from report_fixtures import make_metrics
from reward_model.common.tables import write_parquet
from reward_model.data.pairs import Pair
from reward_model.reporting.comparison import Run, compare, find_changes
from reward_model.reporting.page import render_comparison
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
    assert "Of 10 changed verdicts 0 are shown" in page, "their texts are not here"


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
    [note] = sections[0].notes
    reason = "Which verdicts changed is not known: {} has no data/evaluation/heldout.parquet{}."
    assert note == reason.format("workspace", "")
    runs[0] = Run("workspace", METRICS.eval, METRICS.training_curve, {}, {"heldout": table(np.ones(60), id=IDS)})
    [note] = compare(runs)[1][0].notes
    assert note == reason.format("b", " in DVC's cache")
    assert sections[-1].lead == "The runs have the same params."


def test_other_pairs_are_not_compared() -> None:
    scored = [{"heldout": table(np.ones(60), id=[f"{name}{number}" for number in IDS])} for name in "ab"]
    runs = [Run(str(n), METRICS.eval, METRICS.training_curve, {}, each) for n, each in enumerate(scored)]
    section = compare(runs)[1][0]
    assert not section.tables
    assert section.notes == ["The verdicts are not compared: 1 was evaluated on other pairs."]


def test_pairs_whose_verdict_changed_are_shown_with_both_margins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pairs = [Pair(({"role": "user", "content": f"<b>Q{n}"},), f"chosen {n}", f"rejected {n}", "own") for n in range(60)]
    (tmp_path / "data/pairs").mkdir(parents=True)
    write_rows(tmp_path / "data/pairs/heldout.jsonl", [pair.to_record() for pair in pairs])
    ids = [pair.id for pair in pairs]
    first, small, large = [1.0] * 60, [1.0] * 58 + [-0.5, 0.0], [-2.0] * 55 + [1.0] * 5
    runs = [
        Run(name, METRICS.eval, METRICS.training_curve, {}, {"heldout": table(margins, id=ids)})
        for name, margins in (("workspace", first), ("small", small), ("large", large))
    ]
    changes = find_changes(runs)
    assert changes.count == 2 + 55
    [views] = changes.views
    assert [(view.id, view.other and view.other.name) for view in views[:2]] == [(ids[58], "small"), (ids[59], "small")]
    assert len(views) == 2 + 50
    page = render_comparison(runs, changes)
    assert "Of 57 changed verdicts 52 are shown" in page
    assert "ranked as labelled; by <bdi>small</bdi> -0.50: against the label." in page
    assert "ranked as labelled; by <bdi>small</bdi> +0.00: as a tie." in page
    assert page.count('data-run="large"') == 50 and "<b>" not in page
