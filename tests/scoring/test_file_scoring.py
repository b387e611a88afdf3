"""Files of rows: formats, odd rows, interruptions."""

import csv
import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from conftest import Project, write_rows
from reward_model import RewardModelManager
from reward_model.common.errors import UserError
from reward_model.scoring import file_scoring
from reward_model.scoring.file_scoring import FileReport

ROWS: list[dict[str, Any]] = [
    {"n": 1.50, "text": "good answer"},
    {"prompt": "Q", "response": "good", "meta": {"a": [1, None]}},
    {"prompt": [{"role": "user", "content": "Q"}], "response": [{"role": "assistant", "content": "good"}]},
    {"prompt": "Q", "chosen": "good answer: cat", "rejected": "bad", "margin": 3},
    {"prompt": "Q", "responses": ["bad", "good answer: cat dog", "x"], "ü": "é"},
    {"prompt": "\n\nHuman: Q\n\nAssistant:", "chosen": "good", "rejected": "good"},
    {"prompt": "Q", "response_a": "good", "response_b": "bad"},
]
PAIRS = [
    {"id": str(n), "prompt": f"question {n}", "chosen": f"good answer, {n}", "rejected": 'bad "x"\nline'}
    for n in range(50)
]


@pytest.fixture(scope="module")
def manager(trained: Project) -> RewardModelManager:
    """Windows of two rows, so that small files have several."""
    manager = RewardModelManager(device="cpu", batch_size=2)
    manager.load_trained_model(trained.folder / "models/export")
    return manager


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_scoring, "WINDOW_BATCHES", 1)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_kind_of_row_gets_its_rewards_and_keeps_its_columns(manager: RewardModelManager, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", ROWS)
    assert manager.score_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl") == FileReport(len(ROWS), 0)
    found = read(tmp_path / "out.jsonl")
    for row, scored in zip(ROWS, found, strict=True):
        assert list(scored)[: len(row)] == list(row)
        assert {name: scored[name] for name in row} == row
    assert found[0]["reward"] == pytest.approx(manager.get_reward_score("good answer"), abs=1e-5)
    assert found[1]["reward"] == pytest.approx(manager.get_reward_score("good", "Q"), abs=1e-5)
    assert found[2]["reward"] == pytest.approx(found[1]["reward"], abs=1e-5)
    [comparison] = manager.score_pairs([ROWS[3]])
    assert found[3]["reward_chosen"] == pytest.approx(comparison.reward_a, abs=1e-5)
    assert found[3]["reward_rejected"] == pytest.approx(comparison.reward_b, abs=1e-5)
    assert found[3]["reward_margin"] == pytest.approx(comparison.margin, abs=1e-5)
    assert found[3]["probability_chosen"] == pytest.approx(comparison.probability_a, abs=1e-5)
    assert found[3]["within_noise"] == comparison.within_noise
    ranking = manager.rank_responses("Q", ROWS[4]["responses"])
    assert found[4]["best"] == ranking[0].index
    assert found[4]["rewards"][ranking[0].index] == pytest.approx(ranking[0].reward, abs=1e-5)
    assert found[5]["reward_margin"] == pytest.approx(0, abs=1e-5)
    assert found[6]["reward_a"] == pytest.approx(found[1]["reward"], abs=1e-5)
    assert found[6]["preferred"] == ("a" if found[6]["margin"] > 0 else "b")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["in.jsonl", "out.jsonl"]


@pytest.mark.parametrize(
    "row",
    [
        {"promt": "Q", "response": "x"},
        {"question": "Q", "response_a": "x", "response_b": "y"},
        {"question": "Q", "responses": ["x", "y"]},
    ],
)
def test_a_response_without_the_column_of_its_prompt_is_an_error(
    manager: RewardModelManager, tmp_path: Path, row: dict[str, Any]
) -> None:
    """Its prompt may stand there by another name, and a reward of the response alone would look like any other."""
    write_rows(tmp_path / "in.jsonl", [row, row | {"prompt": None}, row | {"prompt": ""}])
    report = manager.score_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    first, of_null, _ = read(tmp_path / "out.jsonl")
    assert report == FileReport(3, 2, first_error=f"row 1: {first['error']}")
    assert of_null["error"].endswith(": no_prompt")
    assert first["error"].startswith("nothing to score: text, prompt + response, ")


def write_as(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    elif path.suffix == ".csv":
        pd.DataFrame(rows).to_csv(path, index=False)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    else:
        write_rows(path, rows)
    return path


def read_as(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return pyarrow.parquet.read_table(path).to_pylist()
    if path.suffix == ".csv":
        return pd.read_csv(path, keep_default_na=False, dtype={"id": str}).to_dict("records")
    return read(path)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("in.csv", "out.csv"),
        ("in.csv", "out.jsonl"),
        ("in.csv", "out.parquet"),
        ("in.parquet", "out.parquet"),
        ("in.parquet", "out.csv"),
        ("in.parquet", "new/folder/out.jsonl"),
        ("in.jsonl.gz", "out.jsonl"),
    ],
)
def test_formats_give_the_same_rewards(manager: RewardModelManager, tmp_path: Path, source: str, target: str) -> None:
    manager.score_file(write_as(tmp_path / source, PAIRS), tmp_path / target)
    expected = manager.score_pairs(PAIRS)
    found = read_as(tmp_path / target)
    assert [{name: row[name] for name in PAIRS[0]} for row in found] == PAIRS
    assert [row["reward_margin"] for row in found] == pytest.approx([item.margin for item in expected], abs=1e-5)
    assert {row.get("error") for row in found} <= {None, ""}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({source, target.split("/")[0]})


def test_chats_and_lists_in_csv_cells(manager: RewardModelManager, tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "Q"}]
    rows = [
        {"prompt": json.dumps(chat), "responses": json.dumps(["good", "bad"])},
        {"prompt": "Q", "responses": "good"},
    ]
    manager.score_file(write_as(tmp_path / "in.csv", rows), tmp_path / "out.csv")
    found = read_as(tmp_path / "out.csv")
    assert json.loads(found[0]["rewards"])[0] == pytest.approx(manager.get_reward_score("good", "Q"), abs=1e-5)
    assert "not a list" in found[1]["error"]


