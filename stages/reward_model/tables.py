"""Parquet tables that one stage writes and another reads."""

from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from reward_model.encoding import TokenIds
from reward_model.files import missing_input, new_file
from reward_model.pairs import Pair


def token_row(pair: Pair, chosen_ids: TokenIds, rejected_ids: TokenIds) -> dict[str, Any]:
    """A row of data/tokens. `margin` is 0 where the pair has none; the character counts are for evaluation."""
    return {
        "id": pair.id,
        "source": pair.source,
        "prompt_id": pair.prompt_id,
        "chosen_ids": chosen_ids,
        "rejected_ids": rejected_ids,
        "margin": pair.margin or 0.0,
        "chosen_characters": len(pair.chosen),
        "rejected_characters": len(pair.rejected),
    }


def read_parquet(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a Parquet file that an earlier stage made, lists as lists.

    Raises:
        UserError: the file is absent.
    """
    try:
        return pyarrow.parquet.read_table(path).to_pylist()
    except FileNotFoundError:
        raise missing_input(path) from None


def write_parquet(target: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows that all have the same keys."""
    with new_file(target) as path:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
