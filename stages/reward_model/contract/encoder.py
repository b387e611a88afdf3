"""The scoring contract: the one way in which a conversation becomes the token ids whose last position holds the reward.

1. The conversation is rendered with the chat template that is saved with the model. It ends in the end-of-turn token.
2. Control tokens come from the template only; in a message they are ordinary characters.
3. Over-long input loses its oldest prompt tokens first, the same number for all responses to one prompt. If a response
   alone is too long, its middle goes. The end token stays.

Needs neither torch nor transformers; `base_tokenizer` puts a base's tokenizer under the contract.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from tokenizers import Tokenizer

from reward_model.common.errors import UserError
from reward_model.common.files import read_json, write_json
from reward_model.common.messages import Message
from reward_model.contract.chat_template import render_chat
from reward_model.contract.truncation import truncate

CONTRACT_FILE = "scoring_contract.json"
CONTRACT_VERSION = 1
TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
TEMPLATE_FILE = "chat_template.jinja"

PROBE = [Message(role="user", content="1 + 1?"), Message(role="assistant", content="2")]

TokenIds = list[int]
Group = Sequence[TokenIds]  # sequences with one prompt: a pair, a single text, or n responses


@dataclass(frozen=True)
class ScoringContract:
    """What a scorer must share with training for its rewards to mean the same.

    `precision` is that of the saved weights; computing in less gives approximations.
    """

    version: int
    max_length: int
    end_token_id: int
    pad_token_id: int
    chat_template_sha256: str
    precision: str = "float32"


@dataclass(frozen=True)
class EncodedResponses:
    """Token ids of one prompt with each of its responses, and what truncation took.

    Attributes:
        ids: one sequence per response; each ends in the end token.
        prompt_tokens_cut: tokens taken from the beginning of every sequence.
        response_tokens_cut: tokens taken from the middle of each response.
    """

    ids: list[TokenIds]
    prompt_tokens_cut: int
    response_tokens_cut: list[int]

    @property
    def is_cut(self) -> bool:
        """Whether truncation took anything."""
        return bool(self.prompt_tokens_cut or any(self.response_tokens_cut))


class Encoder:
    """A tokenizer under the scoring contract. Safe to use from several threads.

    Args:
        folder: with the tokenizer's files, and its chat template.
        contract: what the tokenizer must keep to.

    Raises:
        UserError: a file is absent or damaged, or tokenizer and contract do not fit together.
    """

    def __init__(self, folder: Path, contract: ScoringContract) -> None:
        self.folder = folder
        self.contract = contract
        self.template = _read(folder / TEMPLATE_FILE)
        self.tokenizer = _load_tokenizer(folder)
        self._special_tokens = named_special_tokens(folder)
        # Longest first: one control token may be the beginning of another.
        tokens = sorted(control_tokens(self.tokenizer) | set(self._special_tokens.values()), key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, tokens)) or r"(?!)")
        self._check()

    @classmethod
    def load(cls, folder: Path) -> "Encoder":
        """Load the encoder of a model's folder, or of data/tokens.

        Raises:
            UserError: a file is absent, or tokenizer and contract do not fit together.
        """
        saved = read_json(folder / CONTRACT_FILE)
        if saved.get("version") != CONTRACT_VERSION:
            raise UserError(
                f"{folder / CONTRACT_FILE} has version {saved.get('version')}, this scorer reads {CONTRACT_VERSION}"
            )
        return cls(folder, ScoringContract(**saved))

    def with_max_length(self, max_length: int) -> "Encoder":
        """The same tokenizer with another limit."""
        return Encoder(self.folder, replace(self.contract, max_length=max_length))

    def encode(self, prompt: Sequence[Message], responses: Sequence[str]) -> EncodedResponses:
        """Encode each response as the assistant's answer to `prompt`, all cut alike to `max_length` tokens.

        Raises:
            TemplateRefuses: the chat template does not take the prompt.
        """
        # Templates refuse to open an answer to nothing; the beginning of an empty answer is the same.
        opening = self._ids(prompt, add_generation_prompt=True) if prompt else self._ids([_answer("")])
        whole = [self._ids([*prompt, _answer(text)]) for text in responses]
        # A token that straddles the border of prompt and response counts to the response.
        prompt_length = min(shared_prefix_length([opening, ids]) for ids in whole)
        ids, prompt_cut = truncate(whole, prompt_length, self.contract.max_length)
        response_cut = [len(before) - prompt_cut - len(after) for before, after in zip(whole, ids, strict=True)]
        return EncodedResponses(ids, prompt_cut, response_cut)

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
        """The conversation as text, as the saved chat template has it.

        Raises:
            TemplateRefuses: the template does not take it.
        """
        return render_chat(self.template, messages, self._special_tokens, add_generation_prompt=add_generation_prompt)

    @cached_property
    def _plain_tokenizer(self) -> Tokenizer:
        """One that knows no control tokens: their text is encoded as any other. Seldom wanted, and slow to make."""
        tokenizer = Tokenizer.from_str(self.tokenizer.to_str())
        tokenizer.encode_special_tokens = True
        return tokenizer

    def _check(self) -> None:
        end = encode_text(self.tokenizer, self.render(PROBE))[-1]
        if (end, hash_text(self.template)) != (self.contract.end_token_id, self.contract.chat_template_sha256):
            raise UserError(
                f"{self.folder}: the tokenizer or its chat template is not the one the model was trained with"
            )

    def _ids(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> TokenIds:
        if not any(self._control.search(text) for turn in messages for text in turn.values()):
            return encode_text(self.tokenizer, self.render(messages, add_generation_prompt=add_generation_prompt))
        return self._encode_lookalikes(messages, add_generation_prompt)

    def _encode_lookalikes(self, messages: Sequence[Message], add_generation_prompt: bool) -> TokenIds:
        """Encode messages that hold the text of control tokens.

        Such text is broken with a mark before rendering, so that only the template's own control tokens are whole; the
        text between those is encoded, without the mark, in a mode that knows no control tokens.
        """
        mark = _absent_character(messages)
        broken = [
            {key: self._control.sub(lambda match: mark.join(match.group()), text) for key, text in turn.items()}
            for turn in messages
        ]
        text = self.render(broken, add_generation_prompt=add_generation_prompt)
        ids: TokenIds = []
        position = 0
        for match in self._control.finditer(text):
            ids += encode_text(self._plain_tokenizer, text[position : match.start()].replace(mark, ""))
            ids.append(cast(int, self.tokenizer.token_to_id(match.group())))
            position = match.end()
        return ids + encode_text(self._plain_tokenizer, text[position:].replace(mark, ""))


def write_contract(folder: Path, contract: ScoringContract) -> None:
    """Write the contract into a model's folder."""
    write_json(folder / CONTRACT_FILE, asdict(contract))


