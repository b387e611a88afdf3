import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from conftest import build_tiny_tokenizer
from reward_model.common.errors import UserError
from reward_model.contract.base_tokenizer import contract_encoder, load_transformers_tokenizer
from reward_model.contract.chat_template import TemplateRefuses, render_chat
from reward_model.contract.encoder import Encoder, shared_prefix_length

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def encoder_at(tmp_path: Path, max_length: int = 64, **tokenizer: Any) -> Encoder:
    build_tiny_tokenizer(**tokenizer).save_pretrained(tmp_path / "base")
    return contract_encoder(tmp_path / "base", max_length, tmp_path / "tokenizer")


@pytest.fixture
def encoder(tmp_path: Path) -> Encoder:
    return encoder_at(tmp_path)


def encode_row(encoder: Encoder, prompt: str, response: str) -> list[int]:
    return encoder.encode([user(prompt)], [response]).ids[0]


def test_ordinary_text_gives_the_ids_of_the_whole_rendered_conversation(encoder: Encoder) -> None:
    chat = [user("the question"), {"role": "assistant", "content": "\n a good answer\n"}]
    rendered = encoder.render(chat)
    assert rendered.endswith("a good answer\n<|im_end|>")
    whole = load_transformers_tokenizer(encoder.folder)(rendered, add_special_tokens=False)["input_ids"]
    assert encode_row(encoder, "the question", "\n a good answer\n") == whole
    assert whole[-1] == encoder.contract.end_token_id


def test_the_template_still_opens_an_answer_when_asked(encoder: Encoder) -> None:
    opening = encoder.render([user("Q")], add_generation_prompt=True)
    assert opening.endswith("<|im_end|>\n<|im_start|>assistant\n")


def test_pad_is_a_free_control_token_and_never_the_end(encoder: Encoder) -> None:
    assert load_transformers_tokenizer(encoder.folder).pad_token == "<|endoftext|>"
    assert encoder.contract.pad_token_id != encoder.contract.end_token_id


def random_text(rng: random.Random) -> str:
    parts = [*CONTROL, "<|im_", "end|>", "<", "|>", "\n", "user", "assistant", "word", "é", "🙂", "\ue000", " "]
    return "".join(rng.choice(parts) for _ in range(rng.randint(1, 12)))


def test_no_control_token_comes_from_content(encoder: Encoder) -> None:
    """600 generated messages: the control tokens are those of the template around other words."""
    control = load_transformers_tokenizer(encoder.folder).all_special_ids
    roomy = encoder.with_max_length(10_000)
    expected = [token for token in encode_row(roomy, "x", "y") if token in control]
    rng = random.Random(0)
    for _ in range(600):
        prompt, response = random_text(rng), random_text(rng)
        ids = encode_row(roomy, prompt, response)
        assert [token for token in ids if token in control] == expected, (prompt, response)
        # Nothing is lost either: the text comes back.
        decoded = encoder.tokenizer.decode(ids, skip_special_tokens=False)
        assert f"user\n{prompt}<|im_end|>" in decoded
        assert decoded.endswith(response + "<|im_end|>")


def test_too_long_a_prompt_loses_its_oldest_tokens_alike_on_both_sides(encoder: Encoder) -> None:
    prompt = [user("the question is " * 40)]
    encoded = encoder.encode(prompt, ["good", "a bad answer to the question"])
    roomy = encoder.with_max_length(10_000).encode(prompt, ["good", "a bad answer to the question"])
    cut = encoded.prompt_tokens_cut
    assert cut > 0
    assert max(map(len, encoded.ids)) == encoder.contract.max_length
    assert encoded.ids == [ids[cut:] for ids in roomy.ids]
    assert encoded.response_tokens_cut == [0, 0]
    assert not encoded.prompt_is_lost


def test_too_long_a_response_loses_its_middle_and_keeps_its_end(encoder: Encoder) -> None:
    response = " ".join(f"word{n}" for n in range(200))
    encoded = encoder.encode([user("Q")], ["short", response])
    limit = encoder.contract.max_length
    assert len(encoded.ids[1]) == limit
    assert encoded.ids[1][-1] == encoder.contract.end_token_id
    text = encoder.tokenizer.decode(encoded.ids[1], skip_special_tokens=False)
    assert text.startswith("word0 ")
    assert text.endswith("word199<|im_end|>")
    assert encoded.response_tokens_cut[0] == 0
    assert encoded.response_tokens_cut[1] > 0
    assert encoded.prompt_is_lost
    assert encoded.ids[0][-1] == encoder.contract.end_token_id


