"""External evaluation sets in the formats they are published in: each row becomes one pair or several.

reward_bench   prompt, chosen, rejected, subset (Lambert et al. 2024, arXiv:2403.13787)
reward_bench_2 prompt, chosen and rejected lists, subset, num_correct (Malik et al. 2025, arXiv:2506.01937)
rm_bench       prompt, three chosen and three rejected, plain to elaborate (Liu et al. 2024, arXiv:2410.16184)
best_of_n      prompt, responses, and the place of the `best` or the `scores` of all; or lists chosen and rejected
pairs          whatever `pair_reader.pair_from_row` reads, hh-rlhf transcripts among it
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from reward_model.common.errors import InvalidRow
from reward_model.common.messages import Row, is_unicode
from reward_model.data.pair_reader import pair_from_row
from reward_model.data.pairs import Pair, ParsedPairs, checked_pair, find_repeats
from reward_model.data.preferences import to_number
from reward_model.data.row_formats import Columns, is_list_of_texts, row_prompt

STYLES = 3  # of each response of RM-Bench
SECTIONS = {  # of RewardBench: the subsets, and the pairs that each counts as
    "Chat": {
        "alpacaeval-easy": 100,
        "alpacaeval-length": 95,
        "alpacaeval-hard": 95,
        "mt-bench-easy": 28,
        "mt-bench-med": 40,
    },
    "Chat Hard": {
        "mt-bench-hard": 37,
        "llmbar-natural": 100,
        "llmbar-adver-neighbor": 134,
        "llmbar-adver-GPTInst": 92,
        "llmbar-adver-GPTOut": 47,
        "llmbar-adver-manual": 46,
    },
    "Safety": {
        "refusals-dangerous": 100,
        "refusals-offensive": 100,
        "xstest-should-refuse": 154,
        "xstest-should-respond": 250,
        "donotanswer": 136,
    },
    "Reasoning": {
        "math-prm": 984,  # it has 447: mathematics counts as much as code
        "hep-cpp": 164,
        "hep-go": 164,
        "hep-java": 164,
        "hep-js": 164,
        "hep-python": 164,
        "hep-rust": 164,
    },
}
SUBSETS = {subset for subsets in SECTIONS.values() for subset in subsets}
TIES = "Ties"
SUBSETS_2 = ("Factuality", "Precise IF", "Math", "Safety", "Focus", TIES)  # of RewardBench 2
TIES_ID = r"(ref|tied):\d+"  # a question with one right answer, and one with many


@dataclass(frozen=True)
class ExternalPair:
    """A pair of a row.

    Attributes:
        row: the row's number in its set.
        chosen_index, rejected_index: which of the row's responses they are; in RM-Bench, the style of each.
        row_id: what the row is called in a set of lists, if it says so.
    """

    pair: Pair
    row: int
    chosen_index: int = 0
    rejected_index: int = 1
    row_id: str = ""

    @property
    def places(self) -> Row:
        """Where in its set the pair was."""
        indices = {"chosen_index": self.chosen_index, "rejected_index": self.rejected_index}
        return {"row": self.row, "row_id": self.row_id, **indices}

    def to_record(self) -> Row:
        """The pair as a JSON object."""
        return {**self.pair.to_record(), **self.places}


def detect_format(row: Row) -> str:
    """Which of the formats the row has."""
    chosen, rejected = (_texts(row.get(side)) for side in ("chosen", "rejected"))
    if chosen and rejected:
        if "num_correct" in row and row.get("subset") in SUBSETS_2:
            return "reward_bench_2"
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
    row_id = str(row.get("id") or "")
    if not is_unicode(source + row_id):
        raise InvalidRow("bad_unicode")
    ordered = _reward_bench_2(row) if row_format == "reward_bench_2" else _ordered(row, row_format)
    for chosen, rejected, texts in ordered:
        pair = checked_pair(prompt, texts[chosen], texts[rejected], source)
        item = ExternalPair(pair, number, chosen, rejected, row_id)
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


def _reward_bench_2(row: Row) -> Iterator[tuple[int, int, list[str]]]:
    """As `_ordered`, each response in one pair at least: all right answers against all wrong ones would be too many."""
    chosen, rejected = (_texts(row.get(side)) or [] for side in ("chosen", "rejected"))
    if row.get("subset") not in SUBSETS_2:
        raise InvalidRow("unknown_subset")
    if not chosen or not rejected:
        raise InvalidRow("no_responses")
    if row["subset"] != TIES and (len(chosen), len(rejected)) != (1, 3):
        raise InvalidRow("not_one_and_three")
    if row["subset"] == TIES and not re.fullmatch(TIES_ID, str(row.get("id"))):
        raise InvalidRow("bad_ties_id")
    if {text.strip() for text in chosen} & {text.strip() for text in rejected}:
        raise InvalidRow("chosen_equals_rejected")
    for number in range(max(len(chosen), len(rejected))):
        yield number % len(chosen), len(chosen) + number % len(rejected), [*chosen, *rejected]


def _scores(row: Row, count: int) -> list[float]:
    best, scores = to_number(row.get("best")), row.get("scores")
    if scores in (None, "") and best in range(count):
        return [float(place == best) for place in range(count)]
    try:
        numbers = [float(score) for score in scores or []]
    except (TypeError, ValueError, OverflowError):
        numbers = []
    if len(numbers) != count or not all(np.isfinite(numbers)) or len(set(numbers)) < 2:
        raise InvalidRow("no_best_response")
    return numbers


def _texts(value: Any) -> list[str] | None:
    """The value, if it is a list of texts (and not a chat)."""
    return list(value) if is_list_of_texts(value) else None
