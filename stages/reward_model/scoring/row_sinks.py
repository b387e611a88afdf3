"""Rows streamed into JSON Lines, CSV and Parquet: every value passes through as it is, in constant memory."""

import csv
import io
import json
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import IO, Any, Protocol, cast

from reward_model.common.errors import UserError
from reward_model.common.files import writing
from reward_model.common.messages import Row
from reward_model.data.readers import file_format
from reward_model.data.row_streams import STDIO, Schema, compression

SINKS = ("jsonl", "csv", "parquet")


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


def check_target(target: str, stdio_format: str, *, has_columns: bool) -> None:
    """Refuse a file that cannot be written, or cannot hold the rows.

    Args:
        target: a file, or stdout (`-`) as `stdio_format`.
        stdio_format: jsonl or csv.
        has_columns: whether all rows have the same columns; rows of JSONL have keys of their own.

    Raises:
        UserError: why.
    """
    kind = stdio_format if target == STDIO else file_format(target)
    if kind not in SINKS:
        raise UserError(f"{target}: .jsonl, .csv and .parquet files are written")
    if ending := compression(target):
        raise UserError(f"{target}: compressed files are read, not written; leave the .{ending} out")
    if kind != "jsonl" and not has_columns:
        raise UserError(f"{target}: rows of JSONL have no fixed columns, so write them to a .jsonl file")


def check_files(source: str, target: str, stdio_format: str) -> None:
    """Refuse an output that cannot hold the rows of an input, by the endings of their names; as `check_target`."""
    kind = stdio_format if source == STDIO else file_format(source)
    check_target(target, stdio_format, has_columns=kind not in ("json", "jsonl", "ndjson"))


def open_sink(target: str, stdio_format: str, schema: Schema | None, position: int | None) -> RowSink:
    """Start a file by the ending of its name, or go on at the `position` where an earlier sink was.

    Args:
        target: a file, or stdout (`-`) as `stdio_format`.
        stdio_format: jsonl or csv.
        schema: the columns; None if rows have keys of their own, which only JSONL can hold.
        position: None for a new file.

    Raises:
        UserError: the file cannot be written, or cannot hold such rows.
    """
    check_target(target, stdio_format, has_columns=schema is not None)
    kind = stdio_format if target == STDIO else file_format(target)
    with writing(target):
        if kind == "parquet":
            return _parquet(target).ParquetSink(Path(target), cast(Schema, schema), position)
        stream = sys.stdout.buffer if target == STDIO else _open_at(Path(target), position)
        if kind == "jsonl":
            return _TextSink(stream, position, _jsonl_text)
        names = list(cast(Schema, schema))
        return _TextSink(
            stream,
            position,
            lambda rows: _csv_text([row.get(name) for name in names] for row in rows),
            header=_csv_text([names]),
        )


def _parquet(target: str) -> ModuleType:
    """The module for Parquet, which scoring can do without."""
    try:
        from reward_model.scoring import parquet_sink
    except ModuleNotFoundError as error:
        raise UserError(f"{target}: for Parquet, pip install {error.name}; .jsonl and .csv need nothing") from None
    return parquet_sink


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
    lines = (_json_line(row) for row in rows)
    # A lone surrogate becomes its escape, which JSON reads back.
    return "".join(lines).encode("utf-8", "backslashreplace")


def _json_line(row: Row) -> str:
    try:
        return json.dumps(row, ensure_ascii=False, default=str, allow_nan=False) + "\n"
    except ValueError:
        return json.dumps(_finite(row), ensure_ascii=False, default=str) + "\n"


def _finite(value: Any) -> Any:
    """The value with "NaN", "Infinity" and "-Infinity" as text, since JSON has no such numbers."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return json.dumps(value) if isinstance(value, float) and not math.isfinite(value) else value


def _csv_text(rows: Iterable[Iterable[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(map(_cell, row) for row in rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
