"""Degenerate responses are worse by construction, seeded, and in equal parts where they judge."""

import random
from dataclasses import replace

import pytest

from conftest import Project
from reward_model.common.files import read_jsonl
from reward_model.common.messages import Message
from reward_model.common.tables import read_parquet
from reward_model.data.degenerate import (
    EMPTY_REPLIES,
    EMPTY_REPLIES_OF_TEST,
    KINDS,
    PRAISE,
    PRAISE_OF_TEST,
    TURNS,
    Material,
    common_sense_pairs,
    count_kinds,
    degenerate_pair,
    first_sentence,
    training_pairs,
)
from reward_model.data.pairs import Pair
from reward_model.data.tokens import read_training_rows

TEXT = "Boil water, add salt and cook the pasta."


def pair(number: int, chosen: str = TEXT) -> Pair:
    return Pair((Message(role="user", content=f"question {number}"),), f"{chosen} {number}", "bad", "test", 1.0)


def made(kind: str) -> str:
    return KINDS[kind](Material(TEXT, "another answer", random.Random(0)))


def test_each_kind_is_what_its_name_says() -> None:
    assert made("empty_reply") in EMPTY_REPLIES
    assert made("other_prompt") == "another answer"
    words = made("repeated_word").split()
    assert len(words) == 8 and len(set(words)) == 1 and words[0] in TEXT.split()
    assert sorted(made("shuffled_words").split()) == sorted(TEXT.split()) and made("shuffled_words") != TEXT
    cut = made("cut_off")
    assert TEXT.startswith(cut) and abs(len(cut) - len(TEXT) / 2) < 4
    assert cut[-1].isalpha() and TEXT[len(cut)].isalpha()
    assert made("short_answer") in EMPTY_REPLIES
    assert made("said_twice") == f"{TEXT}\n\n{TEXT}"
    assert made("flattery").endswith(f" {TEXT}") and len(made("flattery")) > len(TEXT) + 20


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("The sky is blue. It is wide.", "The sky is blue."),
        ("It is blue. The sky is wide! More", "It is blue. The sky is wide!"),
        ("1. Be clear and concise.\n2. Be short.", "1. Be clear and concise."),
        ('It is said "the sky is blue." And so on', 'It is said "the sky is blue."'),
        ("It was in St. Petersburg by F. Scott, e.g. Books etc. Then", None),
        ("It was there with James P. Johnson and others. More", "It was there with James P. Johnson and others."),
        ("The sky is blue.", None),
        ("The sky is blue. ", None),
        ("It costs 3.14 euros in all", None),
        ("1. 2. 3. 4. 5. x", None),
        ("Is it so that the sky is blue? It is", None),
        ("Sure, that is how it works. The sky is blue.", None),
        ("Thanks for asking this here. The sky is blue.", None),
        ("That is a great question. The sky is blue.", None),
        ("I’m sorry, but that is impossible. The sky is blue.", None),
        ("As a model I cannot help. The sky is blue.", None),
        ("Some ideas are these:\n- the sky is blue. And wide", None),
        ("猫が好きです。犬も好きです。", None),
        ("", None),
    ],
)
def test_the_first_sentence_of_a_text_can_stand_alone_or_there_is_none(text: str, sentence: str | None) -> None:
    assert first_sentence(text) == sentence


def test_a_short_answer_stands_beside_an_empty_reply() -> None:
    found = [degenerate_pair(pair(number), "another answer", "short_answer", 0) for number in range(200)]
    assert {own.chosen for own in found if own is not None} == {TEXT}
    assert {own.rejected for own in found if own is not None} == {*EMPTY_REPLIES}
    of_test = [degenerate_pair(pair(number), "x", "short_answer", 0, of_test=True) for number in range(200)]
    assert {own.rejected for own in of_test if own is not None} == {*EMPTY_REPLIES_OF_TEST}


@pytest.mark.parametrize(
    "refusal", ["I'm sorry, but I can't help with that.", "As an AI, I have no body. So I don’t eat."]
)
def test_a_refusal_is_not_preferred_to_an_empty_reply(refusal: str) -> None:
    kinds = {kind for kind in KINDS if degenerate_pair(pair(1, refusal), "x", kind, 0) is not None}
    assert kinds == {*KINDS} - {"empty_reply", "short_answer"}
    found = [*training_pairs([pair(number, refusal) for number in range(20)], 8, 0)]
    assert found and not [own for own in found if own.rejected in EMPTY_REPLIES]


def test_gibberish_is_one_character_or_many_and_of_all_lengths() -> None:
    texts = [KINDS["gibberish"](Material(TEXT, "x", random.Random(seed))) for seed in range(200)]
    assert len({*texts}) == 200
    repeated = [text for text in texts if len(set(text)) == 1]
    assert 60 < len(repeated) < 140
    assert min(map(len, repeated)) < 20 and max(map(len, repeated)) > 500
    others = [text for text in texts if text not in repeated]
    assert any(" " in text for text in others) and any(" " not in text for text in others)
    assert max(map(len, others)) <= 200


def test_what_would_be_the_same_text_is_left_out() -> None:
    short = Pair((Message(role="user", content="1 + 1?"),), "2", "3", "test")
    kept = {kind for kind in KINDS if degenerate_pair(short, "2", kind, 0) is not None}
    assert kept == {"empty_reply", "repeated_word", "gibberish", "said_twice", "flattery"}


