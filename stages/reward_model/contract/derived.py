"""The scoring contract of reward models made elsewhere, as their own files imply it."""

import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import PreTrainedConfig, PreTrainedTokenizerFast

from reward_model.common.errors import UserError
from reward_model.common.files import read_json, write_json
from reward_model.contract.base_model import read_model_config
from reward_model.contract.base_tokenizer import load_transformers_tokenizer, with_fixed_date
from reward_model.contract.chat_template import TemplateRefuses, render_chat
from reward_model.contract.classifier import require_reward_model
from reward_model.contract.encoder import (
    CONTRACT_VERSION,
    PROBE,
    TOKENIZER_FILE,
    Encoder,
    ScoringContract,
    encode_text,
    hash_text,
)

UNKNOWN_LENGTH = int(1e30)  # what transformers says of tokenizers without a limit


def derive_encoder(folder: Path) -> Encoder:
    """An encoder that renders and encodes conversations as transformers does with the model in `folder`.

    Its chat template is the model's own; its limit, the model's positions or those of its tokenizer.

    Raises:
        UserError: the model is no sequence classifier with one label, or has no config, tokenizer or chat template that
            can be used.
    """
    require_reward_model(folder)
    config = read_model_config(folder).get_text_config()
    tokenizer = load_transformers_tokenizer(folder)
    pad_token_id = config.pad_token_id
    template = _read_template(tokenizer, folder)
    end = _encode_probe(tokenizer, template, folder)[-1]
    if end == pad_token_id:
        # Transformers reads the reward at the last token that is no pad token.
        template = _without_last(template, str(tokenizer.convert_ids_to_tokens(end)))
        end = _encode_probe(tokenizer, template, folder)[-1]
    vocabulary = tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False).values()
    _require_embeddings([*vocabulary, *_encode_probe(tokenizer, template, folder)], config.vocab_size, folder)
    tokenizer.chat_template = template
    # Without a pad token any other one fills batches.
    filler = end if pad_token_id is None or pad_token_id < 0 else pad_token_id
    contract = ScoringContract(CONTRACT_VERSION, _max_length(config, tokenizer), end, filler, hash_text(template))
    with TemporaryDirectory() as scratch:
        tokenizer.save_pretrained(scratch)
        if len(tokenizer) > config.vocab_size:
            _forget_tokens_from(config.vocab_size, Path(scratch))
        return Encoder(Path(scratch), contract)


def _require_embeddings(ids: Iterable[int], tokens: int, folder: Path) -> None:
    """Refuse a tokenizer that makes other ids of texts than the model has embeddings for."""
    if (last := max(ids, default=0)) >= tokens:
        raise UserError(f"{folder}: its tokenizer has a token {last}, its model has embeddings for {tokens}")


def _forget_tokens_from(size: int, folder: Path) -> None:
    """Take added tokens that the model has no embeddings for, a pad token most often, as text."""
    tokenizer = read_json(folder / TOKENIZER_FILE)
    tokenizer["added_tokens"] = [token for token in tokenizer["added_tokens"] if token["id"] < size]
    write_json(folder / TOKENIZER_FILE, tokenizer)


def _read_template(tokenizer: PreTrainedTokenizerFast, folder: Path) -> str:
    try:
        return with_fixed_date(tokenizer.get_chat_template())
    except ValueError:
        raise UserError(
            f"{folder} has no chat template, so how it takes a prompt and its response is not known: "
            "put the one that it was trained with there, as chat_template.jinja"
        ) from None


def _encode_probe(tokenizer: PreTrainedTokenizerFast, template: str, folder: Path) -> list[int]:
    try:
        text = render_chat(template, PROBE, tokenizer.special_tokens_map)
    except TemplateRefuses as reason:
        raise UserError(f"{folder}: no conversation can be rendered: {reason}") from None
    return encode_text(tokenizer.backend_tokenizer, text)


def _without_last(template: str, token: str) -> str:
    inner = template.removesuffix("\n")  # Jinja drops it at the end of a template, not within one
    return (
        "{% set conversation %}{{ '' }}" + inner + "{% endset %}"
        "{{ conversation if add_generation_prompt else conversation.removesuffix(" + repr(token) + ") }}"
    )


def _max_length(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerFast) -> int:
    """The tokens that both the model and its tokenizer take."""
    limits = (getattr(config, "max_position_embeddings", None), tokenizer.model_max_length)
    return min(
        (limit for limit in limits if isinstance(limit, int) and 0 < limit < UNKNOWN_LENGTH), default=sys.maxsize
    )
