"""Rows streamed out of and into JSONL, CSV and Parquet: every value passes through as it is, in constant memory.

Other than `readers`, which refuses a file with a bad line, these give such a line as a row with a fault.
"""

import csv
import gzip
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, Any, Protocol, cast

from reward_model.common.errors import UserError
from reward_model.common.files import reading, writing
from reward_model.common.messages import Row, is_unicode
from reward_model.data.conversations import chat_or_text

STANDARD = "-"  # stdin or stdout

csv.field_size_limit(2**31 - 1)  # the library's 128 kB is less than a long answer


Schema = dict[str, Any]


@dataclass(frozen=True)
class StreamedRow:
    """A row of a file.

    Attributes:
        values: as the file has them; what could not be read is under `line`.
        fault: why it could not be read.
    """

    values: Row
    fault: str | None = None


@dataclass(frozen=True)
class RowStream:
    """The rows of an open file.

    Attributes:
        rows: to be read once.
        schema: columns with their types, of Python or Arrow; None for JSONL, where every row has keys of its own.
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


class RowSink(Protocol):
    """A file being written."""

    def begin(self) -> None:
        """Drop what the file holds after the position: until then it is as it was."""
        ...

    def write(self, rows: Sequence[Row]) -> None:
        """Add whole rows, or none if it fails."""
        ...

    def position(self) -> int:
        """What `open_sink` needs to go on from here."""
        ...

    def finish(self) -> None:
        """Complete the file."""
        ...

    def discard_parts(self) -> None:
        """Remove what only going on needs."""
        ...


@contextmanager
def open_rows(source: str, stdio_format: str) -> Iterator[RowStream]:
    """Open a file by the ending of its name, or stdin (`-`) as `stdio_format`.

    Raises:
        UserError: the file is not there, not readable, or not what its ending says; also while rows are read.
    """
    kind = choose_format(source, stdio_format)
    with ExitStack() as open_files:
        if kind == "parquet":
            rows, schema = _parquet(source).open_parquet(source, open_files)
            yield RowStream(map(StreamedRow, rows), schema)
            return
        with reading(source):
            text = _open_bytes(source, open_files)
            stream = _csv_stream(text, source) if kind == "csv" else RowStream(_jsonl_rows(text, source))
        yield stream


def open_sink(target: str, stdio_format: str, schema: Schema | None, position: int | None) -> RowSink:
    """Start a file by the ending of its name, or go on at the `position` where an earlier sink was.

    Args:
        target: a file, or stdout (`-`) as `stdio_format`.
        standard_format: jsonl or csv.
        schema: the columns; None if rows have keys of their own, which only JSONL can hold.
        position: None for a new file.

    Raises:
        UserError: the file cannot be written, or cannot hold such rows.
    """
    kind = choose_format(target, stdio_format)
    if target.endswith(".gz"):
        raise UserError(f"{target}: compressed files are read, not written; leave the .gz out")
    if kind != "jsonl" and schema is None:
        raise UserError(f"{target}: rows of JSONL have no fixed columns, so write them to a .jsonl file")
    with writing(target):
        if kind == "parquet":
            return _parquet(target).ParquetSink(Path(target), cast(Schema, schema), position)
        stream = sys.stdout.buffer if target == STANDARD else _open_at(Path(target), position)
        if kind == "jsonl":
            return _TextSink(stream, position, _jsonl_text)
        names = list(cast(Schema, schema))
        return _TextSink(
            stream,
            position,
            lambda rows: _csv_text([row.get(name) for name in names] for row in rows),
            header=_csv_text([names]),
        )


def choose_format(name: str, stdio_format: str) -> str:
    """jsonl, csv or parquet.

    Raises:
        UserError: the ending is none of these.
    """
    if name == STANDARD:
        return stdio_format
    path = Path(name)
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if suffix not in (".jsonl", ".csv", ".parquet") or (suffix == ".parquet" and path.suffix == ".gz"):
        raise UserError(f"{name}: .jsonl, .csv and .parquet files are scored, the first two also with .gz added")
    return suffix[1:]


def _parquet(target: str) -> ModuleType:
    """The module for Parquet, which scoring can do without."""
    try:
        from reward_model.scoring import parquet_streams
    except ModuleNotFoundError as error:
        raise UserError(f"{target}: for Parquet, pip install {error.name}; .jsonl and .csv need nothing") from None
    return parquet_streams


def _open_bytes(source: str, open_files: ExitStack) -> IO[bytes]:
    if source == STANDARD:
        return sys.stdin.buffer
    if source.endswith(".gz"):
        return cast(IO[bytes], open_files.enter_context(gzip.open(source)))
    return open_files.enter_context(Path(source).open("rb"))


def _jsonl_rows(stream: Iterable[bytes], source: str) -> Iterator[StreamedRow]:
    with reading(source):
        for line in stream:
            if line.strip():
                yield _jsonl_row(line)


def _jsonl_row(line: bytes) -> StreamedRow:
    try:
        values = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return StreamedRow({"line": _shown(line)}, "the line is not UTF-8")
    except (ValueError, RecursionError) as error:
        return StreamedRow({"line": _shown(line)}, f"the line is not JSON: {error}")
    if not isinstance(values, dict):
        return StreamedRow({"line": _shown(line)}, "the line is not a JSON object")
    return StreamedRow(values)


def _shown(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip("\r\n")


def _csv_stream(stream: IO[bytes], source: str) -> RowStream:
    # What is not UTF-8 passes through as the bytes it was.
    text = io.TextIOWrapper(cast(Any, stream), encoding="utf-8-sig", errors="surrogateescape", newline="")
    cells = csv.reader(text)
    header = next(cells, [])
    if not header or len(set(header)) < len(header) or not all(map(is_unicode, header)):
        raise UserError(f"{source}: the first line must be the columns' names, each of its own, in UTF-8")
    return RowStream(_csv_rows(header, cells, source), dict.fromkeys(header, str), untyped=True)


def _csv_rows(header: list[str], rows: Iterable[list[str]], source: str) -> Iterator[StreamedRow]:
    with reading(source):
        for cells in rows:
            if cells:
                yield _csv_row(header, cells)


def _csv_row(header: list[str], cells: list[str]) -> StreamedRow:
    values = dict(zip(header, cells, strict=False))
    if len(cells) != len(header):
        surplus = "".join(f", {cell!r} too many" for cell in cells[len(header) :])
        return StreamedRow(values, f"the row has {len(cells)} cells, the header {len(header)}{surplus}")
    return StreamedRow(values, None if all(map(is_unicode, cells)) else "the row is not UTF-8")


def _list(cell: str) -> Any:
    with suppress(ValueError, RecursionError):
        return json.loads(cell)
    return cell


def _open_at(path: Path, position: int | None) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    if position is not None and (not path.exists() or path.stat().st_size < position):
        raise UserError(f"{path} has lost rows since it was interrupted: score without --resume")
    return cast(IO[bytes], path.open("ab", buffering=0))


class _TextSink:
    """JSONL or CSV; what a failed write left is taken back, so that the file is whole rows at all times."""

    def __init__(
        self,
        stream: IO[bytes],
        position: int | None,
        to_text: Callable[[Sequence[Row]], bytes],
        header: bytes = b"",
    ) -> None:
        self._stream = stream
        self._start = position
        self._to_text = to_text
        self._header = header
        self._is_file = stream is not sys.stdout.buffer

    def begin(self) -> None:
        if self._is_file and self._stream.seekable():
            self._stream.seek(self._start or 0)
            with suppress(OSError):  # devices cannot be cut
                self._stream.truncate()
        if self._start is None:
            self._write_text(self._header)

    def write(self, rows: Sequence[Row]) -> None:
        self._write_text(self._to_text(rows))

    def _write_text(self, text: bytes) -> None:
        start = self.position()
        try:
            left = memoryview(text)
            while left:
                left = left[self._stream.write(left) :]
            self._stream.flush()
        except BaseException:
            if self._is_file:
                with suppress(OSError):  # devices cannot be cut
                    self._stream.truncate(start)
            raise

    def position(self) -> int:
        return self._stream.tell() if self._is_file and self._stream.seekable() else 0

    def finish(self) -> None:
        if self._is_file:
            self._stream.close()

    def discard_parts(self) -> None:
        """There are none."""


def _jsonl_text(rows: Iterable[Row]) -> bytes:
    lines = (json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)
    # A lone surrogate becomes its escape, which JSON reads back.
    return "".join(lines).encode("utf-8", "backslashreplace")


def _csv_text(rows: Iterable[Iterable[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(map(_cell, row) for row in rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
