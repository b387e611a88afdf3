"""How good this project's models are beside those of stock TRL: whole trainings on the same pairs, several seeds.

    python tests/performance/quality_beside_trl.py [--seeds 42 1 2]

Both train on data/tokens/train.parquet in the same order, with the base, learning rate, schedule and effective batch of
params.yaml; all else of TRL's RewardTrainer is at its defaults. Both are scored on the same held-out pairs by the same
code. Each training is a process of its own. The last line is JSON: by set and side the figures of each seed, their
means, and `difference`, the mean accuracy here minus TRL's. Writes no tracked file.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel

sys.path.insert(0, "stages")

import reward_model.common.environment  # noqa: F401

# The environment comes before torch.
# isort: split
import numpy as np
from train_throughput import TOKENIZER, TRAIN

from reward_model.common.accuracy import pair_accuracy
from reward_model.common.tables import read_parquet
from reward_model.contract.encoder import Encoder
from reward_model.data.evaluation_sets import evaluation_sets
from reward_model.evaluation.margins import log_loss
from reward_model.modeling.batching import pairs_to_groups
from reward_model.modeling.forward import PROBE
from reward_model.params import load_params
from reward_model.scoring.inference import prepare_for_scoring, score_groups

TOKENS = Path("data/tokens")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 1, 2])
    parser.add_argument("--side", choices=sorted(TRAIN), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(train_and_evaluate(options.side, options.seeds[0])))
        return
    found: dict[str, list[dict[str, Any]]] = {"ours": [], "trl": []}
    for seed in options.seeds:
        for side, figures in found.items():
            figures.append(in_own_process(side, seed))
            print(f"seed {seed}, {side}: {json.dumps(figures[-1])}", flush=True)
    print(json.dumps({"seeds": options.seeds, **{name: summary(name, found) for name in found["ours"][0]}}))


def in_own_process(side: str, seed: int) -> dict[str, Any]:
    """The figures of one training."""
    command = [sys.executable, __file__, "--side", side, "--seeds", str(seed)]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(result.stdout.splitlines()[-1])


def train_and_evaluate(side: str, seed: int) -> dict[str, Any]:
    """Train on all training pairs, and score the held-out ones."""
    model, _ = TRAIN[side](read_parquet(TOKENS / "train.parquet"), seed)
    return held_out_figures(model)


def held_out_figures(model: "PreTrainedModel") -> dict[str, Any]:
    """Accuracy and log loss on each set of pairs that was not trained on."""
    params = load_params()
    pad_token_id = Encoder.load(TOKENIZER).contract.pad_token_id
    prepare_for_scoring(model, PROBE, pad_token_id, params.train.device, params.train.precision)
    figures = {}
    for each in evaluation_sets():
        rows = read_parquet(each.tokens)
        rewards = dict(score_groups(model, pairs_to_groups(rows), pad_token_id, params.evaluate.batch_size))
        margins = np.array([rewards[number][0] - rewards[number][1] for number in range(len(rows))])
        figures[each.name] = {
            "n": len(rows),
            "accuracy": float(pair_accuracy(margins).mean()),
            "loss": log_loss(margins),
        }
    return figures


def summary(name: str, found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """A set's accuracies and losses on both sides, and the difference of the mean accuracies."""
    accuracies = {side: [figures[name]["accuracy"] for figures in runs] for side, runs in found.items()}
    losses = {side: mean(figures[name]["loss"] for figures in runs) for side, runs in found.items()}
    return {
        "accuracies": accuracies,
        "mean_accuracy": {side: mean(values) for side, values in accuracies.items()},
        "std": {side: stdev(values) for side, values in accuracies.items() if len(values) > 1},
        "mean_loss": losses,
        "difference": mean(accuracies["ours"]) - mean(accuracies["trl"]),
    }


if __name__ == "__main__":
    main()
