import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import prepare
from conftest import Project, make_pairs, mt_bench_row, write_rows
from reward_model.common.tables import read_parquet
from reward_model.data.row_formats import InvalidRow


def test_counts_add_up_and_rejects_are_kept(project: Project) -> None:
    rows = make_pairs(60)
    bad = [{"prompt": "Q", "chosen": "same", "rejected": "same"}, rows[0], {"prompt": "Q", "chosen": "A"}]
    write_rows(project.folder / "data/own/pairs.jsonl", rows + bad)
    project.stage("prepare")
    counts = project.read("metrics/data.json")
    assert counts["rows"] == 63
    assert counts["kept"] == 60
    assert counts["skipped"] == {"chosen_equals_rejected": 1, "duplicate": 1, "missing_column": 1}
    sizes = counts["splits"]
    assert sizes["train"]["pairs"] + sizes["validation"]["pairs"] + sizes["heldout"]["pairs"] == 60
    rejects = (project.folder / "data/pairs/rejects.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["reason"] for line in rejects) == [
        "chosen_equals_rejected",
        "duplicate",
        "missing_column",
    ]


def test_preferences_reach_the_tokens_and_ties_only_training(project: Project) -> None:
    rows: list[dict[str, Any]] = list(make_pairs(60))
    preferences = [None, 0.8, 0.5] * 20
    rows = [row if p is None else row | {"preference": p} for row, p in zip(rows, preferences, strict=True)]
    write_rows(project.folder / "data/own/pairs.jsonl", [*rows, rows[0] | {"prompt": "P", "preference": 2}])
    project.stage("prepare")
    counts = project.read("metrics/data.json")
    assert counts["skipped"] == {"bad_preference": 1, "tie": 20}
    assert "ties_not_evaluated" not in counts
    project.set_params({"data.keep_ties": True})
    project.stage("prepare")
    counts = project.read("metrics/data.json")
    assert counts["skipped"] == {"bad_preference": 1}
    ties = sum(counts["ties_not_evaluated"].values())
    assert ties > 0
    assert sum(of_split["pairs"] for of_split in counts["splits"].values()) == 60 - ties
    write_rows(project.folder / "data/own/pairs.jsonl", [row | {"preference": 0.5} for row in make_pairs(60)])
    error = project.run("stages/prepare.py").stderr
    assert "no pairs for validation, heldout: " in error
    assert "; ties, which are not evaluated: " in error
    write_rows(project.folder / "data/own/pairs.jsonl", [*rows, rows[0] | {"prompt": "P", "preference": 2}])
    project.stage("prepare")
    project.stage("tokenize_pairs")
    found = {
        name: {row.get("preference") for row in read_parquet(project.folder / f"data/tokens/{name}.parquet")}
        for name in ("train", "validation", "heldout")
    }
    assert found["train"] == {None, 0.8, 0.5}
    assert found["validation"] | found["heldout"] == {None, 0.8}


def test_short_answers_stand_beside_empty_replies_in_training_and_in_common_sense(project: Project) -> None:
    more = ". It is so. There is more of it"
    rows = [row | {"chosen": row["chosen"].removeprefix("good answer: ") + more} for row in make_pairs(60)]
    write_rows(project.folder / "data/own/pairs.jsonl", rows)
    for stage in ("prepare", "tokenize_pairs", "external_sets"):
        project.stage(stage)
    assert project.read("metrics/data.json")["degenerate"]["short_answer"] > 0
    sentences = {row["chosen"].partition(". ")[0] + "." for row in rows}
    for name in ("pairs/degenerate", "external_sets/common_sense"):
        made = [json.loads(line) for line in (project.folder / f"data/{name}.jsonl").read_text().splitlines()]
        short = [row["chosen"] for row in made if row["source"] == "degenerate/short_answer"]
        assert short and set(short) <= sentences


