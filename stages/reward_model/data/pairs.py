"""The preference pair: its record, its checks, and what becomes of the rows that are none."""

import hashlib
import re
import reprlib
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from reward_model.common.disk_list import DiskList
from reward_model.common.errors import InvalidRow
from reward_model.common.messages import Message, Row, conversation_text, is_unicode

TIE = 0.5  # the preference of a pair without a better side

_SHORT = reprlib.Repr()  # for a line
_SHORT.maxdict, _SHORT.maxlist, _SHORT.maxstring = 6, 2, 48


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
        texts = {"prompt": self.prompt, "chosen": self.chosen, "rejected": self.rejected, "source": self.source}
        optional = {"margin": self.margin, "preference": self.preference}
        return {"id": self.id, **texts, **{key: value for key, value in optional.items() if value is not None}}

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

    def load(self) -> "Pair":
        """Itself, whose texts are at hand."""
        return self


class PairLike(Protocol):
    """A pair, or one whose texts are on disk."""

    @property
    def id(self) -> str:
        """As that of `Pair`."""
        ...

    @property
    def prompt_id(self) -> str:
        """As that of `Pair`."""
        ...

    @property
    def is_tie(self) -> bool:
        """As that of `Pair`."""
        ...

    def load(self) -> Pair:
        """The pair with its texts."""
        ...


AnyPair = TypeVar("AnyPair", bound=PairLike)


@dataclass
class ParsedPairs(Generic[AnyPair]):
    """What became of the rows of one source."""

    rows: int = 0
    pairs: list[AnyPair] = field(default_factory=list)
    rejects: DiskList[Row] = field(default_factory=DiskList)
    formats: dict[str, int] = field(default_factory=dict)  # rows of the file by their format, where there are several
    labels: dict[str, int] = field(default_factory=dict)  # rows by what their label says, where it decides

    def reject(self, reason: str, row: Any, detail: str = "") -> None:
        """Keep a row that is no pair, with the reason, and in detail what it concerns."""
        self.rejects.append({"reason": reason, **({"detail": detail} if detail else {}), "row": row})

    def first_rejects(self) -> list[str]:
        """The first row of each reason, a line each, shortened."""
        first: dict[str, Row] = {}
        for reject in self.rejects:
            first.setdefault(reject["reason"], reject)
        lines = []
        for reason, reject in sorted(first.items()):
            detail = f" ({_SHORT.repr(reject['detail'])[1:-1]})" if "detail" in reject else ""
            lines.append(f"first {reason}{detail}: {_SHORT.repr(reject['row'])}")
        return lines

    def counts(self) -> dict[str, Any]:
        """Rows in, pairs kept, and rows skipped by reason."""
        reasons = Counter(reject["reason"] for reject in self.rejects)
        optional = {"formats": self.formats, "labels": self.labels}
        given = {name: counts for name, counts in optional.items() if counts}
        return {"rows": self.rows, **given, "kept": len(self.pairs), "skipped": dict(sorted(reasons.items()))}


def describe_skipped(skipped: Mapping[str, int]) -> str:
    """How many rows were skipped for each reason, for people."""
    return ", ".join(f"{count} {reason}" for reason, count in skipped.items()) or "none"


def parse_pairs(rows: Iterable[Row], to_pair: Callable[[Row], AnyPair]) -> ParsedPairs[AnyPair]:
    """Make a pair of every row, or skip it with the reason; then drop repeated pairs and pairs judged both ways."""
    parsed = ParsedPairs[AnyPair]()
    for row in rows:
        parsed.rows += 1
        try:
            parsed.pairs.append(to_pair(row))
        except InvalidRow as reason:
            parsed.reject(str(reason), row, reason.concerns)
    pairs, parsed.pairs = parsed.pairs, []
    for pair, reason in zip(pairs, find_repeats(pairs), strict=True):
        if reason is None:
            parsed.pairs.append(pair)
        else:
            parsed.reject(reason, pair.load().to_record())
    return parsed


def find_repeats(pairs: Iterable[PairLike]) -> list[str | None]:
    """For each pair: duplicate, if it repeats an earlier one; contradiction, if its responses are judged both ways."""
    keys: list[bytes] = []
    states: dict[bytes, str] = {}  # of each key: its judgement, then what a pair is that has the key
    for pair in pairs:
        key, judgement = _judgement(pair.load())
        keys.append(key)
        if states.setdefault(key, judgement) != judgement:
            states[key] = "contradiction"
    reasons: list[str | None] = []
    for key in keys:
        is_repeat = states[key] in ("contradiction", "duplicate")
        reasons.append(states[key] if is_repeat else None)
        if not is_repeat:
            states[key] = "duplicate"
    return reasons


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


def normalize_prompt(prompt: Sequence[Message]) -> str:
    """The words of the first user turn, lower case: prompts alike but for case, spacing and punctuation are one.

    So are the turns of a conversation, of which one holds the response to another, and a question after different
    system turns.
    """
    opening = next((turn for turn in prompt if turn["role"] == "user" and turn["content"].strip()), None)
    text = conversation_text(prompt if opening is None else [opening])
    words = " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))
    return words or " ".join(text.split())


def _judgement(pair: Pair) -> tuple[bytes, str]:
    """A hash of prompt and responses, whatever their order and spacing; and which response is preferred."""
    chosen, rejected = squeeze(pair.chosen), squeeze(pair.rejected)
    key = digest(squeeze(conversation_text(pair.prompt)), *sorted((chosen, rejected)))
    return bytes.fromhex(key), "tie" if pair.is_tie else "first" if chosen <= rejected else "second"


def squeeze(text: str) -> str:
    """The text with one space for all that is between two words."""
    return " ".join(text.split())


def digest(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()
