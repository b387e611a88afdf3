"""Files as people have them: each row is read as it was meant, or turned away aloud."""

import bz2
import gzip
import json
import lzma
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from reward_model.common.errors import UserError
from reward_model.data.hub import download_dataset
from reward_model.data.pair_reader import pair_from_row
from reward_model.data.pairs import parse_pairs
from reward_model.data.readers import ReadReport, find_files, open_rows, read_rows
from reward_model.data.row_formats import Columns
from reward_model.data.sources import add_rejects

HEADER = "prompt,chosen,rejected\n"


def read(path: Path) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """The rows of a file, and the rest: what each is counted as, and where it stands."""
    report = ReadReport()
    rows = list(read_rows(path, report))
    return rows, [(reason, row["place"]) for reason, row in report.rejects]


@pytest.mark.parametrize(
    ("surplus", "rejects"),
    [
        (["q1,c1,r1,note"], [("wrong_cells", "line 2")]),
        (["q1,c1,r1,a,b", "q2,c2,r2,"], [("wrong_cells", "line 2"), ("wrong_cells", "line 3")]),
        (["q1,c1"], [("wrong_cells", "line 2")]),
        (['"q\n1",c1,r1', "q2"], [("wrong_cells", "line 4")]),
    ],
)
def test_cells_of_a_csv_are_never_shifted(tmp_path: Path, surplus: list[str], rejects: list[tuple[str, str]]) -> None:
    path = tmp_path / "a.csv"
    path.write_text(HEADER + "\n".join([*surplus, "q,c,r"]) + "\n")
    rows, found = read(path)
    assert found == rejects
    assert rows[-1] == {"prompt": "q", "chosen": "c", "rejected": "r"}
    assert len(rows) + len(found) == len(surplus) + 1


@pytest.mark.parametrize("row", ["q,c,r,", "q,c,r,x,y", "q,c"])
def test_a_csv_with_no_row_like_its_header_is_one_error_with_a_place(tmp_path: Path, row: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(HEADER + f"{row}\n" * 3)
    with pytest.raises(UserError, match=r"not one row of it: line 2 has . cells, the header 3"):
        read(path)


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        ('q2,c2,"r2', "never closed"),
        ('q2,"c2,r2', "never closed"),
        ('q2,"c2" more,r2', "after a closing quote"),
        (r'"q \"2\" x",c2,r2', r"quotes as \\\""),
        (r'"q \"hi, you\" 2",c2,r2', r"\\\""),
    ],
)
def test_a_quote_gone_wrong_costs_its_row_alone(tmp_path: Path, broken: str, fault: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(HEADER + "\n".join(["q1,c1,r1", broken, *(f"q{n},c{n},r{n}" for n in range(3, 9))]) + "\n")
    with open_rows(str(path)) as stream:
        rows = list(stream.rows)
    assert [row.place for row in rows] == [f"line {n}" for n in range(2, 10)]
    assert [row.fault is None for row in rows] == [n != 2 for n in range(1, 9)]
    assert [row.values["rejected"] for row in rows if row.fault is None] == [f"r{n}" for n in (1, *range(3, 9))]
    with pytest.raises(UserError, match=rf"line 3 .*{fault}"):
        read(path)


ROW = {"prompt": "q", "chosen": "c", "rejected": "r"}
LINES = "".join(json.dumps(ROW) + "\n" for _ in range(3))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("lines.json", LINES),
        ("byte order mark.json", "\ufeff" + LINES),
        ("list.json", json.dumps([ROW] * 3)),
        ("wrapped.json", json.dumps({"version": 1, "data": [ROW] * 3})),
        ("pretty.json", json.dumps({"data": [ROW] * 3}, indent=2)),
        ("pretty.jsonl", "\n".join(json.dumps(ROW, indent=2) for _ in range(3))),
        ("list.jsonl", "\ufeff" + json.dumps([ROW] * 3)),
        ("UPPER.JSONL", LINES),
        ("lines.ndjson", LINES),
        ("tabs.tsv", "prompt\tchosen\trejected\n" + "q\tc\tr\n" * 3),
        ("tabs.csv", "prompt\tchosen\trejected\n" + "q\tc\tr\n" * 3),
        ("commas.tsv", HEADER + "q,c,r\n" * 3),
        ("semicolons.csv", HEADER.replace(",", ";") + "q;c;r\n" * 3),
        ("quoted.csv", '\ufeff"prompt";"chosen";"rejected"\r\n' + '"q";"c";"r"\r\n' * 3),
        ("mixed.csv", 'prompt;chosen;"rejected"\nq;c;r\n' + "q;c;r\n" * 2),
        ("mac.csv", HEADER.replace("\n", "\r") + "q,c,r\r" * 3),
    ],
)
def test_names_and_layouts_that_are_read(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, newline="")
    assert read(tmp_path / name) == ([ROW] * 3, [])


