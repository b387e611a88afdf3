"""The preference pair: its record, its checks, and what becomes of the rows that are none."""

import hashlib
import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from reward_model.common.errors import UserError
from reward_model.common.messages import Message, Row, conversation_text, is_unicode
from reward_model.data.row_formats import Columns, InvalidRow, parse_sides

TIE = 0.5  # the preference of a pair without a better side


@dataclass(frozen=True)
class Pair:
    """Two responses to one prompt, of which people (or a judge) preferred `chosen`.

    Attributes:
        margin: how much better chosen is.
        preference: the probability that chosen is better, in [0.5, 1]; 0.5 is a tie, None is 1.
    """

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    source: str
    margin: float | None = None
    preference: float | None = None

    @property
    def id(self) -> str:
        """16 hexadecimal digits that depend on the texts alone, not on where the pair stood."""
        return digest(conversation_text(self.prompt), self.chosen, self.rejected)[:16]

    @property
    def prompt_id(self) -> str:
        """The same 16 digits for all pairs whose normalised prompt is the same."""
        return digest(normalize_prompt(self.prompt))[:16]

    def to_record(self) -> Row:
        """The pair as a JSON object; `margin` and `preference` only where they are given."""
        optional = {"margin": self.margin, "preference": self.preference}
        record = {"id": self.id, **asdict(self), **optional}
        return {key: value for key, value in record.items() if key not in optional or value is not None}

    @classmethod
    def from_record(cls, record: Row) -> "Pair":
        """The pair that `to_record` wrote."""
        prompt = tuple(Message(role=turn["role"], content=turn["content"]) for turn in record["prompt"])
        return cls(
            prompt,
            record["chosen"],
            record["rejected"],
            record["source"],
            record.get("margin"),
            record.get("preference"),
        )

    @property
    def is_tie(self) -> bool:
        """Whether neither response was preferred."""
        return self.preference == TIE


@dataclass
class ParsedPairs:
    """What became of the rows of one source."""

    rows: int = 0
    pairs: list[Pair] = field(default_factory=list)
    rejects: list[Row] = field(default_factory=list)

    def reject(self, reason: str, row: Any) -> None:
        """Keep a row that is no pair, with the reason."""
        self.rejects.append({"reason": reason, "row": row})

    def counts(self) -> dict[str, Any]:
        """Rows in, pairs kept, and rows skipped by reason."""
        reasons = Counter(reject["reason"] for reject in self.rejects)
        return {"rows": self.rows, "kept": len(self.pairs), "skipped": dict(sorted(reasons.items()))}


def describe_skipped(skipped: Mapping[str, int]) -> str:
    """How many rows were skipped for each reason, for people."""
    return ", ".join(f"{count} {reason}" for reason, count in skipped.items()) or "none"


def parse_pairs(rows: Iterable[Row], to_pair: Callable[[Row], Pair]) -> ParsedPairs:
    """Make a pair of every row, or skip it with the reason; then drop repeated pairs and pairs judged both ways."""
    parsed = ParsedPairs()
    for row in rows:
        parsed.rows += 1
        try:
            parsed.pairs.append(to_pair(row))
        except InvalidRow as reason:
            parsed.reject(str(reason), row)
    pairs, parsed.pairs = parsed.pairs, []
    for pair, reason in zip(pairs, find_repeats(pairs), strict=True):
        if reason is None:
            parsed.pairs.append(pair)
        else:
            parsed.reject(reason, pair.to_record())
    return parsed


def find_repeats(pairs: Sequence[Pair]) -> list[str | None]:
    """For each pair: duplicate, if it repeats an earlier one; contradiction, if its responses are judged both ways."""
    preferred: dict[tuple[str, frozenset[str]], set[str]] = defaultdict(set)
    for pair in pairs:
        preferred[_responses_key(pair)].add("" if pair.is_tie else _squeeze(pair.chosen))
    seen: set[tuple[str, frozenset[str]]] = set()
    reasons: list[str | None] = []
    for key in map(_responses_key, pairs):
        reasons.append("contradiction" if len(preferred[key]) > 1 else "duplicate" if key in seen else None)
        seen.add(key)
    return reasons


