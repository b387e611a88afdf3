"""Parquet tables that one stage writes and another reads."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from reward_model.common.files import missing_input, new_file

GROUP_ROWS = 10_000  # of a row group, at least: as many are in memory while they are written


def read_parquet(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a Parquet file that an earlier stage made, lists as lists.

    Raises:
        UserError: the file is absent.
    """
    try:
        return pyarrow.parquet.read_table(path).to_pylist()
    except FileNotFoundError:
        raise missing_input(path) from None


def write_parquet(target: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows; a key that some of them lack is null there."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [row.get(name) for row in rows] for name in names}
    with new_file(target) as path:
        pyarrow.parquet.write_table(pyarrow.Table.from_pydict(columns), path)


def write_tables(target: Path, tables: Iterable[pyarrow.Table], schema: pyarrow.Schema) -> None:
    """Write the rows of many small tables as they come."""
    group, rows = [schema.empty_table()], 0
    with new_file(target) as path, pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for table in tables:
            group.append(table)
            rows += table.num_rows
            if rows >= GROUP_ROWS:
                writer.write_table(pyarrow.concat_tables(group).combine_chunks())
                group, rows = [], 0
        if group:
            writer.write_table(pyarrow.concat_tables(group).combine_chunks())
