"""Rows out of data files: JSON Lines, JSON, CSV and Parquet, the first three also gzipped; stdin too.

Rows are streamed, every value as it is; no meaning is given to the columns here. `open_rows` gives a row that cannot be
read with a fault, for those that can go on without it; `read_rows` refuses the file.
"""

import csv
import gzip
import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from reward_model.common.errors import UserError
from reward_model.common.files import reading
from reward_model.common.messages import Row, is_unicode
from reward_model.data.row_formats import chat_or_text

STDIO = "-"  # stdin or stdout
PARQUET_ROWS = 64  # rows in memory at a time

csv.field_size_limit(2**31 - 1)  # the library's 128 kB is less than a long answer

Schema = dict[str, Any]


@dataclass(frozen=True)
class StreamedRow:
    """A row of a file.

    Attributes:
        values: as the file has them; what could not be read is under `line`.
        place: where in the file it stands.
        fault: why it could not be read.
    """

    values: Row
    place: str
    fault: str | None = None


@dataclass(frozen=True)
class RowStream:
    """The rows of an open file.

    Attributes:
        rows: to be read once.
        schema: columns with their types, of Python or Arrow; None where every row has keys of its own (JSON).
        untyped: all values are text, chats and lists too (CSV).
    """

    rows: Iterator[StreamedRow]
    schema: Schema | None = None
    untyped: bool = False

    def typed(self, values: Row) -> Row:
        """The values of a row with the chats and lists that CSV has as text."""
        if not self.untyped:
            return values
        return {name: _list(value) if name == "responses" else chat_or_text(value) for name, value in values.items()}


def read_rows(path: Path) -> Iterator[Row]:
    """Read the rows of a data file, or of all data files below a folder in the order of their names.

    Raises:
        UserError: nothing is there, the ending is unknown, or a row cannot be read.
    """
    files = data_files(path)
    if not files:
        raise UserError(f"{path} holds no data file: put a {_known_formats()} file there, or set data.path to one")
    for file in files:
        with open_rows(str(file)) as stream:
            for row in stream.rows:
                if row.fault is not None:
                    raise UserError(f"{file} cannot be read: {row.place} {row.fault}")
                yield stream.typed(row.values)


def data_files(path: Path, key: str = "data.path") -> list[Path]:
    """The data files below a folder, in the order of their names, without hidden ones, or the file itself.

    Args:
        path: a file or a folder.
        key: of params.yaml, that says so.

    Raises:
        UserError: nothing is there, or the file's ending is unknown.
    """
    if path.is_dir():
        return sorted(
            p for p in path.rglob("*") if p.is_file() and file_format(p.name) in READERS and not _is_hidden(p, path)
        )
    if not path.exists():
        raise UserError(f"{path} not found: set {key} to a {_known_formats()} file, or to a folder of them")
    return [path]


@contextmanager
def open_rows(source: str, stdio_format: str = "jsonl") -> Iterator[RowStream]:
    """Open a file by the ending of its name, or stdin (`-`) as `stdio_format`.

    Raises:
        UserError: the file is not there, not readable, or not what its ending says; also while rows are read.
    """
    kind = stdio_format if source == STDIO else file_format(source)
    if kind not in READERS:
        raise UserError(f"{source}: unknown format; {_known_formats()} files are read, also with .gz added")
    with ExitStack() as open_files:
        yield READERS[kind](source, open_files)


def file_format(name: str) -> str:
    """The ending of a file's name without the dot, .gz aside: jsonl, json, csv, parquet or another."""
    path = Path(name)
    return (path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix)[1:]


def _is_hidden(path: Path, below: Path) -> bool:
    """Whether its name, or that of a folder between, begins with a dot: old versions, and what macOS puts beside."""
    return any(part.startswith(".") for part in path.relative_to(below).parts)


def _open_bytes(source: str, open_files: ExitStack) -> IO[bytes]:
    if source == STDIO:
        return sys.stdin.buffer
    with reading(source):
        if source.endswith(".gz"):
            return cast(IO[bytes], open_files.enter_context(gzip.open(source)))
        return open_files.enter_context(Path(source).open("rb"))


