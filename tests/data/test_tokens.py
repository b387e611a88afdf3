"""What becomes of pairs between text and token ids."""

from pathlib import Path
from typing import Any

import pytest

from conftest import build_tiny_tokenizer, write_rows
from external_sets import encode_set
from reward_model.common.errors import UserError
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
    rows, counts, refusals = encode_split(encoder, "train")
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
        encode_split(encoder, "heldout")
    write_rows(tmp_path / "data/pairs/degenerate.jsonl", [pair("good", "bad", "system")])
    assert encode_split(encoder, "degenerate")[0] == []  # training goes without them


def test_an_external_row_with_equal_sides_goes_as_a_whole(encoder: Encoder, tmp_path: Path) -> None:
    rows = [
        {"prompt": "one", "responses": ["<think>x</think>4", "<think>y</think>4", "5"], "best": 0},
        {"prompt": "two", "responses": ["4", "5", "6"], "best": 0},
    ]
    write_rows(tmp_path / "best.jsonl", rows)
    counts = encode_set("best", tmp_path / "best.jsonl", encoder, set(), tmp_path)
    assert counts["skipped"] == {"same_tokens": 1}
    assert counts["kept"] == 2
