"""Chats as data sets have them: lists of turns under several names, in parts, or stored as text."""

import ast
import json
import math
import re
import reprlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reward_model.common.errors import InvalidRow
from reward_model.common.messages import ROLES, Message

ROLE_NAMES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant", "developer": "system"}
# What no template is given: a turn that has one of them says more than its content.
UNREAD_FIELDS = (
    "tool_calls",
    "tool_call_id",
    "function_call",
    "reasoning_content",
    "reasoning",
    "thinking",
    "name",
    "images",
    "audio",
)
SHORT = reprlib.Repr()  # what stands in a line, of data that may be anything
SHORT.maxstring = 48

TEXT_PARTS = (None, "text", "input_text", "output_text")

# A list of objects, or one object that begins as a turn does; in quotes, where it was made a text twice.
_OPENING = re.compile(
    r"""\s*["']?(?:(?:\s|array|[\[(])*[\[(]\s*\{\s*\\*["']"""
    r"""|\s*\{\s*\\*["'](?:role|content|from|value|messages|conversations?)\\*["']\s*:)"""
)
_TURN_KEYS = [
    (re.compile(rf"['\"]{role}\\*['\"]\s*:"), re.compile(rf"['\"]{content}\\*['\"]\s*:"))
    for role, content in (("role", "content"), ("from", "value"))
]
_HH_RLHF = ("\n\nHuman:", "\n\nAssistant:")  # how its transcripts begin
_TRANSCRIPT = re.compile(r"\s*(Human|User|Assistant):")
_STRING = re.compile(r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""", re.DOTALL)


def to_messages(value: Any) -> list[Message]:
    """The turns of a chat: a list of objects, or one object, with `role` and `content`, or `from` and `value`.

    Raises:
        InvalidRow: missing_value, not_text, empty_chat, list_of_texts, not_a_turn, unknown_role, content_not_text, or
            the name of a field that is not read (`UNREAD_FIELDS`).
    """
    if value is None:
        raise InvalidRow("missing_value")
    turns = [value] if isinstance(value, Mapping) else value
    if isinstance(turns, str | bytes) or not isinstance(turns, Sequence):
        raise InvalidRow("not_text", type(value).__name__)
    if not turns:
        raise InvalidRow("empty_chat")
    if all(isinstance(turn, str) for turn in turns):
        raise InvalidRow("list_of_texts")
    return [_to_message(turn) for turn in turns]


def parse_chat(text: str) -> list[Any] | None:
    """The chat that a text holds, as JSON, or as Python, NumPy or pandas print it; None if it holds none.

    Raises:
        InvalidRow: chat_as_text, it looks like a chat and cannot be read.
    """
    if not looks_like_chat(text):
        return None
    for parse in (json.loads, _parse_printed):
        try:
            turns = parse(text.strip())
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
        turns = list(turns) if isinstance(turns, list | tuple) else [turns]
        if all(
            isinstance(turn, dict) and ({"role", "content"} <= set(turn) or {"from", "value"} <= set(turn))
            for turn in turns
        ):
            return turns
    raise InvalidRow("chat_as_text")


def looks_like_chat(text: str) -> bool:
    """Whether a text opens like a printed list of objects, and has the keys of a turn."""
    if _OPENING.match(text) is None:
        return False
    return any(role.search(text) and content.search(text) for role, content in _TURN_KEYS)


def parse_transcript(text: str) -> list[Message] | None:
    r"""The turns of a transcript, or None if it is none.

    One as in hh-rlhf ("\n\nHuman: …\n\nAssistant: …") has a blank line before every turn, also before the first. In
    another, which opens with "Human:", "User:" or "Assistant:", each line that begins so is a turn.
    """
    if _TRANSCRIPT.match(text) is None:
        return None
    separator = r"\n\n(Human|Assistant):" if text.startswith(_HH_RLHF) else r"(?:\A|\n)\s*(Human|User|Assistant):"
    parts = re.split(separator, text)
    return [
        Message(role="assistant" if name == "Assistant" else "user", content=content.strip())
        for name, content in zip(parts[1::2], parts[2::2], strict=True)
    ]


def describe(value: Any) -> str:
    """A value for a line: as it is, or in quotes if empty, long (then shortened) or with what moves the cursor."""
    text = str(value)
    return text if text and text.isprintable() and len(text) <= SHORT.maxstring else SHORT.repr(text)


def has_value(value: Any) -> bool:
    """Whether a value says anything: Parquet has a field of one row in all rows, and CSV has all of them as text."""
    if isinstance(value, Mapping):
        return any(map(has_value, value.values()))
    if isinstance(value, str):
        return value.strip() not in ("", "[]", "{}", "null")
    return value is not None and value != [] and not (isinstance(value, float) and math.isnan(value))


def _to_message(turn: Any) -> Message:
    if not isinstance(turn, Mapping):
        raise InvalidRow("not_a_turn", type(turn).__name__)
    for name in UNREAD_FIELDS:
        if has_value(turn.get(name)):
            raise InvalidRow(name)
    keys = next((keys for keys in (("role", "content"), ("from", "value")) if set(keys) <= set(turn)), None)
    if keys is None:
        raise InvalidRow("not_a_turn", describe(", ".join(map(str, turn))))
    role, content = (turn[key] for key in keys)
    if role is None or content is None:
        raise InvalidRow("missing_value", keys[role is not None])
    role = ROLE_NAMES.get(role, role) if isinstance(role, str) else None
    if role not in ROLES:
        raise InvalidRow("unknown_role", describe(turn[keys[0]]))
    return Message(role=role, content=content if isinstance(content, str) else "\n".join(_texts_of_parts(content)))


def _texts_of_parts(content: Any) -> Iterator[str]:
    parts = [content] if isinstance(content, Mapping) else content
    if not isinstance(parts, Sequence) or not parts:
        raise InvalidRow("content_not_text", type(content).__name__)
    for part in parts:
        kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
        if kind not in TEXT_PARTS or not isinstance(part.get("text"), str):
            raise InvalidRow("content_not_text", describe(kind))
        yield part["text"]


def _parse_printed(text: str) -> Any:
    """What Python printed; between the objects of an array NumPy prints no commas."""
    pieces = _STRING.split(text)  # strings are the odd ones
    for place in range(0, len(pieces), 2):
        between = re.sub(r"\}\s*\{", "},{", pieces[place]).replace("array(", "(")
        pieces[place] = re.sub(r",\s*dtype=object\s*\)", ")", between)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # of backslashes that are none of Python's
        return ast.literal_eval("".join(pieces))
