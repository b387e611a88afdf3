"""Score the rows of a file into another file: whole rows at all times, and resumable.

What interrupted runs have done is in TARGET.progress; it goes when the file is complete.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from tqdm import tqdm

from reward_model.common.errors import UserError
from reward_model.common.files import read_json, write_json, writing
from reward_model.common.messages import Row
from reward_model.contract.encoder import EncodedResponses
from reward_model.data.readers import open_rows
from reward_model.data.row_streams import STDIO, RowStream, Schema, StreamedRow
from reward_model.scoring.row_sinks import open_sink
from reward_model.scoring.rows import ERROR, RESULTS, WANTED, ParsedRow, row_kind
from reward_model.scoring.scorer import Scorer

# A window is read, scored (sorted by length) and written at a time.
WINDOW_BATCHES = 16
WINDOW_CHARACTERS = 10_000_000


@dataclass(frozen=True)
class FileReport:
    """What became of a file: its rows, how many of them have an error instead of a reward, and how many were cut.

    Attributes:
        first_error: which row has the first one, counted from 1, and what it says.
    """

    rows: int
    errors: int
    cut: int = 0
    first_error: str | None = None


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        rows: rows written.
        errors: those of them with an error.
        cut: those of them that were too long.
        first_error: as of `FileReport`.
        position: the sink's.
        digest: of all rows that were read.
        fingerprint: the scorer's.
    """

    rows: int = 0
    errors: int = 0
    cut: int = 0
    first_error: str | None = None
    position: int | None = None
    digest: str = ""
    fingerprint: str = ""


def score_rows_of_file(
    scorer: Scorer, source: str, target: str, *, resume: bool, progress: bool, stdio_format: str
) -> FileReport:
    """Score `source` into `target`; `-` is stdin or stdout, in `stdio_format`.

    Raises:
        UserError: a file cannot be read or written, it holds nothing to score, or what is to be resumed was begun
            with another input or another model.
    """
    if target != STDIO and Path(target).resolve() == Path(source).resolve():
        raise UserError(f"{target} is the input: give the output another name")
    if resume and target == STDIO:
        raise UserError("only a file can be resumed, not stdout")
    bar = tqdm(total=count_rows(source, stdio_format) if progress else None, unit="row", disable=not progress)
    with bar, open_rows(source, stdio_format) as stream:
        output = ScoredFile(stream, source, target, scorer.fingerprint, resume=resume, stdio_format=stdio_format)
        bar.update(output.rows)
        for window in split_windows(stream.rows, scorer.batch_size):
            output.write(window, score_window(scorer, stream, window))
            bar.update(len(window))
        return output.finish()


@dataclass(frozen=True)
class ScoredWindow:
    """The columns that each row of a window gets, how many rows have an error, and how many were cut."""

    results: list[Row]
    errors: int
    cut: int

    def first_error(self, start: int) -> str | None:
        """The number of the first row with an error, the first row's being `start`, and the error; None without any."""
        errors = ((number, result[ERROR]) for number, result in enumerate(self.results, start) if ERROR in result)
        return next((f"row {number}: {error}" for number, error in errors), None)


class ScoredFile:
    """The output of a file of rows, with the progress beside it that a resumed run needs.

    Args:
        stream: the rows of `source`; those that an interrupted run has written are taken from it.
        source, target, resume, stdio_format: as `score_rows_of_file`.
        fingerprint: the scorer's.

    Raises:
        UserError: as `score_rows_of_file`; also while rows are written.
    """

    def __init__(
        self, stream: RowStream, source: str, target: str, fingerprint: str, *, resume: bool, stdio_format: str
    ) -> None:
        self._target = target
        self._state = _state(fingerprint, target, resume)
        schema = result_schema(stream, source)
        _skip(stream, self._state, source, target)
        self._sink = open_sink(target, stdio_format, schema, self._state.position)
        with writing(target):
            # In this order: a kill between the two must not leave another run's rows as this one's.
            _save(self._state, target)
            self._sink.begin()

    @property
    def rows(self) -> int:
        """The rows written."""
        return self._state.rows

    def write(self, window: Sequence[StreamedRow], scored: ScoredWindow) -> None:
        """Add the rows of a window with their results."""
        state = self._state
        with writing(self._target):
            self._sink.write([_joined(row.values, result) for row, result in zip(window, scored.results, strict=True)])
            if state.first_error is None:
                state.first_error = scored.first_error(state.rows + 1)
            state.rows += len(window)
            state.errors += scored.errors
            state.cut += scored.cut
            for row in window:
                state.digest = _digest(state.digest, row)
            state.position = self._sink.position()
            _save(state, self._target)

    def finish(self) -> FileReport:
        """Complete the file; its progress goes."""
        with writing(self._target):
            self._sink.finish()
            if self._target != STDIO:
                _progress_file(self._target).unlink()
            self._sink.discard_parts()
        state = self._state
        return FileReport(state.rows, state.errors, state.cut, state.first_error)


