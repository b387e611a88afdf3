import json
from pathlib import Path

import pytest

from reward_model.common import files, tables
from reward_model.common.errors import UserError, run


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with pytest.raises(RuntimeError), files.new_folder(target) as folder:
        (folder / "half").write_text("x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with files.new_folder(target) as folder:
        (folder / "a").write_text("1")
        assert not target.exists()
    with files.new_folder(target) as folder:
        (folder / "b").write_text("2")
        assert (target / "a").exists()
    assert [path.name for path in target.iterdir()] == ["b"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_killed_run_left_is_cleared_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / ".out.deadbeef.tmp"
    left.mkdir()
    (left / "half").write_text("x")
    (tmp_path / ".out.cafe.tmp").write_text("half a file")
    files.write_text(tmp_path / "out", "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_json_is_sorted_and_ends_lines_with_lf(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"b": 1, "a": "é"})
    assert (tmp_path / "a.json").read_bytes() == '{\n  "a": "é",\n  "b": 1\n}\n'.encode()
    with pytest.raises(ValueError):
        files.write_json(tmp_path / "a.json", {"b": float("nan")})
    assert files.read_json(tmp_path / "a.json")["b"] == 1


def test_jsonl_keeps_line_separators_and_lone_surrogates(tmp_path: Path) -> None:
    rows = [{"text": "a\u2028b\x85c\n"}, {"text": "\ud800"}]
    files.write_jsonl(tmp_path / "a.jsonl", rows)
    assert files.read_jsonl(tmp_path / "a.jsonl") == rows


def test_a_missing_input_says_what_makes_it(tmp_path: Path) -> None:
    for read in (files.read_json, files.read_jsonl, tables.read_parquet):
        with pytest.raises(UserError, match="run `dvc repro`"):
            read(tmp_path / "absent")


def test_a_place_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        files.write_text(tmp_path / "file" / "below", "x")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(28, "No space left on device"), True),
        (RuntimeError("I/O error: No space left on device (os error 28)"), True),
        (RuntimeError("I/O error: Operation not permitted (os error 1)"), True),
        (RuntimeError("I/O error: Cannot allocate memory (os error 12)"), False),
        (OSError(12, "Cannot allocate memory"), False),
    ],
)
def test_a_full_disk_is_told_from_other_trouble(error: Exception, expected: bool) -> None:
    assert files.is_disk_trouble(error) is expected


def test_a_users_fault_is_one_line_and_a_status(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise UserError("do this")

    with pytest.raises(SystemExit) as status:
        run(main, exit_status=2)
    assert status.value.code == 2
    assert capsys.readouterr().err == "error: do this\n"


def test_the_hash_of_a_folder_changes_with_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = files.hash_folder(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    second = files.hash_folder(tmp_path)
    (tmp_path / "b").write_text(json.dumps("2"))
    assert len({first, second, files.hash_folder(tmp_path)}) == 3


def test_checksums_tell_of_files_in_folders_too(tmp_path: Path) -> None:
    nested = tmp_path / "shares/0.bin"
    nested.parent.mkdir()
    nested.write_bytes(b"weights")
    (tmp_path / "config.json").write_text("{}")
    files.write_checksums(tmp_path)
    files.check_checksums(tmp_path)
    nested.write_bytes(b"weighty")
    with pytest.raises(UserError, match=r"shares/0\.bin is damaged or altered"):
        files.check_checksums(tmp_path)
    files.check_checksums(tmp_path, unread=(".bin",))
    nested.unlink()
    with pytest.raises(UserError, match=r"shares/0\.bin is missing"):
        files.check_checksums(tmp_path)


@pytest.mark.parametrize("name", ["../secret", "/secret", "shares/../../secret"])
def test_checksums_name_no_file_outside_of_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "secret").write_text("s")
    (tmp_path / "model/SHA256SUMS").write_text(f"{files.hash_file(tmp_path / 'secret')}  {name}\n")
    with pytest.raises(UserError, match="which is not in the folder"):
        files.check_checksums(tmp_path / "model")
