"""Rows of Parquet, and of Arrow, as `save_to_disk` of the datasets library writes it. Scoring can do without it."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pyarrow
import pyarrow.parquet
from pyarrow import types

from reward_model.common.errors import UserError
from reward_model.common.files import reading
from reward_model.data.row_streams import RowStream, StreamedRow, compression

BATCH_ROWS = 64  # in memory at a time
NOT_PYTHON = (OverflowError, ValueError, KeyError)  # a date that Python has not, a time zone that the machine has not
ARROW_FILE = b"ARROW1"  # how one begins that is no stream


def open_parquet(source: str, open_files: ExitStack) -> RowStream:
    """Open a Parquet file.

    Raises:
        UserError: the file cannot be read, or has two columns of a name; also while rows are read.
    """
    _refuse_compressed(source)
    with _reading_arrow(source):
        file = open_files.enter_context(pyarrow.parquet.ParquetFile(source))
        return _row_stream(source, file.schema_arrow, lambda names: file.iter_batches(BATCH_ROWS, columns=names))


def open_arrow(source: str, open_files: ExitStack) -> RowStream:
    """Open an Arrow file or stream; as `open_parquet`."""
    _refuse_compressed(source)

    def batches(names: list[str]) -> Iterator[pyarrow.RecordBatch]:
        for batch in _record_batches(source):
            for start in range(0, batch.num_rows, BATCH_ROWS):
                yield batch.select(names).slice(start, BATCH_ROWS)

    with _reading_arrow(source), pyarrow.OSFile(source) as file:
        schema = _open_ipc(file).schema
        return _row_stream(source, schema, batches)


def _record_batches(source: str) -> Iterator[pyarrow.RecordBatch]:
    with pyarrow.OSFile(source) as file:
        reader = _open_ipc(file)
        if isinstance(reader, pyarrow.RecordBatchFileReader):
            yield from map(reader.get_batch, range(reader.num_record_batches))
        else:
            yield from reader


def _open_ipc(file: pyarrow.NativeFile) -> Any:
    is_file = file.read(len(ARROW_FILE)) == ARROW_FILE
    file.seek(0)
    return pyarrow.ipc.open_file(file) if is_file else pyarrow.ipc.open_stream(file)


def _row_stream(
    source: str, schema: pyarrow.Schema, batches: Callable[[list[str]], Iterable[pyarrow.RecordBatch]]
) -> RowStream:
    if len(set(schema.names)) < len(schema.names):
        raise UserError(f"{source} cannot be read: it has two columns of one name")
    for place, field in enumerate(schema):
        if _as_text(field.type) != field.type and not _is_python(batches([field.name])):
            schema = schema.set(place, field.with_type(_as_text(field.type)))

    def rows() -> Iterator[StreamedRow]:
        with _reading_arrow(source):
            for batch in batches(schema.names):
                cast = batch if batch.schema.equals(schema) else batch.cast(schema)
                yield from (StreamedRow(values, "a row") for values in cast.to_pylist())

    return RowStream(rows(), {field.name: field.type for field in schema})


def _is_python(batches: Iterable[pyarrow.RecordBatch]) -> bool:
    """Whether Python has all values."""
    try:
        for batch in batches:
            batch.to_pylist()
    except NOT_PYTHON:
        return False
    return True


def _as_text(of: pyarrow.DataType) -> pyarrow.DataType:
    """The type with text in place of dates and times."""
    if types.is_temporal(of):
        return pyarrow.string()
    if types.is_list(of):
        return pyarrow.list_(of.value_field.with_type(_as_text(of.value_type)))
    if types.is_struct(of):
        return pyarrow.struct([field.with_type(_as_text(field.type)) for field in of])
    return of


def _refuse_compressed(source: str) -> None:
    if ending := compression(source):
        raise UserError(f"{source} cannot be read: Parquet and Arrow are compressed inside; unpack the .{ending}")


@contextmanager
def _reading_arrow(source: str) -> Iterator[None]:
    try:
        with reading(source):
            yield
    except (pyarrow.ArrowException, *NOT_PYTHON) as error:
        raise UserError(f"{source} cannot be read: {' '.join(str(error).split())}") from None
