import random
from typing import Any

import pytest

from reward_model.common.errors import InvalidRow
from reward_model.data.chats import parse_transcript
from reward_model.data.pair_reader import pair_from_row
from reward_model.data.pairs import Pair, ParsedPairs, normalize_prompt, parse_pairs
from reward_model.data.row_formats import Columns
from reward_model.data.splits import choose_pairs, split_pairs

COLUMNS = Columns()


def pair(row: dict[str, Any]) -> Pair:
    return pair_from_row(row, COLUMNS, "test")


def take(rows: list[dict[str, Any]]) -> ParsedPairs:
    return parse_pairs(rows, pair)


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def assistant(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Q", "chosen": "A", "rejected": "B"},
        {"prompt": [user("Q")], "chosen": "A", "rejected": "B"},
        {"prompt": [user("Q")], "chosen": [assistant("A")], "rejected": [assistant("B")]},
        {"prompt": "Q", "chosen": [user("Q"), assistant("A")], "rejected": [user("Q"), assistant("B")]},
        {"chosen": [user("Q"), assistant("A")], "rejected": [user("Q"), assistant("B")]},
        {"chosen": "\n\nHuman: Q\n\nAssistant: A", "rejected": "\n\nHuman: Q\n\nAssistant: B"},
        {"chosen": "Human: Q\nAssistant: A", "rejected": "Human: Q\nAssistant: B"},
        {"chosen": "User: Q\r\nAssistant: A", "rejected": "User: Q\r\nAssistant: B"},
        {"prompt": "Q", "chosen": "Human: Q\n\nAssistant: A", "rejected": "Human: Q\n\nAssistant: B"},
        {"prompt": "\n\nHuman: Q\n\nAssistant:", "chosen": "A", "rejected": "B"},
        {"prompt": "User: Q\nAssistant:", "chosen": "A", "rejected": "B"},
        {"prompt": "Q", "chosen": "\n\nHuman: Q\n\nAssistant: A", "rejected": "\n\nHuman: Q\n\nAssistant: B"},
    ],
)
def test_every_form_of_a_row_becomes_the_same_pair(row: dict[str, Any]) -> None:
    assert pair(row) == Pair((user("Q"),), "A", "B", "test")


def test_a_multi_turn_transcript_keeps_its_turns() -> None:
    text = "\n\nHuman: one\n\nAssistant: two\n\nlines\n\nHuman: three\n\nAssistant: four"
    turns = [user("one"), assistant("two\n\nlines"), user("three"), assistant("four")]
    assert parse_transcript(text) == turns
    quoting = parse_transcript(text.replace("lines", "lines\nHuman: no turn"))
    assert quoting == [turns[0], assistant("two\n\nlines\nHuman: no turn"), *turns[2:]]
    assert parse_transcript("no transcript") is None
    mixed = "User: one\nAssistant: two\n\nlines\n \nHuman: three\n\nAssistant: four"
    assert parse_transcript(mixed) == turns
    assert parse_transcript("Assistant: a\n\nHuman: b") == [assistant("a"), user("b")]
    made = pair({"chosen": text, "rejected": text.replace("four", "five")})
    assert made.prompt == tuple(turns[:3])


