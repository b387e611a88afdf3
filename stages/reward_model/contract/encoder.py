"""The scoring contract: the one way in which a conversation becomes the token ids whose last position holds the reward.

1. The conversation is rendered with the chat template that is saved with the model. It ends in the end-of-turn token.
2. Control tokens come from the template only; in a message they are ordinary characters.
3. Over-long input loses its oldest prompt tokens first, the same number for all responses to one prompt. If a response
   alone is too long, its middle goes. The end token stays.

Needs neither torch nor transformers; `base_tokenizer` puts a base's tokenizer under the contract.
"""

import hashlib
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from reward_model.common.errors import UserError
from reward_model.common.files import read_json, write_json
from reward_model.common.messages import Message
from reward_model.contract.chat_template import TurnDropped, dropped_turns, render_chat
from reward_model.contract.lookalikes import LookalikeEncoder
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
        prompt_is_lost: whether nothing is left of a prompt.
        response_tokens_cut: tokens taken from the middle of each response.
        reduced_by_template: for each response, whether the chat template drops a part of it.
    """

    ids: list[TokenIds]
    prompt_tokens_cut: int
    prompt_is_lost: bool
    response_tokens_cut: list[int]
    reduced_by_template: list[bool]

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
        self._lookalikes = LookalikeEncoder(self.tokenizer, control_tokens(self.tokenizer, self._special_tokens))
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
        other = copy(self)
        other.contract = replace(self.contract, max_length=max_length)
        return other

    def encode(self, prompt: Sequence[Message], responses: Sequence[str]) -> EncodedResponses:
        """Encode each response as the assistant's answer to `prompt`, all cut alike to `max_length` tokens.

        Raises:
            TemplateRefuses: the chat template does not take the prompt, or drops a turn of it.
        """
        self._require_all_turns([*prompt, _answer("")])
        # Templates refuse to open an answer to nothing; the beginning of an empty answer is the same.
        _, opening = self._encode(prompt, add_generation_prompt=True) if prompt else self._encode([_answer("")])
        encoded = [self._encode([*prompt, _answer(text)]) for text in responses]
        whole = [ids for _, ids in encoded]
        # A token that straddles the border of prompt and response counts to the response.
        prompt_length = min(shared_prefix_length([opening, ids]) for ids in whole)
        ids, prompt_cut = truncate(whole, prompt_length, self.contract.max_length)
        response_cut = [len(before) - prompt_cut - len(after) for before, after in zip(whole, ids, strict=True)]
        reduced = [not _holds(rendered, text) for (rendered, _), text in zip(encoded, responses, strict=True)]
        is_lost = bool(prompt) and prompt_cut == prompt_length
        return EncodedResponses(ids, prompt_cut, is_lost, response_cut, reduced)

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
        """The conversation as text, as the saved chat template has it.

        Raises:
            TemplateRefuses: the template does not take it.
        """
        return render_chat(self.template, messages, self._special_tokens, add_generation_prompt=add_generation_prompt)

    def _check(self) -> None:
        end = encode_text(self.tokenizer, self.render(PROBE))[-1]
        if (end, hash_text(self.template)) != (self.contract.end_token_id, self.contract.chat_template_sha256):
            raise UserError(
                f"{self.folder}: the tokenizer or its chat template is not the one the model was trained with"
            )

    def _require_all_turns(self, messages: Sequence[Message]) -> None:
        roles = tuple(turn["role"] for turn in messages)
        dropped = dropped_turns(self.template, roles, tuple(self._special_tokens.items()))
        for place in dropped:
            if messages[place]["content"].strip():
                raise TurnDropped(f"the chat template leaves out the {roles[place]} turn of the conversation")

    def _encode(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> tuple[str, TokenIds]:
        """The rendered conversation and its ids."""
        render = partial(self.render, add_generation_prompt=add_generation_prompt)
        if self._lookalikes.is_needed(messages):
            return self._lookalikes.encode(messages, render)
        text = render(messages)
        return text, encode_text(self.tokenizer, text)


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


def control_tokens(tokenizer: Tokenizer, named: Mapping[str, str]) -> set[str]:
    """The tokens that are not text: those marked as special, and those that have a name."""
    added = tokenizer.get_added_tokens_decoder().values()
    return {token.content for token in added if token.special or token.content in named.values()}


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


def _holds(rendered: str, text: str) -> bool:
    """Whether a rendered conversation has the whole text, blanks aside."""
    return text.strip() in rendered or "".join(text.split()) in "".join(rendered.split())


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
