"""External evaluation sets in the formats they are published in: each row becomes one pair or several.

reward_bench   prompt, chosen, rejected, subset (Lambert et al. 2024, arXiv:2403.13787)
rm_bench       prompt, three chosen and three rejected, plain to elaborate (Liu et al. 2024, arXiv:2410.16184)
best_of_n      prompt, responses, and the place of the `best` or the `scores` of all; or lists chosen and rejected
pairs          whatever `pairs.pair_from_row` reads, hh-rlhf transcripts among it
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from reward_model.metrics import margins_of, wins
from reward_model.pairs import Columns, Intake, Pair, Row, TurnedAway, checked_pair, pair_from_row, prompt_messages

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
# RewardBench counts its 447 pairs of mathematics as 984, as many as there are of code.
WEIGHTS = {"math-prm": 984 / 447}


@dataclass(frozen=True)
class BenchmarkPair:
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


def format_of(row: Row) -> str:
    """Which of the formats the row has."""
    chosen, rejected = (_texts(row.get(side)) for side in ("chosen", "rejected"))
    if chosen and rejected:
        return "rm_bench" if len(chosen) == len(rejected) == STYLES else "best_of_n"
    if _texts(row.get("responses")):
        return "best_of_n"
    return "reward_bench" if row.get("subset") in SUBSETS else "pairs"


def take_in_benchmark(rows: Iterable[Row], name: str) -> tuple[str, list[BenchmarkPair], Intake]:
    """Make pairs of the rows of a set.

    Returns:
        The format, which is that of the first row; the pairs; and the rows turned away, by reason.
    """
    pairs: list[BenchmarkPair] = []
    intake = Intake()
    found = ""
    for number, row in enumerate(rows):
        found = found or format_of(row)
        intake.rows += 1
        try:
            if found in ("reward_bench", "pairs"):
                source = "subset" if "subset" in row else "source"
                own = [BenchmarkPair(pair_from_row(row, Columns(source=source), name), number)]
            else:
                own = list(_pairs_of_lists(row, number, found, name))
        except TurnedAway as reason:
            intake.turn_away(str(reason), row)
            continue
        pairs += own
        intake.pairs += [item.pair for item in own]
    return found, pairs, intake


def _pairs_of_lists(row: Row, number: int, row_format: str, name: str) -> Iterator[BenchmarkPair]:
    prompt = prompt_messages(row.get("prompt") or "")
    source = str(row.get("domain") or row.get("subset") or row.get("source") or name)
    for chosen, rejected, texts in _ordered(row, row_format):
        pair = checked_pair(prompt, texts[chosen], texts[rejected], source)
        item = BenchmarkPair(pair, number, chosen, rejected)
        yield replace(item, rejected_index=rejected - STYLES) if row_format == "rm_bench" else item


def _ordered(row: Row, row_format: str) -> Iterator[tuple[int, int, list[str]]]:
    """Two responses of which the first is the better one, by their places, with all responses of the row."""
    responses = _texts(row.get("responses"))
    chosen, rejected = (_texts(row.get(side)) or [] for side in ("chosen", "rejected"))
    if row_format == "rm_bench" and not len(chosen) == len(rejected) == STYLES:
        raise TurnedAway("not_three_and_three")
    if responses is None:
        if not chosen or not rejected:
            raise TurnedAway("no_responses")
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
        raise TurnedAway("no_best_response")
    return numbers


def _texts(value: Any) -> list[str] | None:
    """The value, if it is a list of texts (and not a chat)."""
    if isinstance(value, list | tuple) and value and all(isinstance(item, str) for item in value):
        return list(value)
    return None


def benchmark_figures(row_format: str, pairs: pd.DataFrame) -> dict[str, Any]:
    """The figures that a benchmark's authors report, from scored pairs with the columns of `BenchmarkPair`."""
    if row_format == "reward_bench":
        return {"reward_bench": reward_bench_sections(pairs)}
    if row_format == "rm_bench":
        return {"rm_bench": rm_bench_matrix(pairs)}
    return {"best_of_n": best_of_n(pairs)} if row_format == "best_of_n" else {}


def reward_bench_sections(pairs: pd.DataFrame) -> dict[str, float | None]:
    """Accuracy of each section that occurs, in which subsets weigh by their pairs, and `score`, the sections' mean.

    The score is None if no section occurs.
    """
    correct = wins(margins_of(pairs))
    weight = pairs["source"].map(lambda source: WEIGHTS.get(source, 1.0)).to_numpy(dtype=float)
    sections = {}
    for section, subsets in SECTIONS.items():
        own = pairs["source"].isin(subsets).to_numpy()
        if own.any():
            sections[section] = float(np.average(correct[own], weights=weight[own]))
    return {**sections, "score": float(np.mean(list(sections.values()))) if sections else None}


def rm_bench_matrix(pairs: pd.DataFrame) -> dict[str, Any]:
    """Accuracy by the styles of chosen (rows) and rejected (columns), plain to elaborate; the mean over domains.

    `easy` are the cells in which chosen is the more elaborate one, `hard` those in which rejected is, `normal` the
    diagonal.
    """
    table: Any = pairs.assign(correct=wins(margins_of(pairs)), domain=pairs["source"].str.split("-").str[0])
    cells = table.groupby(["domain", "source", "chosen_index", "rejected_index"])["correct"].mean()
    by_domain = cells.groupby(["domain", "chosen_index", "rejected_index"]).mean()
    mean = by_domain.groupby(["chosen_index", "rejected_index"]).mean()
    matrix = mean.unstack().reindex(index=range(STYLES), columns=range(STYLES)).to_numpy(dtype=float)
    easy, hard = np.tril_indices(STYLES, -1), np.triu_indices(STYLES, 1)
    figures = {
        "easy": float(matrix[easy].mean()),
        "normal": float(np.diagonal(matrix).mean()),
        "hard": float(matrix[hard].mean()),
    }
    return {"matrix": matrix.tolist(), **figures, "average": float(np.mean(list(figures.values())))}


def best_of_n(pairs: pd.DataFrame) -> dict[str, Any]:
    """How often the response with the highest reward is one that no other is better than, and how often by chance."""
    right, chance = [], []
    rows: Any = pairs.groupby("row")
    for _, row in rows:
        rewards = dict(zip(row["chosen_index"], row["chosen_reward"], strict=True))
        rewards |= dict(zip(row["rejected_index"], row["rejected_reward"], strict=True))
        worse = set(row["rejected_index"])
        highest = max(rewards.values())
        first = [place for place, reward in rewards.items() if reward == highest]
        right.append(float(np.mean([place not in worse for place in first])))
        chance.append(1 - len(worse) / len(rewards))
    return {"n": len(right), "accuracy": float(np.mean(right)), "by_chance": float(np.mean(chance))}