def test_max_samples_limits_training_pairs_only(project: Project) -> None:
    project.stage("prepare")
    before = project.read("metrics/data.json")["splits"]
    project.set_params({"data.max_samples": 10})
    project.stage("prepare")
    after = project.read("metrics/data.json")
    assert after["splits"]["train"]["pairs"] == 10
    assert after["available"]["train"] == before["train"]["pairs"]
    assert after["splits"]["heldout"] == before["heldout"]


def test_max_eval_samples_limits_validation_and_test(project: Project) -> None:
    project.stage("prepare")
    before = project.read("metrics/data.json")["splits"]
    project.set_params({"data.max_eval_samples": 5})
    project.stage("prepare")
    after = project.read("metrics/data.json")
    assert [after["splits"][name]["pairs"] for name in ("validation", "heldout")] == [5, 5]
    assert after["available"] == {name: before[name]["pairs"] for name in ("train", "validation", "heldout")}
    assert after["splits"]["train"] == before["train"]


def test_prompts_of_the_external_set_are_taken_out_of_training(project: Project) -> None:
    rows = make_pairs(60)
    write_rows(
        project.folder / "data/raw/mt_bench_human.jsonl",
        [mt_bench_row(0) | {"prompt": row["prompt"].upper()} for row in rows],
    )
    project.run("stages/prepare.py")
    result = project.run("stages/prepare.py")
    assert result.returncode == 1
    assert "no pairs for train, validation: 60 rows gave 60 pairs" in result.stderr
    write_rows(project.folder / "data/raw/mt_bench_human.jsonl", [mt_bench_row(0) | {"prompt": rows[0]["prompt"]}])
    project.stage("prepare")
    for name in ("train", "validation"):
        assert rows[0]["prompt"] not in (project.folder / f"data/pairs/{name}.jsonl").read_text()


def test_own_data_in_every_format_and_name(project: Project) -> None:
    """A gzipped transcript file, a CSV with other column names, a Parquet file: the same splits."""
    rows = make_pairs(60)
    project.stage("prepare")
    expected = (project.folder / "data/pairs/train.jsonl").read_bytes()
    own = project.folder / "data/own"

    def split_is_the_same(changes: dict[str, str]) -> bool:
        project.set_params(changes)
        project.stage("prepare")
        return (project.folder / "data/pairs/train.jsonl").read_bytes() == expected

    transcripts = [
        {side: f"\n\nHuman: {row['prompt']}\n\nAssistant: {row[side]}" for side in ("chosen", "rejected")}
        for row in rows
    ]
    (own / "t").mkdir()
    with gzip.open(own / "t/pairs.jsonl.gz", "wt") as file:
        file.write("\n".join(json.dumps(row) for row in transcripts))
    assert split_is_the_same({"data.path": "data/own/t/pairs.jsonl.gz"})
    pd.DataFrame(rows).to_parquet(own / "t/pairs.parquet")
    assert split_is_the_same({"data.path": "data/own/t/pairs.parquet"})
    renamed = pd.DataFrame(rows).rename(columns={"prompt": "question", "chosen": "better", "rejected": "worse"})
    renamed.to_csv(own / "t/pairs.csv", index=False)
    columns = {"data.prompt_column": "question", "data.chosen_column": "better", "data.rejected_column": "worse"}
    assert split_is_the_same({"data.path": "data/own/t/pairs.csv", **columns})


def test_a_missing_column_is_one_line_with_the_cure(project: Project) -> None:
    project.set_params({"data.prompt_column": "question"})
    result = project.run("stages/prepare.py")
    assert result.returncode == 1
    assert result.stderr == (
        "error: no column 'question' in the data; it has 'chosen', 'prompt', 'rejected': "
        "set data.prompt_column to one of them\n"
    )
    assert not (project.folder / "data/pairs").exists()


def test_before_anything_was_fetched_the_error_says_what_to_run(project: Project) -> None:
    shutil.rmtree(project.folder / "data/raw")
    result = project.run("stages/prepare.py")
    assert (result.returncode, result.stderr) == (1, "error: data/raw is missing: run `dvc repro fetch_pairs`\n")


