"""Score all evaluation pairs by rules that know nothing of the trained model: data/pairs, data/tokens → data/baselines.

    python stages/baselines.py

A logistic regression on TF-IDF and length, fitted here; the probe of the untrained base at its best depth; and traits
of each response's form.
"""

from pathlib import Path

import reward_model.common.environment  # noqa: F401
from reward_model.common.accuracy import pair_accuracy
from reward_model.common.errors import run
from reward_model.common.files import new_folder
from reward_model.common.tables import read_parquet, write_parquet
from reward_model.data.evaluation_sets import evaluation_sets, read_set_pairs
from reward_model.data.features import PairFeatures
from reward_model.data.pairs import TIE, Pair
from reward_model.evaluation.baselines import TextBaseline
from reward_model.evaluation.probe import ProbeWeights
from reward_model.evaluation.response_style import find_traits
from reward_model.params import load_params

FEATURES = Path("data/evaluation_features")


def main() -> None:
    load_params()
    train_rows = [row for row in read_parquet(Path("data/tokens/train.parquet")) if row.get("preference") != TIE]
    text = TextBaseline(read_set_pairs(Path("data/pairs/train.jsonl"), train_rows))
    probe = ProbeWeights.load(Path("data/probe/weights.safetensors"))
    with new_folder(Path("data/baselines")) as folder:
        for each in evaluation_sets():
            pairs = read_set_pairs(each.pairs, read_parquet(each.tokens))
            chosen, rejected = PairFeatures.load(FEATURES / f"{each.name}.safetensors").at(probe.best)
            frozen = (chosen - rejected) @ probe.by_depth[probe.best]
            margins = {"tfidf": text.margins(pairs), "frozen_features": frozen}
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