def pair_from_row(row: Row, columns: Columns, default_source: str, *, keep_ties: bool = False) -> Pair:
    r"""Make a pair of a row with prompt, chosen and rejected, or with two conversations that share their beginning.

    Where rejected is the preferred one, the sides are swapped.

    Raises:
        InvalidRow: bad_margin, bad_preference, tie (unless `keep_ties`), or as `parse_sides` and `checked_pair`.
    """
    prompt, chosen, rejected = parse_sides(row, columns)
    source = row.get(columns.source) or default_source
    margin, preference = _margin(row.get(columns.margin)), _preference(row.get(columns.preference))
    if preference is not None and preference < TIE:
        chosen, rejected, preference = rejected, chosen, 1 - preference
    pair = checked_pair(prompt, chosen, rejected, str(source), margin, preference)
    if pair.is_tie and not keep_ties:
        raise InvalidRow("tie")
    return pair


def checked_pair(
    prompt: Sequence[Message],
    chosen: str,
    rejected: str,
    source: str,
    margin: float | None = None,
    preference: float | None = None,
) -> Pair:
    """A pair with text in every part.

    Raises:
        InvalidRow: bad_unicode, empty, or chosen_equals_rejected.
    """
    if not is_unicode(conversation_text(prompt) + chosen + rejected):
        raise InvalidRow("bad_unicode")
    if not any(turn["content"].strip() for turn in prompt) or not chosen.strip() or not rejected.strip():
        raise InvalidRow("empty")
    if chosen.strip() == rejected.strip():
        raise InvalidRow("chosen_equals_rejected")
    return Pair(tuple(prompt), chosen, rejected, source, margin, preference)


def require_columns(parsed: ParsedPairs, columns: Columns, section: str = "data") -> None:
    """Tell a file whose rows all lack a column from one with a few bad rows.

    Raises:
        UserError: not one row gave a pair for want of a column; names the columns found and the key to set.
    """
    reasons = {reject["reason"] for reject in parsed.rejects}
    if parsed.pairs or not reasons & {"missing_column", "no_prompt"}:
        return
    found = sorted({name for reject in parsed.rejects if isinstance(reject["row"], dict) for name in reject["row"]})
    missing = [name for name in ("chosen", "rejected", "prompt") if getattr(columns, name) not in found]
    if not missing:
        raise UserError("the columns are there, but no row has a value in all of them")
    keys = " and ".join(f"{section}.{name}_column" for name in missing)
    wanted = ", ".join(repr(getattr(columns, name)) for name in missing)
    raise UserError(f"no column {wanted} in the data; it has {', '.join(map(repr, found))}: set {keys} to one of them")


def normalize_prompt(prompt: Sequence[Message]) -> str:
    """The words of the first user turn, lower case: prompts alike but for case, spacing and punctuation are one.

    So are the turns of a conversation, of which one holds the response to another, and a question after different
    system turns.
    """
    opening = next((turn for turn in prompt if turn["role"] == "user" and turn["content"].strip()), None)
    text = conversation_text(prompt if opening is None else [opening])
    words = " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))
    return words or " ".join(text.split())


def _responses_key(pair: Pair) -> tuple[str, frozenset[str]]:
    return _squeeze(conversation_text(pair.prompt)), frozenset((_squeeze(pair.chosen), _squeeze(pair.rejected)))


def _squeeze(text: str) -> str:
    return " ".join(text.split())


def _margin(value: Any) -> float | None:
    if value is None or value == "":
        return None
    try:
        margin = float(value)
    except (TypeError, ValueError):
        raise InvalidRow("bad_margin") from None
    if not math.isfinite(margin) or margin < 0:
        raise InvalidRow("bad_margin")
    return margin


def _preference(value: Any) -> float | None:
    if value is None or value == "":
        return None
    try:
        preference = float(value)
    except (TypeError, ValueError):
        raise InvalidRow("bad_preference") from None
    if isinstance(value, bool) or not 0 <= preference <= 1:
        raise InvalidRow("bad_preference")
    return preference


def digest(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()