def test_rows_that_cannot_be_scored_come_out_with_their_error(manager: RewardModelManager, tmp_path: Path) -> None:
    lines = [
        b'{"text": "good"}',
        b"not json",
        b'{"text": "\xff\xfe"}',
        b"[1, 2]",
        b"",
        b'{"other": 1}',
        b'{"text": 5}',
        b'{"text": null, "prompt": "Q"}',
        b'{"prompt": "Q", "chosen": "A"}',
        b'{"prompt": [{"role": "robot", "content": "Q"}], "response": "A"}',
        b'{"text": "\\ud800"}',
        b'{"prompt": "Q", "responses": []}',
        b'{"text": "good", "reward": 1}',
        b'{"text": "good"}',
    ]
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(lines))
    report = manager.score_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    found = read(tmp_path / "out.jsonl")
    assert report == FileReport(len(lines) - 1, len(lines) - 3, first_error=f"row 2: {found[1]['error']}")
    assert [("reward" in row, "error" in row) for row in (found[0], found[-1])] == [(True, False)] * 2
    assert found[0]["reward"] == pytest.approx(found[-1]["reward"], abs=1e-5)
    expected = ["not JSON", "not UTF-8", "not a JSON object", "nothing to score", "not_text", "nothing to score"]
    expected += ["missing_column", "unknown_role", "lone surrogate", "not a list", "rename it"]
    for part, row in zip(expected, found[1:-1], strict=True):
        assert part in row["error"], row
    assert found[1]["line"] == "not json"
    assert found[9]["text"] == "\ud800"


