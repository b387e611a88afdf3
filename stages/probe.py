"""Fit a linear probe on the features of each depth: data/features, data/tokens → data/probe, metrics/probe.json.

    python stages/probe.py

metrics/probe.json has each depth's figures, by cross-validation over prompts of the training pairs and on the
validation pairs, and which depth is best: the one with the lowest cross-validated log loss. Degenerate responses are
not fitted: a linear probe that must know them knows less of preferences.
"""

from pathlib import Path
from typing import Any

import numpy as np

from reward_model.common.accuracy import pair_accuracy
from reward_model.common.errors import run
from reward_model.common.files import new_folder, write_json
from reward_model.common.tables import read_parquet
from reward_model.data.features import PairFeatures
from reward_model.evaluation.probe import ProbeWeights, best_depth, fit_probe
from reward_model.evaluation.regression import PairRegression

FEATURES = Path("data/features")


def main() -> None:
    rows = read_parquet(Path("data/tokens/train.parquet"))
    train, validation = (PairFeatures.load(FEATURES / f"{name}.safetensors") for name in ("train", "validation"))
    weight = np.array([2 * (row.get("preference") or 1.0) - 1 for row in rows])  # a label less sure counts less
    sided = weight > 0
    prompt_ids = [row["prompt_id"] for row, has_side in zip(rows, sided, strict=True) if has_side]
    probes = {}
    for depth in train.depths:
        chosen, rejected = train.at(depth)
        probes[int(depth)] = fit_probe(chosen[sided], rejected[sided], prompt_ids, weight[sided])
    best = best_depth(probes)
    figures = {depth: compute_figures(probe, validation, depth) for depth, probe in probes.items()}
    with new_folder(Path("data/probe")) as folder:
        weights = {depth: probe.weights for depth, probe in probes.items()}
        ProbeWeights(best, weights).save(folder / "weights.safetensors")
    write_json(Path("metrics/probe.json"), {"best": best, "depths": figures})
    for depth, own in figures.items():
        print(summary(depth, own, best))


def compute_figures(probe: PairRegression, validation: PairFeatures, depth: int) -> dict[str, Any]:
    """A depth's figures for metrics/probe.json; losses in nats."""
    chosen, rejected = validation.at(depth)
    margins = (chosen - rejected) @ probe.weights
    return {
        "strength": probe.strength,
        "cross_validated": {"loss": probe.loss, "accuracy": probe.accuracy},
        "validation": {
            "loss": float(np.logaddexp(0, -margins).mean()),
            "accuracy": float(pair_accuracy(margins).mean()),
        },
    }


def summary(depth: int, figures: dict[str, Any], best: int) -> str:
    """A depth's figures for people."""
    own = figures["cross_validated"]
    shown = "too few prompts" if own["loss"] is None else f"accuracy {own['accuracy']:.1%}, log loss {own['loss']:.3f}"
    return f"{depth} layers: {shown}{' (best)' if depth == best else ''}"


if __name__ == "__main__":
    run(main)
