"""Rankings become their comparisons, or are skipped with a reason."""

import json
from typing import Any

import pytest

from conftest import Project
from reward_model.common.errors import UserError
from reward_model.data.pair_reader import PairReader
from reward_model.data.pairs import parse_pairs
from reward_model.data.rankings import comparisons, expand_rankings, is_ranking
from reward_model.data.row_formats import Columns, InvalidRow

COLUMNS = Columns()
RANKED = {"prompt": "q", "responses": ["a", "b", "c"], "ranks": [2, 1, 2]}


def sides(row: dict[str, Any]) -> set[tuple[str, str, str | None]]:
    return {(each["chosen"], each["rejected"], each.get("preference")) for each in comparisons(row, COLUMNS)}


@pytest.mark.parametrize(
    "row",
    [
        RANKED,
        {"prompt": "q", "responses": ["a", "b", "c"], "scores": [0.5, 3, 0.5]},
        {"prompt": "q", "answers": [{"answer": text, "rank": rank} for text, rank in (("a", 2), ("b", 1), ("c", 2))]},
        {
            "prompt": "q",
            "completions": [
                {"response": text, "overall_score": score} for text, score in (("a", 1), ("b", 9), ("c", 1))
            ],
        },
        {**RANKED, "scores": [1, 2, 1]},
        {**RANKED, "responses": ["a", "b", "c", " b "], "ranks": [2, 1, 2, 1]},
        {**RANKED, "responses": [[{"role": "assistant", "content": text}] for text in "abc"]},
    ],
    ids=["ranks", "scores", "objects with ranks", "objects with scores", "both", "one twice", "chats"],
)
def test_a_ranking_is_all_comparisons_of_its_responses(row: dict[str, Any]) -> None:
    assert is_ranking(row, COLUMNS)
    assert sides(row) == {("b", "a", "chosen"), ("b", "c", "chosen"), ("a", "c", "tie")}
    assert all(each["prompt"] == "q" for each in comparisons(row, COLUMNS))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"responses": ["a"], "ranks": [1]}, "too_few_responses"),
        ({"responses": [], "ranks": []}, "too_few_responses"),
        ({"responses": ["a", "a "], "ranks": [1, 1]}, "too_few_responses"),
        ({"ranks": None}, "bad_ranking"),
        ({"ranks": [1, 2]}, "bad_ranking"),
        ({"ranks": 1}, "bad_ranking"),
        ({"ranks": [1, 2, "best"]}, "bad_ranking"),
        ({"ranks": [1, 2, True]}, "bad_ranking"),
        ({"ranks": [1, 2, float("nan")]}, "bad_ranking"),
        ({"ranks": [1, 2, None]}, "bad_ranking"),
        ({"responses": [{"response": "a", "rank": 1}, {"response": "b"}], "ranks": None}, "bad_ranking"),
        ({"responses": [{"rank": 1}, {"rank": 2}], "ranks": None}, "bad_ranking"),
        ({"responses": ["a", 7, "c"]}, "not_text"),
        ({"responses": "['a' 'b' 'c']"}, "list_as_text"),
        ({"responses": ["a", "b", "a"], "ranks": [1, 2, 3]}, "contradictory_ranking"),
        ({"scores": [9, 1, 1]}, "contradictory_ranking"),
    ],
)
def test_a_ranking_that_cannot_be_read_is_skipped_with_its_reason(changes: dict[str, Any], reason: str) -> None:
    row = RANKED | changes
    with pytest.raises(InvalidRow, match=f"^{reason}$"):
        comparisons(row, COLUMNS)
    assert list(expand_rankings([row], COLUMNS)) == [row], "it stays, to be counted"


def test_a_least_gap_makes_ties_and_gaps_become_margins() -> None:
    columns = Columns(min_score_gap=1.0, margin_per_point=0.5)
    row = {"prompt": "q", "responses": ["a", "b", "c"], "scores": [1, 1.5, 4]}
    found = [(each["chosen"], each["preference"], each["margin"]) for each in map(both, comparisons(row, columns))]
    assert found == [("b", "tie", None), ("c", "chosen", 1.5), ("c", "chosen", 1.25)]
    ranked = [both(each)["margin"] for each in comparisons(RANKED | {"ranks": [1, 2, 3]}, columns)]
    assert ranked == [None, None, None], "a rank is no score"


