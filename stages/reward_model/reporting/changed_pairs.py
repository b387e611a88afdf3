"""Pairs that one run ranks as labelled and another does not, with their texts."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from reward_model.common.accuracy import pair_accuracy
from reward_model.common.files import read_jsonl
from reward_model.data.pairs import Pair
from reward_model.evaluation.margins import compute_margins
from reward_model.reporting.pair_texts import OtherRun, PairView, view_pair

MAX_CHANGED = 50  # of each set and run, those whose margin changed most


@dataclass(frozen=True)
class ChangedPairs:
    """The verdicts that changed: how many, and what the page shows of each set."""

    count: int
    views: list[list[PairView]]


def changed_rows(first: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """The pairs whose verdict changed, those whose margin changed most first.

    Args:
        first: the scored pairs of a set.
        other: the same pairs, in their order, as another run has scored them.

    Returns:
        The rows of `first` with both margins, `gap` and `other_gap`, and the other rewards.
    """
    both = first.assign(
        gap=compute_margins(first),
        other_gap=compute_margins(other),
        other_chosen=other["chosen_reward"].to_numpy(),
        other_rejected=other["rejected_reward"].to_numpy(),
    )
    both["change"] = (both["gap"] - both["other_gap"]).abs()
    changed: Any = both[pair_accuracy(both["gap"].to_numpy()) != pair_accuracy(both["other_gap"].to_numpy())]
    return changed.sort_values(["change", "id"], ascending=[False, True])


def view_changed_pairs(name: str, changed: Mapping[str, pd.DataFrame], texts: Path) -> list[PairView]:
    """What the page shows of the pairs of a set: those whose texts are there, at most `MAX_CHANGED` of each run.

    Args:
        name: of the set.
        changed: `changed_rows`, by the name of the other run.
        texts: the file of the set's pairs, which need not be there.
    """
    records = {record["id"]: record for record in read_jsonl(texts)} if texts.exists() else {}
    views = []
    for run, rows in changed.items():
        known: Any = rows[rows["id"].isin(list(records))]
        for row in known.head(MAX_CHANGED).to_dict("records"):
            view = view_pair(name, row, Pair.from_record(records[row["id"]]))
            rewards = (row["other_chosen"], row["other_rejected"])
            views.append(replace(view, other=OtherRun(run, row["other_gap"], rewards)))
    return views