def test_the_same_input_gives_the_same_bytes(project: Project) -> None:
    def everything() -> dict[str, bytes]:
        project.stage("prepare")
        paths = [*Path(project.folder, "data/pairs").iterdir(), project.folder / "metrics/data.json"]
        return {path.name: path.read_bytes() for path in paths}

    assert everything() == everything()


@pytest.mark.parametrize(
    ("claude", "gpt4", "outcome"),
    [
        ([1], [1], ("x", "y")),
        ([2], [2], ("y", "x")),
        ([1], [2], "annotators_disagree"),
        ([1, 2], [1], "contradiction"),
        ([0], [1], "tie"),
        ([1], [0, 1], "tie"),
    ],
)
def test_a_sample_row_is_a_pair_only_where_both_annotators_agree(
    claude: list[int], gpt4: list[int], outcome: tuple[str, str] | str
) -> None:
    row = {"prompt": "Q", "response_1": "x", "response_2": "y", "claude": claude, "gpt4": gpt4}
    if isinstance(outcome, str):
        with pytest.raises(InvalidRow, match=outcome):
            prepare.pair_from_alpaca_eval(row)
    else:
        pair = prepare.pair_from_alpaca_eval(row)
        assert (pair.chosen, pair.rejected) == outcome


def test_votes_are_trained_on_and_agreed_labels_evaluated_on(project: Project) -> None:
    prompts = [f"Question number {number}, please?" for number in range(60)]
    agreed = [
        {"prompt": prompt, "response_1": "yes", "response_2": "no", "claude": [2], "gpt4": [2], "judges": {}}
        for prompt in prompts
    ]
    preferences = [0.25, 0.9, 0.5]
    voted = [
        {"prompt": prompt, "response_1": one, "response_2": other, "preference": preference, "annotators": 4}
        for prompt in prompts
        for (one, other), preference in zip(
            [("yes", "no"), ("yes", "maybe"), ("no", "maybe")], preferences, strict=True
        )
    ]
    write_rows(project.folder / "data/raw/sample.jsonl", agreed)
    write_rows(project.folder / "data/raw/votes.jsonl", [*voted, voted[0] | {"response_2": ""}])
    project.set_params({"data.source": "sample", "data.sample_labels": "agreed"})
    project.stage("prepare")
    before = {name: read_pairs(project, name) for name in ("train", "validation", "heldout")}
    project.set_params({"data.sample_labels": "votes"})
    project.stage("prepare")
    assert read_pairs(project, "validation") == before["validation"]
    assert read_pairs(project, "heldout") == before["heldout"]
    train = read_pairs(project, "train")
    assert {pair["prompt"][0]["content"] for pair in train} == {
        pair["prompt"][0]["content"] for pair in before["train"]
    }
    assert {(pair["chosen"], pair["rejected"], pair["preference"]) for pair in train} == {
        ("no", "yes", 0.75),
        ("yes", "maybe", 0.9),
    }
    assert project.read("metrics/data.json")["votes"] == {"rows": 181, "kept": 120, "skipped": {"empty": 1, "tie": 60}}
    project.set_params({"data.keep_ties": True})
    project.stage("prepare")
    assert ("no", "maybe", 0.5) in {
        (pair["chosen"], pair["rejected"], pair["preference"]) for pair in read_pairs(project, "train")
    }


def read_pairs(project: Project, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (project.folder / f"data/pairs/{name}.jsonl").read_text().splitlines()]


def test_a_split_of_mostly_one_prompt_is_a_warning(project: Project) -> None:
    responses = [f"response {number}" for number in range(64)]
    ranking = {"prompt": "Q", "responses": responses, "ranks": list(range(1, 65))}
    write_rows(project.folder / "data/own/pairs.jsonl", [*make_pairs(60), ranking])
    told = project.stage("prepare").stdout
    splits = project.read("metrics/data.json")["splits"]
    [name] = [name for name, split in splits.items() if split["largest_prompt"] > 0.2]
    assert f"% of the {name} pairs are of one prompt: " in told
