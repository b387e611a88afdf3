"""The preference pair: made from whatever rows come in, checked, deduplicated and split without leaks."""

import hashlib
import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from reward_model.errors import UserError

SPLITS = ("train", "validation", "test")
ROLES = {"system", "user", "assistant", "tool"}

Row = dict[str, Any]
Message = dict[str, str]  # one turn of a conversation: role and content


@dataclass(frozen=True)
class Pair:
    """Two responses to one prompt, of which people (or a judge) preferred `chosen`."""

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    source: str
    margin: float | None = None

    @property
    def id(self) -> str:
        """16 hexadecimal digits that depend on the texts alone, not on where the pair stood."""
        return _digest(conversation_text(self.prompt), self.chosen, self.rejected)[:16]

    @property
    def prompt_id(self) -> str:
        """The same 16 digits for all pairs whose normalised prompt is the same."""
        return _digest(normalised_prompt(self.prompt))[:16]

    def to_record(self) -> Row:
        """The pair as a JSON object; `margin` only where there is one."""
        record = {"id": self.id, **asdict(self)}
        if self.margin is None:
            del record["margin"]
        return record

    @classmethod
    def from_record(cls, record: Row) -> "Pair":
        """The pair that `to_record` wrote."""
        prompt = tuple(Message(role=turn["role"], content=turn["content"]) for turn in record["prompt"])
        return cls(prompt, record["chosen"], record["rejected"], record["source"], record.get("margin"))


@dataclass(frozen=True)
class Columns:
    """The names that the parts of a pair have in the rows of a file."""

    prompt: str = "prompt"
    chosen: str = "chosen"
    rejected: str = "rejected"
    margin: str = "margin"
    source: str = "source"


class TurnedAway(ValueError):
    """A row that is no pair; the message is the reason, as counted in metrics/data.json.

    Attributes:
        told: the reason with what it concerns, for people.
    """

    def __init__(self, reason: str, concerns: str = "") -> None:
        super().__init__(reason)
        self.told = f"{reason} ({concerns})" if concerns else reason


@dataclass
class Intake:
    """What became of the rows of one source."""

    rows: int = 0
    pairs: list[Pair] = field(default_factory=list)
    rejects: list[Row] = field(default_factory=list)

    def turn_away(self, reason: str, row: Any) -> None:
        """Keep a row that is no pair, with the reason."""
        self.rejects.append({"reason": reason, "row": row})

    def counts(self) -> dict[str, Any]:
        """Rows in, pairs kept, and rows turned away by reason."""
        reasons = Counter(reject["reason"] for reject in self.rejects)
        return {"rows": self.rows, "kept": len(self.pairs), "turned_away": dict(sorted(reasons.items()))}


def take_in(rows: Iterable[Row], to_pair: Callable[[Row], Pair]) -> Intake:
    """Make a pair of every row, or turn it away; then drop repeated pairs and pairs judged both ways."""
    intake = Intake()
    for row in rows:
        intake.rows += 1
        try:
            intake.pairs.append(to_pair(row))
        except TurnedAway as reason:
            intake.turn_away(str(reason), row)
    intake.pairs = list(_drop_repeats(intake))
    return intake


def pair_from_row(row: Row, columns: Columns, default_source: str) -> Pair:
    r"""Make a pair of a row with prompt, chosen and rejected, or with two conversations that share their beginning.

    Raises:
        TurnedAway: bad_margin, or as `sides_of_row` and `checked_pair`.
    """
    prompt, chosen, rejected = sides_of_row(row, columns)
    source = row.get(columns.source) or default_source
    return checked_pair(prompt, chosen, rejected, str(source), _margin(row.get(columns.margin)))


def sides_of_row(row: Row, columns: Columns) -> tuple[list[Message], str, str]:
    r"""The prompt, chosen and rejected of a row, whatever they are.

    Prompts are text, chat lists (`role`, `content`) or transcripts ("\n\nHuman:", "\n\nAssistant:"); responses
    are text, or a chat list that may repeat the prompt.

    Raises:
        TurnedAway: missing_column, no_prompt, no_shared_prompt, not_a_chat or unknown_role.
    """
    chosen, rejected = row.get(columns.chosen), row.get(columns.rejected)
    if chosen is None or rejected is None:
        raise TurnedAway("missing_column", columns.chosen if chosen is None else columns.rejected)
    if row.get(columns.prompt) is None:
        return _split_conversations(_conversation(chosen), _conversation(rejected))
    stated = prompt_messages(row[columns.prompt])
    if not (_is_conversation(chosen) and _is_conversation(rejected)):
        return stated, response_text(chosen), response_text(rejected)
    prompt, chosen, rejected = _split_conversations(_conversation(chosen), _conversation(rejected))
    if stated != prompt[-len(stated) :]:
        raise TurnedAway("no_shared_prompt")
    return prompt, chosen, rejected


