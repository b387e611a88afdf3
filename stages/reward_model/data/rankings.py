"""Rankings: rows with several responses to a prompt and their ranks or scores, as the comparisons among them."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, groupby
from typing import Any

from reward_model.common.errors import InvalidRow
from reward_model.common.messages import Row
from reward_model.data.label_formats import columns_of_row
from reward_model.data.preferences import to_number
from reward_model.data.row_formats import Columns, prompt_value, response_text

RESPONSES = ("responses", "completions", "answers")  # columns with a list of texts or of objects
TEXTS = ("response", "answer", "text", "content")  # of an object, the response
RANKS = ("ranks", "rank")  # columns, or in objects: 1 is the best
SCORES = ("scores", "score", "overall_score", "rating", "helpfulness")  # likewise: the higher, the better
INSTRUCTION = "instruction"  # UltraFeedback's column with the prompt
READ = {*RESPONSES, *RANKS, *SCORES, INSTRUCTION, "response"}


def is_ranking(row: Row, columns: Columns) -> bool:
    """Whether a row has a list of responses, or the text of one, instead of chosen and rejected."""
    return not _has_sides(row, columns) and _items(row) is not None


def is_rated_response(row: Row, columns: Columns) -> bool:
    """Whether a row has one response and its score; rows with the same prompt that follow one another are a ranking."""
    return _is_response(row, columns) and _missing_part(row) is None


def refuse_unrated_response(row: Row, columns: Columns) -> None:
    """Refuse a row for one response and its score that lacks either.

    Raises:
        InvalidRow: missing_value.
    """
    if _is_response(row, columns) and any(name in row for name in SCORES):
        raise InvalidRow("missing_value", _missing_part(row) or "")


def expand_rankings(rows: Iterable[Row], columns: Columns) -> Iterator[Row]:
    """Put the comparisons of each ranking in its place; rows that are no ranking, or a bad one, stay as they are."""
    for row in _gather_rated_responses(rows, columns):
        try:
            yield from comparisons(row, columns) if is_ranking(row, columns) else [row]
        except InvalidRow:
            yield row


def comparisons(row: Row, columns: Columns) -> list[Row]:
    """All comparisons of two different responses of a ranking, as rows with chosen and rejected.

    Responses of the same rank, or whose scores differ by less than `columns.min_score_gap`, are a tie. With
    `columns.margin_per_point` the difference of the scores gives the margin.

    Raises:
        InvalidRow: too_few_responses, list_as_text, bad_ranking (no rank or score for each response) or
            contradictory_ranking (ranks and scores, or two places of one response, differ); as `response_text`.
    """
    items = _items(row) or []
    if isinstance(items, str):
        raise InvalidRow("list_as_text")
    texts = [_text(item) for item in items]
    worths, are_scores = _worths(row, items)
    by_text: dict[str, float] = {}
    for text, worth in zip(texts, worths, strict=True):
        if by_text.setdefault(text.strip(), worth) != worth:
            raise InvalidRow("contradictory_ranking")
    if len(by_text) < 2:
        raise InvalidRow("too_few_responses")
    common = {name: row[name] for name in (columns.system, columns.source, "tools") if name in row}
    common[columns.prompt] = _prompt(row, columns)
    least_gap, per_point = (columns.min_score_gap, columns.margin_per_point) if are_scores else (0.0, 0.0)
    found = []
    for (first, worth), (second, other) in combinations(by_text.items(), 2):
        chosen, rejected = (first, second) if worth >= other else (second, first)
        gap = abs(worth - other)
        is_tie = gap == 0 or gap < least_gap
        margin = {columns.margin: gap * per_point} if per_point and not is_tie else {}
        sides = {columns.chosen: chosen, columns.rejected: rejected}
        found.append(common | sides | {columns.preference: "tie" if is_tie else "chosen"} | margin)
    return found


def _gather_rated_responses(rows: Iterable[Row], columns: Columns) -> Iterator[Row]:
    """Put one ranking in the place of rated responses to the same prompt that follow one another.

    Those among them that lack a part stay as they are.
    """

    def prompt(row: Row) -> str | None:
        if not _is_response(row, columns):
            return None
        return json.dumps([_prompt(row, columns), row.get(columns.system)], sort_keys=True, default=str)

    for key, group in groupby(rows, key=prompt):
        if key is None:
            yield from group
            continue
        rated = []
        for row in group:
            if is_rated_response(row, columns):
                rated.append(row)
            else:
                yield row
        if rated:
            common = {name: value for name, value in rated[0].items() if name not in RANKS}
            scores = [_first(row, SCORES) for row in rated]
            yield common | {"responses": [row["response"] for row in rated], "scores": scores}


def _is_response(row: Row, columns: Columns) -> bool:
    """Whether a row is for one response, rated or not."""
    return not _has_sides(row, columns) and _items(row) is None and "response" in row


def _missing_part(row: Row) -> str | None:
    """The column without a value in a row for one response and its score."""
    if row["response"] in (None, ""):
        return "response"
    score = to_number(_first(row, SCORES))
    if score is None or not math.isfinite(score):
        return next((name for name in SCORES if name in row), SCORES[0])
    return None


def _prompt(row: Row, columns: Columns) -> Any:
    found = prompt_value(row, columns)
    return row.get(INSTRUCTION) if found is None else found


def _has_sides(row: Row, columns: Columns) -> bool:
    columns = columns_of_row(row, columns)
    return _first(row, (columns.chosen, columns.rejected)) is not None


def _first(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The first value that a row has under one of some names; in CSV an empty cell is none."""
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)


def _items(row: Row) -> list[Any] | str | None:
    """What a row lists as responses; the text of a list that is no JSON; None if it has no list."""
    found = [_as_list(row.get(name)) for name in RESPONSES]
    texts = [value for value in found if isinstance(value, str) and value.lstrip().startswith("[")]
    return next((value for value in found if isinstance(value, list)), texts[0] if texts else None)


def _as_list(value: Any) -> Any:
    """The value; a list that CSV has as text, as a list."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _text(item: Any) -> str:
    """The text of one response of a ranking."""
    if isinstance(item, Mapping) and "role" not in item:
        item = _first(item, TEXTS)
    if item is None:
        raise InvalidRow("bad_ranking")
    return response_text(item)


def _worths(row: Row, items: Sequence[Any]) -> tuple[list[float], bool]:
    """A number for each response, the higher the better, and whether these are scores."""
    ranks, scores = _numbers(row, items, RANKS), _numbers(row, items, SCORES)
    of_ranks = None if ranks is None else [-rank for rank in ranks]
    found = [worths for worths in (of_ranks, scores) if worths is not None]
    if not found:
        raise InvalidRow("bad_ranking", "no ranks, no scores")
    for place, other in combinations(range(len(items)), 2):
        if (found[0][place] - found[0][other]) * (found[-1][place] - found[-1][other]) < 0:
            raise InvalidRow("contradictory_ranking")
    return found[0], ranks is None


def _numbers(row: Row, items: Sequence[Any], names: Sequence[str]) -> list[float] | None:
    """The numbers that a ranking has under one of some names, in the row or in each object; None if it has none."""
    of_row = _as_list(_first(row, names))
    within = [_first(item, names) for item in items if isinstance(item, Mapping)]
    found: Any = of_row if of_row is not None else within if any(value is not None for value in within) else None
    if found is None:
        return None
    if not isinstance(found, list) or len(found) != len(items):
        raise InvalidRow("bad_ranking")
    numbers = [number for value in found if (number := to_number(value)) is not None and math.isfinite(number)]
    if len(numbers) != len(found):
        raise InvalidRow("bad_ranking")
    return numbers