def both(row: dict[str, Any]) -> dict[str, Any]:
    return {"margin": None} | row


def test_rated_responses_that_follow_one_another_are_a_ranking() -> None:
    """As HelpSteer2 has them."""
    rows = [{"prompt": "q", "response": text, "helpfulness": score} for text, score in (("a", 1), ("b", 4), ("c", 1))]
    rows += [{"prompt": "r", "response": "a", "helpfulness": 3}, {"prompt": "q", "response": "d", "helpfulness": 0}]
    expanded = list(expand_rankings(rows, COLUMNS))
    assert {(row["chosen"], row["rejected"]) for row in expanded[:3]} == {("b", "a"), ("b", "c"), ("a", "c")}
    assert [row["prompt"] for row in expanded[3:]] == ["r", "q"]
    with pytest.raises(InvalidRow, match=r"^too_few_responses$"):
        comparisons(expanded[3], COLUMNS)


@pytest.mark.parametrize("empty", [None, ""], ids=["JSONL", "CSV"])
def test_a_response_without_a_score_leaves_the_others_their_ranking(empty: Any) -> None:
    rows = [
        {"prompt": "q", "response": text, "rank": 7, "score": score} for text, score in zip("abc", "4x1", strict=True)
    ]
    nothing = {"prompt": "q", "response": "d", "score": empty, "chosen": empty, "rejected": empty}
    rows = [rows[0], nothing, nothing | {"response": empty, "score": 3}, *rows[1:]]
    reader = PairReader(COLUMNS, "test")
    parsed = parse_pairs(reader.expand(rows), reader.to_pair)
    assert [(pair.chosen, pair.rejected) for pair in parsed.pairs] == [("a", "c")]
    assert [(row["reason"], row["detail"]) for row in parsed.rejects] == [
        ("missing_value", "score"),
        ("missing_value", "response"),
        ("missing_value", "score"),
    ]


def test_what_rankings_lack_is_named() -> None:
    reader = PairReader(COLUMNS, "test")
    question = {"question": "q", "responses": ["a", "b"], "scores": [1, 2]}
    parsed = parse_pairs(reader.expand([question]), reader.to_pair)
    with pytest.raises(
        UserError, match=r"^no column 'prompt' in the data; it has .*: set data.prompt_column to 'question'$"
    ):
        reader.check(parsed)
    reader = PairReader(COLUMNS, "test")
    alone = [{"prompt": "q", "response": "a", "score": 1}, {"prompt": "q", "response": "b"}]
    reader.check(parse_pairs(reader.expand(alone), reader.to_pair))


def test_a_pair_with_a_label_is_no_ranking() -> None:
    row = {"prompt": "q", "response_0": "a", "response_1": "b", "better_response_id": 1, "answers": ["c", "d"]}
    reader = PairReader(COLUMNS, "test")
    [pair] = parse_pairs(reader.expand([row]), reader.to_pair).pairs
    assert (pair.chosen, pair.rejected, reader.formats) == ("b", "a", {"safe_rlhf": 1})


def test_a_row_with_chosen_and_rejected_is_a_pair_whatever_else_it_has() -> None:
    row = RANKED | {"chosen": "a", "rejected": "b"}
    assert list(expand_rankings([row], COLUMNS)) == [row]


def test_prepare_reads_files_of_rankings(project: Project) -> None:
    rows = [{"prompt": f"question {n}?", "responses": ["good", "fair", "bad"], "ranks": [1, 2, 2]} for n in range(60)]
    rows += [{"prompt": "alone", "responses": ["x"], "ranks": [1]}, {"prompt": "pair", "chosen": "x", "rejected": "y"}]
    path = project.folder / "data/own/pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    project.stage("prepare")
    counts = project.read("metrics/data.json")
    assert (counts["rows"], counts["kept"]) == (60 * 3 + 2, 60 * 2 + 1)
    assert counts["skipped"] == {"tie": 60, "too_few_responses": 1}
