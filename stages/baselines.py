"""Score all evaluation pairs by rules that know nothing of the trained model: data/pairs, data/tokens → data/baselines.

    python stages/baselines.py

A logistic regression on TF-IDF and length, fitted here; the probe of the untrained base at its best depth; and traits
of each response's form. The rewards of other models: evaluate.reference_models.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reward_model.common.accuracy import pair_accuracy
from reward_model.common.errors import run
from reward_model.common.files import new_folder, write_json
from reward_model.common.tables import read_parquet, write_parquet
from reward_model.data.evaluation_sets import EvaluationSet, evaluation_sets, read_set_pairs
from reward_model.data.features import PairFeatures
from reward_model.data.pairs import TIE, Pair
from reward_model.data.response_style import find_traits
from reward_model.evaluation.baselines import TextBaseline
from reward_model.evaluation.margins import read_labels
from reward_model.evaluation.probe import ProbeWeights
from reward_model.evaluation.reference_columns import REFERENCES_FILE, reference_columns, reference_temperature
from reward_model.params import Params, load_params
from reward_model.scoring.model_folder import find_model

FEATURES = Path("data/evaluation_features")
VALIDATION = EvaluationSet("validation", Path("data/pairs/validation.jsonl"), Path("data/tokens/validation.parquet"))

Columns = dict[str, Sequence[float]]


def main() -> None:
    params = load_params()
    train_rows = [row for row in read_parquet(Path("data/tokens/train.parquet")) if row.get("preference") != TIE]
    text = TextBaseline(read_set_pairs(Path("data/pairs/train.jsonl"), train_rows))
    probe = ProbeWeights.load(Path("data/probe/weights.safetensors"))
    references, reference_rewards = score_references(params)
    with new_folder(Path("data/baselines")) as folder:
        write_json(folder / REFERENCES_FILE, references)
        for each in evaluation_sets():
            pairs = read_set_pairs(each.pairs, read_parquet(each.tokens))
            chosen, rejected = PairFeatures.load(FEATURES / f"{each.name}.safetensors").at(probe.best)
            frozen = (chosen - rejected) @ probe.by_depth[probe.best]
            margins = {"tfidf": text.margins(pairs), "frozen_features": frozen}
            columns = {**margins, **reference_rewards[each.name]}
            write_parquet(
                folder / f"{each.name}.parquet",
                [
                    {"id": pair.id, **{name: float(of_set[number]) for name, of_set in columns.items()}, **traits(pair)}
                    for number, pair in enumerate(pairs)
                ],
            )
            accuracies = ", ".join(f"{name} {pair_accuracy(of_set).mean():.1%}" for name, of_set in margins.items())
            print(f"{each.name}: {accuracies}")


def score_references(params: Params) -> tuple[list[dict[str, Any]], dict[str, Columns]]:
    """The reference models' rewards of all evaluation sets, each model loaded once and alone.

    Returns:
        Name of each model and its temperature, fitted on the validation pairs; and by set, its `reference_columns`.

    Raises:
        UserError: a model cannot be had, or is no reward model.
    """
    references: list[dict[str, Any]] = []
    columns: dict[str, Columns] = {each.name: {} for each in evaluation_sets()}
    # All are fetched first, so that one that cannot be had ends the stage at once.
    folders = {name: find_model(name) for name in params.evaluate.reference_models}
    for number, (name, folder) in enumerate(folders.items()):
        temperature, rewards = score_reference(name, folder, params)
        references.append({"name": name, "temperature": temperature})
        for set_name, of_set in rewards.items():
            columns[set_name] |= dict(zip(reference_columns(number), of_set, strict=True))
    return references, columns


def score_reference(name: str, folder: Path, params: Params) -> tuple[float, dict[str, NDArray[np.float64]]]:
    """A model's temperature, and by evaluation set its rewards of chosen and of rejected, shape (2, pairs)."""
    from reward_model.scoring.reference_models import ReferenceModel  # torch: not without a model

    model = ReferenceModel(name, folder, params.train.device, params.evaluate.batch_size)
    rewards = {}
    for each in (VALIDATION, *evaluation_sets()):
        rows = read_parquet(each.tokens)
        rewards[each.name] = model.score(read_set_pairs(each.pairs, rows), rows, each.name)
    labels = read_labels(pd.DataFrame(read_parquet(VALIDATION.tokens)))
    return reference_temperature(rewards.pop(VALIDATION.name), labels), rewards


def traits(pair: Pair) -> dict[str, bool]:
    """The traits of both responses, by side."""
    return {
        f"{side}_{trait}": has
        for side in ("chosen", "rejected")
        for trait, has in find_traits(getattr(pair, side)).items()
    }


if __name__ == "__main__":
    run(main)
