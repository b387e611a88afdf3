"""Turn pairs into token ids under the scoring contract: data/pairs → data/tokens, metrics/tokens.json.

    python stages/tokenize_pairs.py

data/tokens/tokenizer is the tokenizer with its contract, which goes on with the model.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import reward_model.common.environment  # noqa: F401
from reward_model.cli.terminal import make_console, make_table
from reward_model.common.errors import UserError, run
from reward_model.common.files import new_folder, read_jsonl, write_json
from reward_model.common.tables import write_parquet
from reward_model.contract.base_model import require_positions
from reward_model.contract.base_tokenizer import contract_encoder
from reward_model.contract.chat_template import TemplateRefuses, TurnDropped
from reward_model.contract.encoder import EncodedResponses, Encoder
from reward_model.data.degenerate import DEGENERATE
from reward_model.data.pairs import Pair, describe_skipped
from reward_model.data.splits import SPLITS
from reward_model.data.tokens import SAME_TOKENS, TokenRow, count_cuts, encode_pairs, has_equal_sides
from reward_model.params import load_params

BASE = Path("models/base")
REASONS = (SAME_TOKENS, TemplateRefuses.reason, TurnDropped.reason)  # why a pair is left out
REFUSALS_TOLD = 5  # texts of refusals, at most, the most common ones


def main() -> None:
    max_length = load_params().tokenize.max_length
    require_positions(BASE, max_length)
    counts: dict[str, Any] = {}
    refusals: dict[str, list[str]] = {}
    with new_folder(Path("data/tokens")) as folder:
        encoder = contract_encoder(BASE, max_length, folder / "tokenizer")
        for name in (*SPLITS, DEGENERATE):
            rows, counts[name], refusals[name] = encode_split(encoder, name)
            write_parquet(folder / f"{name}.parquet", rows)
    print_summary(counts, refusals)
    if reduced := sum(counts[name]["responses_reduced_by_template"] for name in SPLITS):
        print(f"the base's chat template drops a part of {reduced} responses: the model does not see it")
    write_json(Path("metrics/tokens.json"), counts | {"max_length": max_length})


def encode_split(encoder: Encoder, name: str) -> tuple[list[TokenRow], dict[str, Any], list[str]]:
    """Encode the pairs of a split.

    Returns:
        The rows; counts: pairs, their mean tokens, what was cut, how many pairs are left out for each reason; and what
        the chat template says of those it refuses, the most frequent first.

    Raises:
        UserError: all labelled pairs are left out.
    """
    rows: list[TokenRow] = []
    encoded: list[EncodedResponses] = []
    left_out: Counter[str] = Counter()
    refusals: Counter[str] = Counter()
    for record in read_jsonl(Path("data/pairs") / f"{name}.jsonl"):
        try:
            [row], of_pair = encode_pairs(encoder, [Pair.from_record(record)])
        except TemplateRefuses as refusal:
            left_out[refusal.reason] += 1
            refusals[str(refusal)] += 1
            continue
        encoded.append(of_pair)
        if has_equal_sides(row):
            left_out[SAME_TOKENS] += 1
        else:
            rows.append(row)
    told = [text for text, _ in refusals.most_common(REFUSALS_TOLD)]
    if left_out and not rows and name != DEGENERATE:
        raise UserError(f"no {name} pair can be used: {describe_left_out(left_out, told)}; see data/README.md")
    tokens = mean(len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in rows) if rows else 0.0
    counts = {"pairs": len(rows), "tokens_per_pair": tokens, **{reason: left_out[reason] for reason in REASONS}}
    return rows, counts | count_cuts(encoded), told


def print_summary(counts: Mapping[str, Mapping[str, Any]], refusals: Mapping[str, Sequence[str]]) -> None:
    """The counts of each set for people, and what the template says of those that it refuses."""
    numbers = ("pairs", "tokens each", "prompts cut", "responses cut", "left out")
    table = make_table("set", *numbers, numbers=numbers)
    for name, own in counts.items():
        figures = [own[key] for key in ("pairs", "tokens_per_pair", "prompts_cut", "responses_cut")]
        table.add_row(name, *(f"{figure:,.0f}" for figure in (*figures, sum(own[reason] for reason in REASONS))))
    console = make_console()
    console.print(table)
    for name, own in counts.items():
        if any(own[reason] for reason in REASONS):
            console.print(f"left out of {name}: {describe_left_out(own, refusals[name])}")


def describe_left_out(counts: Mapping[str, int], refusals: Sequence[str]) -> str:
    """How many pairs are left out for each reason, and what the template says of them."""
    told = describe_skipped({reason: counts[reason] for reason in REASONS if counts[reason]})
    return f"{told} ({'; '.join(refusals)})" if refusals else told


if __name__ == "__main__":
    run(main)
