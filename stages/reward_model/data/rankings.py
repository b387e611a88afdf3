"""Rankings: rows with several responses to a prompt and their ranks or scores, as the comparisons among them."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from reward_model.common.messages import Row
from reward_model.data.pairs import TIE
from reward_model.data.row_formats import Columns, InvalidRow, response_text

RESPONSES = ("responses", "completions", "answers")  # columns with a list of texts or of objects
TEXTS = ("response", "answer", "text", "content")  # of an object, the response
RANKS = ("ranks", "rank")  # columns, or in objects: 1 is the best
SCORES = ("scores", "score", "overall_score", "rating")  # likewise: the higher, the better


def is_ranking(row: Row, columns: Columns) -> bool:
    """Whether a row has a list of responses instead of chosen and rejected."""
    has_sides = row.get(columns.chosen) is not None or row.get(columns.rejected) is not None
    return not has_sides and _items(row) is not None


def expand_rankings(rows: Iterable[Row], columns: Columns) -> Iterator[Row]:
    """Put the comparisons of each ranking in its place; rows that are no ranking, or a bad one, stay as they are."""
    for row in rows:
        try:
            yield from comparisons(row, columns) if is_ranking(row, columns) else [row]
        except InvalidRow:
            yield row


def comparisons(row: Row, columns: Columns) -> list[Row]:
    """All comparisons of two different responses of a ranking, as rows with chosen and rejected.

    Responses of the same rank are a tie: their preference is 0.5.

    Raises:
        InvalidRow: too_few_responses, bad_ranking (no rank or score for each response) or contradictory_ranking (ranks
            and scores, or two places of one response, differ); as `response_text`.
    """
    items = _items(row) or []
    texts = [_text(item) for item in items]
    worths = _worths(row, items)
    by_text: dict[str, float] = {}
    for text, worth in zip(texts, worths, strict=True):
        if by_text.setdefault(text.strip(), worth) != worth:
            raise InvalidRow("contradictory_ranking")
    if len(by_text) < 2:
        raise InvalidRow("too_few_responses")
    common = {name: row[name] for name in (columns.prompt, columns.source) if name in row}
    found = []
    for (first, worth), (second, other) in combinations(by_text.items(), 2):
        chosen, rejected = (first, second) if worth >= other else (second, first)
        sides = {columns.chosen: chosen, columns.rejected: rejected}
        found.append(common | sides | ({columns.preference: TIE} if worth == other else {}))
    return found


def _items(row: Row) -> list[Any] | None:
    """What a row lists as responses; None if it has no such list."""
    return next((row[name] for name in RESPONSES if isinstance(row.get(name), list)), None)


def _text(item: Any) -> str:
    """The text of one response of a ranking."""
    if isinstance(item, Mapping):
        item = next((item[name] for name in TEXTS if item.get(name) is not None), None)
    if item is None:
        raise InvalidRow("bad_ranking")
    return response_text(item)


def _worths(row: Row, items: Sequence[Any]) -> list[float]:
    """A number for each response, the higher the better."""
    ranks, scores = _numbers(row, items, RANKS), _numbers(row, items, SCORES)
    of_ranks = None if ranks is None else [-rank for rank in ranks]
    found = [worths for worths in (of_ranks, scores) if worths is not None]
    if not found:
        raise InvalidRow("bad_ranking")
    for place, other in combinations(range(len(items)), 2):
        if (found[0][place] - found[0][other]) * (found[-1][place] - found[-1][other]) < 0:
            raise InvalidRow("contradictory_ranking")
    return found[0]


def _numbers(row: Row, items: Sequence[Any], names: Sequence[str]) -> list[float] | None:
    """The numbers that a ranking has under one of some names, in the row or in each object; None if it has none."""
    of_row = next((row[name] for name in names if row.get(name) is not None), None)
    within = [
        next((item[name] for name in names if item.get(name) is not None), None)
        for item in items
        if isinstance(item, Mapping)
    ]
    found: Any = of_row if of_row is not None else within if any(value is not None for value in within) else None
    if found is None:
        return None
    if not isinstance(found, list) or len(found) != len(items):
        raise InvalidRow("bad_ranking")
    try:
        numbers = [float(value) for value in found]
    except (TypeError, ValueError):
        raise InvalidRow("bad_ranking") from None
    if any(isinstance(value, bool) for value in found) or not all(map(math.isfinite, numbers)):
        raise InvalidRow("bad_ranking")
    return numbers