def test_a_pair_keeps_its_prompt_and_chosen_response_and_loses_its_margin() -> None:
    found = degenerate_pair(pair(1), "x", "cut_off", 0)
    assert found is not None
    assert (found.prompt_id, found.chosen, found.source, found.margin) == (
        pair(1).prompt_id,
        pair(1).chosen,
        "degenerate/cut_off",
        None,
    )


def test_training_gets_so_many_for_each_prompt_and_the_same_with_the_same_seed() -> None:
    pairs = [pair(number % 12, f"{TEXT} {number}") for number in range(24)]
    for per_prompt in (0, 1, 2, 3):
        found = list(training_pairs(pairs, per_prompt, 0))
        assert len(found) == 12 * per_prompt
        assert len({own.id for own in found}) == len(found)
        assert count_kinds(found).get("other_prompt", 0) == {0: 0, 1: 6}.get(per_prompt, 12)
    found = list(training_pairs(pairs, 2, 0))
    counts = count_kinds(found)
    assert set(counts) == set(TURNS) == set(KINDS) - {"empty_reply"}
    assert counts["short_answer"] >= 2 * counts["flattery"], "twice as often as the others"
    assert found == list(training_pairs(pairs, 2, 0)) != list(training_pairs(pairs, 2, 1))
    assert len(list(training_pairs(pairs, 50, 0))) == 12 * (len(KINDS) - 1)


def test_an_empty_reply_stands_beside_the_whole_response_where_no_sentence_of_it_can_stand_alone() -> None:
    found = list(training_pairs([pair(number, f"Sure, {number}. More") for number in range(14)], 2, 0))
    assert count_kinds(found)["empty_reply"] == 4 and "short_answer" not in count_kinds(found)
    assert all(own.chosen.startswith("Sure, ") for own in found)


def test_a_label_that_is_no_sure_one_is_not_inherited_and_a_tie_is_no_material() -> None:
    tie, unsure = replace(pair(0), preference=0.5), replace(pair(1), preference=0.6)
    found = list(training_pairs([tie, unsure, replace(tie, chosen="a sure answer", preference=None)], len(KINDS), 0))
    assert {own.preference for own in found} == {None}
    assert {own.chosen for own in found} == {TEXT, unsure.chosen, "a sure answer"}


def test_the_phrases_that_are_tested_are_not_trained_on() -> None:
    pairs = [pair(number) for number in range(60)]
    tested = common_sense_pairs(pairs, 60, 500, 0)
    for kind, trained, of_test in (
        ("empty_reply", EMPTY_REPLIES, EMPTY_REPLIES_OF_TEST),
        ("flattery", PRAISE, PRAISE_OF_TEST),
    ):
        assert not set(trained) & set(of_test)
        texts = [own.rejected for own in tested if own.source == f"degenerate/{kind}"]
        assert len(texts) == 60
        assert all(any(text.startswith(phrase) for phrase in of_test) for text in texts)


def test_common_sense_has_every_kind_for_the_same_prompts_short_ones_first() -> None:
    pairs = [pair(number, TEXT * (1 + number % 2)) for number in range(40)]
    found = common_sense_pairs(pairs, 10, 110, 0)
    assert count_kinds(found) == dict.fromkeys(sorted(KINDS), 10)
    assert len({own.prompt_id for own in found}) == 10
    assert all(TEXT * 2 not in own.chosen for own in found)
    more = common_sense_pairs(pairs, 30, 110, 0)
    assert len({own.prompt_id for own in more}) == 30


@pytest.mark.parametrize("per_kind", [1, 5])
def test_a_single_pair_is_no_error(per_kind: int) -> None:
    kinds = count_kinds(common_sense_pairs([pair(0)], per_kind, 500, 0))
    assert set(kinds) == set(KINDS) - {"other_prompt"}


def test_the_stages_keep_degenerate_rows_apart_and_weigh_them(trained: Project) -> None:
    tokens = trained.folder / "data/tokens"
    labelled, made = read_parquet(tokens / "train.parquet"), read_parquet(tokens / "degenerate.parquet")
    rows = read_training_rows(tokens, 0.3)
    assert [row["id"] for row in rows] == [row["id"] for row in labelled + made]
    assert [row["weight"] for row in rows] == [1.0] * len(labelled) + [0.3] * len(made)
    data, train = trained.read("metrics/data.json"), trained.read("metrics/train.json")
    assert data["splits"]["train"]["pairs"] == len(labelled)
    assert sum(data["degenerate"].values()) == len(made) == train["degenerate"] > 0
    assert train["pairs"] == 4 * len(labelled)


def test_common_sense_is_evaluated_by_kind(trained: Project) -> None:
    figures = trained.read("metrics/eval.json")["common_sense"]
    assert set(figures["by_source"]) == {f"degenerate/{kind}" for kind in KINDS if kind != "short_answer"}, (
        "its responses have one sentence each"
    )
    heldout = {Pair.from_record(row).prompt_id for row in read_jsonl(trained.folder / "data/pairs/heldout.jsonl")}
    rows = read_parquet(trained.folder / "data/external_sets/common_sense.parquet")
    assert {row["prompt_id"] for row in rows} <= heldout
    assert len(rows) == figures["n"]
