"""From a row, whatever its form, to a prompt and its responses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reward_model.common.errors import InvalidRow
from reward_model.common.messages import Message, Row
from reward_model.data.chats import describe, has_value, looks_like_chat, parse_chat, parse_transcript, to_messages

CONVERSATIONS = "conversations"  # ShareGPT's column with the prompt, where the named one is absent


@dataclass(frozen=True)
class Columns:
    """The names that the parts of a pair have in the rows of a file, and how its labels are to be read.

    Attributes:
        preference_format: as `data.preference_format`.
        min_score_gap: scores that differ by less are a tie.
        margin_per_point: the margin of a pair is this times the difference of its scores.
    """

    prompt: str = "prompt"
    chosen: str = "chosen"
    rejected: str = "rejected"
    margin: str = "margin"
    source: str = "source"
    preference: str = "preference"
    system: str = "system"
    preference_format: str = "auto"
    min_score_gap: float = 0.0
    margin_per_point: float = 0.0


def parse_sides(row: Row, columns: Columns) -> tuple[list[Message], str, str]:
    r"""The prompt, chosen and rejected of a row, whatever they are.

    Prompts are text, chats or transcripts (`chats.parse_transcript`); responses are text, or a chat that may
    repeat the prompt. A chat may be stored as text.

    Raises:
        InvalidRow: missing_column, missing_value, no_prompt, empty, no_shared_prompt, last_turn_not_assistant,
            two_system_turns, tools, or as `chats.to_messages` and `chats.parse_chat`.
    """
    sides = _parse_sides(_side(row, columns.chosen), _side(row, columns.rejected))
    value = prompt_value(row, columns)
    conversations = _conversations(sides, value)
    if conversations is None:
        if _is_blank(value):
            raise InvalidRow("no_prompt" if value is None else "empty", columns.prompt)
        return row_prompt(row, columns), response_text(sides[0]), response_text(sides[1])
    prompt, chosen, rejected = _split_conversations(*conversations)
    if not _is_blank(value) and not _is_part(_stated_messages(value), prompt):
        raise InvalidRow("no_shared_prompt")
    return _with_system(prompt, row, columns), chosen, rejected


def row_prompt(row: Row, columns: Columns) -> list[Message]:
    """The prompt of a row whose responses stand in columns of their own, with the row's system prompt; may be empty.

    Raises:
        InvalidRow: as `prompt_messages`, two_system_turns or tools.
    """
    value = prompt_value(row, columns)
    return _with_system([] if _is_blank(value) else prompt_messages(value), row, columns)


def prompt_value(row: Row, columns: Columns) -> Any:
    """What a row has in its prompt's column; None if it has none."""
    value = row.get(columns.prompt)
    return row.get(CONVERSATIONS) if value is None else value


def prompt_messages(value: Any) -> list[Message]:
    """The messages of a prompt: text, a chat, or a transcript that ends where the assistant is to speak.

    Raises:
        InvalidRow: prompt_ends_in_assistant, or as `chats.to_messages` and `chats.parse_chat`.
    """
    turns = _stated_messages(value)
    if turns[-1]["role"] == "assistant":
        raise InvalidRow("prompt_ends_in_assistant")
    return turns


def response_text(value: Any) -> str:
    """The text of a response: as it is, or of a chat with the one assistant's turn.

    Raises:
        InvalidRow: no_shared_prompt, last_turn_not_assistant, or as `chats.to_messages` and `chats.parse_chat`.
    """
    if isinstance(value, str):
        chat = parse_chat(value)
        if chat is None:
            return value
        value = chat
    turns = to_messages(value)
    response = _last_response(turns)
    if len(turns) > 1:
        raise InvalidRow("no_shared_prompt")
    return response


def chat_or_text(cell: str) -> Any:
    """A CSV cell has no types: one that holds a chat is a chat.

    JSON of another kind is text: it may well be what the prompt asked for.
    """
    try:
        return parse_chat(cell) or cell
    except InvalidRow:
        return cell  # to be counted with its row


def is_list_of_texts(value: Any) -> bool:
    """Whether a value is a list of texts, and not a chat; an empty one is none."""
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(item, str) for item in value)


def name_pair_format(row: Row, columns: Columns) -> str:
    """What kind of pair a row holds, after its chosen side, in TRL's words where there are any."""
    side = row.get(columns.chosen)
    if not isinstance(side, str | list | Mapping):
        return "unknown"
    turn = side[0] if isinstance(side, list) and side else side
    if isinstance(side, str):
        is_transcript = bool(_conversation(side)) and (_is_hh_rlhf(side) or _is_blank(prompt_value(row, columns)))
        kind = "chats as text" if looks_like_chat(side) else "transcripts" if is_transcript else "standard"
    else:
        kind = "sharegpt" if isinstance(turn, Mapping) and "from" in turn else "conversational"
    return f"{kind}, implicit prompt" if _is_blank(prompt_value(row, columns)) else kind