def shared_prefix_length(sequences: Sequence[Sequence[int]]) -> int:
    """How many tokens all sequences begin with."""
    for position, tokens in enumerate(zip(*sequences, strict=False)):
        if len(set(tokens)) > 1:
            return position
    return min(len(sequence) for sequence in sequences)


def encode_text(tokenizer: Tokenizer, text: str) -> TokenIds:
    """The ids of a rendered text; nothing is added to it."""
    return tokenizer.encode(text, add_special_tokens=False).ids


def control_tokens(tokenizer: Tokenizer) -> set[str]:
    """The tokens that are not text."""
    return {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}


def named_special_tokens(folder: Path) -> dict[str, str]:
    """The special tokens that chat templates know by name: bos_token, eos_token and so on."""
    config: dict[str, Any] = read_json(folder / TOKENIZER_CONFIG_FILE)
    named = {name: value for name, value in config.items() if name.endswith("_token")}
    contents = {name: value["content"] if isinstance(value, dict) else value for name, value in named.items()}
    return {name: content for name, content in contents.items() if isinstance(content, str)}


def hash_text(text: str) -> str:
    """The SHA-256 of the text in UTF-8, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def _answer(text: str) -> Message:
    return Message(role="assistant", content=text)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        raise UserError(f"{path} is missing: it is part of the model") from None


def _load_tokenizer(folder: Path) -> Tokenizer:
    path = folder / TOKENIZER_FILE
    if not path.exists():
        raise UserError(f"{path} is missing: it is part of the model")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # what the library raises has no other type
        raise UserError(f"{path} is damaged: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _absent_character(messages: Sequence[Message]) -> str:
    """A private-use character that no message holds."""
    text = "".join(text for turn in messages for text in turn.values())
    return next(chr(code) for code in range(0xE000, 0xF8FF) if chr(code) not in text)
