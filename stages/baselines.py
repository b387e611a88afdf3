"""Score all evaluation pairs by rules that know nothing of the trained model: data/pairs, data/tokens → data/baselines.

    python stages/baselines.py

A logistic regression on TF-IDF and length, and one on the features of the untrained base, both fitted on the training
pairs; and traits of each response's form. A stage of its own, since none of it depends on how the model is trained.
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import reward_model.environment  # noqa: F401
from reward_model.baselines import FeatureBaseline, TextBaseline
from reward_model.batching import groups_of, of_both_sides
from reward_model.device_check import choose_compute
from reward_model.encoding import Encoder
from reward_model.errors import run
from reward_model.evaluation_sets import evaluation_sets, pairs_of_set
from reward_model.files import new_folder
from reward_model.metrics import wins
from reward_model.model import build_reward_model, features_of_groups, prepare_for_scoring
from reward_model.pairs import Pair
from reward_model.params import load_params
from reward_model.style import traits_of
from reward_model.tables import read_parquet, write_parquet

if TYPE_CHECKING:
    from reward_model.baselines import FloatArray

TOKENS = Path("data/tokens")


def main() -> None:
    params = load_params()
    encoder = Encoder.load(TOKENS / "tokenizer")
    train_rows = read_parquet(TOKENS / "train.parquet")
    model = build_reward_model(Path("models/base"), encoder, seed=0)
    pad_token_id = encoder.contract.pad_token_id
    compute = choose_compute(model, groups_of(train_rows), pad_token_id, params.train.device, params.train.precision)
    prepare_for_scoring(model, compute.device, compute.dtype)

    def features(rows: list[dict[str, Any]], name: str) -> tuple["FloatArray", "FloatArray"]:
        """The features (pairs, size) of chosen and of rejected."""
        compute = partial(features_of_groups, model, pad_token_id=pad_token_id, batch_size=params.evaluate.batch_size)
        chosen, rejected = of_both_sides(rows, compute, f"features of {name}")
        return np.array(chosen, dtype=float), np.array(rejected, dtype=float)

    train_pairs = pairs_of_set(Path("data/pairs/train.jsonl"), train_rows)
    text = TextBaseline(train_pairs)
    frozen = FeatureBaseline(*features(train_rows, "train"), [row["prompt_id"] for row in train_rows])
    with new_folder(Path("data/baselines")) as folder:
        for each in evaluation_sets():
            rows = read_parquet(each.tokens)
            pairs = pairs_of_set(each.pairs, rows)
            margins = {"tfidf": text.margins(pairs), "frozen_features": frozen.margins(*features(rows, each.name))}
            write_parquet(
                folder / f"{each.name}.parquet",
                [
                    {"id": pair.id, **{name: float(of_set[number]) for name, of_set in margins.items()}, **traits(pair)}
                    for number, pair in enumerate(pairs)
                ],
            )
            accuracies = ", ".join(f"{name} {wins(of_set).mean():.1%}" for name, of_set in margins.items())
            print(f"{each.name}: {accuracies}")


def traits(pair: Pair) -> dict[str, bool]:
    """The traits of both responses, by side."""
    return {
        f"{side}_{trait}": has
        for side in ("chosen", "rejected")
        for trait, has in traits_of(getattr(pair, side)).items()
    }


if __name__ == "__main__":
    run(main)