def _side(row: Row, name: str) -> Any:
    if name not in row:
        raise InvalidRow("missing_column", describe(name))
    if row[name] is None:
        raise InvalidRow("missing_value", describe(name))
    return row[name]


def _parse_sides(chosen: Any, rejected: Any) -> list[str | list[Message]]:
    """Both sides: texts, and the turns of chats, also of those that are stored as text.

    Raises:
        InvalidRow: chat_as_text, one of them cannot be read, or one is a chat and the other is not; as `to_messages`.
    """
    sides = [chosen, rejected]
    if any(isinstance(side, str) and looks_like_chat(side) for side in sides):
        sides = [parse_chat(side) if isinstance(side, str) else side for side in sides]
        if None in sides:
            raise InvalidRow("chat_as_text", "one side alone")
    return [side if isinstance(side, str) else to_messages(side) for side in sides]


def _is_blank(value: Any) -> bool:
    return not value.strip() if isinstance(value, str) else value is None or value == []


def _stated_messages(value: Any) -> list[Message]:
    if not isinstance(value, str):
        return to_messages(value)
    chat = parse_chat(value)
    if chat is not None:
        return to_messages(chat)
    transcript = parse_transcript(value)
    if transcript and len(transcript) > 1 and transcript[-1] == Message(role="assistant", content=""):
        return transcript[:-1]
    return [Message(role="user", content=value)]


def _conversations(sides: Sequence[str | list[Message]], value: Any) -> tuple[list[Message], list[Message]] | None:
    """Both sides as whole conversations, beside the prompt's value; None where they are responses.

    Raises:
        InvalidRow: no_shared_prompt, one side alone is a transcript.
    """
    chosen, rejected = found = [_conversation(side) for side in sides]
    certain = [not isinstance(side, str) or _is_hh_rlhf(side) or _is_blank(value) for side in sides]
    if chosen and rejected and (all(certain) or _repeat(value, chosen, rejected)):
        return chosen, rejected
    if any(
        turns and is_certain and isinstance(side, str)
        for side, turns, is_certain in zip(sides, found, certain, strict=True)
    ):
        raise InvalidRow("no_shared_prompt")
    return None


def _conversation(side: str | list[Message]) -> list[Message]:
    """The turns of a side that may hold more than the response: a chat of several, or a transcript; else none."""
    turns = (parse_transcript(side) or []) if isinstance(side, str) else side
    is_one = len(turns) > 1 and (not isinstance(side, str) or turns[0]["role"] == "user")
    return turns if is_one else []


def _is_hh_rlhf(text: str) -> bool:
    """Whether a transcript begins as in hh-rlhf; another beside a prompt may be a dialogue that it asked for."""
    return text.startswith("\n\nHuman:")


def _repeat(value: Any, chosen: list[Message], rejected: list[Message]) -> bool:
    """Whether two conversations share a prompt, and it is the one that is stated beside them."""
    return chosen[:-1] == rejected[:-1] and _is_part(_stated_messages(value), chosen[:-1])


def _split_conversations(chosen: list[Message], rejected: list[Message]) -> tuple[list[Message], str, str]:
    if chosen[:-1] != rejected[:-1]:
        raise InvalidRow("no_shared_prompt")
    return chosen[:-1], _last_response(chosen), _last_response(rejected)


def _last_response(turns: list[Message]) -> str:
    if turns[-1]["role"] != "assistant":
        raise InvalidRow("last_turn_not_assistant")
    return turns[-1]["content"]


def _is_part(stated: list[Message], prompt: list[Message]) -> bool:
    """Whether the prompt that is stated is the beginning or the end of what the conversations share."""
    bare, whole = ([(turn["role"], turn["content"].strip()) for turn in turns] for turns in (stated, prompt))
    opening = whole[1:] if whole[0][0] == "system" and bare[0][0] != "system" else whole
    return bare in (whole[-len(bare) :], opening[: len(bare)])


def _with_system(prompt: list[Message], row: Row, columns: Columns) -> list[Message]:
    """The prompt under the row's system prompt; a row with tools is refused, since no template is given them."""
    if has_value(row.get("tools")):
        raise InvalidRow("tools")
    system = row.get(columns.system)
    if not has_value(system):
        return prompt
    if not isinstance(system, str):
        raise InvalidRow("not_text", columns.system)
    if not prompt or prompt[0]["role"] != "system":
        return [Message(role="system", content=system), *prompt]
    if prompt[0]["content"].strip() != system.strip():
        raise InvalidRow("two_system_turns")
    return prompt
