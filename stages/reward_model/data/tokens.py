"""Pairs as token ids: the rows of data/tokens and data/external_sets."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow

from reward_model.common.tables import read_parquet
from reward_model.contract.chat_template import TemplateRefuses
from reward_model.contract.encoder import EncodedResponses, Encoder, TokenIds
from reward_model.data.degenerate import DEGENERATE
from reward_model.data.pairs import Pair

TokenRow = dict[str, Any]
SAME_TOKENS = "same_tokens"  # what pairs with equal sides are counted as
PREFERENCE = pyarrow.field("preference", pyarrow.float64())  # a column only where a pair has one
SCHEMA = pyarrow.schema(
    {
        "id": pyarrow.string(),
        "source": pyarrow.string(),
        "prompt_id": pyarrow.string(),
        "chosen_ids": pyarrow.list_(pyarrow.int64()),
        "rejected_ids": pyarrow.list_(pyarrow.int64()),
        "margin": pyarrow.float64(),
        "chosen_characters": pyarrow.int64(),
        "rejected_characters": pyarrow.int64(),
    }
)


@dataclass(frozen=True)
class TokenBatch:
    """Some pairs as token ids.

    Attributes:
        rows: as `SCHEMA`, of the pairs that can be used.
        counts: tokens, and what was cut, as `count_cuts`.
        left_out: pairs that cannot be used, by reason.
        refusals: what the chat template says of those it refuses.
    """

    rows: pyarrow.Table
    counts: Counter[str]
    left_out: Counter[str]
    refusals: Counter[str]


def encode_lines(tokenizer: Path, schema: pyarrow.Schema, lines: Sequence[str]) -> TokenBatch:
    """Encode pairs as data/pairs has them, with the tokenizer of a folder."""
    rows: list[TokenRow] = []
    encoded: list[EncodedResponses] = []
    left_out, refusals = Counter[str](), Counter[str]()
    for pair in map(Pair.from_record, map(json.loads, lines)):
        try:
            [row], of_pair = encode_pairs(_load_encoder(tokenizer), [pair])
        except TemplateRefuses as refusal:
            left_out[refusal.reason] += 1
            refusals[str(refusal)] += 1
            continue
        encoded.append(of_pair)
        if has_equal_sides(row):
            left_out[SAME_TOKENS] += 1
        else:
            rows.append(row)
    tokens = sum(len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in rows)
    table = pyarrow.Table.from_pylist(rows, schema)
    return TokenBatch(table, Counter({**count_cuts(encoded), "tokens": tokens}), left_out, refusals)


def token_schema(lines: Iterable[str]) -> pyarrow.Schema:
    """The schema for the pairs of these lines."""
    # A quote within a text has a backslash before it.
    return SCHEMA.append(PREFERENCE) if any(f'"{PREFERENCE.name}": ' in line for line in lines) else SCHEMA


def encode_pairs(encoder: Encoder, pairs: Sequence[Pair]) -> tuple[list[TokenRow], EncodedResponses]:
    """Encode pairs of one prompt. If a response is too long, all are cut alike, as when they are scored.

    Returns:
        A row for each pair, and what was cut.

    Raises:
        TemplateRefuses: the prompt has no rendering.
    """
    responses = list(dict.fromkeys(text for pair in pairs for text in (pair.chosen, pair.rejected)))
    encoded = encoder.encode(pairs[0].prompt, responses)
    ids = dict(zip(responses, encoded.ids, strict=True))
    return [_token_row(pair, ids[pair.chosen], ids[pair.rejected]) for pair in pairs], encoded


def count_cuts(encoded: Sequence[EncodedResponses]) -> dict[str, int]:
    """How many prompts and responses lost tokens to max_length, and how many tokens; and responses to the template.

    `prompts_lost` are prompts that lost all.
    """
    return {
        "prompts_cut": sum(item.prompt_tokens_cut > 0 for item in encoded),
        "prompts_lost": sum(item.prompt_is_lost for item in encoded),
        "prompt_tokens_cut": sum(item.prompt_tokens_cut for item in encoded),
        "responses_cut": sum(cut > 0 for item in encoded for cut in item.response_tokens_cut),
        "response_tokens_cut": sum(sum(item.response_tokens_cut) for item in encoded),
        "responses_reduced_by_template": sum(sum(item.reduced_by_template) for item in encoded),
    }


def lost_prompts_warning(counts: Mapping[str, int], max_length: int) -> str | None:
    """What to say where `count_cuts` has found prompts of which nothing is left."""
    if not (lost := counts["prompts_lost"]):
        return None
    return (
        f"{lost} pairs keep nothing of their prompt, since a response alone is longer than {max_length} tokens: raise "
        "tokenize.max_length, or the model learns from answers without questions"
    )


def has_equal_sides(row: TokenRow) -> bool:
    """Whether both sides of a row are the same tokens: what they differ in was cut, or dropped by the template."""
    return row["chosen_ids"] == row["rejected_ids"]


def read_training_rows(tokens: Path, degenerate_weight: float) -> list[TokenRow]:
    """The labelled rows of the training split, then the degenerate ones.

    Args:
        tokens: data/tokens.
        degenerate_weight: `weight` of a row with a degenerate response; that of a labelled one is 1.

    Returns:
        The rows, with `weight` and `degenerate`, whether the rejected response was made to be rejected.

    Raises:
        UserError: a file is absent.
    """
    labelled = [row | {"weight": 1.0, "degenerate": False} for row in read_parquet(tokens / "train.parquet")]
    made = read_parquet(tokens / f"{DEGENERATE}.parquet")
    return labelled + [row | {"weight": degenerate_weight, "degenerate": True} for row in made]


@cache
def _load_encoder(folder: Path) -> Encoder:
    """The encoder of a process."""
    return Encoder.load(folder)


def _token_row(pair: Pair, chosen_ids: TokenIds, rejected_ids: TokenIds) -> TokenRow:
    # `margin` is 0 where the pair has none, `preference` absent; the character counts are for evaluation.
    row = {
        "id": pair.id,
        "source": pair.source,
        "prompt_id": pair.prompt_id,
        "chosen_ids": chosen_ids,
        "rejected_ids": rejected_ids,
        "margin": pair.margin or 0.0,
        "chosen_characters": len(pair.chosen),
        "rejected_characters": len(pair.rejected),
    }
    return row if pair.preference is None else row | {"preference": pair.preference}