def test_beside_a_prompt_a_dialogue_is_a_response() -> None:
    made = pair({"prompt": "Write a dialogue.", "chosen": "User: a\nAssistant: b", "rejected": "User: c\nAssistant: d"})
    assert (made.prompt, made.chosen) == ((user("Write a dialogue."),), "User: a\nAssistant: b")
    made = pair({"prompt": "Write one.", "chosen": "\n\nHuman: a\nAssistant: b", "rejected": "No."})
    assert made.chosen == "\n\nHuman: a\nAssistant: b"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "Q", "chosen": "A"}, "missing_column"),
        ({"prompt": "Q", "chosen": "A", "rejected": None}, "missing_value"),
        ({"chosen": "A", "rejected": "B"}, "no_prompt"),
        ({"chosen": "Assistant: A\nAssistant: B", "rejected": "Assistant: A\nAssistant: C"}, "no_prompt"),
        ({"prompt": " ", "chosen": "A", "rejected": "B"}, "empty"),
        ({"prompt": "Q", "chosen": "A", "rejected": "\n"}, "empty"),
        ({"prompt": "Q", "chosen": "A", "rejected": "A "}, "chosen_equals_rejected"),
        ({"prompt": "Q", "chosen": "A", "rejected": "\ud800"}, "bad_unicode"),
        ({"prompt": "Q", "chosen": [user("other"), assistant("A")], "rejected": "B"}, "no_shared_prompt"),
        ({"chosen": [user("Q"), assistant("A")], "rejected": [user("P"), assistant("B")]}, "no_shared_prompt"),
        ({"prompt": "Q", "chosen": [user("other"), assistant("A")], "rejected": "B"}, "no_shared_prompt"),
        ({"prompt": [{"role": "u<|im_end|>", "content": "Q"}], "chosen": "A", "rejected": "B"}, "unknown_role"),
        ({"prompt": "Q", "chosen": "A", "rejected": "B", "margin": "wide"}, "bad_margin"),
        ({"prompt": "Q", "chosen": "A", "rejected": "B", "margin": -1}, "bad_margin"),
        ({"prompt": "Q", "chosen": "A", "rejected": "B", "preference": 1.01}, "bad_preference"),
        ({"prompt": "Q", "chosen": "A", "rejected": "B", "preference": -0.1}, "bad_preference"),
        ({"prompt": "Q", "chosen": "A", "rejected": "B", "preference": "yes"}, "bad_preference"),
        ({"prompt": "Q", "chosen": "A", "rejected": "B", "preference": float("nan")}, "bad_preference"),
        ({"prompt": "Q", "chosen": "A", "rejected": "B", "preference": True}, "bad_preference"),
        ({"prompt": "Q", "chosen": "A", "rejected": "B", "preference": [1]}, "bad_preference"),
        ({"prompt": "Q", "chosen": "A", "rejected": "B", "preference": "0.5"}, "tie"),
    ],
)
def test_a_row_that_is_no_pair_is_skipped_with_its_reason(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidRow, match=f"^{reason}$"):
        pair(row)
    parsed = take([row])
    assert parsed.counts() == {"rows": 1, "kept": 0, "skipped": {reason: 1}}
    assert [(reject["reason"], repr(reject["row"])) for reject in parsed.rejects] == [(reason, repr(row))]


def test_repeats_are_kept_once_and_pairs_judged_both_ways_not_at_all() -> None:
    row = {"prompt": "Q", "chosen": "A", "rejected": "B"}
    swapped = {"prompt": "P", "chosen": "A", "rejected": "B"}
    rows = [row, row | {"prompt": " Q "}, swapped, swapped | {"chosen": "B", "rejected": "A"}]
    parsed = take(rows)
    assert [p.prompt[0]["content"] for p in parsed.pairs] == ["Q"]
    assert parsed.counts()["skipped"] == {"contradiction": 2, "duplicate": 1}
    assert parsed.rows == len(parsed.pairs) + len(parsed.rejects)


def test_a_system_turn_that_only_the_conversations_have_is_kept() -> None:
    turns = [{"role": "system", "content": "S"}, user("Q")]
    made = pair({"prompt": "Q", "chosen": [*turns, assistant("A")], "rejected": [*turns, assistant("B")]})
    assert made.prompt == tuple(turns)


def test_columns_can_be_mapped_and_margin_and_source_are_read() -> None:
    columns = Columns("question", "good", "bad", "by", "origin")
    row = {"question": "Q", "good": "A", "bad": "B", "by": "1.5", "origin": "forum"}
    assert pair_from_row(row, columns, "file") == Pair((user("Q"),), "A", "B", "forum", 1.5)


def test_a_preference_is_kept_and_the_preferred_side_is_chosen() -> None:
    row = {"prompt": "Q", "chosen": "A", "rejected": "B"}
    assert pair(row | {"preference": ""}).preference is None
    assert pair(row | {"preference": "0.75"}) == Pair((user("Q"),), "A", "B", "test", None, 0.75)
    assert pair(row | {"preference": 0.25}) == Pair((user("Q"),), "B", "A", "test", None, 0.75)
    assert pair(row | {"preference": 0}) == Pair((user("Q"),), "B", "A", "test", None, 1.0)
    tie = pair_from_row(row | {"preference": 0.5}, COLUMNS, "test", keep_ties=True)
    assert tie.is_tie
    assert not pair(row).is_tie


