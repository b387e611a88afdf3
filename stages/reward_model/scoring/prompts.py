"""What people give as a prompt: a question, a chat, or a chat in a file."""

import json
from collections.abc import Sequence
from pathlib import Path

from reward_model.common.errors import InvalidRow, UserError
from reward_model.common.messages import Message, Row
from reward_model.data.row_formats import Columns, prompt_messages, row_prompt

Prompt = str | Sequence[Message]


def as_messages(prompt: Prompt) -> list[Message]:
    """The conversation that a response answers; nothing for a prompt of blanks.

    Raises:
        UserError: it is no chat.
    """
    try:
        messages = prompt_messages(prompt)
    except InvalidRow as reason:
        if str(reason) == "prompt_ends_in_assistant":
            raise UserError("the prompt ends in a turn of the assistant: that is a response, give it as one") from None
        raise UserError(
            f"the prompt is no chat ({reason.detail}): a list of objects with role (system, user, assistant, tool) and "
            "content (text) is wanted"
        ) from None
    return messages if any(turn["content"].strip() for turn in messages) else []


def prompt_of_row(row: Row) -> Prompt:
    """The prompt of a row whose responses stand in columns of their own; empty if it has none.

    Raises:
        InvalidRow: it is no chat.
    """
    return row_prompt(row, Columns()) or ""


def read_prompt(argument: str) -> Prompt:
    """A prompt as typed: text, or `@FILE.json` for a chat in a file.

    Raises:
        UserError: there is no such file, or no chat in it; or another file is named: scoring its name would be no use.
    """
    if not argument.startswith("@"):
        return argument
    if not argument.endswith(".json"):
        if _is_file(argument[1:]):
            raise UserError(f"{argument[1:]}: a chat is read from a file whose name ends in .json")
        return argument
    path = Path(argument[1:])
    try:
        chat = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}") from None
    try:
        return as_messages(chat)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):  # no name of a file: too long, or with a NUL
        return False
