"""Rows of JSON: an object a line, or a document with a list of objects."""

import json
import math
import re
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from typing import Any

from reward_model.common.errors import UserError
from reward_model.common.files import reading
from reward_model.data.row_streams import RowStream, StreamedRow, open_bytes

MAX_DEPTH = 100  # of lists and objects within one another; what walks through values calls itself for each
TOO_DEEP = "too_deep"
DEEP = f"has more than {MAX_DEPTH} lists or objects within one another"


# A line that opens an object of several lines, or a list of objects.
DOCUMENT = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:\{\s*$|\[\s*(?:\{|$))")


def open_jsonl(source: str, open_files: ExitStack) -> RowStream:
    """Open JSON Lines, objects that take several lines each, or a list of objects.

    Raises:
        UserError: the file cannot be read; also while rows are read.
    """
    lines = open_bytes(source, open_files)
    with reading(source):
        head = _head(lines, 1)
        if head and DOCUMENT.match(head[-1]):
            return RowStream(_document_rows(source, b"".join(chain(head, lines))))
    return RowStream(_line_rows(source, chain(head, lines)))


def open_json(source: str, open_files: ExitStack) -> RowStream:
    """Open a JSON document: a list of objects, or an object with one such list in it. JSON Lines are read, too.

    Raises:
        UserError: the file cannot be read, or holds something else.
    """
    lines = open_bytes(source, open_files)
    with reading(source):
        head = _head(lines, 2)
        filled = [line for line in head if line.strip()]
        if len(filled) > 1 and _line_row(filled[0], "").fault is None:
            return RowStream(_line_rows(source, chain(head, lines)))
        return RowStream(_document_rows(source, b"".join(chain(head, lines))))


def _head(lines: Iterator[bytes], count: int) -> list[bytes]:
    """The first lines, up to `count` that are not blank."""
    head = []
    for line in lines:
        head.append(line)
        count -= bool(line.strip())
        if not count:
            break
    return head


def _line_rows(source: str, lines: Iterator[bytes]) -> Iterator[StreamedRow]:
    with reading(source):
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _line_row(line, f"line {number}")


def _line_row(line: bytes, place: str) -> StreamedRow:
    values = {"line": line.decode("utf-8", "replace").rstrip("\r\n")}
    try:
        parsed = DECODER.decode(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return StreamedRow(values, place, "is not UTF-8")
    except ValueError as error:
        return StreamedRow(values, place, f"is not JSON: {_fault(error)}")
    except RecursionError:
        return StreamedRow(values, place, DEEP, TOO_DEEP)
    if not isinstance(parsed, dict):
        return StreamedRow(values, place, "is not a JSON object")
    if line.count(b"[") + line.count(b"{") > MAX_DEPTH and _is_deep(parsed):
        return StreamedRow(values, place, DEEP, TOO_DEEP)
    return StreamedRow(parsed, place)


def _fault(error: ValueError) -> str:
    """What is wrong within a line, whose number is told already."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg}, at character {error.pos + 1}"
    return str(error)


def _document_rows(source: str, content: bytes) -> Iterator[StreamedRow]:
    try:
        values = _parse_all(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise UserError(f"{source} cannot be read: it is not UTF-8") from None
    except ValueError as error:
        raise UserError(f"{source} cannot be read: it is not JSON: {error}") from None
    except RecursionError:
        raise UserError(f"{source} cannot be read: it {DEEP}") from None
    rows = _list_of_objects(values[0]) if len(values) == 1 else values
    if rows is None:
        raise UserError(f"{source} cannot be read: a list of objects is wanted (pandas: orient='records')")
    return (_item_row(value, f"item {number}") for number, value in enumerate(rows, 1))


def _parse_all(text: str) -> list[Any]:
    """The values that follow one another in the text: one, or an object for each row."""
    values = []
    place = 0
    while left := text[place : place + 1]:
        if left.isspace():
            place += 1
            continue
        value, place = DECODER.raw_decode(text, place)
        values.append(value)
    return values or [DECODER.decode(text)]


def _list_of_objects(document: Any) -> list[Any] | None:
    """The document, if it is a list; else the one list of objects in it that is no chat."""
    if isinstance(document, list):
        return document
    if not isinstance(document, dict):
        return None
    lists = [value for value in document.values() if isinstance(value, list) and any(map(_is_row, value))]
    return lists[0] if len(lists) == 1 else None


def _is_row(value: Any) -> bool:
    return isinstance(value, dict) and not {"role", "from"} & set(value)


def _item_row(value: Any, place: str) -> StreamedRow:
    if _is_deep(value):
        return StreamedRow({"line": place}, place, DEEP, TOO_DEEP)
    if isinstance(value, dict):
        return StreamedRow(value, place)
    return StreamedRow({"line": json.dumps(value)}, place, "is not a JSON object")


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for outer in level
            if isinstance(outer, dict | list)
            for item in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return any(isinstance(value, dict | list) for value in level)


def _number(text: str) -> float | str:
    """The number, or its text where a float would be infinite, which JSON cannot say."""
    number = float(text)
    return number if math.isfinite(number) else text


DECODER = json.JSONDecoder(parse_float=_number)