def _open_jsonl(source: str, open_files: ExitStack) -> RowStream:
    lines = _open_bytes(source, open_files)

    def rows() -> Iterator[StreamedRow]:
        with reading(source):
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _jsonl_row(line, f"line {number}")

    return RowStream(rows())


def _jsonl_row(line: bytes, place: str) -> StreamedRow:
    try:
        values = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return StreamedRow({"line": _shown(line)}, place, "is not UTF-8")
    except (ValueError, RecursionError) as error:
        return StreamedRow({"line": _shown(line)}, place, f"is not JSON: {error}")
    if not isinstance(values, dict):
        return StreamedRow({"line": _shown(line)}, place, "is not a JSON object")
    return StreamedRow(values, place)


def _shown(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip("\r\n")


def _open_json(source: str, open_files: ExitStack) -> RowStream:
    with reading(source):
        content = _open_bytes(source, open_files).read()
    try:
        rows = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source} cannot be read: it is not JSON: {error}") from None
    if not isinstance(rows, list):
        raise UserError(f"{source} cannot be read: a list of objects is wanted")
    return RowStream(_json_row(row, f"item {number}") for number, row in enumerate(rows, 1))


def _json_row(value: Any, place: str) -> StreamedRow:
    if isinstance(value, dict):
        return StreamedRow(value, place)
    return StreamedRow({"line": json.dumps(value)}, place, "is not a JSON object")


def _open_csv(source: str, open_files: ExitStack) -> RowStream:
    stream = _open_bytes(source, open_files)
    # What is not UTF-8 passes through as the bytes it was. All cells stay text: "NA", "1.0" and "" are answers.
    text = io.TextIOWrapper(cast(Any, stream), encoding="utf-8-sig", errors="surrogateescape", newline="")
    cells = csv.reader(text)
    with reading(source):
        header = next(cells, [])
    if not header or len(set(header)) < len(header) or not all(map(is_unicode, header)):
        raise UserError(f"{source}: the first line must be the columns' names, each of its own, in UTF-8")

    def rows() -> Iterator[StreamedRow]:
        with reading(source):
            for row in cells:
                if row:
                    yield _csv_row(header, row, f"line {cells.line_num}")

    return RowStream(rows(), dict.fromkeys(header, str), untyped=True)


def _csv_row(header: list[str], cells: list[str], place: str) -> StreamedRow:
    values = dict(zip(header, cells, strict=False))
    if len(cells) != len(header):
        surplus = "".join(f", {cell!r} too many" for cell in cells[len(header) :])
        return StreamedRow(values, place, f"has {len(cells)} cells, the header {len(header)}{surplus}")
    return StreamedRow(values, place, None if all(map(is_unicode, cells)) else "is not UTF-8")


def _list(cell: str) -> Any:
    with suppress(ValueError, RecursionError):
        return json.loads(cell)
    return cell


def _open_parquet(source: str, open_files: ExitStack) -> RowStream:
    if source.endswith(".gz"):
        raise UserError(f"{source} cannot be read: Parquet is compressed inside; unpack the .gz")
    try:  # scoring can do without it
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise UserError(f"{source}: for Parquet, pip install {error.name}; the other formats need nothing") from None

    @contextmanager
    def reading_arrow() -> Iterator[None]:
        try:
            with reading(source):
                yield
        except pyarrow.ArrowException as error:
            raise UserError(f"{source} cannot be read: {' '.join(str(error).split())}") from None

    with reading_arrow():
        file = open_files.enter_context(pyarrow.parquet.ParquetFile(source))

    def rows() -> Iterator[StreamedRow]:
        with reading_arrow():
            for batch in file.iter_batches(PARQUET_ROWS):
                yield from (StreamedRow(values, "a row") for values in batch.to_pylist())

    return RowStream(rows(), {field.name: field.type for field in file.schema_arrow})


def _known_formats() -> str:
    return ", ".join(f".{kind}" for kind in READERS)


READERS: dict[str, Callable[[str, ExitStack], RowStream]] = {
    "jsonl": _open_jsonl,
    "json": _open_json,
    "csv": _open_csv,
    "parquet": _open_parquet,
}
