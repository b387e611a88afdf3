"""A base model's tokenizer, put under the scoring contract: a closed chat template, a free pad token."""

from pathlib import Path
from typing import cast

from transformers import AutoTokenizer, PreTrainedTokenizerFast

from reward_model.common.errors import UserError, first_line
from reward_model.contract.chat_template import TemplateRefuses, render_chat
from reward_model.contract.classifier import is_reward_model
from reward_model.contract.encoder import (
    CONTRACT_VERSION,
    PROBE,
    TEMPLATE_FILE,
    Encoder,
    ScoringContract,
    encode_text,
    hash_text,
    write_contract,
)

# For bases without a chat template of their own.
PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | capitalize + ': ' + message['content'] + '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}"
)
PAD_TOKENS = ("<|endoftext|>", "<pad>", "[PAD]", "<|finetune_right_pad_id|>", "<unk>")
NEW_PAD_TOKEN = "<|pad|>"
# How templates ask for today's date (Llama 3.2 and others); a reward must not change from day to day.
DATE_IS_KNOWN = "strftime_now is defined"


def contract_encoder(base: Path, max_length: int, folder: Path) -> Encoder:
    """Write the tokenizer of `base`, changed to keep the scoring contract, and the contract into `folder`.

    Raises:
        UserError: no usable tokenizer in `base`.
    """
    tokenizer = load_transformers_tokenizer(base)
    tokenizer.chat_template = _closed_template(tokenizer, base)
    probe = _encode_probe(tokenizer, base)
    tokenizer.pad_token = _free_pad_token(tokenizer, set(probe))
    tokenizer.padding_side = "right"
    tokenizer.save_pretrained(folder)
    template = tokenizer.get_chat_template()
    if not (folder / TEMPLATE_FILE).exists():
        raise UserError(f"{base}: its tokenizer does not save its chat template as {TEMPLATE_FILE}")
    contract = ScoringContract(
        CONTRACT_VERSION, max_length, probe[-1], cast(int, tokenizer.pad_token_id), hash_text(template)
    )
    write_contract(folder, contract)
    return Encoder(folder, contract)


def load_transformers_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer as transformers and TRL take it.

    Raises:
        UserError: there is no usable tokenizer in `folder`.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder} has no usable tokenizer: {first_line(error)}") from None
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise UserError(f"{folder} has no usable tokenizer: it has no tokenizer.json, nor can transformers make one")
    return tokenizer


def _closed_template(tokenizer: PreTrainedTokenizerFast, base: Path) -> str:
    """The base's chat template, changed to end a finished conversation in the end-of-turn token and nothing more."""
    try:
        original = tokenizer.get_chat_template()
    except ValueError:
        original = PLAIN_TEMPLATE
    original = original.replace(DATE_IS_KNOWN, "false")
    if tokenizer.chat_template is not None and is_reward_model(base):
        return original  # its head reads where this ends
    closed = (
        "{% set conversation %}{{ '' }}" + original + "{% endset %}"
        "{{ conversation if add_generation_prompt else conversation.rstrip() }}"
    )
    tokenizer.chat_template = closed
    if _encode_probe(tokenizer, base)[-1] not in tokenizer.all_special_ids:
        if tokenizer.eos_token is None:
            raise UserError("the base's tokenizer has no end-of-turn token: set eos_token in its tokenizer_config.json")
        closed += "{{ '' if add_generation_prompt else " + repr(tokenizer.eos_token) + " }}"
    return closed


def _free_pad_token(tokenizer: PreTrainedTokenizerFast, used: set[int]) -> str:
    """A control token that the template never uses; where there is none, a new one."""
    control = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    control |= set(tokenizer.all_special_tokens)
    for token in (tokenizer.pad_token, *PAD_TOKENS):
        if token in control and tokenizer.convert_tokens_to_ids(token) not in used:
            return token
    tokenizer.add_special_tokens({"pad_token": NEW_PAD_TOKEN})
    return NEW_PAD_TOKEN


def _encode_probe(tokenizer: PreTrainedTokenizerFast, base: Path) -> list[int]:
    try:
        text = render_chat(tokenizer.get_chat_template(), PROBE, tokenizer.special_tokens_map)
    except TemplateRefuses as reason:
        raise UserError(f"{base}: no conversation can be rendered: {reason}") from None
    return encode_text(tokenizer.backend_tokenizer, text)