def rows_done(target: str) -> int:
    """The rows that an interrupted run has left in `target`, as far as it is known."""
    with suppress(UserError, KeyError, TypeError):
        return int(read_json(_progress_file(target))["rows"])
    return 0


def score_window(scorer: Scorer, stream: RowStream, window: Sequence[StreamedRow]) -> ScoredWindow:
    """The results of the rows of a window."""
    encoded = [_encode(scorer, stream, row) for row in window]
    groups = [found[1] for found in encoded if not isinstance(found, str)]
    rewards = iter(scorer.rewards([group.ids for group in groups]))
    results = [
        {ERROR: found} if isinstance(found, str) else found[0].result(scorer, next(rewards)) for found in encoded
    ]
    return ScoredWindow(results, len(window) - len(groups), sum(group.is_cut for group in groups))


def _joined(values: Row, result: Row) -> Row:
    """A row with its result; an `error` of its own stays."""
    if ERROR in values and ERROR in result:
        result = {"scoring_error": result[ERROR]}
    return values | result


def _encode(scorer: Scorer, stream: RowStream, row: StreamedRow) -> tuple[ParsedRow, EncodedResponses] | str:
    """The row with its token ids, or why there are none."""
    if row.fault is not None:
        reason = f" ({row.reason})" if row.reason else ""
        return f"the {'row' if stream.schema else 'line'} {row.fault}{reason}"
    values = stream.typed(row.values)
    try:
        parsed = ParsedRow.parse(values, stream.schema)
        if taken := sorted({*RESULTS[parsed.kind], ERROR} & set(values)):
            return f"the row has {taken[0]!r} already, which would be lost: rename it"
        return parsed, scorer.encode(parsed.prompt, parsed.responses)
    except UserError as reason:
        return str(reason)


def result_schema(stream: RowStream, source: str) -> Schema | None:
    """The columns of the output; None if rows have keys of their own."""
    if stream.schema is None:
        return None
    names = list(stream.schema)
    kind = row_kind(names)
    if kind is None:
        raise UserError(f"{source} has the columns {', '.join(names)}: {WANTED} is wanted")
    added = RESULTS[kind] | {ERROR: str}
    if taken := [name for name in added if name in names]:
        raise UserError(f"{source} has a column {taken[0]!r} already, which would be lost: rename it")
    return stream.schema | added


def split_windows(rows: Iterator[StreamedRow], batch_size: int) -> Iterator[list[StreamedRow]]:
    """Rows to score together. In their last digits rewards depend on it, so it depends on nothing but the file."""
    size = WINDOW_BATCHES * batch_size
    window: list[StreamedRow] = []
    characters = 0
    for row in rows:
        window.append(row)
        characters += len(str(row.values))
        if len(window) == size or characters > WINDOW_CHARACTERS:
            yield window
            window, characters = [], 0
    if window:
        yield window


def _state(fingerprint: str, target: str, resume: bool) -> Progress:
    """Where to start: at the beginning, or where an interrupted run was."""
    path = _progress_file(target)
    if resume and Path(target).exists() and not path.exists():
        raise UserError(f"{target} was not interrupted, there is nothing to resume: without --resume it is made anew")
    if not resume or not path.exists():
        return Progress(fingerprint=fingerprint)
    state = Progress(**read_json(path))
    if state.fingerprint != fingerprint:
        raise UserError(
            f"{target} was begun with another model, precision or max length: take that, or score without --resume"
        )
    return state


def _skip(stream: RowStream, state: Progress, source: str, target: str) -> None:
    """Leave out the rows that are done, and make sure that they are the same."""
    digest = ""
    for row in islice(stream.rows, state.rows):
        digest = _digest(digest, row)
    if digest != state.digest:
        raise UserError(f"{source} is not what {target} was begun with: score without --resume")


def _save(state: Progress, target: str) -> None:
    if target != STDIO:
        write_json(_progress_file(target), asdict(state))


def _progress_file(target: str) -> Path:
    return Path(f"{target}.progress")


def _digest(before: str, row: StreamedRow) -> str:
    text = before + json.dumps(row.values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def count_rows(source: str, stdio_format: str) -> int | None:
    """The rows of a file, for the progress bar; None for stdin, which can be read once only."""
    if source == STDIO:
        return None
    with open_rows(source, stdio_format) as stream:
        return sum(1 for _ in stream.rows)