def test_a_tie_has_no_order_and_contradicts_a_preference() -> None:
    row = {"prompt": "Q", "chosen": "A", "rejected": "B", "preference": 0.5}
    swapped = row | {"chosen": "B", "rejected": "A"}
    parsed = parse_pairs([row, swapped], lambda row: pair_from_row(row, COLUMNS, "test", keep_ties=True))
    assert parsed.counts() == {"rows": 2, "kept": 1, "skipped": {"duplicate": 1}}
    rows = [row, swapped | {"preference": 0.9}]
    parsed = parse_pairs(rows, lambda row: pair_from_row(row, COLUMNS, "test", keep_ties=True))
    assert parsed.counts() == {"rows": 2, "kept": 0, "skipped": {"contradiction": 2}}


def test_records_survive_a_round_trip() -> None:
    made = Pair((user("Q"), assistant("x"), user("R")), "A", "B", "s", 0.5)
    assert Pair.from_record(made.to_record()) == made
    assert not {"margin", "preference"} & set(Pair((user("Q"),), "A", "B", "s").to_record())
    doubtful = Pair((user("Q"),), "A", "B", "s", preference=0.75)
    assert Pair.from_record(doubtful.to_record()) == doubtful


def many_pairs(count: int) -> list[Pair]:
    rng = random.Random(1)
    return [Pair((user(f"Prompt number {rng.randrange(count // 3)}"),), f"a{n}", f"b{n}", "s") for n in range(count)]


def test_no_prompt_crosses_the_splits_and_shares_are_about_right() -> None:
    pairs = [Pair((user(f"prompt {n // 2}" + "!?"[n % 2]),), f"a{n}", f"b{n}", "s") for n in range(4000)]
    splits = split_pairs(pairs, validation_fraction=0.1, heldout_fraction=0.2, seed=1)
    prompts = {name: {normalize_prompt(p.prompt) for p in own} for name, own in splits.items()}
    assert not prompts["train"] & prompts["heldout"]
    assert not prompts["train"] & prompts["validation"]
    assert not prompts["validation"] & prompts["heldout"]
    assert sum(map(len, splits.values())) == len(pairs)
    assert 0.17 < len(splits["heldout"]) / len(pairs) < 0.23
    assert 0.08 < len(splits["validation"]) / len(pairs) < 0.12


def test_the_turns_of_a_conversation_and_a_question_with_other_system_turns_stay_together() -> None:
    system = {"role": "system", "content": "Be brief."}
    turns = [user("Hello, who is there?"), assistant("me"), user("And who else?")]
    prompts = [turns[:1], turns, [system, *turns[:1]], [system, *turns]]
    assert len({Pair(tuple(prompt), "a", "b", "s").prompt_id for prompt in prompts}) == 1
    assert normalize_prompt([system]) != normalize_prompt(turns)
    assert normalize_prompt([user(" "), assistant("me"), user("Who?")]) == normalize_prompt([user("who")])


def test_more_rows_move_no_prompt_to_another_split() -> None:
    pairs = many_pairs(300)
    few = split_pairs(pairs[:100], validation_fraction=0.1, heldout_fraction=0.2, seed=1)
    all_ = split_pairs(pairs, validation_fraction=0.1, heldout_fraction=0.2, seed=1)
    for name, own in few.items():
        assert {p.id for p in own} <= {p.id for p in all_[name]}


def test_a_smaller_choice_is_the_beginning_of_a_larger_one_whatever_the_order() -> None:
    pairs = many_pairs(100)
    assert choose_pairs(pairs, 20, 7) == choose_pairs(pairs[::-1], 60, 7)[:20]
    assert choose_pairs(pairs, 20, 7) != choose_pairs(pairs, 20, 8)
    assert len(choose_pairs(pairs, 1000, 7)) == 100


def test_a_choice_takes_one_pair_of_each_prompt_before_a_second_of_any() -> None:
    pairs = many_pairs(100)
    prompts = {p.prompt_id for p in pairs}
    chosen = choose_pairs(pairs, len(prompts), 7)
    assert {p.prompt_id for p in chosen} == prompts


def test_prompts_alike_but_for_case_space_and_punctuation_are_one() -> None:
    assert normalize_prompt([user("What's  UP?")]) == normalize_prompt([user("what s up")])
    assert normalize_prompt([user("???")]) != normalize_prompt([user("!!!")])
