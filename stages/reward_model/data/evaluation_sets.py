"""The sets of pairs that a model is evaluated on: the project's own splits, and external ones if there are any."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reward_model.common.files import read_jsonl
from reward_model.data.pairs import Pair

OWN = {"heldout": "test", "mt_bench_human": "mt_bench_human"}  # name → file in data/pairs and data/tokens


@dataclass(frozen=True)
class EvaluationSet:
    """Where a set's pairs are as text, and where as token ids."""

    name: str
    pairs: Path
    tokens: Path


def evaluation_sets() -> list[EvaluationSet]:
    """All sets, the external ones last, by name."""
    own = [
        EvaluationSet(name, Path(f"data/pairs/{file}.jsonl"), Path(f"data/tokens/{file}.parquet"))
        for name, file in OWN.items()
    ]
    external = sorted(Path("data/benchmarks").glob("*.parquet"))
    return own + [EvaluationSet(path.stem, path.with_suffix(".jsonl"), path) for path in external]


def read_set_pairs(path: Path, rows: Sequence[dict[str, Any]]) -> list[Pair]:
    """The texts of tokenized rows, in their order (the template may have refused some pairs of the file).

    Raises:
        UserError: the file is absent.
    """
    by_id = {record["id"]: record for record in read_jsonl(path)}
    return [Pair.from_record(by_id[row["id"]]) for row in rows]
