"""The sets of pairs that a model is evaluated on: the held-out split, and external ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reward_model.common.files import read_jsonl
from reward_model.data.pairs import Pair

HELDOUT = "heldout"  # the split, and its name in metrics/eval.json


@dataclass(frozen=True)
class EvaluationSet:
    """Where a set's pairs are as text, and where as token ids."""

    name: str
    pairs: Path
    tokens: Path


def evaluation_sets() -> list[EvaluationSet]:
    """The held-out split, then the external sets by name."""
    heldout = EvaluationSet(HELDOUT, Path(f"data/pairs/{HELDOUT}.jsonl"), Path(f"data/tokens/{HELDOUT}.parquet"))
    external = sorted(Path("data/external_sets").glob("*.parquet"))
    return [heldout, *(EvaluationSet(path.stem, path.with_suffix(".jsonl"), path) for path in external)]


def read_set_pairs(path: Path, rows: Sequence[dict[str, Any]]) -> list[Pair]:
    """The texts of tokenized rows, in their order (the template may have refused some pairs of the file).

    Raises:
        UserError: the file is absent.
    """
    by_id = {record["id"]: record for record in read_jsonl(path)}
    return [Pair.from_record(by_id[row["id"]]) for row in rows]
