"""Messages that hold the text of control tokens: to the tokenizer such text is to be ordinary characters.

The tokenizer is used with other texts for its control tokens, and the rendered conversation has those in the places of
the template's own. So it is encoded in one call, and what a control token does to the blanks beside it, or the
beginning of the text to a prefix, is as in every other conversation.
"""

import json
import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from itertools import islice
from typing import Any

from tokenizers import Tokenizer

from reward_model.common.messages import Message


class LookalikeEncoder:
    """Encodes conversations whose messages hold the text of control tokens.

    Args:
        tokenizer: as the contract has it.
        control: the texts of its control tokens.
    """

    def __init__(self, tokenizer: Tokenizer, control: Iterable[str]) -> None:
        self._tokenizer = tokenizer
        # Longest first: one control token may be the beginning of another.
        tokens = sorted(control, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, tokens)) or r"(?!)")
        # No message has these: they are drawn anew in every process. The ids do not depend on them.
        secret = secrets.token_hex(16)
        self._aliases = {token: f"{secret}{number:06}" for number, token in enumerate(tokens)}

    def is_needed(self, messages: Sequence[Message]) -> bool:
        """Whether a message holds the text of a control token."""
        return any(self._pattern.search(text) for turn in messages for text in turn.values())

    def encode(self, messages: Sequence[Message], render: Callable[[Sequence[Message]], str]) -> tuple[str, list[int]]:
        """The rendered conversation and its ids.

        Args:
            messages: the turns.
            render: makes text of them, by the chat template.

        Raises:
            TemplateRefuses: the template does not take them.
        """
        # A mark within the text of control tokens lets only the template's own be whole; those of one character are
        # other characters meanwhile.
        letters = [token for token in self._aliases if len(token) == 1]
        mark, *others = _absent_characters(messages, 1 + len(letters))
        hidden, shown = dict(zip(letters, others, strict=True)), dict(zip(map(ord, others), letters, strict=True))

        def hide(match: re.Match[str]) -> str:
            return mark.join(hidden.get(character, character) for character in match.group())

        text = render([{key: self._pattern.sub(hide, text) for key, text in turn.items()} for turn in messages])
        aliased = self._pattern.sub(lambda match: self._aliases[match.group()], text)
        show = {ord(mark): None, **shown}
        ids = self._aliased_tokenizer.encode(aliased.translate(show), add_special_tokens=False).ids
        return text.translate(show), ids

    @cached_property
    def _aliased_tokenizer(self) -> Tokenizer:
        """The tokenizer with other texts for its control tokens. Seldom wanted, and slow to make."""
        state: dict[str, Any] = json.loads(self._tokenizer.to_str())
        for token in state["added_tokens"]:
            token["content"] = self._aliased(token["content"])
        model = state["model"]
        # In the vocabulary, too: some models find whole words there.
        if isinstance(model["vocab"], dict):
            model["vocab"] = {self._aliased(token): number for token, number in model["vocab"].items()}
        else:
            model["vocab"] = [[self._aliased(token), score] for token, score in model["vocab"]]
        if model.get("unk_token") is not None:
            model["unk_token"] = self._aliased(model["unk_token"])
        if "merges" in model:
            model["merges"] = [
                (left, right)
                for left, right in model["merges"]
                if not self._aliases.keys() & {left, right, left + right}
            ]
        state["post_processor"] = None
        return Tokenizer.from_str(json.dumps(state))

    def _aliased(self, token: str) -> str:
        return self._aliases.get(token, token)


def _absent_characters(messages: Sequence[Message], count: int) -> list[str]:
    """Private-use characters that no message holds."""
    present = {character for turn in messages for text in turn.values() for character in text}
    return list(islice((chr(code) for code in range(0xE000, 0xF8FF) if chr(code) not in present), count))
