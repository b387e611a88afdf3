"""The rows of an open file, and its bytes: plain or compressed, or those of stdin."""

import bz2
import codecs
import gzip
import io
import json
import lzma
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from reward_model.common.errors import UserError
from reward_model.common.files import reading
from reward_model.common.messages import Row
from reward_model.data.row_formats import chat_or_text, is_list_of_texts

STDIO = "-"  # stdin or stdout
LISTS = ("responses", "scores")  # columns of lists, whatever is in them
SIDES = ("chosen", "rejected")
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

Schema = dict[str, Any]


@dataclass(frozen=True)
class StreamedRow:
    """A row of a file.

    Attributes:
        values: as the file has them; what could not be read is under `line`.
        place: where in the file it stands.
        fault: why it could not be read.
        reason: what it is counted as, where its fault says nothing about the rows beside it.
    """

    values: Row
    place: str
    fault: str | None = None
    reason: str | None = None


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
        """The values of a row with the chats and lists that CSV has as text.

        Lists of texts are read where both sides are: one alone may well be an answer.
        """
        if not self.untyped:
            return values
        sides = {name: _list(values[name]) for name in SIDES if name in values}
        lists = sides if len(sides) == len(SIDES) and all(map(is_list_of_texts, sides.values())) else {}
        lists |= {name: _list(values[name]) for name in LISTS if name in values}
        return {name: chat_or_text(value) for name, value in values.items()} | lists


def open_bytes(source: str, open_files: ExitStack) -> io.BufferedReader:
    """The content of a file, decompressed by the ending of its name, or of stdin.

    Raises:
        UserError: the file cannot be read, or is UTF-16.
    """
    if source == STDIO:
        return cast(io.BufferedReader, sys.stdin.buffer)
    with reading(source):
        decompress = DECOMPRESS.get(compression(source), _plain)
        stream = open_files.enter_context(io.BufferedReader(cast(Any, decompress(source))))
        if stream.peek(2)[:2] in UTF_16:
            raise UserError(f"{source} cannot be read: it is UTF-16, save it as UTF-8")
    return stream


def compression(name: str) -> str:
    """The ending of a compressed file's name without the dot, in lower case; empty if it is none."""
    ending = Path(name).suffix.lower().removeprefix(".")
    return ending if ending in DECOMPRESS else ""


def _plain(source: str) -> IO[bytes]:
    return cast(IO[bytes], Path(source).open("rb", buffering=0))


def _zstd(source: str) -> IO[bytes]:
    try:
        import pyarrow
    except ModuleNotFoundError:
        raise UserError(f"{source}: for .zst, pip install pyarrow; .gz, .bz2 and .xz need nothing") from None
    return cast(IO[bytes], pyarrow.CompressedInputStream(pyarrow.OSFile(source), "zstd"))


def _list(cell: str) -> Any:
    with suppress(ValueError, RecursionError):
        return json.loads(cell)
    return cell


DECOMPRESS: dict[str, Callable[[str], Any]] = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open, "zst": _zstd}
