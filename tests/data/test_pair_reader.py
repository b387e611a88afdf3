"""Labels, system prompts, and what is said of columns that are not read."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reward_model.common.errors import InvalidRow, UserError
from reward_model.data.label_formats import are_numbered, looks_like_label
from reward_model.data.pair_reader import PairReader, pair_from_row
from reward_model.data.pairs import ParsedPairs, parse_pairs
from reward_model.data.readers import read_rows
from reward_model.data.row_formats import Columns

TURNS = [{"role": "user", "content": "Q"}]
SAFE_RLHF = {"prompt": "Q", "response_0": "x", "response_1": "y", "is_response_0_safe": True}
HELPSTEER3 = {"context": TURNS, "response1": "x", "response2": "y"}
SHP = {"history": "Q", "human_ref_A": "x", "human_ref_B": "y"}
LMARENA = {
    "conversation_a": [*TURNS, {"role": "assistant", "content": "x"}],
    "conversation_b": [*TURNS, {"role": "assistant", "content": "y"}],
    "model_a": "m",
    "model_b": "n",
}
TWO = {"prompt": "Q", "first": "x", "second": "y"}


def read(rows: list[dict[str, Any]], columns: Columns | None = None, *, keep_ties: bool = True) -> ParsedPairs:
    reader = PairReader(columns or Columns(), "test", keep_ties=keep_ties)
    parsed = parse_pairs(reader.expand(rows), reader.to_pair)
    reader.check(parsed)
    return parsed


def notes(rows: list[dict[str, Any]], columns: Columns) -> list[str]:
    reader = PairReader(columns, "test")
    parse_pairs(reader.expand(rows), reader.to_pair)
    return reader.notes()


@pytest.mark.parametrize(
    ("row", "chosen"),
    [
        (SAFE_RLHF | {"better_response_id": 0}, "x"),
        (SAFE_RLHF | {"better_response_id": 1, "safer_response_id": 0}, "y"),
        (HELPSTEER3 | {"overall_preference": -3}, "x"),
        (HELPSTEER3 | {"overall_preference": 1}, "y"),
        (HELPSTEER3 | {"overall_preference": 0}, None),
        (SHP | {"labels": 1}, "x"),
        (SHP | {"labels": 0}, "y"),
        (LMARENA | {"winner": "model_a"}, "x"),
        (LMARENA | {"winner": "model_b"}, "y"),
        (LMARENA | {"winner": "tie"}, None),
        (LMARENA | {"winner": "tie (bothbad)"}, None),
        ({"prompt": "Q", "response_a": "x", "response_b": "y", "winner": "model_b"}, "y"),
    ],
)
def test_published_formats_with_labels_are_read_right(row: dict[str, Any], chosen: str | None) -> None:
    [pair] = read([row]).pairs
    assert pair.prompt == tuple(TURNS)
    assert (None if pair.is_tie else pair.chosen) == chosen
    assert {pair.chosen, pair.rejected} == {"x", "y"}


@pytest.mark.parametrize(
    ("row", "columns", "chosen"),
    [
        (
            SAFE_RLHF | {"better_response_id": 1, "by": 0},
            Columns(preference="by", preference_format="index_from_0"),
            "x",
        ),
        (
            HELPSTEER3 | {"overall_preference": 3, "by": 1},
            Columns(preference="by", preference_format="probability"),
            "x",
        ),
        (LMARENA | {"winner": 0}, Columns(preference="winner", preference_format="index_from_0"), "x"),
        (SAFE_RLHF | {"better_response_id": 1}, Columns(preference="better_response_id"), "y"),
    ],
)
def test_a_label_that_is_named_wins_over_that_of_a_published_format(
    row: dict[str, Any], columns: Columns, chosen: str
) -> None:
    assert [pair.chosen for pair in read([row], columns).pairs] == [chosen]
    if columns.preference == "by":
        with pytest.raises(UserError, match=r"'by' holds only 0 and 1, .* that 'response_?[01]' is better"):
            read([row], Columns(preference="by"))


@pytest.mark.parametrize(
    ("form", "label", "chosen"),
    [
        ("index_from_0", 0, "x"),
        ("index_from_0", "1", "y"),
        ("index_from_1", 1, "x"),
        ("index_from_1", 2.0, "y"),
        ("signed", -2, "x"),
        ("signed", 2, "y"),
        ("probability", 1, "x"),
        ("probability", 0.2, "y"),
        ("auto", 0.7, "x"),
        ("auto", "B", "y"),
        ("auto", "first", "x"),
        ("auto", "second", "y"),
        ("auto", "Model_A", "x"),
        ("index_from_0", "tie", None),
        ("signed", 0, None),
    ],
)
def test_a_label_says_which_side_is_better(form: str, label: Any, chosen: str | None) -> None:
    columns = Columns(chosen="first", rejected="second", preference="by", preference_format=form)
    [pair] = read([TWO | {"by": label}], columns).pairs
    assert (None if pair.is_tie else pair.chosen) == chosen


@pytest.mark.parametrize(
    ("form", "label", "reason"),
    [
        ("index_from_0", 2, "bad_preference"),
        ("index_from_1", 0, "bad_preference"),
        ("signed", float("inf"), "bad_preference"),
        ("auto", 3, "bad_preference"),
        ("auto", "x", "bad_preference"),
        ("auto", ["A"], "bad_preference"),
        ("index_from_0", 10**400, "bad_preference"),
        ("signed", None, "missing_value"),
        ("auto", None, "missing_value"),
    ],
)
def test_a_label_that_says_nothing_is_turned_away(form: str, label: Any, reason: str) -> None:
    columns = Columns(chosen="first", rejected="second", preference="by", preference_format=form)
    with pytest.raises(InvalidRow, match=f"^{reason}$"):
        pair_from_row(TWO | {"by": label}, columns, "test")


@pytest.mark.parametrize(
    ("names", "word", "chosen"),
    [
        (("response_b", "response_a"), "A", "y"),
        (("response_b", "response_a"), "model_b", "x"),
        (("response_b", "response_a"), "chosen", "x"),
        (("human_ref_B", "human_ref_A"), "a", "y"),
        (("answer 2", "answer 1"), "first", "y"),
        (("response_a", "response_b"), "A", "x"),
        (("response_b", "other"), "A", None),
        (("other", "response_a"), "A", None),
        (("other", "response_a"), "response_a", "y"),
    ],
)
def test_a_word_for_a_place_means_the_column_of_that_name(
    names: tuple[str, str], word: str, chosen: str | None
) -> None:
    row = {"prompt": "Q", names[0]: "x", names[1]: "y", "by": word}
    parsed = read([row], Columns(chosen=names[0], rejected=names[1], preference="by"))
    assert [pair.chosen for pair in parsed.pairs] == ([chosen] if chosen else [])


RANKED = {"prompt": "R", "responses": ["x", "y"], "ranks": [1, 2]}
PAIR = {"prompt": "Q", "chosen": "x", "rejected": "y"}


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        (TWO, Columns(chosen="first", rejected="second")),
        (PAIR, Columns(preference="by")),
        (PAIR, Columns(preference_format="index_from_0")),
        (SAFE_RLHF | {"better_response_id": 0}, Columns(preference="by", preference_format="index_from_0")),
    ],
)
def test_where_a_label_decides_a_row_without_one_is_turned_away(row: dict[str, Any], columns: Columns) -> None:
    label = {columns.preference: "A"}
    for missing in ({}, {columns.preference: None}, {columns.preference: ""}):
        parsed = read([row | missing, row | label, RANKED], columns)
        assert parsed.counts()["skipped"] == {"missing_value": 1}
        assert [pair.chosen for pair in parsed.pairs] == ["x", "x"]
    with pytest.raises(UserError, match=f"no column '{columns.preference}' in the data, to say which response is"):
        read([row, RANKED], columns)
    assert len(read([RANKED], columns).pairs) == 1


def test_labels_of_0_and_1_must_be_explained() -> None:
    rows = [TWO | {"prompt": f"Q{n}", "by": n % 2} for n in range(4)]
    columns = Columns(chosen="first", rejected="second", preference="by")
    with pytest.raises(UserError, match=r"holds only 0 and 1, .* set data\.preference_format to probability"):
        read(rows, columns)
    documented = [{"prompt": f"Q{n}", "chosen": "x", "rejected": "y", "preference": n % 2} for n in range(4)]
    assert [pair.chosen for pair in read(documented).pairs] == ["y", "x", "y", "x"]


@pytest.mark.parametrize(
    ("labels", "form"), [((1, 2), "index_from_1"), (("1", "2"), "index_from_1"), ((-3, 1), "signed")]
)
def test_numbers_that_are_no_probabilities_must_be_explained(labels: tuple[Any, Any], form: str) -> None:
    rows = [TWO | {"prompt": f"Q{n}", "by": labels[n % 2]} for n in range(4)]
    columns = Columns(chosen="first", rejected="second", preference="by")
    with pytest.raises(UserError, match=r"numbers that are no probabilities: set .* to index_from_1 .* to signed"):
        read(rows, columns)
    explained = read(rows, replace(columns, preference_format=form))
    assert [pair.chosen for pair in explained.pairs] == ["x", "y"] * 2
    assert read([*rows, TWO | {"by": 0.7}], columns).counts()["skipped"] == {"bad_preference": 2}


@pytest.mark.parametrize("as_text", [True, False])
def test_rows_of_the_lmsys_competition(as_text: bool) -> None:
    def row(*won: int, prompt: list[str], answers: tuple[list[str | None], list[str]]) -> dict[str, Any]:
        turns = dict(zip(("prompt", "response_a", "response_b"), (prompt, *answers), strict=True))
        labels = dict(zip(("winner_model_a", "winner_model_b", "winner_tie"), won, strict=True))
        return {name: json.dumps(value) if as_text else value for name, value in turns.items()} | labels

    rows = [
        row(1, 0, 0, prompt=["Q"], answers=(["x"], ["y"])),
        row(0, 1, 0, prompt=["R"], answers=(["x"], ["y"])),
        row(0, 0, 1, prompt=["S"], answers=(["x"], ["y"])),
        row(0, 1, 0, prompt=["Q", "R"], answers=(["x", "u"], ["x", "v"])),
        row(1, 0, 0, prompt=["T", "R"], answers=(["x", "u"], ["y", "v"])),
        row(1, 0, 0, prompt=["Q"], answers=([None], ["y"])),
        row(1, 1, 0, prompt=["U"], answers=(["x"], ["y"])),
    ]
    parsed = read(rows, keep_ties=False)
    assert [(pair.chosen, pair.rejected, len(pair.prompt)) for pair in parsed.pairs] == [
        ("x", "y", 1),
        ("y", "x", 1),
        ("v", "u", 3),
    ]
    assert parsed.counts()["skipped"] == {"missing_value": 2, "no_shared_prompt": 1, "tie": 1}


def test_a_label_in_use_and_a_response_named_best_are_not_called_unused_labels() -> None:
    used = notes([TWO | {"by": "A", "winner": "A"}], Columns(chosen="first", rejected="second", preference="by"))
    assert used == ["formats: standard 1", "columns not read: winner"]
    assert notes([{"prompt": "Q", "best": "x", "worst": "y"}], Columns())[1:] == ["columns not read: best, worst"]
    assert notes([], Columns()) == []


def test_a_label_that_is_there_and_unused_is_never_passed_over() -> None:
    row = {"prompt": "Q", "answer_0": "x", "answer_1": "y", "better_answer": 1}
    with pytest.raises(UserError, match="better and the worse response of every row: where a label 'better_answer'"):
        read([row])
    columns = Columns(chosen="answer_0", rejected="answer_1")
    with pytest.raises(UserError, match=r"there is a column 'better_answer': .* set data\.preference_column"):
        read([row], columns)
    usual = {"prompt": "Q", "chosen": "x", "rejected": "y", "label": "y"}
    said = notes([usual], Columns())[-1]
    assert said.startswith("note: if 'label' says which response is better, set data.preference_column to it")


def test_a_missing_column_names_those_found_and_the_key_to_set() -> None:
    with pytest.raises(
        UserError, match=r"it has 'chosen', 'question', 'rejected': set data\.prompt_column to 'question'$"
    ):
        read([{"question": "Q", "chosen": "A", "rejected": "B"}])
    with pytest.raises(UserError, match=r"set data\.chosen_column and data\.rejected_column"):
        read([{"prompt": "Q", "good": "A", "bad": "B"}])


def test_columns_that_name_both_sides_are_found_among_what_is_said_of_the_sides() -> None:
    sides = {"chosen_response": "A", "rejected_response": "B", "chosen_model": "x", "rejected_model": "y"}
    wanted = "chosen_column to 'chosen_response', data.rejected_column to 'rejected_response'"
    with pytest.raises(UserError, match=rf"set data\.{wanted}, data\.prompt_column to 'instruction'$"):
        read([{"instruction": "Q"} | sides])
    with pytest.raises(UserError, match=r"chosen_column to 'response_w', data\.rejected_column to 'response_l'$"):
        read([{"prompt": "Q", "response_w": "A", "response_l": "B"}])
    with pytest.raises(UserError, match=r"one of them; .*Data with one response a row \(SFT, KTO\) has no pairs"):
        read([{"prompt": "Q", "completion": "A", "label": True}])
    columns = Columns(prompt="instruction", chosen="chosen_response", rejected="rejected_response")
    reader = PairReader(columns, "test")
    parse_pairs(reader.expand([{"instruction": "Q"} | sides]), reader.to_pair)
    assert not [line for line in reader.notes() if "chosen_model' says" in line]


def test_names_that_tell_two_columns_apart_by_order_alone() -> None:
    ordered = [("response_0", "response_1"), ("answerA", "answerB"), ("human_ref_A", "human_ref_B"), ("left", "right")]
    assert all(are_numbered(*names) for names in ordered)
    told = [("chosen", "rejected"), ("good", "bad"), ("best_1", "worst_1"), ("a_good", "a_bad"), ("x", "x")]
    assert not any(are_numbered(*names) for names in told)
    labels = ["better_response_id", "overall_preference", "labels", "winner_model_a", "choice", "preferredResponse"]
    assert all(map(looks_like_label, labels))
    assert not any(map(looks_like_label, ["source", "prompt_id", "chosen", "margin", "labelled_by", "betterment"]))


def test_margins_come_from_strengths_and_scores_if_asked_for() -> None:
    columns = Columns(margin_per_point=0.5, min_score_gap=1.0)
    [pair] = read([HELPSTEER3 | {"overall_preference": 3}], columns).pairs
    assert (pair.chosen, pair.margin) == ("y", 1.5)
    scored = {"prompt": "Q", "chosen": "x", "rejected": "y", "score_chosen": 8, "score_rejected": 5.0}
    assert read([scored], columns).pairs[0].margin == 1.5
    assert read([scored | {"margin": 4}], columns).pairs[0].margin == 4
    assert read([scored | {"score_rejected": 7.5}], columns).pairs[0].is_tie
    assert read([scored | {"score_rejected": 9}], columns).counts()["skipped"] == {"contradictory_scores": 1}
    assert read([scored | {"score_rejected": 9}]).pairs[0].margin is None


@pytest.mark.parametrize("margin", [None, "", float("nan"), "nan"])
def test_an_empty_margin_is_none(margin: Any) -> None:
    assert read([{"prompt": "Q", "chosen": "x", "rejected": "y", "margin": margin}]).pairs[0].margin is None


def test_a_system_prompt_goes_before_the_prompt_and_parts_pairs() -> None:
    row = {"prompt": "Q", "chosen": "x", "rejected": "y", "system": "Be brief."}
    other = row | {"system": "Be kind.", "chosen": "y", "rejected": "x"}
    whole = {
        side: [*TURNS, {"role": "assistant", "content": text}] for side, text in (("chosen", "x"), ("rejected", "z"))
    }
    parsed = read([row, other, whole | {"system": "Be brief."}])
    assert [pair.prompt[0] for pair in parsed.pairs] == [
        {"role": "system", "content": text} for text in ("Be brief.", "Be kind.", "Be brief.")
    ]
    own = row | {"prompt": [{"role": "system", "content": "Be brief. "}, *TURNS]}
    assert len(read([own]).pairs[0].prompt) == 2
    assert read([own | {"system": "Be kind."}]).counts()["skipped"] == {"two_system_turns": 1}
    for nothing in (None, "", float("nan")):
        assert read([row | {"system": nothing}]).pairs[0].prompt == tuple(TURNS)
    assert read([row | {"system": 7}]).counts()["skipped"] == {"not_text": 1}


def test_columns_that_are_not_read_are_named() -> None:
    row = {
        "prompt": "Q",
        "chosen": "x",
        "rejected": "y",
        "system": "",
        "margin": 1,
        "source": "s",
        "id": 1,
        "lang": "en",
    }
    assert notes([row], Columns()) == ["formats: standard 1", "columns not read: id, lang"]
    assert notes([row | {f"x{n}": n for n in range(10)}], Columns())[1].endswith("x5 and 4 more")
    assert notes([row | {"": 0}], Columns())[1] == "columns not read: id, lang, ''"


def test_labels_that_swap_sides_and_rows_without_one_are_told() -> None:
    row = {"prompt": "Q", "chosen": "x", "rejected": "y"}
    told = notes([row | {"preference": 0.2}, row | {"preference": 0.9}, row | {"preference": ""}, row], Columns())
    assert "note: 1 of 2 'preference' are below 0.5: rejected is taken for the better response" in told
    assert "note: 2 rows without a 'preference' are taken for certain, as with 1; 2 have one" in told
    assert not any("preference" in line for line in notes([row, row | {"preference": None}], Columns()))


def test_ratings_that_contradict_the_columns_are_a_warning() -> None:
    row = {"prompt": "Q", "chosen": "x", "rejected": "y", "chosen_rating": 2, "rejected_rating": 5.0}
    right = row | {"chosen_rating": 5, "rejected_rating": 5}
    unrated = row | {"rejected_rating": None}
    [warning] = [line for line in notes([row, row, right, unrated], Columns()) if line.startswith("warning")]
    assert "in 2 of 3 rows the rejected response is rated above the chosen one" in warning
    assert not any("rated above" in line for line in notes([row, right, unrated], Columns()))
    labelled = row | {"preference": 1}
    assert not any("rated above" in line for line in notes([labelled], Columns(preference_format="index_from_0")))


ODD = "\ud800\x1b[2J" + "x" * 5000


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Q", "chosen": "x", "rejected": "y", "preference": ODD},
        {"prompt": "Q", "chosen": "x", "rejected": {"role": ODD, "content": ""}},
        {"prompt": "Q", "chosen": "x", "rejected": {ODD: ""}},
        {"prompt": "Q", "chosen": "x", "rejected": "y", "source": ODD},
        {"prompt": "Q", "chosen": "x", "rejected": "y", f"label_{ODD}": 1},
    ],
)
def test_odd_names_and_values_are_shown_short_and_without_what_moves_the_cursor(row: dict[str, Any]) -> None:
    reader = PairReader(Columns(), "test")
    parsed = parse_pairs(reader.expand([row, {ODD: 1, "prompt": "P"}]), reader.to_pair)
    lines = [*reader.notes(), *parsed.first_rejects()]
    with pytest.raises(UserError) as error:
        read([{ODD: 1}])
    for line in [*lines, str(error.value)]:
        assert line.isprintable()
        assert len(line) < 500


def test_a_source_with_half_a_character_is_turned_away() -> None:
    assert read([{"prompt": "Q", "chosen": "x", "rejected": "y", "source": ODD}]).counts()["skipped"] == {
        "bad_unicode": 1
    }


@pytest.mark.parametrize(
    ("prompt", "turns"),
    [
        ("", 3),
        (None, 3),
        ("Q ", 3),  # the first turn
        ("R\n", 3),  # the last
        (
            [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}, {"role": "user", "content": "R"}],
            3,
        ),
    ],
)
def test_a_prompt_beside_conversations_is_their_beginning_or_end(prompt: Any, turns: int) -> None:
    shared = [
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": "A"},
        {"role": "user", "content": "R"},
    ]
    row = {side: [*shared, {"role": "assistant", "content": side}] for side in ("chosen", "rejected")}
    assert len(read([row | {"prompt": prompt}]).pairs[0].prompt) == turns
    assert read([row | {"prompt": "A"}]).counts()["skipped"] == {"no_shared_prompt": 1}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": [*TURNS, {"role": "assistant", "content": "A"}]}, "prompt_ends_in_assistant"),
        ({"chosen": TURNS}, "last_turn_not_assistant"),
        ({"chosen": ["x"]}, "list_of_texts"),
        ({"chosen": 5}, "not_text"),
        ({"tools": [{"name": "f"}]}, "tools"),
        ({"prompt": ""}, "empty"),
        ({"chosen": "\n\nHuman: Q\n\nAssistant: x"}, "no_shared_prompt"),
        ({"rejected": "\n\nHuman: Q\n\nAssistant: x"}, "no_shared_prompt"),
        ({"margin": 10**400}, "bad_margin"),
    ],
)
def test_each_cause_has_its_word_and_the_first_row_is_shown(row: dict[str, Any], reason: str) -> None:
    parsed = read([{"prompt": "Q", "chosen": "x", "rejected": "y"} | row])
    assert parsed.counts()["skipped"] == {reason: 1}
    [line] = parsed.first_rejects()
    assert line.startswith(f"first {reason}")
    assert "'rejected': '" in line


def test_rows_of_every_format_in_one_file_are_counted_by_format() -> None:
    rows = [SAFE_RLHF | {"better_response_id": 0}, {"prompt": "P", "chosen": "x", "rejected": "y"}, LMARENA]
    reader = PairReader(Columns(), "test")
    assert [pair.chosen for pair in parse_pairs(reader.expand(rows), reader.to_pair).pairs] == ["x", "x"]
    assert reader.formats == {"safe_rlhf": 1, "standard": 1, "unknown": 1}


def test_a_misspelt_column_is_named_with_its_key() -> None:
    row = {" Prompt": "Q", "Chosen": "A", "rejectd": "B"}
    with pytest.raises(UserError, match=r"set data\.chosen_column to 'Chosen', data\.rejected_column to 'rejectd'"):
        read([row])
    with pytest.raises(UserError, match=r"data\.prompt_column to ' Prompt'$"):
        read([row])
    with pytest.raises(UserError, match=r"set data\.chosen_column and data\.rejected_column to one of them;"):
        read([{"prompt": "Q", "Chosen": "A", "loser": "B"}])
    with pytest.raises(UserError, match=r"set data\.prompt_column to one of them$"):
        read([{"prompt_id": 1, "subject": "Q", "chosen": "A", "rejected": "B"}])
    with pytest.raises(UserError, match=r"set data\.rejected_column to one of them;"):
        read([{"prompt": "Q", "answer_1": "A", "x": "B"}], Columns(chosen="answer_1", rejected="answer_2"))


@pytest.mark.parametrize("first", ["Which of these is a pet?", "x" * 41])
def test_a_file_without_a_header_line_is_told_of_it(first: str, tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text(f"{first},a dog,a house\nWhat is 2+2?,4,5\n")
    with pytest.raises(UserError, match="seems to have no header line: write the columns' names above its rows"):
        read(list(read_rows(tmp_path / "own.csv")))
    (tmp_path / "own.csv").write_text(f"prompt,{first},a house\nWhat is 2+2?,4,5\n")
    with pytest.raises(UserError, match=r"set data\.chosen_column and data\.rejected_column to one of them;"):
        read(list(read_rows(tmp_path / "own.csv")))
