"""Rows out of data files: JSONL, JSON, CSV and Parquet, plain or gzipped. No meaning is given to the columns here."""

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pandas as pd
import pyarrow.parquet

from reward_model.common.errors import UserError
from reward_model.data.conversations import chat_or_text

Row = dict[str, Any]


def read_rows(path: Path) -> Iterator[Row]:
    """Read the rows of a data file, or of all data files below a folder in the order of their names.

    Raises:
        UserError: nothing is there, the ending is unknown, or a file is not what its ending says.
    """
    files = data_files(path)
    if not files:
        raise UserError(f"{path} holds no data file: put a {_known_formats()} file there, or set data.path to one")
    for file in files:
        reader = READERS[_suffix(file)]
        try:
            yield from reader(file)
        except (OSError, EOFError, UnicodeDecodeError, ValueError, pyarrow.ArrowException) as error:
            raise UserError(f"{file} cannot be read: {' '.join(str(error).split())}") from None


def data_files(path: Path, key: str = "data.path") -> list[Path]:
    """The data files below a folder, in the order of their names, without hidden ones, or the file itself.

    Args:
        path: a file or a folder.
        key: of params.yaml, that says so.

    Raises:
        UserError: nothing is there, or the file's ending is unknown.
    """
    if path.is_dir():
        return sorted(p for p in path.rglob("*") if p.is_file() and _suffix(p) in READERS and not _is_hidden(p, path))
    if not path.exists():
        raise UserError(f"{path} not found: set {key} to a {_known_formats()} file, or to a folder of them")
    if _suffix(path) not in READERS:
        raise UserError(f"{path}: unknown format; {_known_formats()} files are read, also with .gz added")
    return [path]


def _is_hidden(path: Path, below: Path) -> bool:
    """Whether its name, or that of a folder between, begins with a dot: old versions, and what macOS puts beside."""
    return any(part.startswith(".") for part in path.relative_to(below).parts)


def _suffix(path: Path) -> str:
    return path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix


def _open_text(path: Path) -> IO[str]:
    """Open as UTF-8, through gzip where the name says so; line ends inside a record are kept."""
    opener = gzip.open if path.suffix == ".gz" else open
    return opener(path, "rt", encoding="utf-8-sig", newline="")  # type: ignore[return-value]


def _read_jsonl(path: Path) -> Iterator[Row]:
    with _open_text(path) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield _as_row(_parse_json(line, f"line {number}"), f"line {number}")


def _read_json(path: Path) -> Iterator[Row]:
    with _open_text(path) as file:
        rows = _parse_json(file.read(), "the file")
    if not isinstance(rows, list):
        raise ValueError("a list of objects is wanted")
    for number, row in enumerate(rows, 1):
        yield _as_row(row, f"item {number}")


def _read_csv(path: Path) -> Iterator[Row]:
    # All cells stay text: "NA", "1.0" and "" are answers people give.
    with _open_text(path) as file, pd.read_csv(file, dtype=str, keep_default_na=False, chunksize=4096) as chunks:
        for chunk in chunks:
            for row in chunk.to_dict("records"):
                yield {str(column): chat_or_text(cell) for column, cell in row.items()}


def _read_parquet(path: Path) -> Iterator[Row]:
    if path.suffix == ".gz":
        raise ValueError("Parquet is compressed inside; unpack the .gz")
    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(4096):
            yield from batch.to_pylist()


def _parse_json(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{place} is not JSON: {error.msg}") from None


def _as_row(value: Any, place: str) -> Row:
    if not isinstance(value, dict):
        raise ValueError(f"{place} is not an object")
    return value


def _known_formats() -> str:
    return ", ".join(sorted(READERS))


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
