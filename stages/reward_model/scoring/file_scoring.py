"""Score the rows of a file into another file: whole rows at all times, and resumable.

| a row has | it gets |
|---|---|
| text, or prompt and response | reward |
| prompt, chosen and rejected | reward_chosen, reward_rejected, reward_margin, probability_chosen, within_noise |
| prompt and responses (a list) | rewards, and best: the place of the highest, from 0 |
| something else | error: why it cannot be scored |

What interrupted runs have done is in TARGET.progress; it goes when the file is complete.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
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
from reward_model.data.row_formats import Columns, InvalidRow, parse_sides, response_text
from reward_model.data.row_streams import STDIO, RowStream, Schema, StreamedRow
from reward_model.scoring.prompts import Prompt, prompt_of_row
from reward_model.scoring.row_sinks import open_sink
from reward_model.scoring.scorer import Scorer

# A window is read, scored (sorted by length) and written at a time.
WINDOW_BATCHES = 16
WINDOW_CHARACTERS = 10_000_000

# The columns that each kind of row gets, with their types.
RESULTS: dict[str, Schema] = {
    "pair": {
        "reward_chosen": float,
        "reward_rejected": float,
        "reward_margin": float,
        "probability_chosen": float,
        "within_noise": bool,
    },
    "responses": {"rewards": list, "best": int},
    "text": {"reward": float},
}
ERROR = "error"
WANTED = "text, prompt + response, prompt + chosen + rejected, or prompt + responses"


@dataclass(frozen=True)
class FileReport:
    """What became of a file: its rows, how many of them have an error instead of a reward, and how many were cut."""

    rows: int
    errors: int
    cut: int = 0


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        rows: rows written.
        errors: those of them with an error.
        cut: those of them that were too long.
        position: the sink's.
        digest: of all rows that were read.
        fingerprint: the scorer's.
    """

    rows: int = 0
    errors: int = 0
    cut: int = 0
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
        return FileReport(self._state.rows, self._state.errors, self._state.cut)


def rows_done(target: str) -> int:
    """The rows that an interrupted run has left in `target`, as far as it is known."""
    with suppress(UserError, KeyError, TypeError):
        return int(read_json(_progress_file(target))["rows"])
    return 0


def score_window(scorer: Scorer, stream: RowStream, window: Sequence[StreamedRow]) -> ScoredWindow:
    """The results of the rows of a window."""
    encoded = [_encode(scorer, stream, row) for row in window]
    groups = [group for _, group in encoded if not isinstance(group, str)]
    rewards = iter(scorer.rewards([group.ids for group in groups]))
    results = [
        {ERROR: group} if isinstance(group, str) else row_result(scorer, kind, next(rewards)) for kind, group in encoded
    ]
    return ScoredWindow(results, len(window) - len(groups), sum(group.is_cut for group in groups))


def _joined(values: Row, result: Row) -> Row:
    """A row with its result; an `error` of its own stays."""
    if ERROR in values and ERROR in result:
        result = {"scoring_error": result[ERROR]}
    return values | result


def _encode(scorer: Scorer, stream: RowStream, row: StreamedRow) -> tuple[str, EncodedResponses | str]:
    """The row's kind and its token ids, or why there are none."""
    if row.fault is not None:
        reason = f" ({row.reason})" if row.reason else ""
        return "", f"the {'row' if stream.schema else 'line'} {row.fault}{reason}"
    values = stream.typed(row.values)
    try:
        kind, prompt, responses = parse_row(values, stream.schema)
        if taken := sorted({*RESULTS[kind], ERROR} & set(values)):
            return "", f"the row has {taken[0]!r} already, which would be lost: rename it"
        return kind, scorer.encode(prompt, responses)
    except UserError as reason:
        return "", str(reason)


def parse_row(values: Row, names: Iterable[str] | None = None) -> tuple[str, Prompt, list[str]]:
    """The kind of a row (a key of `RESULTS`), its prompt, and the responses to be scored.

    Args:
        values: the row.
        names: the columns that all rows of its file have; None if each row has its own.

    Raises:
        UserError: why it cannot be scored.
    """
    kind = _kind(names or [name for name, value in values.items() if value is not None])
    if kind is None:
        raise UserError(f"nothing to score: {WANTED} is wanted")
    try:
        return kind, *_conversation(kind, values)
    except InvalidRow as reason:
        raise UserError(f"the row is no {kind}: {reason.detail}") from None


def _kind(names: Iterable[str]) -> str | None:
    there = set(names)
    if there & {"chosen", "rejected"}:
        return "pair"
    if "responses" in there:
        return "responses"
    return "text" if there & {"response", "text"} else None


def _conversation(kind: str, values: Row) -> tuple[Prompt, list[str]]:
    """The prompt of a row, and the responses to be scored."""
    if kind == "pair":
        prompt, chosen, rejected = parse_sides(values, Columns())
        return prompt, [chosen, rejected]
    prompt = prompt_of_row(values)
    if kind == "text":
        response = values.get("text") if values.get("response") is None else values["response"]
        if response is None:
            raise InvalidRow("missing_column", "text or response")
        return prompt, [response_text(response)]
    responses = values.get("responses")
    if not isinstance(responses, list) or not responses:
        raise InvalidRow("responses is not a list of texts")
    return prompt, [response_text(response) for response in responses]


def row_result(scorer: Scorer, kind: str, rewards: list[float]) -> Row:
    """The columns that a row of a kind gets."""
    if kind == "text":
        return {"reward": rewards[0]}
    if kind == "responses":
        return {"rewards": rewards, "best": rewards.index(max(rewards))}
    comparison = scorer.compare(*rewards)
    return {
        "reward_chosen": comparison.reward_a,
        "reward_rejected": comparison.reward_b,
        "reward_margin": comparison.margin,
        "probability_chosen": comparison.probability_a,
        "within_noise": comparison.within_noise,
    }


def result_schema(stream: RowStream, source: str) -> Schema | None:
    """The columns of the output; None if rows have keys of their own."""
    if stream.schema is None:
        return None
    names = list(stream.schema)
    kind = _kind(names)
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
