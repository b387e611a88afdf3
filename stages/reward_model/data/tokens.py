"""Pairs as token ids: the rows of data/tokens and data/external_sets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reward_model.common.tables import read_parquet
from reward_model.contract.encoder import EncodedResponses, Encoder, TokenIds
from reward_model.data.degenerate import DEGENERATE
from reward_model.data.pairs import Pair

TokenRow = dict[str, Any]
SAME_TOKENS = "same_tokens"  # what pairs with equal sides are counted as


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
    """How many prompts and responses lost tokens to max_length, and how many tokens; and responses to the template."""
    return {
        "prompts_cut": sum(item.prompt_tokens_cut > 0 for item in encoded),
        "prompt_tokens_cut": sum(item.prompt_tokens_cut for item in encoded),
        "responses_cut": sum(cut > 0 for item in encoded for cut in item.response_tokens_cut),
        "response_tokens_cut": sum(sum(item.response_tokens_cut) for item in encoded),
        "responses_reduced_by_template": sum(sum(item.reduced_by_template) for item in encoded),
    }


def has_equal_sides(row: TokenRow) -> bool:
    """Whether both sides of a row are the same tokens: what they differ in was cut, or dropped by the template."""
    return row["chosen_ids"] == row["rejected_ids"]


def read_training_rows(tokens: Path, degenerate_weight: float = 1.0) -> list[TokenRow]:
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
