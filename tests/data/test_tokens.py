"""What becomes of pairs between text and token ids."""

from pathlib import Path
from typing import Any

import pytest
from pyarrow.parquet import ParquetFile

import tokenize_pairs
from conftest import build_tiny_tokenizer, write_rows
from external_sets import encode_set
from reward_model.common import tables
from reward_model.common.errors import UserError
from reward_model.common.tables import read_parquet
from reward_model.contract.base_tokenizer import contract_encoder
from reward_model.contract.encoder import Encoder
from reward_model.data.pairs import Pair
from tokenize_pairs import describe_left_out, encode_split

# As DeepSeek-R1's it shows no thoughts, as Gemma's it takes no system turn; tool turns are passed over.
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% if m.role != 'tool' %}{{ '<|im_start|>' + m.content.split('</think>')[-1] + '<|im_end|>' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>' }}{% endif %}"
)


@pytest.fixture
def encoder(tmp_path: Path) -> Encoder:
    build_tiny_tokenizer(TEMPLATE).save_pretrained(tmp_path / "base")
    return contract_encoder(tmp_path / "base", 64, tmp_path / "tokenizer")


def pair(chosen: str, rejected: str, *roles: str) -> dict[str, Any]:
    prompt = [{"role": role, "content": f"{role} speaks"} for role in (*roles, "user")]
    return Pair(tuple(prompt), chosen, rejected, "own").to_record()


def test_pairs_that_cannot_be_told_apart_or_rendered_are_left_out_and_counted(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/pairs").mkdir(parents=True)
    long = "word " * 60
    write_rows(
        tmp_path / "data/pairs/train.jsonl",
        [
            pair("good", "bad"),
            pair("<think>right</think>4", "<think>wrong</think>4"),
            pair("<think>right</think>4", "5"),
            pair(f"{long} yes {long}", f"{long} no {long}"),  # they differ in the middle, which is cut
            pair("good", "bad", "system"),
            pair("better", "bad", "system"),
            pair("good", "bad", "user", "assistant", "tool"),
        ],
    )
    counts, refusals = encode_split(encoder.folder, "train", tmp_path / "train.parquet")
    rows = read_parquet(tmp_path / "train.parquet")
    assert len(rows) == counts["pairs"] == 2
    assert all(row["chosen_ids"] != row["rejected_ids"] for row in rows)
    assert [counts[name] for name in ("same_tokens", "refused_by_template", "dropped_turn")] == [2, 2, 1]
    assert counts["responses_reduced_by_template"] == 3
    assert describe_left_out(counts, refusals) == (
        "2 same_tokens, 2 refused_by_template, 1 dropped_turn (the chat template refuses the conversation: "
        "System role not supported; the chat template leaves out the tool turn of the conversation)"
    )
    write_rows(tmp_path / "data/pairs/heldout.jsonl", [pair("good", "bad", "system")])
    with pytest.raises(
        UserError, match=r"no heldout pair can be used: 1 refused_by_template .*System role not supported"
    ):
        encode_split(encoder.folder, "heldout", tmp_path / "heldout.parquet")
    write_rows(tmp_path / "data/pairs/degenerate.jsonl", [pair("good", "bad", "system")])
    encode_split(encoder.folder, "degenerate", tmp_path / "degenerate.parquet")
    assert read_parquet(tmp_path / "degenerate.parquet") == []  # training goes without them


def test_tokens_do_not_depend_on_the_number_of_processes(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several batches and row groups, a refusal, and a preference in the last row alone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tables, "GROUP_ROWS", 30)
    for name, value in (("BATCH_PAIRS", 10), ("MIN_PAIRS", 20)):
        monkeypatch.setattr(tokenize_pairs, name, value)
    (tmp_path / "data/pairs").mkdir(parents=True)
    rows = [pair(f"good {number}", "bad", *(["system"] * (number % 7 == 0))) for number in range(99)]
    write_rows(tmp_path / "data/pairs/train.jsonl", [*rows, pair("fair", "poor") | {"preference": 0.75}])
    found = [encode_split(encoder.folder, "train", tmp_path / f"{cores}.parquet", cores) for cores in (1, 2)]
    assert found[0] == found[1]
    assert (tmp_path / "1.parquet").read_bytes() == (tmp_path / "2.parquet").read_bytes()
    written = read_parquet(tmp_path / "2.parquet")
    assert len(written) == 85 == found[0][0]["pairs"]
    assert [row["preference"] for row in written] == [None] * 84 + [0.75]
    assert ParquetFile(tmp_path / "2.parquet").num_row_groups == 3


def test_an_external_row_with_equal_sides_goes_as_a_whole_and_is_shown(
    encoder: Encoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"prompt": "one", "responses": ["<think>x</think>4", "<think>y</think>4", "5"], "best": 0},
        {"prompt": "two", "responses": ["4", "5", "6"], "best": 0},
    ]
    write_rows(tmp_path / "best.jsonl", rows)
    counts = encode_set("best", tmp_path / "best.jsonl", encoder, set(), tmp_path)
    assert counts["skipped"] == {"same_tokens": 1}
    assert capsys.readouterr().out.startswith("best: first same_tokens: {'chosen': ")
    assert counts["kept"] == 2
