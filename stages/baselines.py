"""Score all evaluation pairs by rules that know nothing of the trained model: data/pairs, data/tokens → data/baselines.

    python stages/baselines.py

A logistic regression on TF-IDF and length, and one on the features of the untrained base, both fitted on the training
pairs; and traits of each response's form. A stage of its own, since none of it depends on how the model is trained.
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import reward_model.common.environment  # noqa: F401
from reward_model.common.accuracy import pair_accuracy
from reward_model.common.errors import run
from reward_model.common.files import new_folder
from reward_model.common.tables import read_parquet, write_parquet
from reward_model.contract.encoder import Encoder
from reward_model.data.evaluation_sets import evaluation_sets, read_set_pairs
from reward_model.data.pairs import TIE, Pair
from reward_model.evaluation.baselines import FeatureBaseline, TextBaseline
from reward_model.evaluation.response_style import find_traits
from reward_model.modeling.batching import pairs_to_groups
from reward_model.modeling.model import build_reward_model
from reward_model.params import load_params
from reward_model.scoring.inference import compute_both_sides, compute_features, prepare_for_scoring

if TYPE_CHECKING:
    from reward_model.evaluation.baselines import FloatArray

TOKENS = Path("data/tokens")


def main() -> None:
    params = load_params()
    encoder = Encoder.load(TOKENS / "tokenizer")
    train_rows = [row for row in read_parquet(TOKENS / "train.parquet") if row.get("preference") != TIE]
    model = build_reward_model(Path("models/base"), encoder, seed=0)
    pad_token_id = encoder.contract.pad_token_id
    train = params.train
    prepare_for_scoring(model, pairs_to_groups(train_rows), pad_token_id, train.device, train.precision)

    def features(rows: list[dict[str, Any]], name: str) -> tuple["FloatArray", "FloatArray"]:
        """The features (pairs, size) of chosen and of rejected."""
        compute = partial(compute_features, model, pad_token_id=pad_token_id, batch_size=params.evaluate.batch_size)
        chosen, rejected = compute_both_sides(rows, compute, f"features of {name}")
        return np.array(chosen, dtype=float), np.array(rejected, dtype=float)

    train_pairs = read_set_pairs(Path("data/pairs/train.jsonl"), train_rows)
    text = TextBaseline(train_pairs)
    frozen = FeatureBaseline(*features(train_rows, "train"), [row["prompt_id"] for row in train_rows])
    with new_folder(Path("data/baselines")) as folder:
        for each in evaluation_sets():
            rows = read_parquet(each.tokens)
            pairs = read_set_pairs(each.pairs, rows)
            margins = {"tfidf": text.margins(pairs), "frozen_features": frozen.margins(*features(rows, each.name))}
            write_parquet(
                folder / f"{each.name}.parquet",
                [
                    {"id": pair.id, **{name: float(of_set[number]) for name, of_set in margins.items()}, **traits(pair)}
                    for number, pair in enumerate(pairs)
                ],
            )
            accuracies = ", ".join(f"{name} {pair_accuracy(of_set).mean():.1%}" for name, of_set in margins.items())
            print(f"{each.name}: {accuracies}")


def traits(pair: Pair) -> dict[str, bool]:
    """The traits of both responses, by side."""
    return {
        f"{side}_{trait}": has
        for side in ("chosen", "rejected")
        for trait, has in find_traits(getattr(pair, side)).items()
    }


if __name__ == "__main__":
    run(main)
