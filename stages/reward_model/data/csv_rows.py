"""Rows of CSV and TSV, read strictly: where quotes could be meant in two ways, the row has a fault."""

import csv
import io
import re
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, suppress

from reward_model.common.errors import UserError
from reward_model.common.files import reading
from reward_model.common.messages import is_unicode
from reward_model.data.row_streams import RowStream, StreamedRow, open_bytes

csv.field_size_limit(2**31 - 1)  # the library's 128 kB is less than a long answer

WRONG_CELLS = "wrong_cells"
# A quote after a backslash, none of them doubled: it ends the cell, or, as Spark and MySQL write, is part of the text.
BACKSLASH_QUOTE = re.compile(r'(?<!\\)(?:\\\\)*\\"(?!")')
DOUBLE_THEM = 'write a quote inside of a cell as ""'


def open_csv(source: str, open_files: ExitStack, delimiter: str = ",") -> RowStream:
    """Open a CSV file, whose first line must be a header.

    Cells may also stand between commas, semicolons or tabs: programs write what the country's numbers leave free.

    Raises:
        UserError: the file cannot be read, or its header has no names, or one name twice; also while rows are read.
    """
    stream = open_bytes(source, open_files)
    # What is not UTF-8 passes through as the bytes it was. All cells stay text: "NA", "1.0" and "" are answers.
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    lines = _Lines(text)
    with reading(source):
        header, delimiter = _read_header(lines, delimiter)
    if not header:
        raise UserError(f"{source} is empty, or its first line is: it must have the columns' names")
    if len(set(header)) < len(header) or not all(map(is_unicode, header)):
        raise UserError(f"{source}: the first line must be the columns' names, each of its own, in UTF-8")

    def rows() -> Iterator[StreamedRow]:
        with reading(source):
            yield from _rows(lines, header, delimiter)

    return RowStream(rows(), dict.fromkeys(header, str), untyped=True)


def open_tsv(source: str, open_files: ExitStack) -> RowStream:
    """Open a file of cells between tabs, quoted as in CSV; as `open_csv`."""
    return open_csv(source, open_files, "\t")


def _read_header(lines: "_Lines", delimiter: str) -> tuple[list[str], str]:
    """The names in the first line, and what stands between them: what gives the next row as many cells."""
    for tried in dict.fromkeys((delimiter, ",", ";", "\t")):
        lines.go_back(0)
        with suppress(csv.Error):
            header = next(csv.reader(lines, delimiter=tried, strict=True), [])
            end = len(lines.record)
            row = next(csv.reader(lines, delimiter=tried, strict=True), header)
            lines.go_back(end)
            if len(row) == len(header) > 1:
                return header, tried
    lines.go_back(0)
    return next(csv.reader(lines, delimiter=delimiter, strict=True), []), delimiter


class _Lines:
    """The lines of a text, with those of the record being read, which can be given once more."""

    def __init__(self, text: Iterator[str]) -> None:
        self._text = text
        self._again: deque[str] = deque()
        self.number = 0
        self.record: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._text)
        self.number += 1
        self.record.append(line)
        return line

    def go_back(self, kept: int) -> None:
        """Give the lines of the record after the first `kept` again."""
        again = self.record[kept:]
        self._again.extendleft(reversed(again))
        self.number -= len(again)
        del self.record[kept:]


def _rows(lines: _Lines, header: list[str], delimiter: str) -> Iterator[StreamedRow]:
    records = csv.reader(lines, delimiter=delimiter, strict=True)
    broken = False
    while True:
        lines.record.clear()
        place = f"line {lines.number + 1}"
        try:
            cells = next(records, None)
            fault = None if cells is None else _quote_fault(lines.record, cells, len(header), delimiter, broken=broken)
        except csv.Error as error:
            cells, fault = [], _describe(error, lines.record)
        if fault is not None:
            broken = True
            first = next(csv.reader(lines.record[:1], delimiter=delimiter))
            yield StreamedRow(dict(zip(header, first, strict=False)), place, fault)
            _skip_record(lines, len(header), delimiter)
        elif cells is None:
            return
        elif cells:
            yield _row(header, cells, place)


def _row(header: list[str], cells: list[str], place: str) -> StreamedRow:
    values = dict(zip(header, cells, strict=False))
    if len(cells) != len(header):
        surplus = "".join(f", {cell!r} too many" for cell in cells[len(header) :])
        return StreamedRow(values, place, f"has {len(cells)} cells, the header {len(header)}{surplus}", WRONG_CELLS)
    return StreamedRow(values, place, None if all(map(is_unicode, cells)) else "is not UTF-8")


def _quote_fault(record: list[str], cells: list[str], width: int, delimiter: str, *, broken: bool) -> str | None:
    """Why the cells may not be those that were meant, if so.

    Args:
        record: its lines.
        cells: as read.
        width: the number of columns.
        delimiter: between cells.
        broken: whether quotes before it were; then it may have begun inside of a cell.
    """
    text = "".join(record)
    if BACKSLASH_QUOTE.search(text):
        cell = rf'(?:"(?:[^"\\]|\\.)*"|[^"{delimiter}]*)'  # with a backslash before each quote of its text
        escaped = rf"{cell}(?:{delimiter}{cell}){{{width - 1}}}"
        if len(cells) != width or re.fullmatch(escaped, text.rstrip("\r\n"), re.DOTALL):
            return f'has \\", which can be read in two ways: {DOUBLE_THEM}'
    if broken and any('"' in cell and '"' + cell.replace('"', '""') + '"' not in text for cell in cells):
        return "has a quote in a cell without quotes, after a row whose quotes were broken"
    return None


def _describe(error: csv.Error, record: list[str]) -> str:
    if BACKSLASH_QUOTE.search("".join(record)):
        return f"has quotes as \\\": {DOUBLE_THEM} (in Spark, escape='\"')"
    if "end of data" in str(error):
        return f"opens a quote that is never closed: {DOUBLE_THEM}"
    return f"has text after a closing quote: {DOUBLE_THEM}"


def _skip_record(lines: _Lines, width: int, delimiter: str) -> None:
    """Go on behind a record with backslashes before its quotes, or else in the line after its first."""
    has_backslash = BACKSLASH_QUOTE.search("".join(lines.record)) is not None
    lines.go_back(0)
    if not (has_backslash and len(_escaped_cells(lines, delimiter)) == width):
        lines.go_back(0)
        next(lines)


def _escaped_cells(lines: Iterator[str], delimiter: str) -> list[str]:
    """The cells of the first record, if a backslash stands before each quote of the text; none if it cannot be so."""
    try:
        return next(csv.reader(lines, delimiter=delimiter, strict=True, doublequote=False, escapechar="\\"), [])
    except csv.Error:
        return []
