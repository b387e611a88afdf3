"""Parquet for `row_sinks`: every column keeps its type."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from reward_model.common.files import new_file
from reward_model.common.messages import Row

ROW_GROUP = 8192  # rows in a row group of the files written
ARROW_TYPES: dict[Any, pyarrow.DataType] = {
    str: pyarrow.string(),
    float: pyarrow.float64(),
    int: pyarrow.int64(),
    bool: pyarrow.bool_(),
    list: pyarrow.list_(pyarrow.float64()),
}


class ParquetSink:
    """A file that is written row by row. It cannot be read until it is complete, so rows go into parts first.

    Args:
        target: the file.
        schema: its columns with their types, of Python or Arrow.
        position: how many parts there are already; None for a new file.
    """

    def __init__(self, target: Path, schema: dict[str, Any], position: int | None) -> None:
        self._target = target
        self._schema = pyarrow.schema([(name, ARROW_TYPES.get(of, of)) for name, of in schema.items()])
        self._parts = target.with_name(f"{target.name}.parts")
        self._count = position or 0
        self._is_new = position is None

    def begin(self) -> None:
        """Drop the parts of another run."""
        if self._is_new:
            shutil.rmtree(self._parts, ignore_errors=True)
        self._parts.mkdir(parents=True, exist_ok=True)

    def write(self, rows: Sequence[Row]) -> None:
        """Write a part."""
        with new_file(self._part(self._count)) as path:
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist([_readable(row) for row in rows], self._schema), path)
        self._count += 1

    def position(self) -> int:
        """The parts written."""
        return self._count

    def finish(self) -> None:
        """Join the parts."""
        waiting: list[pyarrow.Table] = []
        with new_file(self._target) as path, pyarrow.parquet.ParquetWriter(path, self._schema) as writer:
            for number in range(self._count):
                waiting.append(pyarrow.parquet.read_table(self._part(number)))
                if sum(map(len, waiting)) >= ROW_GROUP or number == self._count - 1:
                    writer.write_table(pyarrow.concat_tables(waiting))
                    waiting.clear()

    def discard_parts(self) -> None:
        """Remove the parts; the file has their rows."""
        shutil.rmtree(self._parts)

    def _part(self, number: int) -> Path:
        return self._parts / f"{number:08d}.parquet"


def _readable(row: Row) -> Row:
    """CSV can hold bytes that are no text; Parquet cannot."""
    return {
        name: value.encode("utf-8", "surrogateescape").decode("utf-8", "replace") if isinstance(value, str) else value
        for name, value in row.items()
    }