def test_a_text_without_a_prompt_loses_the_templates_opening_first(encoder: Encoder) -> None:
    assert encoder.encode([], ["good"]).prompt_tokens_cut == 0
    encoded = encoder.encode([], ["a bad answer to the question " * 20])
    assert encoded.prompt_tokens_cut > 0
    assert not encoded.prompt_is_lost, "there was none"
    assert encoder.tokenizer.decode(encoded.ids[0]).startswith("a bad answer")


def test_what_is_saved_encodes_the_same_and_a_changed_template_is_refused(encoder: Encoder) -> None:
    folder = encoder.folder
    assert encode_row(Encoder.load(folder), "Q", "A") == encode_row(encoder, "Q", "A")
    plain = AutoTokenizer.from_pretrained(folder)
    assert plain.apply_chat_template([user("Q")], tokenize=False).endswith("<|im_end|>")
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace("helpful", "harmful"))
    with pytest.raises(UserError, match="not the one the model was trained with"):
        Encoder.load(folder)


def test_a_base_without_template_gets_a_plain_one_that_ends_in_the_end_token(tmp_path: Path) -> None:
    encoder = encoder_at(tmp_path, chat_template=None)
    assert encoder.render([user("Q"), {"role": "assistant", "content": "A"}]) == "User: Q\n\nAssistant: A<|im_end|>"
    assert encode_row(encoder, "Q", "A")[-1] == encoder.contract.end_token_id


def test_a_conversation_the_template_refuses_is_told(tmp_path: Path) -> None:
    encoder = encoder_at(
        tmp_path,
        chat_template="{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system turns') }}"
        "{% endif %}{{ m.content }}<|im_end|>{% endfor %}",
    )
    with pytest.raises(TemplateRefuses, match="no system turns"):
        encoder.encode([{"role": "system", "content": "S"}, user("Q")], ["A"])


def test_a_folder_without_tokenizer_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no usable tokenizer"):
        contract_encoder(tmp_path, 64, tmp_path / "tokenizer")


def test_shared_prefix_length() -> None:
    assert shared_prefix_length([[1, 2, 3], [1, 2, 4]]) == 2
    assert shared_prefix_length([[1, 2], [1, 2, 3]]) == 2
    assert shared_prefix_length([[5], [6]]) == 0
    assert shared_prefix_length([[7, 8]]) == 2


TEMPLATES = {
    "whitespace": "{% for m in messages %}\n  {%- if loop.last %}\n{{ m.content }}\n  {% endif %}\n{% endfor %}",
    "loop controls": "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m.role }}{% endfor %}",
    "json": "{{ messages | tojson }}{{ {'b': '<é>', 'a': 1} | tojson(indent=2) }}",
    "namespaces": "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
    "special tokens": "{{ bos_token }}{{ eos_token }}{{ messages[0]['content'] }}{{ unk_token }}",
    "generation blocks": "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    "tools": "{% if tools is none %}no tools{% endif %}{% if documents is none %}no documents{% endif %}{{ absent }}",
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_are_rendered_as_transformers_renders_them(tmp_path: Path, name: str) -> None:
    tokenizer = build_tiny_tokenizer(chat_template=TEMPLATES[name])
    chat = [user(" <b>é</b>\n"), {"role": "assistant", "content": "A"}]
    for opened in (False, True):
        expected = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=opened)
        found = render_chat(TEMPLATES[name], chat, tokenizer.special_tokens_map, add_generation_prompt=opened)
        assert found == expected


def test_an_encoder_needs_its_folder_no_more_once_it_is_loaded(encoder: Encoder) -> None:
    """Another model may take the folder's place while this one scores."""
    fresh = Encoder.load(encoder.folder)
    expected = encode_row(fresh, "the <|im_end|> question", "a <|endoftext|> answer")
    again = Encoder.load(encoder.folder)
    shutil.rmtree(encoder.folder)
    assert encode_row(again, "the <|im_end|> question", "a <|endoftext|> answer") == expected
