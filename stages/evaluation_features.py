"""Compute the base's hidden states of the evaluation sets: data/tokens, data/external_sets → data/evaluation_features.

    python stages/evaluation_features.py

A stage apart from `features`, so that another evaluation set trains nothing anew.
"""

from pathlib import Path

import reward_model.common.environment  # noqa: F401
from reward_model.common.errors import run
from reward_model.common.files import new_folder
from reward_model.common.tables import read_parquet
from reward_model.data.evaluation_sets import evaluation_sets
from reward_model.params import load_params
from reward_model.scoring.base_features import BaseFeatures


def main() -> None:
    base = BaseFeatures(load_params(), Path("models/base"), Path("data/tokens"))
    with new_folder(Path("data/evaluation_features")) as folder:
        for each in evaluation_sets():
            base.compute(read_parquet(each.tokens), each.name).save(folder / f"{each.name}.safetensors")


if __name__ == "__main__":
    run(main)
