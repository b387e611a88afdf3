"""What the plots show, and that DVC's pictures of it hold something."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from conftest import ROOT, Project
from reward_model.evaluation.plots import (
    LONGER,
    PERFECT,
    accuracy_by_length,
    margin_histograms,
    reliability_diagram,
    rewards_by_length,
)
from test_metrics import table

PLOTS = yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"]


def test_the_histograms_count_every_pair_once_in_bins_alike_on_both_sides_of_zero() -> None:
    rows = margin_histograms({"a": table([-2.0, -0.1, 0.1, 3.0]), "b": table([0.5])})
    for name in ("a", "b"):
        assert sum(row["share"] for row in rows if row["set"] == name) == pytest.approx(1)
    assert rows[0]["margin"] == pytest.approx(-rows[-1]["margin"])
    assert sum(row["share"] for row in rows if row["set"] == "a" and row["margin"] > 0) == pytest.approx(0.5)


def test_the_reliability_diagram_has_accuracies_at_the_fitted_temperature() -> None:
    rows = reliability_diagram({"a": table([2.0, 2.0, -2.0, 0.0])}, temperature=2.0)
    found = {round(row["confidence"], 3): (row["accuracy"], row["pairs"]) for row in rows if row["set"] == "a"}
    assert found == {0.525: (0.5, 1), 0.725: (pytest.approx(2 / 3), 3)}
    perfect = [row for row in rows if row["set"] == PERFECT]
    assert len(perfect) == 10
    assert all(row["accuracy"] == row["confidence"] for row in perfect)


def test_accuracy_by_length_is_that_of_each_bin() -> None:
    pairs = table([1.0, -1.0, 1.0, 1.0], chosen_characters=[10, 10, 100, 1], rejected_characters=[10, 10, 10, 100])
    rows = accuracy_by_length({"a": pairs})
    assert {row["octaves"]: row["accuracy"] for row in rows if row["set"] == "a"} == {-2.5: 1.0, 0.0: 0.5, 2.5: 1.0}
    assert [row["accuracy"] for row in rows if row["set"] == LONGER] == [0.0] * 4 + [0.5] + [1.0] * 4


def test_the_scatter_plot_has_both_sides_and_not_too_many_points() -> None:
    rows = rewards_by_length({"a": table([1.0] * 500), "b": table([2.0])})
    assert len(rows) == 200 + 2
    assert {row["characters"] for row in rows} == {5, 10}
    assert {row["set"] for row in rows} == {"a", "b"}


@pytest.fixture(scope="module")
def pictures(trained: Project, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Each plot's SVG, as `make plots` draws it."""
    folder = tmp_path_factory.mktemp("plots")
    for name in ("metrics", "params.yaml", "stages"):
        source = trained.folder / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    shutil.copy(ROOT / "dvc.yaml", folder)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], cwd=folder, check=True)
    shutil.copytree(ROOT / ".dvc/plots", folder / ".dvc/plots")
    result = subprocess.run(
        [sys.executable, "stages/draw_plots.py"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return {Path(line).stem: (folder / line).read_text() for line in result.stdout.splitlines()}


def test_there_is_a_picture_of_every_plot(pictures: dict[str, str]) -> None:
    assert set(pictures) == {next(iter(plot)).replace(" ", "_") for plot in PLOTS}


@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: next(iter(plot)))
def test_something_is_drawn_in_every_picture(pictures: dict[str, str], plot: dict[str, dict]) -> None:
    [(name, options)] = plot.items()
    svg = pictures[name.replace(" ", "_")]
    marks = re.findall(r'<path aria-label="([^"]*)"[^>]*d="([^"]+)"', svg)
    drawn = [label for label, path in marks if len(path) > 10]
    assert drawn, "no mark with a path"
    for columns in options["y"].values():
        for column in [columns] if isinstance(columns, str) else columns:
            assert column in svg, f"{column} is not in the picture"


@pytest.mark.parametrize(("name", "lines"), [("margins", 3), ("reliability", 4), ("accuracy_by_length", 4)])
def test_every_set_has_a_colour_of_its_own(pictures: dict[str, str], name: str, lines: int) -> None:
    colours = re.findall(r'aria-roledescription="line mark"[^>]*stroke="([^"]+)"', pictures[name])
    assert len(set(colours)) == len(colours) == lines


def test_a_plot_without_data_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text(
        yaml.safe_dump({"plots": [{"losses": {"x": "a", "y": {"metrics/no.json": "b"}}}]})
    )
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], cwd=tmp_path, check=True)
    result = subprocess.run(
        [sys.executable, ROOT / "stages/draw_plots.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert result.stderr.startswith("error: no plot losses: ")
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""
