"""Names of columns: a few of them for a line, and those that somebody most likely meant."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches

from reward_model.data.label_formats import other_side

PROMPT_NAMES = ("instruction", "question", "query", "input", "user_input", "prompts", "user")
RESPONSE_WORDS = {"response", "responses", "answer", "answers", "completion", "output", "text", "reply"}
MAX_NAMES = 8  # of columns, in a line
SAME_NAME = 0.905  # likeness of names from which one is the other: `promt` is `prompt`, `response_1` not `response_a`


def list_names(names: Sequence[str], show: Callable[[str], str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(map(show, names[:MAX_NAMES])) + more


def meant_columns(wanted: Mapping[str, str], unused: Sequence[str]) -> list[str | None]:
    """The unused columns that most likely are the parts of a row that are wanted, by part: prompt, chosen, rejected."""
    found = {part: _misspelt(name, unused) for part, name in wanted.items()}
    sides = [(name, other) for name in unused if (other := other_side(name)) in unused]
    texts = [(name, other) for name, other in sides if RESPONSE_WORDS & set(name.lower().split("_"))]
    candidates = texts or sides
    if {"chosen", "rejected"} <= wanted.keys() and len(candidates) == 1:
        found["chosen"], found["rejected"] = candidates[0]
    questions = [name for name in unused if name.lower() in PROMPT_NAMES]
    if "prompt" in wanted and found["prompt"] is None and len(questions) == 1:
        found["prompt"] = questions[0]
    return list(found.values())


def _misspelt(name: str, names: Iterable[str]) -> str | None:
    """The one of some names that is this one with a letter wrong, or in another case; None if none is."""
    by_key = {other.strip().lower(): other for other in names}
    found = get_close_matches(name.lower(), by_key, n=1, cutoff=SAME_NAME)
    return by_key[found[0]] if found else None
