"""What more training prompts bring, and what more comparisons of the same prompts: on frozen features, in a minute.

    python tests/performance/prompt_curve.py [--draws 5]

After the features stage. The frozen-features rule is fitted on the comparisons of some of the training prompts and
judged on a fifth of them that it has not seen, each fifth in turn: once on a share of the other prompts, once on such a
share of every other prompt's comparisons, one at least. The last line is JSON: for both, the mean number of pairs, the
mean accuracy and log loss, and `per_doubling`, by how much the log loss falls from one number of prompts to twice as
many. No evaluation set is looked at. Writes no file.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, "stages")

import numpy as np
from sklearn.model_selection import GroupKFold

from reward_model.common.accuracy import pair_accuracy
from reward_model.common.tables import read_parquet
from reward_model.data.features import PairFeatures
from reward_model.evaluation.margins import log_loss
from reward_model.evaluation.probe import ProbeWeights, fit_probe

FOLDS = 5
SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=5)
    options = parser.parse_args()
    prompts = np.array([row["prompt_id"] for row in read_parquet(Path("data/tokens/train.parquet"))])
    depth = ProbeWeights.load(Path("data/probe/weights.safetensors")).best
    sides = PairFeatures.load(Path("data/features/train.safetensors")).at(depth)
    found: dict[str, list[dict[str, float]]] = {}
    for share in SHARES:
        draws = options.draws if share < 1 else 1
        for draw in range(draws):
            for number, (known, unseen) in enumerate(GroupKFold(FOLDS).split(prompts, groups=prompts)):
                chance = np.random.default_rng([draw, number])
                names = np.unique(prompts[known])
                some = chance.permutation(names)[: round(share * len(names))]
                few = known[np.isin(prompts[known], some)]
                add(found, f"prompts {share:g}", sides, prompts, few, unseen)
                if share < 1:
                    thinned = np.concatenate([thin(known[prompts[known] == name], share, chance) for name in names])
                    add(found, f"comparisons {share:g}", sides, prompts, thinned, unseen)
    means = {name: {key: float(np.mean([row[key] for row in rows])) for key in rows[0]} for name, rows in found.items()}
    losses = [own["loss"] for name, own in means.items() if name.startswith("prompts")]
    for name, own in means.items():
        print(f"{name:>18}: {own['pairs']:6.0f} pairs, accuracy {own['accuracy']:.1%}, log loss {own['loss']:.3f}")
    print(json.dumps({"depth": depth, **means, "per_doubling": (-np.diff(losses)).round(4).tolist()}))


def thin(numbers: Any, share: float, chance: np.random.Generator) -> Any:
    """A share of a prompt's comparisons, at least one."""
    return chance.permutation(numbers)[: max(1, round(share * len(numbers)))]


def add(found: dict[str, list[dict[str, float]]], name: str, sides: Any, prompts: Any, known: Any, unseen: Any) -> None:
    """Fit on some comparisons, and take down what the fit says of others."""
    chosen, rejected = sides
    probe = fit_probe(chosen[known], rejected[known], prompts[known].tolist())
    margins = (chosen[unseen] - rejected[unseen]) @ probe.weights
    figures = {"pairs": len(known), "accuracy": pair_accuracy(margins).mean(), "loss": log_loss(margins)}
    found.setdefault(name, []).append(figures)


if __name__ == "__main__":
    main()
