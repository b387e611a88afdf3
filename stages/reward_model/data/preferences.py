"""Labels that say which of two responses is better, in the forms that data sets have them in."""

import math
import re
from dataclasses import dataclass
from typing import Any

from reward_model.common.errors import InvalidRow
from reward_model.data.chats import describe
from reward_model.data.label_formats import are_reversed
from reward_model.data.pairs import TIE

FIRST = r"first|left|(?:(?:model|response|assistant|answer|conversation|completion|output)[ _]?)?a"
SECOND = r"second|right|(?:(?:model|response|assistant|answer|conversation|completion|output)[ _]?)?b"
EVEN = r"tie|draw|equal|same|neither|tie ?\(?both ?bad\)?|both[ _]?(?:bad|good)"


@dataclass(frozen=True)
class Preference:
    """What a label says of the two responses of a row.

    Attributes:
        probability: that the first, in the chosen column, is better.
        strength: by how much one of them is better, where the label says so.
    """

    probability: float
    strength: float | None = None


def read_preference(value: Any, form: str, first: str, second: str) -> Preference | None:
    """What a label says; None if it is empty.

    Args:
        value: a number in the given form, the name of one of the two columns, or a word: `A`, `model_b`, `tie` …
        form: as `data.preference_format`; `auto` takes numbers for probabilities, `name` takes none.
        first, second: the names of the columns with the responses.

    Raises:
        InvalidRow: bad_preference.
    """
    if value is None or value == "":
        return None
    number = to_number(value)
    if number is None:
        return Preference(_probability_of_name(value, first, second))
    found = _of_number(number, form)
    if found is None:
        raise InvalidRow("bad_preference", f"{describe(value)}, as {form}")
    return found


def to_number(value: Any) -> float | None:
    """A number, also one stored as text; None if it is none, true and false among them."""
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _of_number(number: float, form: str) -> Preference | None:
    if form == "signed":
        if not math.isfinite(number):
            return None
        return Preference(TIE if number == 0 else float(number < 0), abs(number))
    if form in ("index_from_0", "index_from_1"):
        probability = 1 - (number - (form == "index_from_1"))
        return Preference(probability) if probability in (0, TIE, 1) else None
    return Preference(number) if form != "name" and 0 <= number <= 1 else None


def _probability_of_name(value: Any, first: str, second: str) -> float:
    name = value.strip() if isinstance(value, str) else ""
    if name in (first, second) and first != second:
        return float(name == first)
    if name.lower() in ("chosen", "rejected"):
        return float(name.lower() == "chosen")
    if _fits(EVEN, name):
        return TIE
    places = _fits(FIRST, name), _fits(SECOND, name)
    is_reversed = are_reversed(first, second)
    # Beside a column response_b with the first response and another without a letter, it is unclear which A means.
    is_unclear = not is_reversed and (_fits(SECOND, first) or _fits(FIRST, second))
    if is_unclear or not any(places):
        raise InvalidRow("bad_preference", describe(value))
    return float(places[is_reversed])


def _fits(words: str, name: str) -> bool:
    return re.fullmatch(words, name, re.IGNORECASE) is not None