def test_a_column_whose_name_has_a_semicolon_stays_one(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text (a;b)\n"one, and two"\nthree\n')
    assert read(tmp_path / "a.csv") == ([{"text (a;b)": "one, and two"}, {"text (a;b)": "three"}], [])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", LINES + "{", "line 4 is not JSON"),
        ("a.json", json.dumps({"train": [ROW], "test": [ROW]}), "a list of objects is wanted"),
        ("a.json", json.dumps({"prompt": {"0": "q"}}), "orient='records'"),
        ("a.json", "[" * 100_000, "lists or objects within one another"),
        ("a.jsonl", "[" * 100_000 + "\n", "lists or objects within one another"),
    ],
)
def test_json_that_is_no_rows_says_why(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        read(tmp_path / name)


@pytest.mark.parametrize("depth", [101, 100_000])
def test_a_deep_line_costs_itself_alone(tmp_path: Path, depth: int) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(LINES + '{"prompt": ' + "[" * depth + "]" * depth + "}\n" + LINES)
    assert read(path) == ([ROW] * 6, [("too_deep", "line 4")])


def test_a_number_beyond_floats_stays_what_it_was(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"x": 1e400, "y": -1e400, "z": 1e300}\n')
    assert read(tmp_path / "a.jsonl")[0] == [{"x": "1e400", "y": "-1e400", "z": 1e300}]


@pytest.mark.parametrize("kind", [pyarrow.date32(), pyarrow.list_(pyarrow.date32())], ids=str)
def test_dates_that_python_has_not_are_text(tmp_path: Path, kind: pyarrow.DataType) -> None:
    dates = pyarrow.array([10_000_000, 0, None], pyarrow.int32()).cast(pyarrow.date32())
    expected: list[Any] = ["29349-01-26", "1970-01-01", None]
    if kind != pyarrow.date32():
        dates, expected = pyarrow.ListArray.from_arrays([0, 1, 2, 3], dates), [[date] for date in expected]
    pyarrow.parquet.write_table(pyarrow.table({"when": dates}), tmp_path / "a.parquet")
    assert [row["when"] for row in read(tmp_path / "a.parquet")[0]] == expected


def test_every_file_of_a_folder_is_read_or_named(tmp_path: Path) -> None:
    (tmp_path / "a.JSONL").write_text(LINES)
    (tmp_path / "b.jsonl.GZ").write_bytes(gzip.compress(LINES.encode()))
    (tmp_path / "c.csv.bz2").write_bytes(bz2.compress((HEADER + "q,c,r\n" * 3).encode()))
    (tmp_path / "d.json.xz").write_bytes(lzma.compress(LINES.encode()))
    (tmp_path / "e.tsv.zst").write_bytes(zstd(HEADER.replace(",", "\t") + "q\tc\tr\n" * 3))
    for name in ("notes.txt", "old.xlsx", "README.md", "LICENSE", ".hidden.jsonl"):
        (tmp_path / name).write_text("")
    (tmp_path / "README.jsonl").write_text(LINES)
    found = find_files(str(tmp_path))
    report = ReadReport()
    assert list(read_rows(found, report)) == [ROW] * 18
    assert {Path(file).name: rows for file, rows in report.rows.items()} == dict.fromkeys(
        ["README.jsonl", "a.JSONL", "b.jsonl.GZ", "c.csv.bz2", "d.json.xz", "e.tsv.zst"], 3
    )
    note = found.unread_note()
    assert note is not None
    assert "not read: notes.txt, old.xlsx (" in note
    assert "\n" not in note


def zstd(text: str) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(text.encode())
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("names", "held_back"),
    [
        (["train.jsonl", "test.jsonl"], ["test.jsonl"]),
        (["data/train_prefs-0.jsonl", "data/test_prefs-0.jsonl"], ["test_prefs-0.jsonl"]),
        (["train/0.jsonl", "validation/0.jsonl", "TEST/1.jsonl"], ["1.jsonl", "0.jsonl"]),
        (["pairs.jsonl", "dev.jsonl"], ["dev.jsonl"]),
        (["test.jsonl", "tests/a.jsonl"], []),
        (["latest.jsonl", "contest.jsonl", "value.jsonl"], []),
    ],
)
def test_files_named_after_tests_beside_others_are_warned_of(
    tmp_path: Path, names: list[str], held_back: list[str]
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(LINES)
    warning = find_files(str(tmp_path)).splits_warning()
    if held_back:
        assert warning is not None
        assert f"so that {', '.join(held_back)} will be trained on" in warning
    else:
        assert warning is None


def test_a_folder_of_save_to_disk_is_read_without_what_lies_beside(tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    datasets.Dataset.from_list([ROW] * 3).save_to_disk(folder)
    (folder / "cache-1.arrow").write_bytes(b"of a map")
    found = find_files(str(folder))
    assert list(read_rows(found)) == [ROW] * 3
    assert [file.name for file in found.unread] == ["cache-1.arrow"]


def test_patterns_and_the_home_folder_are_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("a1.jsonl", "a2.jsonl", "b.jsonl"):
        (tmp_path / name).write_text(LINES)
    assert [file.name for file in find_files("~/a*.jsonl").files] == ["a1.jsonl", "a2.jsonl"]
    assert find_files("~/b.jsonl").files == [tmp_path / "b.jsonl"]
    with pytest.raises(UserError, match="is an address, not a path"):
        find_files("https://example.org/a.jsonl")


def test_one_of_several_configurations_of_a_data_set(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    for name in ("good", "other"):
        (folder / name).mkdir(parents=True)
        (folder / name / "train.jsonl").write_text(json.dumps({**ROW, "prompt": name}) + "\n")
    configs = [f"- config_name: {name}\n  data_files: {name}/train.jsonl\n" for name in ("good", "other")]
    (folder / "README.md").write_text("---\nconfigs:\n" + "".join(configs) + "---\n")
    with pytest.raises(UserError, match=r"available configs: \['good', 'other'\]: name it in data\.config"):
        download_dataset(str(folder), "train", "main", tmp_path / "a.parquet")
    download_dataset(str(folder), "train", "main", tmp_path / "a.parquet", "good")
    assert read(tmp_path / "a.parquet")[0] == [{**ROW, "prompt": "good"}]


# Nothing lost: rows in = pairs + rejects, whatever the format, and the pairs are those that went in.

PIECES = [
    "a",
    "é",
    "🙂",
    " ",
    '"',
    '""',
    ",",
    ",,",
    "\t",
    ";",
    "\n",
    "\r\n",
    "\\",
    '\\"',
    "'",
    "[{",
    "null",
    "NA",
    "1.0",
]


def random_text(rng: random.Random, number: int) -> str:
    return f"{number} " + "".join(rng.choices(PIECES, k=rng.randrange(8)))


def quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"'


def delimited(rows: list[Any], rng: random.Random, delimiter: str) -> tuple[str, int]:
    """As CSV, with a row of too many or too few cells here and there; and how many of them."""
    lines, bad = [delimiter.join(ROW)], 0
    for row in rows:
        lines.append(delimiter.join(map(quoted, row.values())))
        if rng.random() < 0.2:
            lines.append(delimiter.join(["x"] * rng.choice([1, 2, 4, 5])))
            bad += 1
    return "\r\n".join(lines) + "\r\n", bad


def json_lines(rows: list[Any], rng: random.Random) -> tuple[str, int]:
    lines, bad = [], 0
    for row in rows:
        lines += [json.dumps(row, ensure_ascii=rng.random() < 0.5)] + [""] * rng.randrange(2)
        if rng.random() < 0.2:
            lines.append(rng.choice(['{"chosen": "c"}', '{"prompt": ' + "[" * 300 + "]" * 300 + "}", "{}"]))
            bad += 1
    return "\n".join(lines), bad


def json_document(rows: list[Any], rng: random.Random) -> tuple[str, int]:
    bad = [{}] * rng.randrange(3)
    return json.dumps({"rows": [*rows, *bad]}, indent=rng.choice([None, 2])), len(bad)


def table(rows: list[Any], rng: random.Random, write: Callable[[pyarrow.Table], bytes]) -> tuple[bytes, int]:
    bad = [dict.fromkeys(ROW)] * rng.randrange(3)
    return write(pyarrow.Table.from_pylist([*rows, *bad])), len(bad)


def parquet(of: pyarrow.Table) -> bytes:
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(of, sink)
    return sink.getvalue().to_pybytes()


def arrow(of: pyarrow.Table) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, of.schema) as writer:
        writer.write_table(of)
    return sink.getvalue().to_pybytes()


WRITERS: dict[str, Callable[[list[Any], random.Random], tuple[str | bytes, int]]] = {
    "csv": partial(delimited, delimiter=","),
    "tsv": partial(delimited, delimiter="\t"),
    "jsonl": json_lines,
    "ndjson": json_lines,
    "json": json_document,
    "parquet": partial(table, write=parquet),
    "arrow": partial(table, write=arrow),
}
COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("seed", range(15))
def test_rows_in_are_pairs_and_rejects(tmp_path: Path, kind: str, seed: int) -> None:
    rng = random.Random(f"{kind} {seed}")
    rows = [{name: random_text(rng, 10 * n + k) for k, name in enumerate(ROW)} for n in range(rng.randrange(1, 30))]
    content, bad = WRITERS[kind](rows, rng)
    content = content.encode() if isinstance(content, str) else content
    ending = rng.choice(["", *COMPRESS]) if kind not in ("parquet", "arrow") else ""
    path = tmp_path / f"a.{kind}{'.' * bool(ending)}{ending}"
    path.write_bytes(COMPRESS[ending](content) if ending else content)
    report = ReadReport()
    parsed = parse_pairs(read_rows(path, report), lambda row: pair_from_row(row, Columns(), "a"))
    add_rejects(parsed, report)
    assert parsed.rows == sum(report.rows.values()) == len(rows) + bad
    assert len(parsed.pairs) + len(parsed.rejects) == parsed.rows
    assert [(pair.prompt[0]["content"], pair.chosen, pair.rejected) for pair in parsed.pairs] == [
        tuple(row.values()) for row in rows
    ]
