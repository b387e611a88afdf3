"""The scoring contract: the one way in which a conversation becomes the token ids whose last position holds the reward.

1. The conversation is rendered with the chat template that is saved with the model. It ends in the end-of-turn token.
2. Control tokens come from the template only; in a message they are ordinary characters.
3. Over-long input loses its oldest prompt tokens first, the same number for all responses to one prompt. If a response
   alone is too long, its middle goes. The end token stays.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import jinja2
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from reward_model.errors import UserError
from reward_model.files import read_json, write_json
from reward_model.pairs import Message

CONTRACT_FILE = "scoring_contract.json"
CONTRACT_VERSION = 1

# For bases without a chat template of their own.
PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | capitalize + ': ' + message['content'] + '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}"
)
PAD_TOKENS = ("<|endoftext|>", "<pad>", "[PAD]", "<|finetune_right_pad_id|>", "<unk>")
NEW_PAD_TOKEN = "<|pad|>"
PROBE = [Message(role="user", content="1 + 1?"), Message(role="assistant", content="2")]


class TemplateRefuses(ValueError):
    """The chat template does not render this conversation (most often, roles that do not alternate)."""


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

    ids: list[list[int]]
    prompt_tokens_cut: int
    response_tokens_cut: list[int]


class Encoder:
    """A tokenizer under the scoring contract."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, contract: ScoringContract) -> None:
        self.tokenizer = tokenizer
        self.contract = contract
        # Longest first: one control token may be the beginning of another.
        tokens = sorted(_control_tokens(tokenizer), key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, tokens)) or r"(?!)")

    @classmethod
    def from_base(cls, folder: Path, max_length: int) -> "Encoder":
        """Put the tokenizer of a base model under the contract: a closed template, a free pad token.

        Raises:
            UserError: no usable tokenizer in `folder`.
        """
        tokenizer = _load_tokenizer(folder)
        tokenizer.chat_template = _closed_template(tokenizer)
        end_token_id = _encode_probe(tokenizer)[-1]
        tokenizer.pad_token = _free_pad_token(tokenizer)
        tokenizer.padding_side = "right"
        pad_token_id = _id_of(tokenizer, tokenizer.pad_token)
        template_hash = _template_sha256(tokenizer)
        return cls(tokenizer, ScoringContract(CONTRACT_VERSION, max_length, end_token_id, pad_token_id, template_hash))

    @classmethod
    def load(cls, folder: Path) -> "Encoder":
        """Load what `save` wrote.

        Raises:
            UserError: a file is absent, or tokenizer and contract do not fit together.
        """
        saved = read_json(folder / CONTRACT_FILE)
        if saved.get("version") != CONTRACT_VERSION:
            raise UserError(
                f"{folder / CONTRACT_FILE} has version {saved.get('version')}, this scorer reads {CONTRACT_VERSION}"
            )
        contract = ScoringContract(**saved)
        tokenizer = _load_tokenizer(folder)
        found = (_encode_probe(tokenizer)[-1], tokenizer.pad_token_id, _template_sha256(tokenizer))
        if found != (contract.end_token_id, contract.pad_token_id, contract.chat_template_sha256):
            raise UserError(f"{folder}: the tokenizer or its chat template is not the one the model was trained with")
        return cls(tokenizer, contract)

    def save(self, folder: Path) -> None:
        """Write the tokenizer, its chat template and the contract into `folder`."""
        self.tokenizer.save_pretrained(folder)
        write_json(folder / CONTRACT_FILE, asdict(self.contract))

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
        longest = max(len(ids) for ids in whole)
        prompt_cut = min(max(longest - self.contract.max_length, 0), prompt_length)
        ids = [_cut_middle(sequence[prompt_cut:], self.contract.max_length) for sequence in whole]
        response_cut = [len(before) - prompt_cut - len(after) for before, after in zip(whole, ids, strict=True)]
        return EncodedResponses(ids, prompt_cut, response_cut)

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
        """The conversation as text, as the saved chat template has it.

        Raises:
            TemplateRefuses: the template does not take it.
        """
        return _render(self.tokenizer, messages, add_generation_prompt=add_generation_prompt)

    def _ids(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> list[int]:
        if not any(self._control.search(text) for turn in messages for text in turn.values()):
            return _encode_text(self.tokenizer, self.render(messages, add_generation_prompt=add_generation_prompt))
        return self._ids_of_lookalikes(messages, add_generation_prompt)

    def _ids_of_lookalikes(self, messages: Sequence[Message], add_generation_prompt: bool) -> list[int]:
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
        ids: list[int] = []
        position = 0
        for match in self._control.finditer(text):
            ids += self._plain_ids(text[position : match.start()].replace(mark, ""))
            ids.append(_id_of(self.tokenizer, match.group()))
            position = match.end()
        return ids + self._plain_ids(text[position:].replace(mark, ""))

    def _plain_ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def shared_prefix_length(sequences: Sequence[Sequence[int]]) -> int:
    """How many tokens all sequences begin with."""
    for position, tokens in enumerate(zip(*sequences, strict=False)):
        if len(set(tokens)) > 1:
            return position
    return min(len(sequence) for sequence in sequences)


def _answer(text: str) -> Message:
    return Message(role="assistant", content=text)


def _cut_middle(ids: list[int], length: int) -> list[int]:
    if len(ids) <= length:
        return ids
    tail = length // 2
    return ids[: length - tail] + ids[len(ids) - tail :]


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder} has no usable tokenizer: {str(error).strip().splitlines()[0]}") from None


