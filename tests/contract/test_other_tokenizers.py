"""The contract over tokenizers of other kinds than the default base's."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    pipeline,
)

from reward_model.contract.base_tokenizer import contract_encoder
from reward_model.contract.chat_template import TurnDropped
from reward_model.contract.encoder import Encoder, shared_prefix_length
from reward_model.modeling.batching import padded_batch
from reward_model.modeling.forward import rewards
from reward_model.modeling.head import start_head
from reward_model.modeling.model import build_reward_model, save_reward_model

TEXTS = ["the question is <s> old [INST] user assistant", "a good answer\n to </s> <|user|> <|end|>"]
TURNS = "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
PHI = TURNS + "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
)


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def answer(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def metaspace() -> Tokenizer:
    """As Mistral's: control tokens stand in the vocabulary, and only the first piece of a text gets a blank."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>", "<s>", "</s>"])
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def unigram() -> Tokenizer:
    """A model that finds whole words in its vocabulary, control tokens among them."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Prepend("▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    special_tokens = ["<unk>", "<s>", "</s>"]
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=special_tokens, unk_token="<unk>")
    tokenizer.train_from_iterator(TEXTS * 4, trainer)
    return tokenizer


def special(**options: bool) -> list[AddedToken]:
    return [AddedToken(text, special=True, **options) for text in ("<|user|>", "<|assistant|>", "<|end|>")]


KINDS: dict[str, tuple[Any, str, list[AddedToken]]] = {
    "byte-level": (byte_level, PHI, special()),
    "Phi-3": (byte_level, PHI, special(rstrip=True)),
    "blanks on the left": (metaspace, PHI, special(lstrip=True)),
    "Mistral": (metaspace, MISTRAL, []),
    "unigram": (unigram, MISTRAL, []),
    "single words": (byte_level, PHI, special(single_word=True)),
    "normalized": (unigram, PHI, special(normalized=True)),
    "one character": (byte_level, PHI.replace("<|end|>", "§"), [*special(), AddedToken("§", special=True)]),
}


def save_base(folder: Path, kind: str = "byte-level", template: str | None = "", adds_bos: bool = False) -> Path:
    """Save a tokenizer: with a template of its own, another, or none."""
    make, own_template, added = KINDS[kind]
    tokenizer = make()
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>", *added])
    if adds_bos:
        bos = ("<s>", tokenizer.token_to_id("<s>"))
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[bos])
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    chat_template = own_template if template == "" else template
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=chat_template, **names).save_pretrained(folder)
    return folder


def encoder_of(tmp_path: Path, *arguments: Any, **options: Any) -> Encoder:
    return contract_encoder(save_base(tmp_path / "base", *arguments, **options), 256, tmp_path / "tokenizer")


@pytest.mark.parametrize("kind", KINDS)
def test_both_sides_have_the_ids_of_the_prompt_that_transformers_gives_it(tmp_path: Path, kind: str) -> None:
    encoder = encoder_of(tmp_path, kind)
    theirs = AutoTokenizer.from_pretrained(encoder.folder)
    prompt = [user("the question  is")]
    opening = theirs.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
    mentions = [f"a {text} answer {text}\n{text}" for text in ("<s>", "</s>", "<|user|>", "<|end|>", "<unk>", "§")]
    plain, *others = encoder.encode(prompt, ["old", *mentions]).ids
    assert plain == theirs.apply_chat_template([*prompt, answer("old")], return_dict=False)
    # The unknown token stands for unknown characters, too.
    control = {number for number, token in theirs.added_tokens_decoder.items() if token.special} - {theirs.unk_token_id}
    shared = shared_prefix_length([opening, plain])
    assert shared >= len(opening) - 2  # the last of the opening may be one with the first of the answer
    for ids in others:
        assert ids[:shared] == plain[:shared]
        assert [token for token in ids if token in control] == [token for token in plain if token in control]


@pytest.mark.parametrize("template", [None, MISTRAL])
def test_the_bos_token_stands_once_before_a_text_in_everybodys_hands(tmp_path: Path, template: str | None) -> None:
    encoder = encoder_of(tmp_path, template=template, adds_bos=True)
    text = encoder.render([user("the question"), answer("a good answer")])
    assert text.startswith("<s>")
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    config = LlamaConfig(vocab_size=encoder.tokenizer.get_vocab_size(), initializer_range=0.2, **sizes)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "base")
    model = build_reward_model(tmp_path / "base", encoder, seed=0)
    start_head(model, torch.linspace(-1, 1, 16))
    save_reward_model(model, encoder, tmp_path / "model")
    [ids] = encoder.encode([user("the question")], ["a good answer"]).ids
    assert [encoder.tokenizer.id_to_token(token) for token in ids].count("<s>") == 1
    reward = rewards(model.eval(), **padded_batch([[ids]], 0)).item()
    [found] = pipeline("text-classification", str(tmp_path / "model"))(text)
    assert found["score"] == pytest.approx(reward, abs=1e-5)


def test_a_base_without_template_gets_no_bos_token_that_its_tokenizer_does_not_add(tmp_path: Path) -> None:
    assert encoder_of(tmp_path, template=None).render([user("Q")], add_generation_prompt=True).startswith("User: Q")


def test_padding_and_truncation_of_whoever_saved_the_tokenizer_are_switched_off(tmp_path: Path) -> None:
    path = save_base(tmp_path / "base") / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.enable_padding(length=128)
    tokenizer.enable_truncation(16)
    tokenizer.save(str(path))
    encoder = contract_encoder(path.parent, 256, tmp_path / "tokenizer")
    [ids] = encoder.encode([user("the question")], ["a good answer " * 9]).ids
    assert 16 < len(ids) < 128
    text = encoder.render([user("the question"), answer("a good answer " * 9)])
    assert AutoTokenizer.from_pretrained(encoder.folder)(text)["input_ids"] == ids
    saved = json.loads((encoder.folder / "tokenizer.json").read_text())
    assert saved["padding"] is None
    assert saved["truncation"] is None


DATES = {
    "unguarded": ("{{ strftime_now('%B %d, %Y') }}", "July 26, 2024"),
    "guarded": (
        "{% if strftime_now is defined %}{{ strftime_now('%d %b %Y') }}{% else %}none{% endif %}",
        "26 Jul 2024",
    ),
    "not defined": (
        "{% if strftime_now is not defined %}none{% else %}{{ strftime_now('%F') }}{% endif %}",
        "2024-07-26",
    ),
    "two blanks": ("{% if strftime_now  is  defined %}{{ strftime_now('%A, %-d') }}{% endif %}", "Friday, 26"),
    "in a macro": ("{% macro day() %}{{ strftime_now(format='100%% %Y') }}{% endmacro %}{{ day() }}", "100% 2024"),
    "computed": ("{{ strftime_now('%d') | int - 1 }}", "25"),
}


@pytest.mark.parametrize("name", DATES)
def test_a_template_that_asks_for_the_date_is_told_a_fixed_one_by_every_renderer(tmp_path: Path, name: str) -> None:
    template, expected = DATES[name]
    encoder = encoder_of(tmp_path, template=template + TURNS)
    theirs = AutoTokenizer.from_pretrained(encoder.folder)
    chat = [user("Q"), answer("A")]
    assert encoder.render(chat).startswith(expected + "<|user|>")
    assert theirs.apply_chat_template(chat, tokenize=False) == encoder.render(chat)


TWO_ROLES = "{% for m in messages if m.role in ('user', 'assistant') %}{{ m.content }}{% endfor %}"
TWO_TURNS = "{% for m in messages[-2:] %}{{ m.content }}{% endfor %}"


def test_a_turn_that_the_template_passes_over_is_told(tmp_path: Path) -> None:
    encoder = encoder_of(tmp_path, template=TWO_ROLES)
    assert encoder.encode([{"role": "system", "content": " "}, user("Q")], ["A"]).ids
    with pytest.raises(TurnDropped, match="leaves out the system turn"):
        encoder.encode([{"role": "system", "content": "Q"}, user("Q")], ["A"])  # its words stand elsewhere, too


def test_a_first_turn_that_the_template_passes_over_is_told(tmp_path: Path) -> None:
    encoder = encoder_of(tmp_path, template=TWO_TURNS)
    assert encoder.encode([user("Q")], ["A"]).ids
    with pytest.raises(TurnDropped, match="leaves out the user turn"):
        encoder.encode([user("Q"), answer("A"), user("Q")], ["A"])


def test_parts_of_responses_that_the_template_drops_are_told(tmp_path: Path) -> None:
    strips = "{% for m in messages %}{{ m.content.split('</think>')[-1] | trim }}{% endfor %}"
    encoder = encoder_of(tmp_path, template=strips)
    prompt = [user("Q"), answer("<think>so</think>A"), user("Q")]
    encoded = encoder.encode(prompt, [" A ", "<think>so</think>A", "<s> </s>"])
    assert encoded.reduced_by_template == [False, True, False]
    assert encoded.ids[0] == encoded.ids[1]
