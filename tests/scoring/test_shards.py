"""Shards and their output folder, without a cluster."""

import gzip
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from conftest import write_rows
from reward_model.common.errors import UserError
from reward_model.scoring import ray_scoring
from reward_model.scoring.file_scoring import FileReport
from reward_model.scoring.ray_scoring import ScorerOptions, split_resources
from reward_model.scoring.shards import Shard, ShardFolder, check_columns, find_shards

SETTINGS = {"model": "abc", "--dtype": "fp32"}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A folder with three files of rows and one of something else."""
    folder = tmp_path / "rows"
    (folder / "sub").mkdir(parents=True)
    write_rows(folder / "b.jsonl", [{"text": "x"}])
    (folder / "a.json").write_text('[{"text": "x"}]')
    (folder / "sub/c.jsonl.gz").write_bytes(gzip.compress(b'{"text": "x"}\n'))
    (folder / "notes.txt").write_text("nothing")
    return folder


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        (["rows"], ["a.jsonl", "b.jsonl", "sub/c.jsonl"]),
        (["rows/b.jsonl", "rows/a.json"], ["b.jsonl", "a.jsonl"]),
        (["rows/*.json*"], ["a.jsonl", "b.jsonl"]),
        (["rows/**/*.gz"], ["c.jsonl"]),
    ],
)
def test_files_folders_and_patterns_are_found_with_their_names(
    rows: Path, monkeypatch: pytest.MonkeyPatch, inputs: list[str], names: list[str]
) -> None:
    monkeypatch.chdir(rows.parent)
    assert [shard.name for shard in find_shards(inputs, Path("out"))] == names


def test_the_output_folder_is_no_input_even_below_one(rows: Path) -> None:
    before = find_shards([str(rows)], rows / "out")
    (rows / "out").mkdir()
    write_rows(rows / "out/a.jsonl", [])
    assert find_shards([str(rows)], rows / "out") == before
    with pytest.raises(UserError, match="in the output folder only"):
        find_shards([str(rows)], rows)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["-"], "not stdin"),
        (["none.jsonl"], "none.jsonl not found: set --input"),
        (["rows/*.csv"], "no file of rows"),
        (["rows/b.jsonl", "rows"], "would both become out/b.jsonl"),
    ],
)
def test_inputs_that_are_none_are_refused(
    rows: Path, monkeypatch: pytest.MonkeyPatch, inputs: list[str], message: str
) -> None:
    monkeypatch.chdir(rows.parent)
    with pytest.raises(UserError, match=message):
        find_shards(inputs, Path("out"))


def write_shards(folder: Path, contents: Sequence[dict[str, Any]], ending: str) -> list[Shard]:
    shards = [Shard(folder / f"{number}.{ending}", f"{number}.{ending}") for number in range(len(contents))]
    for shard, row in zip(shards, contents, strict=True):
        frame = pd.DataFrame([row])
        frame.to_csv(shard.source, index=False) if ending == "csv" else frame.to_parquet(shard.source)
    return shards


def test_shards_have_the_same_columns(tmp_path: Path) -> None:
    check_columns(write_shards(tmp_path, [{"text": "x", "n": 1}, {"text": "y", "n": 2}], "parquet"))
    with pytest.raises(UserError, match=r"1.parquet has the columns text .*, n \(double\), .*0.parquet has"):
        check_columns(write_shards(tmp_path, [{"text": "x", "n": 1}, {"text": "y", "n": 2.5}], "parquet"))
    with pytest.raises(UserError, match=r"1.csv has the columns text \(str\), m \(str\)"):
        check_columns(write_shards(tmp_path, [{"text": "x", "n": 1}, {"text": "y", "m": 1}], "csv"))
    with pytest.raises(UserError, match=r"0.csv has the columns n"):
        check_columns(write_shards(tmp_path, [{"n": 1}], "csv"))
    write_rows(tmp_path / "a.jsonl", [{"text": "x"}])
    with pytest.raises(UserError, match=r"0.csv has the columns .*, .*a.jsonl has no fixed columns"):
        check_columns([Shard(tmp_path / "a.jsonl", "a.jsonl"), *write_shards(tmp_path, [{"text": "x"}], "csv")])


def test_a_finished_shard_is_not_computed_again(rows: Path, tmp_path: Path) -> None:
    shards = find_shards([str(rows)], tmp_path / "out")
    folder = ShardFolder(tmp_path / "out", SETTINGS, shards)
    assert not (tmp_path / "out").exists()
    folder.begin("abc cpu", 16)
    write_rows_into(folder, shards[1])
    folder.finish(shards[1], FileReport(3, 2, 1))
    again = ShardFolder(tmp_path / "out", SETTINGS, shards)
    assert [again.is_finished(shard) for shard in shards] == [False, True, False]
    assert again.rows_finished(shards[1]) == 3
    assert (again.max_length, again.end()) == (16, FileReport(3, 2, 1))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["b.jsonl", "manifest.json"]
    (tmp_path / "out/b.jsonl").unlink()
    assert not again.is_finished(shards[1])


def write_rows_into(folder: ShardFolder, shard: Shard) -> None:
    folder.unfinished(shard).parent.mkdir(parents=True)
    folder.unfinished(shard).write_text("{}\n")


def test_a_folder_of_something_else_is_refused_and_left_as_it_is(rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shards = find_shards([str(rows)], out)
    ShardFolder(out, SETTINGS, shards).begin("abc cpu", 16)
    before = (out / "manifest.json").read_bytes()
    with pytest.raises(UserError, match="another model"):
        ShardFolder(out, SETTINGS | {"model": "abd"}, shards)
    with pytest.raises(UserError, match="another --dtype"):
        ShardFolder(out, SETTINGS | {"--dtype": "bf16"}, shards)
    with pytest.raises(UserError, match=r"other inputs \(a.jsonl differs\)"):
        ShardFolder(out, SETTINGS, shards[1:])
    with pytest.raises(UserError, match="computed with abc cpu, not abc cuda"):
        ShardFolder(out, SETTINGS, shards).begin("abc cuda", 16)
    (rows / "b.jsonl").write_text('{"text": "y"}\n')
    with pytest.raises(UserError, match=r"other inputs \(b.jsonl differs\)"):
        ShardFolder(out, SETTINGS, shards)
    assert (out / "manifest.json").read_bytes() == before
    for place in (rows, rows / "b.jsonl"):
        with pytest.raises(UserError, match="not made by this command"):
            ShardFolder(place, SETTINGS, [])
    for content in ("[]", "{}", '{"files": 3}'):
        (rows / "manifest.json").write_text(content)
        with pytest.raises(UserError, match=r"manifest.json was not made by this command"):
            ShardFolder(rows, SETTINGS, [])


@pytest.mark.parametrize(
    ("nodes", "workers", "use_gpus", "expected"),
    [
        ([{"CPU": 2}], 2, True, (1, 0)),
        ([{"CPU": 8}], 2, True, (4, 0)),
        ([{"CPU": 3}, {"CPU": 5}], 2, True, (3, 0)),
        ([{"CPU": 8, "GPU": 2}], 2, True, (4, 1)),
        ([{"CPU": 8, "GPU": 1}, {"CPU": 64}], 1, True, (8, 1)),
        ([{"CPU": 8, "GPU": 1}], 4, False, (2, 0)),
        ([{"memory": 1}, {"CPU": 4}], 1, True, (4, 0)),
    ],
)
def test_workers_share_the_cluster(
    nodes: list[dict[str, float]], workers: int, use_gpus: bool, expected: tuple[int, int]
) -> None:
    found = split_resources(nodes, workers, use_gpus)
    assert (found["num_cpus"], found["num_gpus"]) == expected


@pytest.mark.parametrize(
    ("nodes", "message"),
    [([{"CPU": 2}], "cores for 2 workers, not for 3"), ([{"CPU": 8, "GPU": 1}], "GPUs and cores for 1 workers")],
)
def test_a_cluster_that_is_too_small_is_refused(nodes: list[dict[str, float]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        split_resources(nodes, 3, use_gpus=True)


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_it_is_one_line_and_nothing_is_written(rows: Path, tmp_path: Path) -> None:
    options = ScorerOptions(tmp_path)
    with pytest.raises(UserError, match=r"^ray is not installed: pip install '.\[ray\]'"):
        ray_scoring.score_shards(options, [str(rows)], tmp_path / "out", workers=2)
    assert not (tmp_path / "out").exists()


def test_the_manifest_says_what_the_folder_was_made_with(rows: Path, tmp_path: Path) -> None:
    ShardFolder(tmp_path / "out", SETTINGS, find_shards([str(rows)], tmp_path / "out")).begin("abc cpu", 16)
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["settings"] == SETTINGS
    assert [*manifest["inputs"]] == ["a.jsonl", "b.jsonl", "sub/c.jsonl"]
