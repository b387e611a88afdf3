"""prepare.py --inspect: what it shows, and that it writes nothing."""

import io
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import inspect_pairs
from conftest import Project, default_params, make_pairs, write_rows
from reward_model.params import DataSource


def files_below(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}


def test_a_file_is_shown_as_the_model_sees_it_and_nothing_is_written(project: Project) -> None:
    """Long responses that differ in their middle only, a control character, a row that is no pair, columns not read."""
    rows = make_pairs(30)
    chosen, rejected = (f"{'x ' * 400}{word}{' y' * 400}" for word in ("one", "a"))
    long = [{"prompt": f"question {number}", "chosen": chosen, "rejected": rejected} for number in range(3)]
    bell = {"prompt": "bell", "chosen": "\a\x1b[31mred", "rejected": "no"}
    write_rows(project.folder / "data/own/some.jsonl", [bell | {"n": 1}, {"prompt": "Q"}, *rows, *long])
    before = files_below(project.folder)
    result = project.run("stages/prepare.py", "--inspect", "data/own/some.jsonl")
    assert result.returncode == 0, result.stderr
    shown = " ".join(result.stdout.split())
    assert "columns not read: n" in shown
    assert "first missing_column" in shown
    assert "35 rows, 34 pairs kept; skipped: 1 missing_column" in shown
    assert "pairs whose chosen response is the longer one" in shown
    assert re.search(r"pairs whose responses begin with the same 100 characters [1-9]\d*\.\d%", shown)
    assert "heldout prompts nearly the same as one trained on" in shown
    assert "left out: 3 same_tokens" in shown
    assert "prompts, 6 responses" in shown
    assert shown.count("as the model sees it") == 5
    assert "\x1b" not in result.stdout
    assert "\u2407\u241b[31mred" in shown
    assert files_below(project.folder) == before


@pytest.mark.parametrize(("rows", "is_sample"), [(3, False), (4, True)])
def test_the_rows_of_the_file_are_counted_not_the_comparisons_of_its_rankings(
    rows: int, is_sample: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspect_pairs, "ROWS", 3)
    ranking = {"responses": ["a", "b", "c"], "ranks": [1, 2, 3]}
    write_rows(tmp_path / "some.jsonl", [{"prompt": f"Q{number}"} | ranking for number in range(rows)])
    shown = io.StringIO()
    pairs_of = inspect_pairs.read_pairs(str(tmp_path / "some.jsonl"), Console(file=shown, width=1000))
    assert list(map(len, pairs_of.values())) == [9]
    assert ("of which the first 3 rows are read" in shown.getvalue()) == is_sample


def test_of_several_files_each_has_its_share_of_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a short file leaves goes to those after it; repeats count for the first file that has them."""
    monkeypatch.setattr(inspect_pairs, "ROWS", 7)
    for name, count in (("a", 1), ("b", 10), ("c", 10), ("d", 1)):
        pairs = [{"prompt": f"{name} {number}", "chosen": "x", "rejected": "y"} for number in range(count)]
        write_rows(tmp_path / f"{name}.jsonl", pairs if name != "d" else [{"prompt": "b 0", "chosen": "x"}])
    shown = io.StringIO()
    pairs_of = inspect_pairs.read_pairs(str(tmp_path), Console(file=shown, width=1000))
    assert [len(pairs_of[str(tmp_path / f"{name}.jsonl")]) for name in "abcd"] == [1, 2, 2, 0]
    assert "4 files, of each of which the first rows are read, 6 in all" in shown.getvalue()
    assert f"warning: no pair is kept of {tmp_path / 'd.jsonl'}\n" in shown.getvalue()


@pytest.mark.parametrize(("names", "shown"), [("ab", "ababa"), ("abcdefg", "abcde")])
def test_comparisons_of_each_file_are_shown_in_turn(project: Project, names: str, shown: str) -> None:
    (project.folder / "data/own/all").mkdir()
    for name in names:
        rows = [{"prompt": f"Q {number}", "chosen": f"is {name}", "rejected": "no"} for number in range(9)]
        write_rows(project.folder / f"data/own/all/{name}.jsonl", rows)
    result = project.run("stages/prepare.py", "--inspect", "data/own/all")
    assert result.returncode == 0, result.stderr
    assert "".join(re.findall(r"as the model sees it \(data/own/all/(.)\.jsonl\)", result.stdout)) == shown
    assert "".join(re.findall(r"chosen: is (.)", result.stdout)) == shown
    assert ("of 2 more files no comparison is shown" in result.stdout) == (len(names) == 7)


def test_a_file_of_one_of_the_sources_is_read_with_its_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    for name in ("a", "b"):
        write_rows(tmp_path / f"own/{name}.jsonl", [{"question": "Q", "better": "x", "worse": "y"}])
    renamed: dict[str, Any] = {"prompt_column": "question", "chosen_column": "better", "rejected_column": "worse"}
    sources = [DataSource("own/absent.jsonl"), DataSource("own/[b]*.jsonl", **renamed)]
    data = replace(default_params().data, sources=sources)
    found = inspect_pairs.find_source([Path("own/../own/b.jsonl")], data)
    assert found == replace(data, sources=None, path="own/[b]*.jsonl", **renamed)
    assert inspect_pairs.find_source([Path("own/a.jsonl"), Path("own/b.jsonl")], data) is None
    assert inspect_pairs.find_source([Path("own/b.jsonl")], replace(data, sources=None)) is None


def test_what_both_responses_begin_with_is_shown_as_theirs(project: Project) -> None:
    write_rows(project.folder / "data/own/some.jsonl", [{"prompt": "Q", "chosen": "good dog", "rejected": "good cat"}])
    result = project.run("stages/prepare.py", "--inspect", "data/own/some.jsonl")
    assert "chosen: good dog" in result.stdout
    assert "rejected: good cat" in result.stdout
    assert "pairs whose chosen response is the longer one" in result.stdout, "whatever split the only pair is in"


def test_without_a_base_there_are_no_tokens_and_what_cannot_be_read_is_an_error(project: Project) -> None:
    write_rows(project.folder / "data/own/some.jsonl", make_pairs(3))
    shutil.rmtree(project.folder / "models/base")
    result = project.run("stages/prepare.py", "--inspect", "data/own/some.jsonl")
    assert result.returncode == 0, result.stderr
    assert "models/base is not there" in result.stdout
    assert "warning: too few prompts to train with: no pairs for validation" in result.stdout
    write_rows(project.folder / "data/own/none.jsonl", [{"prompt": "Q", "chosen": "same", "rejected": "same"}])
    result = project.run("stages/prepare.py", "--inspect", "data/own/none.jsonl")
    assert result.returncode == 1
    assert result.stderr.startswith("error: data/own/none.jsonl gives no pair; data/README.md has the formats")
    result = project.run("stages/prepare.py", "--inspect", "data/none.jsonl")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: data/none.jsonl not found")
