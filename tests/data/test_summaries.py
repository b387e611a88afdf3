"""What prepare.py and tokenize_pairs.py print of what they made."""

from typing import Any

import pytest

import prepare
import tokenize_pairs

SPLITS = {name: {"pairs": 2927, "prompts": 794, "longer_wins": 0.715} for name in ("heldout", "train", "validation")}
COUNTS: dict[str, Any] = {
    "rows": 6056,
    "kept": 3623,
    "skipped": {"tie": 805, "missing_column": 1},
    "files": {"data/own/[red]a.jsonl": 6000, f"data/own/{'b' * 99}.jsonl": 56},
    "sources": {f"data/own/{'c' * 99}.jsonl": {"rows": 6056, "kept": 3623, "train": 2927}},
    "splits": SPLITS,
    "degenerate": {"empty": 1000, "repeated": 584},
}
TOKENS = {"pairs": 2927, "tokens_per_pair": 298.4, "prompts_cut": 9, "responses_cut": 0}
REASONS = dict.fromkeys(tokenize_pairs.REASONS, 0)


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_the_pairs_as_tables_of_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    prepare.print_summary(COUNTS)
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines()]
    assert max(map(len, out.splitlines())) <= 80 and "\x1b" not in out
    assert out.startswith("6,056 rows, 3,623 pairs kept\n")
    assert ["tie", "805"] in rows and ["data/own/[red]a.jsonl", "6,000"] in rows
    assert ["train", "2,927", "794", "71.5%"] in rows and ["degenerate", "1,584"] in rows
    assert any(row[-3:] == ["6,056", "3,623", "2,927"] for row in rows)


def test_one_file_is_not_listed(capsys: pytest.CaptureFixture[str]) -> None:
    prepare.print_summary({**COUNTS, "skipped": {}, "files": {"a.jsonl": 6056}})
    out = capsys.readouterr().out
    assert "a.jsonl" not in out and "skipped" not in out


def test_the_tokens_as_a_table_with_what_was_left_out_below(capsys: pytest.CaptureFixture[str]) -> None:
    counts = {"heldout": {**TOKENS, **REASONS}, "train": {**TOKENS, **REASONS, "refused_by_template": 1234}}
    tokenize_pairs.print_summary(counts, {"heldout": [], "train": ["System role not supported"]})
    head, heldout, train, *below = capsys.readouterr().out.splitlines()
    assert head.split() == ["set", "pairs", "tokens", "a", "pair", "prompts", "cut", "responses", "cut", "left", "out"]
    assert heldout.split() == ["heldout", "2,927", "298", "9", "0", "0"]
    assert train.split() == ["train", "2,927", "298", "9", "0", "1,234"]
    assert below == ["left out of train: 1234 refused_by_template (System role not supported)"]