def prompt_messages(value: Any) -> list[Message]:
    """The messages of a prompt: text, a chat list, or a transcript that ends where the assistant is to speak.

    Raises:
        TurnedAway: not_a_chat or unknown_role.
    """
    if isinstance(value, str):
        transcript = parse_transcript(value)
        if transcript and len(transcript) > 1 and transcript[-1] == Message(role="assistant", content=""):
            return transcript[:-1]
        return [Message(role="user", content=value)]
    return _chat(value)


def response_text(value: Any) -> str:
    """The text of a response: as it is, or of a chat list with the one assistant's turn.

    Raises:
        TurnedAway: not_a_chat, unknown_role or no_shared_prompt.
    """
    if isinstance(value, str):
        return value
    turns = _chat(value)
    if len(turns) > 1:
        raise TurnedAway("no_shared_prompt")
    return _last_response(turns)


def checked_pair(
    prompt: Sequence[Message], chosen: str, rejected: str, source: str, margin: float | None = None
) -> Pair:
    """A pair with text in every part.

    Raises:
        TurnedAway: bad_unicode, empty, or chosen_equals_rejected.
    """
    if not is_unicode(conversation_text(prompt) + chosen + rejected):
        raise TurnedAway("bad_unicode")
    if not any(turn["content"].strip() for turn in prompt) or not chosen.strip() or not rejected.strip():
        raise TurnedAway("empty")
    if chosen.strip() == rejected.strip():
        raise TurnedAway("chosen_equals_rejected")
    return Pair(tuple(prompt), chosen, rejected, source, margin)


def require_columns(intake: Intake, columns: Columns, section: str = "data") -> None:
    """Tell a file whose rows all lack a column from one with a few bad rows.

    Raises:
        UserError: not one row gave a pair for want of a column; names the columns found and the key to set.
    """
    reasons = {reject["reason"] for reject in intake.rejects}
    if intake.pairs or not reasons & {"missing_column", "no_prompt"}:
        return
    found = sorted({name for reject in intake.rejects if isinstance(reject["row"], dict) for name in reject["row"]})
    missing = [name for name in ("chosen", "rejected", "prompt") if getattr(columns, name) not in found]
    if not missing:
        raise UserError("the columns are there, but no row has a value in all of them")
    keys = " and ".join(f"{section}.{name}_column" for name in missing)
    wanted = ", ".join(repr(getattr(columns, name)) for name in missing)
    raise UserError(f"no column {wanted} in the data; it has {', '.join(map(repr, found))}: set {keys} to one of them")


def split_pairs(
    pairs: Iterable[Pair], *, validation_fraction: float, test_fraction: float, seed: int
) -> dict[str, list[Pair]]:
    """Share pairs out by a hash of the normalised prompt, so that no prompt crosses.

    A prompt's place depends on its text and the seed only: adding rows moves none of the others.
    """
    splits: dict[str, list[Pair]] = {name: [] for name in SPLITS}
    for pair in pairs:
        place = _unit_hash(str(seed), normalised_prompt(pair.prompt))
        in_test, in_validation = place < test_fraction, place < test_fraction + validation_fraction
        splits["test" if in_test else "validation" if in_validation else "train"].append(pair)
    return splits


def choose_pairs(pairs: Iterable[Pair], count: int, seed: int) -> list[Pair]:
    """Take up to `count` pairs, one of each prompt before a second of any, in an order fixed by the seed.

    A smaller choice is the beginning of a larger one.
    """
    by_prompt: dict[str, list[Pair]] = defaultdict(list)
    for pair in sorted(pairs, key=lambda pair: _digest(str(seed), pair.id)):
        by_prompt[pair.prompt_id].append(pair)
    turns = [(turn, _digest(str(seed), key), pair) for key, own in by_prompt.items() for turn, pair in enumerate(own)]
    return [pair for _, _, pair in sorted(turns, key=lambda item: item[:2])[:count]]