def _closed_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """The base's chat template, changed to end a finished conversation in the end-of-turn token and nothing more."""
    try:
        original = tokenizer.get_chat_template()
    except ValueError:
        original = PLAIN_TEMPLATE
    closed = (
        "{% set conversation %}{{ '' }}" + original + "{% endset %}"
        "{{ conversation if add_generation_prompt else conversation.rstrip() }}"
    )
    tokenizer.chat_template = closed
    if _encode_probe(tokenizer)[-1] not in tokenizer.all_special_ids:
        if tokenizer.eos_token is None:
            raise UserError("the base's tokenizer has no end-of-turn token: set eos_token in its tokenizer_config.json")
        closed += "{{ '' if add_generation_prompt else " + repr(tokenizer.eos_token) + " }}"
    return closed


def _free_pad_token(tokenizer: PreTrainedTokenizerBase) -> str:
    """A control token that the template never uses; where there is none, a new one."""
    used = set(_encode_probe(tokenizer))
    control = _control_tokens(tokenizer)
    for token in (tokenizer.pad_token, *PAD_TOKENS):
        if token in control and _id_of(tokenizer, token) not in used:
            return token
    tokenizer.add_special_tokens({"pad_token": NEW_PAD_TOKEN})
    return NEW_PAD_TOKEN


def _control_tokens(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    added: dict[int, Any] = tokenizer.added_tokens_decoder
    return {token.content for token in added.values() if token.special} | set(tokenizer.all_special_tokens)


def _id_of(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    return cast(int, tokenizer.convert_tokens_to_ids(token))


def _encode_probe(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    return _encode_text(tokenizer, _render(tokenizer, PROBE))


def _render(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, add_generation_prompt: bool = False
) -> str:
    try:
        text = tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=add_generation_prompt
        )
    except (jinja2.TemplateError, TypeError, KeyError, IndexError, ValueError) as error:
        raise TemplateRefuses(f"the chat template refuses the conversation: {error}") from None
    return str(text)


def _encode_text(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def _template_sha256(tokenizer: PreTrainedTokenizerBase) -> str:
    return hashlib.sha256(tokenizer.get_chat_template().encode()).hexdigest()


def _absent_character(messages: Sequence[Message]) -> str:
    """A private-use character that no message holds."""
    text = "".join(text for turn in messages for text in turn.values())
    return next(chr(code) for code in range(0xE000, 0xF8FF) if chr(code) not in text)
