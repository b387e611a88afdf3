"""External evaluation sets: their formats, their authors' figures, and the stage that reads them."""

import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from conftest import BEFORE_TRAINING, Project, make_pairs, write_rows
from reward_model.common.tables import read_parquet
from reward_model.contract.encoder import Encoder
from reward_model.data.external_formats import detect_format, parse_external_set
from reward_model.data.pair_reader import PairReader
from reward_model.data.pairs import parse_pairs
from reward_model.data.readers import read_rows
from reward_model.data.row_formats import Columns
from reward_model.evaluation.external_scores import external_scores

REWARD_BENCH = {"prompt": "Say hi.", "chosen": "hi", "rejected": "no", "subset": "hep-python", "id": 7}
RM_BENCH = {"id": "x", "prompt": "2 + 2?", "chosen": ["4", "It is 4", "**4**"], "rejected": ["5", "It is 5", "**5**"]}
REWARD_BENCH_2 = {
    "id": "12",
    "prompt": "2 + 2?",
    "chosen": ["4"],
    "rejected": ["5", "6", "7"],
    "num_correct": 1,
    "num_incorrect": 3,
    "total_completions": 4,
    "models": ["a", "b", "c", "d"],
    "subset": "Math",
    "additional_metadata": None,
}
TIED = REWARD_BENCH_2 | {
    "id": "tied:0",
    "subset": "Ties",
    "chosen": ["red", "blue", "green"],
    "rejected": ["pink", "grey"],
    "num_correct": 3,
}
BEST = {"prompt": "2 + 2?", "responses": ["4", "5", "6"], "best": 0}
SCORES = {"prompt": "2 + 2?", "responses": ["5", "4", "four", "6"], "scores": [0, 2, 2, 1]}
LISTS = {"prompt": "2 + 2?", "chosen": ["4"], "rejected": ["5", "6", "7"], "subset": "Math"}
HH = {"chosen": "\n\nHuman: hi\n\nAssistant: hello", "rejected": "\n\nHuman: hi\n\nAssistant: go away"}


def taken(*rows: dict[str, Any]) -> tuple[str, list[tuple[Any, ...]], dict[str, int]]:
    row_format, pairs, parsed = parse_external_set(rows, "set")
    found = [
        (item.row, item.chosen_index, item.rejected_index, item.pair.chosen, item.pair.rejected, item.pair.source)
        for item in pairs
    ]
    return row_format, found, parsed.counts()["skipped"]


@pytest.mark.parametrize(
    ("row", "name"),
    [
        (REWARD_BENCH, "reward_bench"),
        (RM_BENCH, "rm_bench"),
        (REWARD_BENCH_2, "reward_bench_2"),
        (TIED | {"rejected": ["pink", "grey", "sky"]}, "reward_bench_2"),
        (BEST, "best_of_n"),
        (SCORES, "best_of_n"),
        (LISTS, "best_of_n"),
        (HH, "pairs"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "subset": "my own"}, "pairs"),
        (
            {"chosen": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "rejected": []},
            "pairs",
        ),
    ],
    ids=str,
)
def test_a_row_tells_its_format(row: dict[str, Any], name: str) -> None:
    assert detect_format(row) == name


def test_each_format_becomes_its_pairs() -> None:
    assert taken(REWARD_BENCH)[1] == [(0, 0, 1, "hi", "no", "hep-python")]
    assert taken(HH)[1] == [(0, 0, 1, "hello", "go away", "set")]
    assert taken(BEST)[1] == [(0, 0, 1, "4", "5", "set"), (0, 0, 2, "4", "6", "set")]
    assert taken(LISTS)[1] == [(0, 0, n, "4", str(4 + n), "Math") for n in (1, 2, 3)]
    assert taken(REWARD_BENCH_2)[1] == [(0, 0, n, "4", str(4 + n), "Math") for n in (1, 2, 3)]
    by_scores = {(better, worse) for _, better, worse, *_ in taken(SCORES)[1]}
    assert by_scores == {(1, 0), (1, 3), (2, 0), (2, 3)}
    matrix = taken(RM_BENCH | {"domain": "math"})[1]
    assert len(matrix) == 9
    assert (0, 2, 0, "**4**", "5", "math") in matrix
    assert (0, 0, 2, "4", "**5**", "math") in matrix


