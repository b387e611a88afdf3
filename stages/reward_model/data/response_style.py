"""Traits of a response's form, which judges and reward models may prefer for their own sake."""

import re

# Two lines that begin like items of a list.
_LIST = re.compile(r"^\s*(?:[-*•]|\d{1,3}[.)])\s+\S.*(?:\n.*)*?\n\s*(?:[-*•]|\d{1,3}[.)])\s+\S", re.MULTILINE)
_MARKDOWN = re.compile(r"^#{1,6} \S|\*\*\S[^*\n]*\*\*|^```|^\|.+\|\s*$", re.MULTILINE)
_REFUSAL = re.compile(
    r"\b(?:I'm|I am|we are|we're) (?:sorry|afraid|unable|not able)\b|\bas an AI\b"
    r"|\bI (?:can(?:no|')t|can not|won't|will not|do not|don't) (?:help|assist|provide|answer|do|discuss|give|comply)",
    re.IGNORECASE,
)
REFUSAL_WITHIN = 200  # a refusal is said at the beginning


def find_traits(response: str) -> dict[str, bool]:
    """Whether the response holds a list, has Markdown, or begins with a refusal."""
    return {
        "lists": _LIST.search(response) is not None,
        "markdown": _MARKDOWN.search(response) is not None,
        "refusals": is_refusal(response),
    }


def is_refusal(response: str) -> bool:
    """Whether it begins with a refusal, in words that assistants use."""
    return _REFUSAL.search(response.replace("’", "'")[:REFUSAL_WITHIN]) is not None


TRAITS = tuple(find_traits(""))
