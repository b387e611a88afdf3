"""Published formats in which a label says which of two responses is better, and what looks like them."""

import json
import re
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from typing import Any

from reward_model.common.messages import Row
from reward_model.data.row_formats import Columns


@dataclass(frozen=True)
class LabelFormat:
    """The columns of a published format.

    Attributes:
        prompt: None where both responses hold the conversation.
        form: of the label, as `data.preference_format`; or `name`, no number.
    """

    name: str
    prompt: str | None
    first: str
    second: str
    label: str
    form: str

    @property
    def names(self) -> set[str]:
        """The columns that make a row one of this format."""
        return {name for name in (self.prompt, self.first, self.second, self.label) if name is not None}


LABEL_FORMATS = (
    LabelFormat("safe_rlhf", "prompt", "response_0", "response_1", "better_response_id", "index_from_0"),
    LabelFormat("helpsteer3", "context", "response1", "response2", "overall_preference", "signed"),
    LabelFormat("shp", "history", "human_ref_A", "human_ref_B", "labels", "probability"),  # 1: A is better
    LabelFormat("lmarena", None, "conversation_a", "conversation_b", "winner", "name"),
    LabelFormat("lmarena", "prompt", "response_a", "response_b", "winner", "name"),
)
# The columns of Kaggle's LMSYS competition, beside those of its winner: each a list of turns, as JSON.
ARENA_TURNS = ("prompt", "response_a", "response_b")
ARENA_WINNERS = {"winner_model_a": "model_a", "winner_model_b": "model_b", "winner_tie": "tie"}
# Words in the names of columns that most often say which response is better.
_LABEL_WORDS = re.compile(
    r"prefer(?:ence|ences|red)?|labels?|winner|wins?|better|best|choice|verdict|judge?ment|votes?|is_chosen"
    r"|(?:chosen|selected)_(?:id|idx|index|response|model|side)"
)
# Words for the better response and for the worse, in the names of columns.
_SIDES = (("chosen", "rejected"), ("winner", "loser"), ("win", "lose"), ("better", "worse"), ("w", "l"))
# Words that tell two columns apart where they say nothing of which response is better.
_ORDINALS = (("a", "b"), ("first", "second"), ("one", "two"), ("left", "right"))


def find_label_format(row: Row, columns: Columns) -> LabelFormat | None:
    """The published format of a row that has no column named as chosen or rejected."""
    if columns.chosen in row or columns.rejected in row:
        return None
    return next((found for found in LABEL_FORMATS if found.names <= set(row)), None)


def columns_of_row(row: Row, columns: Columns) -> Columns:
    """The columns given, or those of the published format that the row has, but for a label that the params name."""
    found = find_label_format(row, columns)
    if found is None:
        return columns
    label, form = found.label, found.form
    if columns.preference != Columns.preference:
        label = columns.preference
        form = columns.preference_format if label != found.label or columns.preference_format != "auto" else form
    return replace(
        columns,
        prompt=found.prompt or columns.prompt,
        chosen=found.first,
        rejected=found.second,
        preference=label,
        preference_format=form,
    )


def arena_competition_row(row: Row) -> Row:
    """A row of Kaggle's LMSYS competition as one of lmarena; any other as it is."""
    if not {*ARENA_TURNS, *ARENA_WINNERS} <= set(row):
        return row
    prompts, *answers = (_turns(row[name]) for name in ARENA_TURNS)
    won = [name for column, name in ARENA_WINNERS.items() if str(row[column]) in ("1", "1.0", "True")]
    others = {name: value for name, value in row.items() if name not in (*ARENA_TURNS, *ARENA_WINNERS)}
    conversations = {
        f"conversation_{side}": [
            {"role": role, "content": text}
            for role, text in chain.from_iterable(
                (("user", prompt), ("assistant", answer)) for prompt, answer in zip_longest(prompts, of_side)
            )
        ]
        for side, of_side in zip("ab", answers, strict=True)
    }
    return others | conversations | {"winner": won[0] if len(won) == 1 else None}


def _turns(value: Any) -> list[Any]:
    """The turns of a list, also of one as JSON; what is none is one turn."""
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            return [value]
    return value if isinstance(value, list) else [value]


def looks_like_label(name: str) -> bool:
    """Whether a column's name suggests that it says which response is better."""
    return re.search(rf"(?:^|_)(?:{_LABEL_WORDS.pattern})(?:_|$)", "_".join(_words(name))) is not None


def other_side(name: str) -> str | None:
    """The column that would hold of the rejected response what this one holds of the chosen one."""
    for better, worse in _SIDES:
        words = re.split(rf"(?:(?<=_)|^){better}(?=_|$)", name)
        if len(words) == 2:
            return worse.join(words)
    return None


def are_numbered(first: str, second: str) -> bool:
    """Whether two columns are named as the one and the other (response_0, response_1), not as better and worse."""
    return _places(first, second) is not None


def are_reversed(first: str, second: str) -> bool:
    """Whether two columns are numbered, and the first of them is named as the other (response_b, response_a)."""
    places = _places(first, second)
    return places is not None and places[0] > places[1]


def _places(first: str, second: str) -> tuple[int, int] | None:
    """The numbers in which alone two names differ; None if they differ in anything else."""
    words, others = _words(first), _words(second)
    differing = [pair for pair in zip(words, others, strict=False) if pair[0] != pair[1]]
    if len(words) != len(others) or len(differing) != 1:
        return None
    one, other = differing[0]
    if one.isdecimal() and other.isdecimal():
        return int(one), int(other)
    return next(((names.index(one), names.index(other)) for names in _ORDINALS if {one, other} == set(names)), None)


def _words(name: str) -> list[str]:
    """The words of a column's name, in lower case; numbers are words."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name)]