def test_rows_that_are_none_of_the_set_are_counted_by_reason() -> None:
    assert taken(RM_BENCH, RM_BENCH | {"chosen": ["4"]})[2] == {"not_three_and_three": 1}
    nothing_best = [BEST | {"best": 3}, BEST | {"best": None}, SCORES | {"scores": [1, 1, 1, 1]}, BEST | {"best": "x"}]
    assert taken(BEST, *nothing_best)[2] == {"no_best_response": 4}
    assert taken(SCORES, SCORES | {"scores": [1, 2]}, SCORES | {"scores": ["a", 10**400, 1, 2]})[2] == {
        "no_best_response": 2
    }
    no_bench_2 = [
        REWARD_BENCH_2 | {"chosen": ["4", "four"]},
        REWARD_BENCH_2 | {"subset": "Chat"},
        REWARD_BENCH_2 | {"rejected": []},
        REWARD_BENCH_2 | {"rejected": None},
        TIED | {"id": "0"},
        TIED | {"id": None},
        TIED | {"rejected": ["pink", "green "]},
        TIED | {"rejected": ["pink", " "]},
    ]
    assert taken(TIED, *no_bench_2)[2] == {
        "bad_ties_id": 2,
        "chosen_equals_rejected": 1,
        "empty": 1,
        "no_responses": 2,
        "not_one_and_three": 1,
        "unknown_subset": 1,
    }
    assert taken(REWARD_BENCH, {"prompt": "a"}, REWARD_BENCH | {"rejected": "hi"})[2] == {
        "chosen_equals_rejected": 1,
        "missing_column": 1,
    }


def test_the_format_is_that_of_most_rows_not_of_the_first() -> None:
    others = [LISTS, LISTS | {"prompt": "1 + 3?"}]
    row_format, found, skipped = taken({"prompt": "a", "chosen": None, "rejected": None}, *others)
    assert (row_format, len(found), skipped) == ("best_of_n", 6, {"no_responses": 1})
    row_format, found, skipped = taken(RM_BENCH, *others)
    assert (row_format, len(found), skipped) == ("best_of_n", 9 + 6, {})


