"""The results of an evaluation as a table and as a picture in the docs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT
from reward_model.evaluation.accuracy_chart import MODEL, accuracy_chart
from reward_model.evaluation.report import NAMES, results_table
from test_metrics import figures, random_lengths, table

EVAL = {"heldout": figures(table([1.0, -1.0, 2.0] * 10, **random_lengths(30))), "few": figures(table([1.0, -1.0]))}
DOC = "# Results\n\n<!-- results -->\nold\n<!-- /results -->\n\nMore.\n"


def run_results(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "metrics").mkdir(exist_ok=True)
    (folder / "metrics/eval.json").write_text(json.dumps(EVAL))
    command = [sys.executable, str(ROOT / "stages/results.py"), *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_chart_has_a_row_for_the_model_and_each_rule_of_every_set() -> None:
    rows = accuracy_chart(EVAL)["data"]["values"]
    assert [row["who"] for row in rows] == [MODEL, *NAMES.values()] * 2
    assert {row["set"] for row in rows} == {"heldout: 30 pairs", "few: 2 pairs"}
    for row in rows:
        if row["set"].startswith("few"):
            assert row["low"] is None, "too few prompts for an interval"
        else:
            assert row["low"] <= row["accuracy"] <= row["high"]


def test_figures_of_before_the_rules_had_intervals_can_be_drawn() -> None:
    old = {name: {key: value for key, value in own.items() if key != "baselines_ci95"} for name, own in EVAL.items()}
    rows = accuracy_chart(old)["data"]["values"]
    assert [row["who"] for row in rows if row["low"] is not None] == [MODEL]


def test_one_command_refreshes_the_docs(tmp_path: Path) -> None:
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/README.md").write_text(DOC)
    result = run_results(tmp_path, "--write-docs")
    assert result.returncode == 0, result.stderr
    written = (tmp_path / "metrics/README.md").read_text()
    assert written == f"# Results\n\n<!-- results -->\n{results_table(EVAL)}\n<!-- /results -->\n\nMore.\n"
    svg = (tmp_path / "metrics/accuracy.svg").read_text()
    assert all(label in svg for label in (MODEL, *NAMES.values()))
    assert run_results(tmp_path, "--markdown").stdout == f"{results_table(EVAL)}\n"


@pytest.mark.parametrize("text", ["", DOC.replace("<!-- /results -->\n", "")], ids=["nothing", "one marker"])
def test_without_the_markers_nothing_is_written(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/README.md").write_text(text)
    result = run_results(tmp_path, "--write-docs")
    assert result.returncode == 1
    assert result.stderr.startswith("error: metrics/README.md must have a line <!-- results -->")
    assert (tmp_path / "metrics/README.md").read_text() == text


def test_the_picture_goes_where_it_is_wanted(tmp_path: Path) -> None:
    assert run_results(tmp_path, "--svg", "a.svg").returncode == 0
    assert (tmp_path / "a.svg").read_text().startswith("<svg")
