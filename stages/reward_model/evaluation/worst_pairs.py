"""Which pairs of a set are worth a look: those that the model ranks worst, and some others beside them."""

from pathlib import Path
from typing import Any

import pandas as pd

from reward_model.common.tables import read_parquet
from reward_model.data.evaluation_sets import EvaluationSet, read_set_pairs
from reward_model.data.pairs import Pair
from reward_model.evaluation.margins import compute_margins

EXPLANATIONS = Path("data/explanations.jsonl")  # of the first of them
WORST = 40  # of each set: pairs ranked against the label, those furthest from it first
SAMPLED = 10  # of each set: pairs ranked with the label


def choose_rows(scored: pd.DataFrame) -> pd.DataFrame:
    """Of a set's scored pairs the worst-ranked, then some that are ranked as labelled.

    Ids are hashes, so that the first of them are a random sample, the same each time.
    """
    scored = scored.assign(gap=compute_margins(scored))
    wrong: Any = scored[scored["gap"] < 0]
    right: Any = scored[scored["gap"] >= 0]
    return pd.concat([wrong.sort_values(["gap", "id"]).head(WORST), right.sort_values("id").head(SAMPLED)])


def read_worst_pairs(each: EvaluationSet) -> tuple[list[dict[str, Any]], list[Pair]]:
    """Their rewards with their margin, `gap`, and their texts.

    Raises:
        UserError: the set was not evaluated, or its texts are absent.
    """
    scored = read_parquet(Path(f"data/evaluation/{each.name}.parquet"))
    rows: list[dict[str, Any]] = choose_rows(pd.DataFrame(scored)).to_dict("records")
    return rows, read_set_pairs(each.pairs, rows)