@pytest.mark.parametrize("row", [RM_BENCH, REWARD_BENCH_2, TIED, BEST, SCORES, SCORES | {"best": None}, LISTS])
def test_csv_has_lists_as_json(row: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "set.csv"
    cells = {name: json.dumps(value) if isinstance(value, list) else value for name, value in row.items()}
    pd.DataFrame([cells]).to_csv(path, index=False)
    assert taken(*read_rows(path)) == taken(row)
    if "chosen" in row:
        reader = PairReader(Columns(), "test")
        assert parse_pairs(reader.expand(read_rows(path)), reader.to_pair).counts()["skipped"] == {"list_of_texts": 1}


def test_in_csv_one_list_may_be_an_answer(tmp_path: Path) -> None:
    path = tmp_path / "set.csv"
    row = {"prompt": "a list?", "chosen": '["a"]', "rejected": "no"}
    pd.DataFrame([row]).to_csv(path, index=False)
    assert list(read_rows(path)) == [row]


def scored(rows: list[tuple[str, int, int, float]], number: int = 0) -> pd.DataFrame:
    """Pairs as source, index of chosen, index of rejected, margin."""
    return pd.DataFrame(
        [
            {
                "row": number,
                "source": source,
                "chosen_index": better,
                "rejected_index": worse,
                "chosen_reward": margin,
                "rejected_reward": 0.0,
            }
            for source, better, worse, margin in rows
        ]
    )


def scored_rows(rows: list[tuple[dict[str, Any], list[float]]], style_places: int = 0) -> pd.DataFrame:
    """The pairs of rows of lists, each with the rewards of its chosen and then of its rejected responses."""
    _, pairs, parsed = parse_external_set([row for row, _ in rows], "set")
    assert not parsed.rejects
    return pd.DataFrame(
        [
            item.places
            | {"source": item.pair.source, "chosen_reward": rows[item.row][1][item.chosen_index]}
            | {"rejected_reward": rows[item.row][1][item.rejected_index + style_places]}
            for item in pairs
        ]
    )


def test_the_sections_of_reward_bench_weigh_as_their_authors_do() -> None:
    """By fixed numbers of pairs, whatever is left of a subset; a tie is wrong; the score is the sections' mean.

    What `rewardbench.utils.calculate_scores_per_section` of version 0.1.4 gives.
    """
    rows = [
        ("math-prm", 0, 1, 1.0),
        ("hep-python", 0, 1, -1.0),
        ("hep-python", 0, 1, 0.0),
        ("alpacaeval-easy", 0, 1, 1.0),
        ("other", 0, 1, -1.0),
    ]
    found = external_scores("reward_bench", scored(rows))["reward_bench"]
    reasoning = 984 / (984 + 164)
    expected = {"Chat": 1.0, "Reasoning": reasoning, "score": (1 + reasoning) / 2}
    assert found == {name: pytest.approx(value) for name, value in expected.items()}


def test_reward_bench_2_gives_what_its_package_gives() -> None:
    """The values are those of `reroll_and_score_dataset` and `process_single_model` of rewardbench 0.1.4."""
    math = [[1.0, 1.0, 0.0, 1.0], [2.0, 1.0, 0.0, -1.0], [0.5, 1.0, 0.0, -1.0]]
    ties = [
        ("ref:0", [2.0], [1.0, 0.5]),
        ("tied:0", [1.5, 1.0, 1.25], [0.2, 0.0]),
        ("ref:1", [0.1], [0.3]),
        ("tied:1", [0.5, 0.5], [0.0, 0.0, 0.0]),
        ("ref:2", [3.0], [1.0]),
        ("tied:2", [1.0, -1.0], [-2.0]),
        ("tied:3", [1.0, 0.5], [0.75]),  # without its other question
        ("ref:4", [1.0], [0.0]),
        ("tied:4", [1.0], [0.0]),  # one right answer has no range
    ]
    rows = [(REWARD_BENCH_2, rewards) for rewards in math]
    rows += [
        (
            TIED
            | {"id": name, "chosen": [f"right {n}" for n in range(len(right))]}
            | {"rejected": [f"wrong {n}" for n in range(len(wrong))]},
            [*right, *wrong],
        )
        for name, right, wrong in ties
    ]
    found = external_scores("reward_bench_2", scored_rows(rows))["reward_bench_2"]
    expected = {"Math": 0.4444444444444444, "Ties": 0.66537466204869, "score": 0.5549095532465672}
    assert found == {name: pytest.approx(value) for name, value in expected.items()}


def test_reward_bench_2_without_one_of_two_questions_has_what_its_package_gives() -> None:
    found = external_scores("reward_bench_2", scored_rows([(TIED, [3.0, 2.0, 1.0, 0.0, 0.0])]))["reward_bench_2"]
    assert found == {"Ties": pytest.approx(0.3), "score": pytest.approx(0.3)}


def test_the_matrix_of_rm_bench_tells_easy_from_hard() -> None:
    """A model that likes elaborate answers, whatever they say; a tie is wrong; safety is one domain, row by row."""
    likes_style = RM_BENCH | {"domain": "safety-refuse"}, [0.0, 1.0, 2.0, 0.0, 1.0, 2.0]
    found = external_scores("rm_bench", scored_rows([likes_style], 3))["rm_bench"]
    assert (found["easy"], found["normal"], found["hard"]) == (1.0, 0.0, 0.0)
    assert found["average"] == pytest.approx(1 / 3)
    assert found["matrix"][2][0] == 1.0
    assert found["matrix"][0][2] == 0.0
    perfect = [(RM_BENCH | {"domain": domain}, [1.0] * 3 + [0.0] * 3) for domain in ("math", "safety-response")]
    assert external_scores("rm_bench", scored_rows([likes_style, *perfect], 3))["rm_bench"]["hard"] == 0.75
    more = [likes_style, likes_style, *perfect]
    assert external_scores("rm_bench", scored_rows(more, 3))["rm_bench"]["hard"] == pytest.approx((1 + 1 / 3) / 2)


def test_best_of_n_is_right_where_no_response_is_better_than_the_highest() -> None:
    right = scored([("a", 0, 1, 2.0), ("a", 0, 2, 2.0)])
    wrong = scored([("a", 0, 1, -1.0), ("a", 0, 2, -1.0)], number=1)
    second_best = pd.DataFrame(
        {"row": 2, "chosen_index": [0, 0], "rejected_index": [1, 2]}
        | {"chosen_reward": [1.0, 1.0], "rejected_reward": [3.0, 0.0]}
    )
    found = external_scores("best_of_n", pd.concat([right, wrong, second_best]))["best_of_n"]
    assert found == {"n": 3, "accuracy": pytest.approx(1 / 3), "by_chance": pytest.approx(1 / 3)}


def test_the_stages_take_several_sets_at_once_and_skip_what_they_cannot_have(project: Project) -> None:
    external = project.folder / "data/external"
    write_rows(external / "rb.jsonl", [REWARD_BENCH | {"prompt": f"Say {n}."} for n in range(4)])
    write_rows(
        external / "rm.jsonl", [RM_BENCH | {"domain": "math"}, RM_BENCH | {"domain": "chat", "prompt": "1 + 1?"}]
    )
    pd.DataFrame([REWARD_BENCH_2, TIED, TIED | {"id": "ref:0", "chosen": ["red"], "prompt": "Say."}]).to_parquet(
        external / "rb2.parquet"
    )
    (external / "best.json").write_text(json.dumps([BEST, SCORES]))
    with gzip.open(external / "hh.jsonl.gz", "wt") as file:
        file.write(json.dumps(HH) + "\n")
    write_rows(external / "nothing.jsonl", [{"prompt": "a"}])
    (external / "broken.csv").write_bytes(b"prompt,chosen,rejected\n\xff\xfe,a,b\n")
    write_rows(external / "train.jsonl", [REWARD_BENCH])
    project.set_params({"evaluate.hub_sets": ["some/set:filtered"], "export.onnx": "none"})
    for name in (*BEFORE_TRAINING, "train"):
        project.stage(name)
    pd.DataFrame(make_pairs(60)).to_parquet(external / "own.parquet")  # most of which were trained on
    result = project.run(
        "stages/external_sets.py", env={"HF_HUB_OFFLINE": "1", "HF_HOME": str(project.folder / "cache")}
    )
    assert result.returncode == 0, result.stderr
    assert "rm: 18 pairs of 2 rows (rm_bench); skipped: none" in result.stdout
    assert "nothing: skipped: no pair in it: 1 missing_column" in result.stdout
    assert "broken: skipped: " in result.stdout
    assert "train: skipped: the name is taken" in result.stdout
    assert "some--set--filtered: cannot fetch hub:some/set at main: " in result.stdout
    assert "some--set--filtered: skipped: it cannot be downloaded" in result.stdout
    counts = project.read("metrics/external_sets.json")
    assert {name: own["format"] for name, own in counts["sets"].items()} == {
        "best": "best_of_n",
        "common_sense": "pairs",
        "hh": "pairs",
        "mt_bench_human": "pairs",
        "own": "pairs",
        "rb": "reward_bench",
        "rb2": "reward_bench_2",
        "rm": "rm_bench",
    }
    splits = project.read("metrics/data.json")["splits"]
    seen = sum(splits[name]["pairs"] for name in ("train", "validation"))
    assert counts["sets"]["own"]["skipped"] == {"prompt_trained_on": seen}
    assert counts["sets"]["own"]["kept"] == splits["heldout"]["pairs"]
    assert set(counts["skipped"]) == {"broken", "nothing", "some--set--filtered", "train"}
    assert len(read_parquet(project.folder / "data/external_sets/best.parquet")) == 2 + 4
    project.stage("evaluation_features")
    project.set_params({"evaluate.reference_models": ["models/reward"]})  # itself
    project.stage("baselines")
    printed = project.stage("evaluate").stdout
    figures = project.read("metrics/eval.json")
    assert set(figures) == {"heldout", "mt_bench_human", "common_sense", "best", "hh", "own", "rb", "rb2", "rm"}
    assert set(figures["rb"]["reward_bench"]) == {"Reasoning", "score"}
    assert set(figures["rb2"]["reward_bench_2"]) == {"Math", "Ties", "score"}
    assert set(figures["rm"]["rm_bench"]) == {"matrix", "easy", "normal", "hard", "average"}
    assert figures["rm"]["by_source"] == {}, "few pairs of each, so that all are one source"
    assert figures["best"]["best_of_n"]["n"] == 2
    for own in figures.values():
        same = own["reference_models"]["models/reward"]
        assert (same["n"], same["accuracy"], same["loss_uncalibrated"]) == (own["n"], own["accuracy"], own["loss"])
        assert same["accuracy_gain"]["gain"] == same["loss_gain"]["gain"] == 0
    assert figures["rb2"]["reference_models"]["models/reward"]["reward_bench_2"] == figures["rb2"]["reward_bench_2"]
    assert {"rm", "rm: models/reward"} <= {row["set"] for row in project.read("metrics/accuracy_by_length.json")}
    assert "some--set--filtered: skipped: " in printed
    assert "RM-Bench: easy" in printed
    scored = project.folder / "data/evaluation"
    assert {path.name for path in scored.iterdir()} == {f"{name}.parquet" for name in figures}
    shown = project.stage("results").stdout
    assert "rb2: RewardBench 2: " in shown
    assert "models/reward" in shown
    project.stage("explain")
    project.stage("report")
    report = (project.folder / "data/report.html").read_text()
    assert "RM-Bench" in report
    assert "RewardBench 2" in report
    assert "Other reward models" in report


def test_a_file_that_is_not_there_is_one_clear_error(project: Project) -> None:
    for name in ("prepare", "tokenize_pairs"):
        project.stage(name)
    project.set_params({"evaluate.sets_path": "data/no_such_folder"})
    result = project.run("stages/external_sets.py")
    assert result.returncode == 1
    assert result.stderr.startswith("error: data/no_such_folder not found: set evaluate.sets_path")


def test_the_responses_of_a_row_are_cut_alike_as_when_they_are_scored(project: Project) -> None:
    for name in ("prepare", "tokenize_pairs"):
        project.stage(name)
    row = {"prompt": "word " * 400, "responses": ["short", "long " * 40, "other"], "best": 0}
    write_rows(project.folder / "data/external/best.jsonl", [row])
    project.stage("external_sets")
    rows = read_parquet(project.folder / "data/external_sets/best.parquet")
    assert rows[0]["chosen_ids"] == rows[1]["chosen_ids"]
    encoder = Encoder.load(project.folder / "data/tokens/tokenizer")
    expected = encoder.encode([{"role": "user", "content": row["prompt"]}], row["responses"]).ids
    assert [rows[0]["chosen_ids"], rows[0]["rejected_ids"], rows[1]["rejected_ids"]] == expected


def test_a_set_without_a_known_subset_left_has_no_score() -> None:
    assert external_scores("reward_bench", scored([("other", 0, 1, 1.0)])) == {"reward_bench": {"score": None}}
