"""Compute the base's hidden states of the training and validation pairs: data/tokens, models/base → data/features.

    python stages/features.py

One pass over the base, each response once: at the depth that `train.layers` keeps, and at lower candidates.
"""

from pathlib import Path

import reward_model.common.environment  # noqa: F401
from reward_model.common.errors import run
from reward_model.common.files import new_folder
from reward_model.common.tables import read_parquet
from reward_model.params import load_params
from reward_model.scoring.base_features import BaseFeatures

TOKENS = Path("data/tokens")


def main() -> None:
    base = BaseFeatures(load_params(), Path("models/base"), TOKENS)
    with new_folder(Path("data/features")) as folder:
        for name in ("train", "validation"):
            base.compute(read_parquet(TOKENS / f"{name}.parquet"), name).save(folder / f"{name}.safetensors")


if __name__ == "__main__":
    run(main)