def test_odd_csv_rows_keep_their_bytes(manager: RewardModelManager, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(b'\xef\xbb\xbfid,text\r\n1,"a,\n""b"""\r\n2\r\n3,x,y\r\n4,\xff\r\n5,a\0b\r\n')
    report = manager.score_file(tmp_path / "in.csv", tmp_path / "out.csv")
    assert (report.rows, report.errors) == (5, 3)
    content = (tmp_path / "out.csv").read_bytes()
    assert b"4,\xff," in content
    rows = list(csv.DictReader(content.decode("utf-8", "replace").splitlines(keepends=True)))
    assert list(rows[0]) == ["id", "text", "reward", "error"]
    assert rows[0]["text"] == 'a,\n"b"'
    assert [row["id"] for row in rows] == list("12345")
    assert "the row has 1 cells, the header 2" in rows[1]["error"]
    assert "'y' too many" in rows[2]["error"]
    assert "not UTF-8" in rows[3]["error"]
    assert float(rows[4]["reward"])
    manager.score_file(tmp_path / "in.csv", tmp_path / "out.parquet")
    assert pyarrow.parquet.read_table(tmp_path / "out.parquet")["text"][3].as_py() == "\ufffd"


def test_parquet_keeps_types_and_nulls(manager: RewardModelManager, tmp_path: Path) -> None:
    schema = pyarrow.schema([("n", pyarrow.int16()), ("when", pyarrow.timestamp("ms")), ("text", pyarrow.string())])
    table = pyarrow.table({"n": [1, None, 3], "when": [0, 1, None], "text": ["good", "bad", None]}, schema=schema)
    pyarrow.parquet.write_table(table, tmp_path / "in.parquet")
    report = manager.score_file(tmp_path / "in.parquet", tmp_path / "out.parquet")
    found = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert report == FileReport(3, 1, first_error="row 3: the row is no text: missing_column (text)")
    assert found.select(["n", "when", "text"]) == table
    assert found["reward"].null_count == 1
    assert found["error"][2].as_py() == "the row is no text: missing_column (text)"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.jsonl", None, "cannot be read"),
        ("in.txt", b"x", r"unknown format; \.jsonl, \.ndjson, \.json, .* files are read"),
        ("in.parquet", b"not parquet", "cannot be read"),
        ("in.jsonl.gz", b"not gzip", "cannot be read"),
        ("in.jsonl.gz", gzip.compress(b'{"text": "x"}\n' * 9, mtime=0)[:-9], "cannot be read"),
        ("in.csv", b"", "in.csv is empty, or its first line is"),
        ("in.csv", b"a,a\n1,2\n", "first line must be the columns"),
        ("in.csv", b"id,words\n1,2\n", "has the columns id, words: text,"),
        ("in.csv", b"text,reward\nx,2\n", "a column 'reward' already"),
    ],
)
def test_a_file_that_cannot_be_scored_is_one_error(
    manager: RewardModelManager, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        manager.score_file(tmp_path / name, tmp_path / "out.jsonl")


def test_targets_that_cannot_be_written_are_one_error(manager: RewardModelManager, tmp_path: Path) -> None:
    source = write_as(tmp_path / "in.jsonl", PAIRS)
    with pytest.raises(UserError, match="is the input"):
        manager.score_file(source, tmp_path / "." / "in.jsonl")
    with pytest.raises(UserError, match="no fixed columns"):
        manager.score_file(source, tmp_path / "out.csv")
    with pytest.raises(UserError, match=r"leave the \.gz out"):
        manager.score_file(source, tmp_path / "out.jsonl.gz")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        manager.score_file(source, tmp_path / "file" / "out.jsonl")


def test_a_full_disk_is_one_error(manager: RewardModelManager, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    source = write_as(tmp_path / "in.jsonl", PAIRS)
    (tmp_path / "out.jsonl").symlink_to("/dev/full")
    with pytest.raises(UserError, match="No space left"):
        manager.score_file(source, tmp_path / "out.jsonl")


class Killed(BaseException):
    """What SIGKILL looks like from inside: nothing gets to clean up."""


def kill_after(monkeypatch: pytest.MonkeyPatch, windows: int, *, before_progress: bool = False) -> None:
    """End the run when the progress of this many windows is saved, or is about to be."""
    count = 0
    save = file_scoring._save

    def counted(state: Any, target: str) -> None:
        nonlocal count
        count += state.rows > 0
        if before_progress and count == windows:
            raise Killed
        save(state, target)
        if count == windows:
            raise Killed

    monkeypatch.setattr(file_scoring, "_save", counted)


def interrupt(
    manager: RewardModelManager, source: Path, target: Path, monkeypatch: pytest.MonkeyPatch, windows: int
) -> None:
    """Begin a run and kill it after this many windows."""
    with monkeypatch.context() as patch:
        kill_after(patch, windows)
        with pytest.raises(Killed):
            manager.score_file(source, target)


@pytest.mark.parametrize("before_progress", [False, True])
@pytest.mark.parametrize(
    ("source", "target"), [("in.jsonl", "out.jsonl"), ("in.csv", "out.csv"), ("in.csv", "out.parquet")]
)
def test_an_interrupted_run_is_resumed_to_the_same_file(
    manager: RewardModelManager,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    target: str,
    before_progress: bool,
) -> None:
    write_as(tmp_path / source, PAIRS)
    whole, broken = tmp_path / f"whole-{target}", tmp_path / target
    manager.score_file(tmp_path / source, whole)
    for windows in (3, 4):
        with monkeypatch.context() as patch:
            kill_after(patch, windows, before_progress=before_progress)
            with pytest.raises(Killed):
                manager.score_file(tmp_path / source, broken, resume=True)
    if target == "out.jsonl":
        assert read(broken) == read(whole)[: len(read(broken))]
    report = manager.score_file(tmp_path / source, broken, resume=True)
    assert report == FileReport(len(PAIRS), 0)
    assert read_as(broken) == read_as(whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source, whole.name, target])


def test_half_a_row_at_the_end_is_taken_off(
    manager: RewardModelManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = write_as(tmp_path / "in.jsonl", PAIRS), tmp_path / "out.jsonl"
    interrupt(manager, source, target, monkeypatch, windows=5)
    with target.open("a") as file:
        file.write('{"id": "10", "prom')
    manager.score_file(source, target, resume=True)
    assert [row["id"] for row in read(target)] == [row["id"] for row in PAIRS]


def test_resuming_with_another_input_or_model_is_refused(
    manager: RewardModelManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: Project
) -> None:
    source, target = write_as(tmp_path / "in.jsonl", PAIRS), tmp_path / "out.jsonl"
    interrupt(manager, source, target, monkeypatch, windows=2)
    for other in ([*PAIRS[:3], PAIRS[10], *PAIRS[4:]], PAIRS[:1]):
        with pytest.raises(UserError, match=r"is not what .* was begun with"):
            manager.score_file(write_as(tmp_path / "other.jsonl", other), target, resume=True)
    half = RewardModelManager(device="cpu", precision="bf16")
    half.load_trained_model(trained.folder / "models/export")
    with pytest.raises(UserError, match="another model, precision or max length"):
        half.score_file(source, target, resume=True)
    # Without --resume it starts over.
    assert half.score_file(source, target) == FileReport(len(PAIRS), 0)


def test_resuming_what_was_not_interrupted_is_refused(manager: RewardModelManager, tmp_path: Path) -> None:
    source, target = write_as(tmp_path / "in.jsonl", PAIRS), tmp_path / "out.jsonl"
    manager.score_file(source, target, resume=True)
    before = target.read_bytes()
    with pytest.raises(UserError, match="nothing to resume"):
        manager.score_file(source, target, resume=True)
    assert target.read_bytes() == before


def test_a_run_that_starts_over_and_is_killed_at_once_does_not_resume_the_old_one(
    manager: RewardModelManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old output is complete, of another model; the new run has only said that it begins."""
    source, target = write_as(tmp_path / "in.jsonl", PAIRS), tmp_path / "out.jsonl"
    write_rows(target, [{"old": n} for n in range(len(PAIRS))])

    def killed(state: Any, target: str) -> None:
        save(state, target)
        raise Killed

    save = file_scoring._save
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(file_scoring, "_save", killed)
        manager.score_file(source, target)
    manager.score_file(source, target, resume=True)
    assert all("reward_margin" in row for row in read(target))


@pytest.mark.parametrize("name", ["misspelt.jsonl", "taken.csv"])
def test_a_run_that_fails_before_its_first_row_leaves_an_older_output_complete(
    manager: RewardModelManager, tmp_path: Path, name: str
) -> None:
    source, target = write_as(tmp_path / "in.csv", PAIRS), tmp_path / "out.csv"
    manager.score_file(source, target)
    before = target.read_bytes()
    write_as(tmp_path / "taken.csv", [row | {"reward_margin": 1} for row in PAIRS])
    with pytest.raises(UserError):
        manager.score_file(tmp_path / name, target)
    with pytest.raises(UserError, match="nothing to resume"):
        manager.score_file(source, target, resume=True)
    assert target.read_bytes() == before


def test_a_target_that_lost_rows_is_not_resumed(
    manager: RewardModelManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = write_as(tmp_path / "in.jsonl", PAIRS), tmp_path / "out.jsonl"
    interrupt(manager, source, target, monkeypatch, windows=3)
    target.write_bytes(target.read_bytes()[:-20])
    with pytest.raises(UserError, match="has lost rows"):
        manager.score_file(source, target, resume=True)


def test_a_kill_while_parquet_is_joined_is_resumed(
    manager: RewardModelManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = write_as(tmp_path / "in.parquet", PAIRS), tmp_path / "out.parquet"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(shutil, "rmtree", lambda *_, **options: (_ for _ in ()).throw(Killed()) if not options else None)
        manager.score_file(source, target)
    assert len(read_as(target)) == len(PAIRS)
    assert not (tmp_path / "out.parquet.progress").exists()


def test_rows_of_a_table_that_lack_a_side_get_an_error_and_nothing_is_dropped(
    manager: RewardModelManager, tmp_path: Path
) -> None:
    rows = [{"text": "good", "prompt": None, "chosen": None, "rejected": None}]
    rows += [{"text": None, "prompt": "Q", "chosen": "good", "rejected": "bad"}]
    report = manager.score_file(write_as(tmp_path / "in.parquet", rows), tmp_path / "out.parquet")
    found = read_as(tmp_path / "out.parquet")
    assert report == FileReport(2, 1, first_error=f"row 1: {found[0]['error']}")
    assert "missing_value (chosen)" in found[0]["error"]
    assert found[1]["reward_chosen"] is not None


def test_the_first_error_has_the_number_of_its_row_in_the_file(manager: RewardModelManager, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", [*[{"text": "good"}] * 200, {"words": 1}, {"more": 2}])
    report = manager.score_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert report.errors == 2
    assert str(report.first_error).startswith("row 201: nothing to score: ")


def test_an_error_column_of_the_input_stays(manager: RewardModelManager, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", [{"text": "good", "error": "E42"}, {"words": 1, "error": "E43"}])
    report = manager.score_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert (report.rows, report.errors) == (2, 2)
    found = read(tmp_path / "out.jsonl")
    assert [row["error"] for row in found] == ["E42", "E43"]
    assert "rename it" in found[0]["scoring_error"]
    assert "nothing to score" in found[1]["scoring_error"]


def test_csv_answers_that_look_like_lists_are_text(manager: RewardModelManager, tmp_path: Path) -> None:
    answers = ["[]", '["a", "b"]', '[{"id": 1}]', "[{{}}]", "[" * 100_000 + "]" * 100_000, "[{" * 9 + "}]" * 9]
    report = manager.score_file(
        write_as(tmp_path / "in.csv", [{"prompt": "Q", "response": text} for text in answers]), tmp_path / "out.csv"
    )
    assert report == FileReport(len(answers), 0, cut=1)


def test_an_empty_file_gives_an_empty_file(manager: RewardModelManager, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text("\n\n")
    assert manager.score_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl") == FileReport(0, 0)
    assert (tmp_path / "out.jsonl").read_text() == ""
    (tmp_path / "in.csv").write_text("text\n")
    assert manager.score_file(tmp_path / "in.csv", tmp_path / "out.parquet") == FileReport(0, 0)
    assert pd.read_parquet(tmp_path / "out.parquet").columns.tolist() == ["text", "reward", "error"]


def test_rows_are_read_as_they_are_scored(
    manager: RewardModelManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Constant memory: never more than a window is held."""
    held = []
    windows = file_scoring.split_windows
    monkeypatch.setattr(
        file_scoring, "split_windows", lambda rows, size: (held.append(len(w)) or w for w in windows(rows, size))
    )
    manager.score_file(write_as(tmp_path / "in.parquet", PAIRS), tmp_path / "out.parquet")
    assert held == [2] * 25
