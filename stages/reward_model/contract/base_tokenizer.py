"""A base model's tokenizer, put under the scoring contract: a closed chat template, a free pad token."""

from datetime import datetime
from pathlib import Path
from typing import cast

from tokenizers import AddedToken
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from reward_model.common.errors import UserError, first_line
from reward_model.common.files import read_json, write_json
from reward_model.contract.chat_template import TemplateRefuses, render_chat
from reward_model.contract.classifier import is_reward_model
from reward_model.contract.encoder import (
    CONTRACT_VERSION,
    PROBE,
    TEMPLATE_FILE,
    TOKENIZER_CONFIG_FILE,
    Encoder,
    ScoringContract,
    control_tokens,
    encode_text,
    hash_text,
    write_contract,
)

# For bases without a chat template of their own; after the BOS token, if the base's tokenizer adds one.
PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | capitalize + ': ' + message['content'] + '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}"
)
PAD_TOKENS = ("<|endoftext|>", "<pad>", "[PAD]", "<|finetune_right_pad_id|>", "<unk>")
NEW_PAD_TOKEN = "<|pad|>"
# What templates that ask for today's date are told: a reward must not change from day to day.
FIXED_DATE = datetime(2024, 7, 26)
DATE_DIRECTIVES = (
    *("%a", "%A", "%w", "%d", "%b", "%B", "%m", "%y", "%Y", "%H", "%I", "%p", "%M", "%S", "%f", "%j", "%U", "%W", "%c"),
    *("%x", "%X", "%G", "%u", "%V", "%z", "%Z"),
)
DATE_MACRO = "{% macro strftime_now(format) %}"
# Common ones that not every system knows.
MORE_DIRECTIVES = {"%-d": "26", "%-m": "7", "%-H": "0", "%-I": "12", "%-M": "0", "%-S": "0", "%-j": "208"}
MORE_DIRECTIVES |= {"%e": "26", "%h": "Jul", "%F": "2024-07-26", "%D": "07/26/24", "%T": "00:00:00", "%R": "00:00"}


def contract_encoder(base: Path, max_length: int, folder: Path) -> Encoder:
    """Write the tokenizer of `base`, changed to keep the scoring contract, and the contract into `folder`.

    Raises:
        UserError: no usable tokenizer in `base`.
    """
    tokenizer = load_transformers_tokenizer(base)
    _find_control_tokens_everywhere(tokenizer)
    tokenizer.chat_template = _closed_template(tokenizer, base)
    adds_tokens = tokenizer.num_special_tokens_to_add() > 0
    if adds_tokens:  # which the template has; whoever uses the exported model would have them twice
        tokenizer.add_bos_token = tokenizer.add_eos_token = False
    probe = encode_text(tokenizer.backend_tokenizer, _render_probe(tokenizer, base))
    tokenizer.pad_token = _free_pad_token(tokenizer, set(probe))
    tokenizer.padding_side = "right"
    tokenizer.save_pretrained(folder)
    if adds_tokens:  # some classes (CodeLlama's) do so whatever tokenizer.json says; this one is what is in there
        config = read_json(folder / TOKENIZER_CONFIG_FILE)
        write_json(folder / TOKENIZER_CONFIG_FILE, config | {"tokenizer_class": PreTrainedTokenizerFast.__name__})
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
    except Exception as error:  # what the tokenizers library raises has no other type
        raise UserError(f"{folder} has no usable tokenizer: {first_line(error)}") from None
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise UserError(f"{folder} has no usable tokenizer: it has no tokenizer.json, nor can transformers make one")
    # Of whoever saved it, for one call.
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    return tokenizer


def _find_control_tokens_everywhere(tokenizer: PreTrainedTokenizerFast) -> None:
    """Let control tokens be found whatever stands beside them, and before the text is normalized."""
    backend = tokenizer.backend_tokenizer
    control = control_tokens(backend, tokenizer.special_tokens_map)
    for token in backend.get_added_tokens_decoder().values():
        if token.content in control and (token.normalized or token.single_word):
            blanks = {"lstrip": token.lstrip, "rstrip": token.rstrip}
            backend.add_special_tokens([AddedToken(token.content, special=True, normalized=False, **blanks)])


def _closed_template(tokenizer: PreTrainedTokenizerFast, base: Path) -> str:
    """The base's chat template, changed to end a finished conversation in the end-of-turn token and nothing more."""
    try:
        original = tokenizer.get_chat_template()
    except ValueError:
        original = ("{{ bos_token }}" if _adds_bos(tokenizer) else "") + PLAIN_TEMPLATE
    original = with_fixed_date(original)
    if tokenizer.chat_template is not None and is_reward_model(base):
        return original  # its head reads where this ends
    closed = (
        "{% set conversation %}{{ '' }}" + original + "{% endset %}"
        "{{ conversation if add_generation_prompt else conversation.rstrip() }}"
    )
    tokenizer.chat_template = closed
    if not _render_probe(tokenizer, base).endswith(tuple(tokenizer.all_special_tokens)):
        if tokenizer.eos_token is None:
            raise UserError("the base's tokenizer has no end-of-turn token: set eos_token in its tokenizer_config.json")
        closed += "{{ '' if add_generation_prompt else " + repr(tokenizer.eos_token) + " }}"
    return closed


def _adds_bos(tokenizer: PreTrainedTokenizerFast) -> bool:
    ids = tokenizer(PROBE[0]["content"])["input_ids"]
    return tokenizer.bos_token is not None and ids[0] == tokenizer.bos_token_id


def with_fixed_date(template: str) -> str:
    """A template that asks for today's date, with a `strftime_now` of its own in place of transformers'."""
    if "strftime_now" not in template or DATE_MACRO in template:
        return template
    values = {directive: FIXED_DATE.strftime(directive) for directive in DATE_DIRECTIVES} | MORE_DIRECTIVES
    filters = "".join(f" | replace({directive!r}, {value!r})" for directive, value in values.items())
    return (
        DATE_MACRO + "{% for part in format.split('%%') %}"
        "{{ '' if loop.first else '%' }}{{ part" + filters + " }}{% endfor %}{% endmacro %}" + template
    )


def _free_pad_token(tokenizer: PreTrainedTokenizerFast, used: set[int]) -> str:
    """A control token that the template never uses; where there is none, a new one."""
    control = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    control |= set(tokenizer.all_special_tokens)
    for token in (tokenizer.pad_token, *PAD_TOKENS):
        if token in control and tokenizer.convert_tokens_to_ids(token) not in used:
            return token
    tokenizer.add_special_tokens({"pad_token": NEW_PAD_TOKEN})
    return NEW_PAD_TOKEN


def _render_probe(tokenizer: PreTrainedTokenizerFast, base: Path) -> str:
    try:
        return render_chat(tokenizer.get_chat_template(), PROBE, tokenizer.special_tokens_map)
    except TemplateRefuses as reason:
        raise UserError(f"{base}: no conversation can be rendered: {reason}") from None