def normalised_prompt(prompt: Sequence[Message]) -> str:
    """The words of the first user turn, lower case: prompts alike but for case, spacing and punctuation are one.

    So are the turns of a conversation, of which one holds the response to another, and a question after different
    system turns.
    """
    opening = next((turn for turn in prompt if turn["role"] == "user" and turn["content"].strip()), None)
    text = conversation_text(prompt if opening is None else [opening])
    words = " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))
    return words or " ".join(text.split())


def conversation_text(messages: Sequence[Message]) -> str:
    """All contents, a line each."""
    return "\n".join(turn["content"] for turn in messages)


def parse_transcript(text: str) -> list[Message] | None:
    r"""The turns of an hh-rlhf transcript ("\n\nHuman: …\n\nAssistant: …"), or None if it is none."""
    parts = re.split(r"(?:^|\n\n)(Human|Assistant):", text.strip("\n") if text.startswith("\n") else text)
    if len(parts) < 3 or parts[0].strip():
        return None
    roles = {"Human": "user", "Assistant": "assistant"}
    return [
        Message(role=roles[name], content=content.strip())
        for name, content in zip(parts[1::2], parts[2::2], strict=True)
    ]


def _drop_repeats(intake: Intake) -> Iterator[Pair]:
    """Yield pairs once; turn away repeats, and all pairs whose two responses were judged both ways."""
    by_responses: dict[tuple[str, frozenset[str]], set[str]] = defaultdict(set)
    for pair in intake.pairs:
        by_responses[_responses_key(pair)].add(_squeeze(pair.chosen))
    seen: set[tuple[str, frozenset[str]]] = set()
    for pair in intake.pairs:
        key = _responses_key(pair)
        if len(by_responses[key]) > 1:
            intake.turn_away("contradiction", pair.to_record())
        elif key in seen:
            intake.turn_away("duplicate", pair.to_record())
        else:
            seen.add(key)
            yield pair


def _responses_key(pair: Pair) -> tuple[str, frozenset[str]]:
    return _squeeze(conversation_text(pair.prompt)), frozenset((_squeeze(pair.chosen), _squeeze(pair.rejected)))


def _squeeze(text: str) -> str:
    return " ".join(text.split())


def _is_conversation(value: Any) -> bool:
    """Whether a response column holds more than the response: a chat of several turns, or a transcript."""
    if isinstance(value, str):
        return value.startswith("\n\nHuman:") and len(parse_transcript(value) or []) > 1
    return isinstance(value, Sequence) and len(value) > 1


def _conversation(value: Any) -> list[Message]:
    if isinstance(value, str):
        transcript = parse_transcript(value)
        if transcript is None:
            raise TurnedAway("no_prompt")
        return transcript
    return _chat(value)


def _split_conversations(chosen: list[Message], rejected: list[Message]) -> tuple[list[Message], str, str]:
    if chosen[:-1] != rejected[:-1] or len(chosen) < 2:
        raise TurnedAway("no_shared_prompt")
    return chosen[:-1], _last_response(chosen), _last_response(rejected)


def _last_response(turns: list[Message]) -> str:
    if turns[-1]["role"] != "assistant":
        raise TurnedAway("not_a_chat")
    return turns[-1]["content"]


def _chat(value: Any) -> list[Message]:
    try:
        turns = [Message(role=turn["role"], content=turn["content"]) for turn in value]
    except (TypeError, KeyError):
        raise TurnedAway("not_a_chat") from None
    if not turns or not all(isinstance(part, str) for turn in turns for part in turn.values()):
        raise TurnedAway("not_a_chat")
    if not {turn["role"] for turn in turns} <= ROLES:
        raise TurnedAway("unknown_role")
    return turns


def _margin(value: Any) -> float | None:
    if value is None or value == "":
        return None
    try:
        margin = float(value)
    except (TypeError, ValueError):
        raise TurnedAway("bad_margin") from None
    if not math.isfinite(margin) or margin < 0:
        raise TurnedAway("bad_margin")
    return margin


def is_unicode(text: str) -> bool:
    """False for lone surrogates, which JSON can hold and no tokenizer takes."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _digest(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()


def _unit_hash(*parts: str) -> float:
    """A number in [0, 1), uniform over texts."""
    return int(_digest(*parts)[:13], 16) / 16**13
