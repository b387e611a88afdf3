"""Workers of a Ray cluster beside one process; skipped where Ray is not installed."""

import os
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from conftest import Project, make_pairs, write_rows
from reward_model import RewardModelManager
from reward_model.common.errors import UserError
from reward_model.scoring import file_scoring
from reward_model.scoring.file_scoring import ScoredFile
from reward_model.scoring.ray_scoring import ScorerOptions, score_shards

pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")

ODD: list[dict[str, Any]] = [{"nothing": 1}, {"text": "\ud800"}, {"prompt": "Q", "responses": ["bad", "good"]}]


def kill_a_worker() -> bool:
    for process in psutil.Process().children(recursive=True):
        if process.name().startswith("ray::_Worker"):
            process.kill()
            return True
    return False


def test_shards_are_scored_as_one_file_is_although_a_worker_is_killed(
    trained: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_scoring, "WINDOW_BATCHES", 1)
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "1")
    write_rows(tmp_path / "a.jsonl", make_pairs(40) + ODD)
    write_rows(tmp_path / "b.jsonl", [])
    write_rows(tmp_path / "c.jsonl", ODD + make_pairs(9))
    model = trained.folder / "models/export"
    manager = RewardModelManager("cpu")
    manager.load_trained_model(model)
    names = ["a.jsonl", "b.jsonl", "c.jsonl"]
    expected = [manager.score_file(tmp_path / name, tmp_path / "one" / name) for name in names]
    killed = []
    write = ScoredFile.write

    def kill_after_the_first(*arguments: Any) -> None:
        write(*arguments)
        if not killed:
            killed.append(kill_a_worker())

    monkeypatch.setattr(ScoredFile, "write", kill_after_the_first)
    options = ScorerOptions(model, "cpu")
    report, _ = score_shards(options, [str(tmp_path / "*.jsonl")], tmp_path / "out", workers=2)
    assert killed == [True]
    assert (report.rows, report.errors) == (sum(one.rows for one in expected), sum(one.errors for one in expected))
    assert report.errors == 4
    assert report.first_error == f"a.jsonl, {expected[0].first_error}"
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [*names, "manifest.json"]


def test_an_interrupted_command_goes_on_where_it_was(
    trained: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_scoring, "WINDOW_BATCHES", 1)
    pairs = pd.DataFrame(make_pairs(40))
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        pairs.to_parquet(tmp_path / f"in/{name}.parquet")
    written: list[int] = []
    write = ScoredFile.write

    def interrupt(self: ScoredFile, *arguments: Any) -> None:
        if len(written) == 7:  # in the second shard
            raise KeyboardInterrupt
        write(self, *arguments)
        written.append(self.rows)

    options = ScorerOptions(trained.folder / "models/export", "cpu")
    command = (options, [str(tmp_path / "in")], tmp_path / "out", 1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ScoredFile, "write", interrupt)
        score_shards(*command)
    assert (tmp_path / "out/a.parquet").exists()
    assert not (tmp_path / "out/b.parquet").exists()
    windows: list[int] = []
    monkeypatch.setattr(ScoredFile, "write", lambda *arguments: windows.append(len(arguments[1])) or write(*arguments))
    report, _ = score_shards(*command)
    assert (report.rows, sum(windows)) == (80, 40 - 2 * 8)
    found_a, found_b = (pd.read_parquet(tmp_path / f"out/{name}.parquet") for name in ("a", "b"))
    pd.testing.assert_frame_equal(found_a, found_b)
    assert found_a[list(pairs)].equals(pairs)


def test_a_cluster_that_does_not_answer_is_one_line_and_nothing_is_written(
    tmp_path: Path, trained: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reward_model.scoring.ray_scoring.ANSWER_SECONDS", 1)
    write_rows(tmp_path / "in.jsonl", make_pairs(1))
    options = ScorerOptions(trained.folder / "models/export", "cpu")
    with pytest.raises(UserError, match=r"no Ray cluster answers at 127.0.0.1:9 within 1 s"):
        score_shards(options, [str(tmp_path / "in.jsonl")], tmp_path / "out", 1, "127.0.0.1:9")
    assert not (tmp_path / "out").exists()
