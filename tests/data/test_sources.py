"""Several sources: shares of the training pairs, counts, and no pair twice."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import check_paths
import prepare
from conftest import Project, make_pairs, write_rows
from reward_model.common.errors import UserError
from reward_model.common.files import read_jsonl
from reward_model.data.pairs import Pair, ParsedPairs
from reward_model.data.sources import Mixture, limit_per_prompt


def pairs(name: str, prompts: int, per_prompt: int = 1) -> list[Pair]:
    return [
        Pair(({"role": "user", "content": f"{name} {n}"},), f"good {k}", f"bad {k}", name)
        for n in range(prompts)
        for k in range(per_prompt)
    ]


def mix(weights: list[float] | None, **sizes: int) -> Mixture:
    parsed = [ParsedPairs(size, pairs(name, size)) for name, size in sizes.items()]
    return Mixture.join(list(sizes), weights, parsed)


@pytest.mark.parametrize(
    ("weights", "most", "expected"),
    [
        ([1, 1], 1000, {"a": 30, "b": 30}),
        ([1, 3], 1000, {"a": 10, "b": 30}),
        ([20, 10], 1000, {"a": 60, "b": 30}),
        ([2, 1], 30, {"a": 20, "b": 10}),
        ([0.5, 0.5], 21, {"a": 10, "b": 10}),
        (None, 1000, {"a": 100, "b": 30}),
    ],
)
def test_weights_are_shares_of_the_training_pairs(
    weights: list[float] | None, most: int, expected: dict[str, int]
) -> None:
    mixture = mix(weights, a=100, b=30)
    chosen = mixture.choose(mixture.parsed.pairs, most, seed=1)
    assert Counter(pair.source for pair in chosen) == expected
    assert chosen == mixture.choose(mixture.parsed.pairs, most, seed=1)
    assert chosen != mixture.choose(mixture.parsed.pairs, most, seed=2)


def test_a_source_without_pairs_can_have_no_share() -> None:
    mixture = mix([1, 1], a=10, b=0)
    with pytest.raises(UserError, match="b gives no pair to train on"):
        mixture.choose(mixture.parsed.pairs, 10, seed=0)


def test_a_pair_of_two_sources_counts_once_and_one_judged_both_ways_not_at_all() -> None:
    mine = pairs("a", 3)
    turned = [Pair(mine[1].prompt, mine[1].rejected, mine[1].chosen, "b")]
    mixture = Mixture.join(["a", "b"], None, [ParsedPairs(3, mine), ParsedPairs(2, [mine[0], *turned])])
    assert mixture.parsed.counts() == {"rows": 5, "kept": 2, "skipped": {"contradiction": 2, "duplicate": 1}}
    counts = mixture.counts({"train": mixture.parsed.pairs[:1]})
    assert counts == {"a": {"rows": 3, "kept": 2, "train": 1}, "b": {"rows": 2, "kept": 0, "train": 0}}


def test_a_prompt_has_a_limit_of_pairs() -> None:
    chosen = limit_per_prompt(pairs("a", 5, per_prompt=4), 3, seed=0)
    assert set(Counter(pair.prompt_id for pair in chosen).values()) == {3}
    assert len(limit_per_prompt(pairs("a", 5, per_prompt=4), 9, seed=0)) == 20


def test_each_source_has_columns_of_its_own_and_is_counted(project: Project) -> None:
    rows = make_pairs(60)
    own = project.folder / "data/own"
    renamed = [
        {"question": row["prompt"], "better": row["chosen"], "worse": row["rejected"]} for row in rows[40:] + rows[:1]
    ]
    write_rows(own / "a.jsonl", rows[:40])
    write_rows(own / "b.jsonl", [*renamed, {"question": "Q"}])
    columns = {"prompt_column": "question", "chosen_column": "better", "rejected_column": "worse"}
    sources: list[dict[str, Any]] = [
        {"path": "data/own/a.jsonl", "weight": 2},
        {"path": "data/own/[b]*.jsonl", "weight": 1, **columns},
    ]
    project.set_params({"data.path": "data/own", "data.sources": sources})
    printed = project.stage("prepare").stdout
    counts = project.read("metrics/data.json")
    assert (counts["rows"], counts["formats"]) == (62, {"standard": 61, "unknown": 1})
    assert counts["skipped"] == {"duplicate": 1, "missing_column": 1}
    a, b = (counts["sources"][source["path"]] for source in sources)
    assert [(own["rows"], own["kept"]) for own in (a, b)] == [(40, 40), (22, 20)]
    assert a["train"] == pytest.approx(2 * b["train"], abs=1)
    assert counts["files"] == {"data/own/a.jsonl": 40, "data/own/b.jsonl": 22}
    assert ["data/own/a.jsonl", "40", "40", str(a["train"])] in map(str.split, printed.splitlines())
    assert "between sources: first duplicate: {" in printed
    train = read_jsonl(project.folder / "data/pairs/train.jsonl")
    assert Counter(row["source"] for row in train) == {"a": a["train"], "own": b["train"]}


def test_sources_lie_where_dvc_looks_for_changes(project: Project, tmp_path: Path) -> None:
    for path in (str(tmp_path / "a.jsonl"), "data/own/../raw"):
        project.set_params({"data.path": "data/own", "data.sources": [{"path": path}]})
        result = project.run("stages/prepare.py")
        assert result.returncode == 1
        assert "is not below data.path (data/own), where DVC looks for changes" in result.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("~/a.jsonl", "DVC does not know ~, so write {home}/a.jsonl"),
        ("{home}/a/*.jsonl", "set data.path: {home}/a and data.sources: [{{path: '{home}/a/*.jsonl'}}]"),
        ("https://example.org/a.jsonl", "is an address, not a path"),
        ("absent.jsonl", "data.path: absent.jsonl not found"),
    ],
)
def test_paths_that_dvc_cannot_watch_are_told_what_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError) as error:
        check_paths.check_path("data.path", text.format(home=tmp_path))
    assert message.format(home=tmp_path) in str(error.value)
    check_paths.check_path("data.path", str(tmp_path))


def test_files_beyond_a_few_are_counted_together() -> None:
    counts = prepare.largest_files([{f"{n}.jsonl": n for n in range(30)}, {"big.jsonl": 1000}])
    assert len(counts) == prepare.MAX_FILES + 1
    assert counts["big.jsonl"] == 1000
    assert sum(counts.values()) == 1000 + sum(range(30))
