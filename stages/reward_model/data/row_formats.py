"""From a row, whatever its form, to a prompt and its responses."""

import ast
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reward_model.common.messages import ROLES, Message, Row


@dataclass(frozen=True)
class Columns:
    """The names that the parts of a pair have in the rows of a file."""

    prompt: str = "prompt"
    chosen: str = "chosen"
    rejected: str = "rejected"
    margin: str = "margin"
    source: str = "source"
    preference: str = "preference"


class InvalidRow(ValueError):
    """A row that is no pair; the message is the reason, as counted in metrics/data.json.

    Attributes:
        detail: the reason with what it concerns, for people.
    """

    def __init__(self, reason: str, concerns: str = "") -> None:
        super().__init__(reason)
        self.detail = f"{reason} ({concerns})" if concerns else reason


def parse_sides(row: Row, columns: Columns) -> tuple[list[Message], str, str]:
    r"""The prompt, chosen and rejected of a row, whatever they are.

    Prompts are text, chat lists (`role`, `content`) or transcripts ("\n\nHuman:", "\n\nAssistant:"); responses
    are text, or a chat list that may repeat the prompt.

    Raises:
        InvalidRow: missing_column, no_prompt, no_shared_prompt, not_a_chat or unknown_role.
    """
    chosen, rejected = row.get(columns.chosen), row.get(columns.rejected)
    if chosen is None or rejected is None:
        raise InvalidRow("missing_column", columns.chosen if chosen is None else columns.rejected)
    if row.get(columns.prompt) is None:
        return _split_conversations(_conversation(chosen), _conversation(rejected))
    stated = prompt_messages(row[columns.prompt])
    if not (_is_conversation(chosen) and _is_conversation(rejected)):
        return stated, response_text(chosen), response_text(rejected)
    prompt, chosen, rejected = _split_conversations(_conversation(chosen), _conversation(rejected))
    if stated != prompt[-len(stated) :]:
        raise InvalidRow("no_shared_prompt")
    return prompt, chosen, rejected


def prompt_messages(value: Any) -> list[Message]:
    """The messages of a prompt: text, a chat list, or a transcript that ends where the assistant is to speak.

    Raises:
        InvalidRow: not_a_chat or unknown_role.
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
        InvalidRow: not_a_chat, unknown_role or no_shared_prompt.
    """
    if isinstance(value, str):
        return value
    turns = _chat(value)
    if len(turns) > 1:
        raise InvalidRow("no_shared_prompt")
    return _last_response(turns)


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


def _is_conversation(value: Any) -> bool:
    """Whether a response column holds more than the response: a chat of several turns, or a transcript."""
    if isinstance(value, str):
        return value.startswith("\n\nHuman:") and len(parse_transcript(value) or []) > 1
    return isinstance(value, Sequence) and len(value) > 1


def _conversation(value: Any) -> list[Message]:
    if isinstance(value, str):
        transcript = parse_transcript(value)
        if transcript is None:
            raise InvalidRow("no_prompt")
        return transcript
    return _chat(value)


def _split_conversations(chosen: list[Message], rejected: list[Message]) -> tuple[list[Message], str, str]:
    if chosen[:-1] != rejected[:-1] or len(chosen) < 2:
        raise InvalidRow("no_shared_prompt")
    return chosen[:-1], _last_response(chosen), _last_response(rejected)


def _last_response(turns: list[Message]) -> str:
    if turns[-1]["role"] != "assistant":
        raise InvalidRow("not_a_chat")
    return turns[-1]["content"]


def _chat(value: Any) -> list[Message]:
    try:
        turns = [Message(role=turn["role"], content=turn["content"]) for turn in value]
    except (TypeError, KeyError):
        raise InvalidRow("not_a_chat") from None
    if not turns or not all(isinstance(part, str) for turn in turns for part in turn.values()):
        raise InvalidRow("not_a_chat")
    if not {turn["role"] for turn in turns} <= ROLES:
        raise InvalidRow("unknown_role")
    return turns


def chat_or_text(cell: str) -> Any:
    """A CSV cell has no types: one that holds a chat, as JSON or as Python (and so pandas) writes it, is a chat.

    JSON of another kind is text: it may well be what the prompt asked for.
    """
    if cell.startswith("[{") and cell.endswith("}]"):
        for parse in (json.loads, ast.literal_eval):
            try:
                turns = parse(cell)
            except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
                continue
            if all(isinstance(turn, dict) and {"role", "content"} <= set(turn) for turn in turns):
                return turns
    return cell
