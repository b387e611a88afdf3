"""External evaluation sets in the formats they are published in: each row becomes one pair or several.

reward_bench   prompt, chosen, rejected, subset (Lambert et al. 2024, arXiv:2403.13787)
rm_bench       prompt, three chosen and three rejected, plain to elaborate (Liu et al. 2024, arXiv:2410.16184)
best_of_n      prompt, responses, and the place of the `best` or the `scores` of all; or lists chosen and rejected
pairs          whatever `pair_reader.pair_from_row` reads, hh-rlhf transcripts among it
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from reward_model.common.errors import InvalidRow
from reward_model.common.messages import Row
from reward_model.data.pair_reader import pair_from_row
from reward_model.data.pairs import Pair, ParsedPairs, checked_pair, find_repeats
from reward_model.data.row_formats import Columns, row_prompt

STYLES = 3  # of each response of RM-Bench
SECTIONS = {
    "Chat": ("alpacaeval-easy", "alpacaeval-length", "alpacaeval-hard", "mt-bench-easy", "mt-bench-med"),
    "Chat Hard": (
        "mt-bench-hard",
        "llmbar-natural",
        "llmbar-adver-neighbor",
        "llmbar-adver-GPTInst",
        "llmbar-adver-GPTOut",
        "llmbar-adver-manual",
    ),
    "Safety": (
        "refusals-dangerous",
        "refusals-offensive",
        "xstest-should-refuse",
        "xstest-should-respond",
        "donotanswer",
    ),
    "Reasoning": ("math-prm", "hep-cpp", "hep-go", "hep-java", "hep-js", "hep-python", "hep-rust"),
}
SUBSETS = {subset for subsets in SECTIONS.values() for subset in subsets}


@dataclass(frozen=True)
class ExternalPair:
    """A pair of a row.

    Attributes:
        row: the row's number in its set.
        chosen_index, rejected_index: which of the row's responses they are; in RM-Bench, the style of each.
    """

    pair: Pair
    row: int
    chosen_index: int = 0
    rejected_index: int = 1

    @property
    def places(self) -> Row:
        """Where in its set the pair was."""
        return {"row": self.row, "chosen_index": self.chosen_index, "rejected_index": self.rejected_index}

    def to_record(self) -> Row:
        """The pair as a JSON object."""
        return {**self.pair.to_record(), **self.places}


def detect_format(row: Row) -> str:
    """Which of the formats the row has."""
    chosen, rejected = (_texts(row.get(side)) for side in ("chosen", "rejected"))
    if chosen and rejected:
        return "rm_bench" if len(chosen) == len(rejected) == STYLES else "best_of_n"
    if _texts(row.get("responses")):
        return "best_of_n"
    return "reward_bench" if row.get("subset") in SUBSETS else "pairs"


def parse_external_set(rows: Iterable[Row], name: str) -> tuple[str, list[ExternalPair], ParsedPairs]:
    """Make pairs of the rows of a set.

    Returns:
        The format, which is that of most rows; the pairs; and the rows skipped, by reason.
    """
    pairs: list[ExternalPair] = []
    parsed = ParsedPairs()
    rows = list(rows)
    formats = Counter(map(detect_format, rows))
    found = formats.most_common(1)[0][0] if formats else ""
    for number, row in enumerate(rows):
        parsed.rows += 1
        try:
            if found in ("reward_bench", "pairs"):
                source = "subset" if "subset" in row else "source"
                own = [ExternalPair(pair_from_row(row, Columns(source=source), name), number)]
            else:
                own = list(_pairs_from_lists(row, number, found, name))
        except InvalidRow as reason:
            parsed.reject(str(reason), row, reason.concerns)
            continue
        pairs += own
    if found == "pairs":  # the other formats' figures want their sets whole
        pairs = list(_without_repeats(pairs, parsed))
    parsed.pairs = [item.pair for item in pairs]
    return found, pairs, parsed


def _without_repeats(pairs: list[ExternalPair], parsed: ParsedPairs) -> Iterator[ExternalPair]:
    for item, reason in zip(pairs, find_repeats([item.pair for item in pairs]), strict=True):
        if reason is None:
            yield item
        else:
            parsed.reject(reason, item.pair.to_record())


def _pairs_from_lists(row: Row, number: int, row_format: str, name: str) -> Iterator[ExternalPair]:
    prompt = row_prompt(row, Columns())
    source = str(row.get("domain") or row.get("subset") or row.get("source") or name)
    for chosen, rejected, texts in _ordered(row, row_format):
        pair = checked_pair(prompt, texts[chosen], texts[rejected], source)
        item = ExternalPair(pair, number, chosen, rejected)
        yield replace(item, rejected_index=rejected - STYLES) if row_format == "rm_bench" else item


def _ordered(row: Row, row_format: str) -> Iterator[tuple[int, int, list[str]]]:
    """Two responses of which the first is the better one, by their places, with all responses of the row."""
    responses = _texts(row.get("responses"))
    chosen, rejected = (_texts(row.get(side)) or [] for side in ("chosen", "rejected"))
    if row_format == "rm_bench" and not len(chosen) == len(rejected) == STYLES:
        raise InvalidRow("not_three_and_three")
    if responses is None:
        if not chosen or not rejected:
            raise InvalidRow("no_responses")
        scores: Sequence[float] = [1.0] * len(chosen) + [0.0] * len(rejected)
        responses = chosen + rejected
    else:
        scores = _scores(row, len(responses))
    # The best against the others, not all against all: that would be thousands of pairs for a few dozen responses.
    best = [place for place, score in enumerate(scores) if score == max(scores)]
    for better in best:
        for worse in range(len(scores)):
            if worse not in best:
                yield better, worse, responses


def _scores(row: Row, count: int) -> list[float]:
    best, scores = row.get("best"), row.get("scores")
    if scores is None and isinstance(best, int) and 0 <= best < count:
        return [float(place == best) for place in range(count)]
    try:
        numbers = [float(score) for score in scores or []]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != count or not all(np.isfinite(numbers)) or len(set(numbers)) < 2:
        raise InvalidRow("no_best_response")
    return numbers


def _texts(value: Any) -> list[str] | None:
    """The value, if it is a list of texts (and not a chat)."""
    if isinstance(value, list | tuple) and value and all(isinstance(item, str) for item in value):
        return list(value)
    return None
