"""Pairs for people to read: their texts, cut and with the differences marked."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import chain, zip_longest
from typing import Any

from markupsafe import Markup, escape

from reward_model.data.pairs import Pair
from reward_model.reporting.clean import MAX_NAME, clean
from reward_model.reporting.explanations import ExplanationView, size, view_explanations
from reward_model.scoring.explanation import Explanation

MAX_CHARACTERS = 4000  # of each text
MAX_TURNS = 6  # of each prompt, the last ones
MIN_SHARED = 0.4  # of the words of two responses: with fewer in common, nearly everything would be marked


@dataclass(frozen=True)
class Text:
    """A text as HTML, and how many of its characters are left out at the end."""

    html: Markup
    left_out: int


@dataclass(frozen=True)
class OtherRun:
    """What a run beside the first gave a pair."""

    name: str
    margin: float
    rewards: tuple[float, float]


@dataclass(frozen=True)
class PairView:
    """A pair as the page shows it.

    Attributes:
        against: whether the model ranks it against the label.
        turns: role and text of the prompt's last turns; `turns_left_out` come before them.
        marked: whether the differences of the responses are marked.
        explained: of both responses, why their rewards are what they are; empty if that was not looked into.
        other: the run that ranks it otherwise, where runs are compared.
    """

    set_name: str
    source: str
    id: str
    margin: float
    against: bool
    preference: float | None
    turns: list[tuple[str, Text]]
    turns_left_out: int
    rewards: tuple[float, float]
    responses: tuple[Text, Text]
    marked: bool
    explained: list[ExplanationView] = field(default_factory=list)
    other: OtherRun | None = None


def view_pair(
    set_name: str, row: Mapping[str, Any], pair: Pair, sides: Sequence[Explanation] | None = None
) -> PairView:
    """What the page shows of a pair.

    Args:
        set_name: the set that it is of.
        row: its rewards and its margin, `gap`.
        pair: its texts.
        sides: the explanations of its responses, if there are any.
    """
    *responses, marked = mark_differences(pair.chosen, pair.rejected)
    turns = pair.prompt[-MAX_TURNS:]
    return PairView(
        set_name=set_name,
        source=pair.source[:MAX_NAME],
        id=pair.id,
        margin=row["gap"],
        against=row["gap"] < 0,
        preference=pair.preference,
        turns=[(turn["role"], plain_text(turn["content"])) for turn in turns],
        turns_left_out=len(pair.prompt) - len(turns),
        rewards=(row["chosen_reward"], row["rejected_reward"]),
        responses=(responses[0], responses[1]),
        marked=marked,
        explained=view_explanations(sides) if sides else [],
    )


def within(views: Sequence[Sequence[PairView]], budget: int) -> list[list[PairView]]:
    """The pairs of each set whose texts take no more than `budget` bytes together, a pair of each set in turn."""
    kept: list[list[PairView]] = [[] for _ in views]
    for number, view in _in_turn(views):
        budget -= _size(view)
        if budget < 0:
            break
        kept[number].append(view)
    return kept


def _in_turn(views: Sequence[Sequence[PairView]]) -> Iterator[tuple[int, PairView]]:
    for place in zip_longest(*views):
        yield from ((number, view) for number, view in enumerate(place) if view is not None)


def _size(view: PairView) -> int:
    texts = [*(text for _, text in view.turns), *view.responses]
    own = sum(len(text.html.encode("utf-8", "replace")) for text in texts)
    return 3000 + own + size(view.explained)  # 3000: the page's own


def mark_differences(chosen: str, rejected: str) -> tuple[Text, Text, bool]:
    """Both texts, with the words that the other lacks marked; unmarked, and False, where they share too few."""
    texts = [shorten(text) for text in (chosen, rejected)]
    words = [re.findall(r"\S+\s*|\s+", text) for text, _ in texts]
    chosen_words, rejected_words = ([word.strip() for word in own] for own in words)
    matcher = SequenceMatcher(None, chosen_words, rejected_words)
    if matcher.ratio() < MIN_SHARED:
        return plain_text(chosen), plain_text(rejected), False
    marked: tuple[list[Markup], list[Markup]] = ([], [])
    for tag, *bounds in matcher.get_opcodes():
        for side in (0, 1):
            part = "".join(words[side][bounds[2 * side] : bounds[2 * side + 1]])
            if tag != "equal" and part:
                body = part.rstrip()
                marked[side].append(Markup("<mark>{}</mark>{}").format(body, part[len(body) :]))
            else:
                marked[side].append(escape(part))
    html = [Markup("").join(parts) for parts in marked]
    return Text(html[0], texts[0][1]), Text(html[1], texts[1][1]), True


def plain_text(text: str) -> Text:
    """A text as HTML, cut."""
    shown, left_out = shorten(text)
    return Text(escape(shown), left_out)


def shorten(text: str) -> tuple[str, int]:
    """The beginning of a text, cleaned, and how many characters are left out."""
    return clean(text[:MAX_CHARACTERS]), max(0, len(text) - MAX_CHARACTERS)


def sources(views: Sequence[Sequence[PairView]]) -> list[str]:
    """The sources that occur."""
    return sorted({view.source for view in chain.from_iterable(views)})
