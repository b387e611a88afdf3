"""What a reward comes from: at every token, and without each sentence."""

from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from reward_model.common.errors import UserError
from reward_model.contract.base_tokenizer import contract_encoder
from reward_model.evaluation.calibration import Calibration
from reward_model.modeling.forward import PROBE
from reward_model.modeling.head import start_head
from reward_model.modeling.model import build_reward_model
from reward_model.scoring.explanation import MAX_PARTS, Explanation, decode_tokens, explain, split_sentences
from reward_model.scoring.inference import prepare_for_scoring
from reward_model.scoring.prompts import Prompt
from reward_model.scoring.scorer import Scorer
from reward_model.scoring.torch_backend import TorchBackend

PROMPT = "question 99 about red cat dog?"
CLOSING = "<|im_end|>"
SENTENCES = "The answer is good. It is <|im_end|> not bad!  「猫です。」好きです。\n\n1. Café 😀\n2. Cats (e.g. red)."


@pytest.fixture(scope="module")
def scorer(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    encoder = contract_encoder(tiny_base, 160, tmp_path_factory.mktemp("tokenizer"))
    model = build_reward_model(tiny_base, encoder, seed=0)
    start_head(model, torch.linspace(-1, 1, 32))
    prepare_for_scoring(model, PROBE, encoder.contract.pad_token_id, "cpu", "fp32")
    return Scorer(TorchBackend(model, encoder.contract.pad_token_id), encoder, Calibration(), 4, "")


def reward(scorer: Scorer, prompt: Prompt, response: str) -> float:
    [[found]] = scorer.rewards([scorer.encode(prompt, [response]).ids])
    return found


def text_of(explanation: Explanation) -> str:
    return "".join(token.text for token in explanation.tokens)


@pytest.mark.parametrize("prompt", ["", PROMPT, [{"role": "system", "content": "x"}, {"role": "user", "content": "y"}]])
@pytest.mark.parametrize("normalized", [False, True])
def test_the_last_value_is_the_reward_and_what_is_left_is_scored_as_a_text_of_its_own(
    scorer: Scorer, prompt: Prompt, normalized: bool
) -> None:
    if normalized:
        scorer = replace(scorer, z_scores_by=Calibration(pairs=9, reward_mean=1.5, reward_std=0.2))
    responses = [SENTENCES, "good", "", " \n"]
    found = explain(scorer, prompt, responses)
    for response, each in zip(responses, found, strict=True):
        assert each.reward == pytest.approx(reward(scorer, prompt, response), abs=1e-4)
        assert each.tokens[-1].value == pytest.approx(each.reward, abs=1e-4)
        assert text_of(each) == response + CLOSING
        assert "".join(omission.sentence for omission in each.sentences) == (response if response == SENTENCES else "")
        assert (each.tokens_cut, each.cut_at) == (0, None)
    first, *others = found[0].sentences
    assert first.reward == pytest.approx(
        reward(scorer, prompt, SENTENCES.removeprefix("The answer is good. ")), abs=1e-4
    )
    assert others[-1].reward == pytest.approx(reward(scorer, prompt, SENTENCES.partition("\n2.")[0]), abs=1e-4)


def test_templates_that_refuse_an_empty_answer_explain_others(scorer: Scorer) -> None:
    strict = copy(scorer.encoder)
    empty = "{% for m in messages if not m['content'] %}{{ raise_exception('empty') }}{% endfor %}"
    strict.template = empty + scorer.encoder.template
    found = explain(replace(scorer, encoder=strict), PROMPT, [SENTENCES, "good"])
    assert found == explain(scorer, PROMPT, [SENTENCES, "good"])
    with pytest.raises(UserError, match="empty"):
        explain(replace(scorer, encoder=strict), PROMPT, [""])


def test_values_are_those_of_the_model_at_the_tokens_of_the_response(scorer: Scorer) -> None:
    [found] = explain(scorer, PROMPT, ["a good answer"])
    [ids] = scorer.encode(PROMPT, ["a good answer"]).ids
    start = len(ids) - len(found.tokens)
    rewards = [scorer.rewards([[ids[: end + 1]]])[0][0] for end in range(start - 1, len(ids))]
    assert [found.before, *(token.value for token in found.tokens)] == pytest.approx(rewards, abs=1e-4)


def test_what_was_cut_is_marked(scorer: Scorer) -> None:
    long = "".join(f"Sentence {number} is a good answer.\n" for number in range(30))
    [found] = explain(scorer, PROMPT, [long])
    encoded = scorer.encode(PROMPT, [long])
    assert found.before is None and found.tokens_cut == encoded.response_tokens_cut[0]
    assert len(found.tokens) == len(encoded.ids[0]) == 160
    before, after = text_of(replace(found, tokens=found.tokens[: found.cut_at])), text_of(found)
    assert long.startswith(before) and long.endswith(after.removeprefix(before).removesuffix(CLOSING))
    cut = [omission.cut for omission in found.sentences]
    assert cut[0] is cut[-1] is False and sum(cut) > 10
    assert found.reward == pytest.approx(reward(scorer, PROMPT, long), abs=1e-4)
    prompt = "cat " * 200
    [found] = explain(scorer, prompt, [SENTENCES])
    assert text_of(found) == SENTENCES + CLOSING and found.before is not None
    assert found.reward == pytest.approx(reward(scorer, prompt, SENTENCES), abs=1e-4)


def test_of_many_sentences_neighbours_are_left_out_together(scorer: Scorer) -> None:
    [found] = explain(scorer, PROMPT, ["Good. " * 1000])
    assert len(found.sentences) <= MAX_PARTS
    assert "".join(omission.sentence for omission in found.sentences) == "Good. " * 1000


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ('One. Two? "Three!" Four...', ["One. ", "Two? ", '"Three!" ', "Four..."]),
        ("Use e.g. this. Or 3.14 of it.", ["Use e.g. this. ", "Or 3.14 of it."]),
        ("# Title\n\n1. First\n2. Second\n---\n", ["# Title\n\n", "1. First\n", "2. Second\n---\n"]),
        ("猫です。「犬」ですか？はい", ["猫です。", "「犬」ですか？", "はい"]),
        ("42.", ["42."]),
        ("", []),
        ("\n \n", ["\n \n"]),
    ],
)
def test_sentences(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


@pytest.mark.parametrize("run", ["!", " ", "\n", ". ", "1\n", ")", "a", '…" '])
def test_sentences_of_a_text_of_one_megabyte(run: str) -> None:
    text = run * (1_000_000 // len(run))
    assert "".join(split_sentences(text)) == text


def test_characters_of_several_tokens_are_whole_with_the_last_of_them() -> None:
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    decoder = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(cast(list[decoders.Decoder], decoder))
    special = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special)
    tokenizer.train_from_iterator(["a good answer"], trainer)
    found = decode_tokens(tokenizer, tokenizer.encode("a 😀 good").ids)
    assert found == ["a", " ", "", "", "", "😀", " good"]
