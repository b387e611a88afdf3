"""What a conversation is made of."""

from collections.abc import Sequence
from typing import Any

ROLES = {"system", "user", "assistant", "tool"}
Message = dict[str, str]  # one turn of a conversation: role and content
Row = dict[str, Any]


def conversation_text(messages: Sequence[Message]) -> str:
    """All contents, a line each."""
    return "\n".join(turn["content"] for turn in messages)


def is_unicode(text: str) -> bool:
    """False for lone surrogates, which JSON can hold and no tokenizer takes."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
