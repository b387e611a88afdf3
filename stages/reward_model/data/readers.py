"""Rows out of data files: JSON Lines, JSON, CSV and TSV, plain or compressed, Parquet and Arrow; stdin too.

Rows are streamed, every value as it is; no meaning is given to the columns here. `open_rows` gives a row that cannot be
read with a fault, for those that can go on without it; `read_rows` refuses the file, or counts the row.
"""

import glob
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType
from typing import Any

from reward_model.common.disk_list import DiskList
from reward_model.common.errors import UserError
from reward_model.common.messages import Row
from reward_model.common.paths import expand_home, refuse_address
from reward_model.data.csv_rows import open_csv, open_tsv
from reward_model.data.json_rows import open_json, open_jsonl
from reward_model.data.row_streams import DECOMPRESS, STDIO, RowStream, compression

SHOWN_FILES = 10
SAVED_STATE = "state.json"
BESIDE_DATA = ("dataset_info*.json", "dataset_dict.json", SAVED_STATE)  # as the datasets library writes them
TEXTS = ("README*", "LICEN[CS]E*")  # that nobody takes for data
HELD_BACK = re.compile(r"(?<![a-z])(tests?|val|valid|validation|dev|eval|held-?out)(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class DataFiles:
    """What stands at a path.

    Attributes:
        place: the path as given.
        files: the data files, in the order of their names.
        unread: other files, licences and the like aside.
    """

    place: str
    files: list[Path]
    unread: list[Path]

    @property
    def name(self) -> str:
        """The last part of the place that is no pattern, without its ending."""
        parts = [part for part in Path(self.place).parts if not glob.has_magic(part)]
        return parts[-1].split(".")[0] if parts else ""

    def unread_note(self) -> str | None:
        """One line that names the files that are not read."""
        if not self.unread:
            return None
        return f"note: {self.place}: not read: {_list_names(self.unread)} ({KNOWN} files are)"

    def splits_warning(self) -> str | None:
        """One line where some files, by their names or folders, are to be held back from training."""
        folder = os.path.commonpath([file.parent for file in self.files]) if self.files else ""
        held_back = [file for file in self.files if HELD_BACK.search(file.relative_to(folder).as_posix())]
        if not 0 < len(held_back) < len(self.files):
            return None
        return (
            f"warning: {self.place}: all files are read and split anew, so that {_list_names(held_back)} will be "
            "trained on, too; to leave files out, name the others in data.sources"
        )


@dataclass
class ReadReport:
    """What became of the rows of files.

    Attributes:
        rows: of each file, those included that could not be read.
        rejects: rows that could not be read, each with what it is counted as.
    """

    rows: dict[str, int] = field(default_factory=dict)
    rejects: DiskList[tuple[str, Row]] = field(default_factory=DiskList)

    def first_rejects(self) -> list[str]:
        """The first row of each reason, a line each."""
        first: dict[str, Row] = {}
        for reason, row in self.rejects:
            first.setdefault(reason, row)
        return [f"first {reason}: {row['file']}, {row['place']} {row['fault']}" for reason, row in first.items()]


def read_rows(source: Path | DataFiles, report: ReadReport | None = None) -> Iterator[Row]:
    """Read the rows of data files, or of the file or folder at a path.

    Args:
        source: what to read.
        report: takes rows that cannot be read where those beside them can; without it the file is refused.

    Raises:
        UserError: nothing is there, the ending is unknown, or a row cannot be read; or no row of a file can.
    """
    found = find_files(str(source)) if isinstance(source, Path) else source
    if not found.files:
        instead = f" (not read: {_list_names(found.unread)})" if found.unread else ""
        raise UserError(f"{found.place} holds no data file{instead}: put a {KNOWN} file there, or set data.path to one")
    for file in found.files:
        read, rejected = 0, 0
        with open_rows(str(file)) as stream:
            for row in stream.rows:
                read += 1
                if row.fault is None:
                    yield stream.typed(row.values)
                elif report is None or row.reason is None:
                    raise UserError(f"{file} cannot be read: {row.place} {row.fault}")
                else:
                    rejected += 1
                    fault = {"file": str(file), "place": row.place, "fault": row.fault, "values": row.values}
                    report.rejects.append((row.reason, fault))
        if report is not None:
            report.rows[str(file)] = read
            if rejected and rejected == read:
                first = report.rejects[-rejected][1]
                raise UserError(f"{file} cannot be read, not one row of it: {first['place']} {first['fault']}")


def find_files(text: str, key: str = "data.path") -> DataFiles:
    """The data files at a path: a file, all below a folder but hidden ones, or those that fit a pattern (`*.jsonl`).

    Args:
        text: the path; `~` is the home folder.
        key: of params.yaml, that says so.

    Raises:
        UserError: nothing is there.
    """
    refuse_address(text, key)
    path = expand_home(text)
    if not path.exists() and glob.has_magic(text):
        fitting = sorted(map(Path, glob.glob(str(path), recursive=True)))  # noqa: PTH207
        files = [file for file in fitting if file.is_file()]
    elif not path.exists():
        raise UserError(f"{path} not found: set {key} to a {KNOWN} file, or to a folder of them")
    elif path.is_file():
        return DataFiles(text, [path], [])
    else:
        files = [file for file in sorted(path.rglob("*")) if file.is_file() and not _is_hidden(file, path)]
    data = [file for file in files if file_format(file.name) in READERS and _is_data(file)]
    others = [file for file in files if file not in set(data) and not _is_like(file, (*BESIDE_DATA, *TEXTS))]
    return DataFiles(text, data, others)


@contextmanager
def open_rows(source: str, stdio_format: str = "jsonl") -> Iterator[RowStream]:
    """Open a file by the ending of its name, or stdin (`-`) as `stdio_format`.

    Raises:
        UserError: the file is not there, not readable, or not what its ending says; also while rows are read.
    """
    kind = stdio_format if source == STDIO else file_format(source)
    if kind not in READERS:
        raise UserError(f"{source}: unknown format; {KNOWN} files are read, also with {COMPRESSED} added")
    with ExitStack() as open_files:
        yield READERS[kind](source, open_files)


def file_format(name: str) -> str:
    """The ending of a file's name in lower case without the dot, that of compression aside: jsonl, csv or another."""
    path = Path(name)
    return (path.with_suffix("") if compression(name) else path).suffix[1:].lower()


def _is_hidden(path: Path, below: Path) -> bool:
    """Whether its name, or that of a folder between, begins with a dot: old versions, and what macOS puts beside."""
    return any(part.startswith(".") for part in path.relative_to(below).parts)


def _is_like(file: Path, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(file.name, pattern) for pattern in patterns)


def _is_data(file: Path) -> bool:
    """Whether it holds rows; of a folder that save_to_disk made, whether it is one of the files listed there."""
    state = file.with_name(SAVED_STATE)
    if file.suffix == ".arrow" and state.exists():
        try:
            return file.name in {item["filename"] for item in json.loads(state.read_text("utf-8"))["_data_files"]}
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{state} cannot be read: write the folder with save_to_disk again") from None
    return not _is_like(file, BESIDE_DATA)


def _list_names(files: list[Path]) -> str:
    names = [file.name for file in files[:SHOWN_FILES]]
    more = [f"and {len(files) - SHOWN_FILES} more"] if len(files) > SHOWN_FILES else []
    return ", ".join(names + more)


def _arrow_rows(source: str) -> ModuleType:
    """The module for Parquet and Arrow, which scoring can do without."""
    try:
        from reward_model.data import arrow_rows
    except ModuleNotFoundError as error:
        raise UserError(f"{source}: for Parquet, pip install {error.name}; JSON and CSV need nothing") from None
    return arrow_rows


READERS: dict[str, Callable[[str, ExitStack], Any]] = {
    "jsonl": open_jsonl,
    "ndjson": open_jsonl,
    "json": open_json,
    "csv": open_csv,
    "tsv": open_tsv,
    "parquet": lambda source, open_files: _arrow_rows(source).open_parquet(source, open_files),
    "arrow": lambda source, open_files: _arrow_rows(source).open_arrow(source, open_files),
}
KNOWN = ", ".join(f".{kind}" for kind in READERS)
COMPRESSED = ", ".join(f".{ending}" for ending in DECOMPRESS)
