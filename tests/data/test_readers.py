import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from reward_model.common.errors import UserError
from reward_model.data.readers import read_rows

ROWS: list[dict[str, Any]] = [
    {"prompt": "a\nb", "chosen": "NA", "rejected": "1.0"},
    {"prompt": "naïve 🙂", "chosen": 'x, "y"', "rejected": ""},
]


def test_every_format_gives_the_same_rows(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n")
    (tmp_path / "b.json").write_text(json.dumps(ROWS))
    pd.DataFrame(ROWS).to_csv(tmp_path / "c.csv", index=False)
    pd.DataFrame(ROWS).to_parquet(tmp_path / "d.parquet")
    with gzip.open(tmp_path / "e.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write((tmp_path / "a.jsonl").read_text())
    for path in sorted(tmp_path.iterdir()):
        assert list(read_rows(path)) == ROWS, path.name


def test_a_folder_gives_the_rows_of_its_data_files_in_order(tmp_path: Path) -> None:
    (tmp_path / "2.jsonl").write_text(json.dumps(ROWS[1]))
    (tmp_path / "1.jsonl").write_text(json.dumps(ROWS[0]))
    (tmp_path / "README.md").write_text("not data")
    assert list(read_rows(tmp_path)) == ROWS


def test_hidden_files_of_a_folder_are_no_data_though_the_folder_may_be_hidden(tmp_path: Path) -> None:
    folder = tmp_path / ".data"
    (folder / ".ipynb_checkpoints").mkdir(parents=True)
    (folder / "1.jsonl").write_text(json.dumps(ROWS[0]))
    (folder / "._1.jsonl").write_bytes(b"\x00\x05\x16\x07")
    (folder / ".ipynb_checkpoints/1-checkpoint.jsonl").write_text(json.dumps(ROWS[1]))
    assert list(read_rows(folder)) == ROWS[:1]


def test_chats_survive_csv_and_parquet(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    pd.DataFrame([{"chosen": json.dumps(chat)}]).to_csv(tmp_path / "a.csv", index=False)
    pd.DataFrame([{"chosen": chat}]).to_csv(tmp_path / "b.csv", index=False)
    pd.DataFrame([{"chosen": chat}]).to_parquet(tmp_path / "c.parquet")
    assert list(read_rows(tmp_path)) == [{"chosen": chat}] * 3


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"a": 1}\nnot json\n', "line 2 is not JSON"),
        ("a.jsonl", b"[1]\n", "line 1 is not a JSON object"),
        ("a.json", b'{"a": 1}', "a list of objects is wanted"),
        ("a.jsonl", b"\xff\xfe\x00", "cannot be read"),
        ("a.jsonl.gz", b"not gzip", "cannot be read"),
        ("a.parquet", b"not parquet", "cannot be read"),
        ("a.txt", b"text", "unknown format"),
    ],
)
def test_rubbish_is_one_error_that_names_the_file(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        list(read_rows(path))
    assert name in str(error.value)


def test_an_empty_folder_and_an_absent_file_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no data file"):
        list(read_rows(tmp_path))
    with pytest.raises(UserError, match=r"set data\.path"):
        list(read_rows(tmp_path / "absent.jsonl"))
