"""What each choice in params.yaml is worth: a queue of DVC experiments, and the table of what they found.

    python tests/performance/ablation.py queue [--seeds 1 2 3] [--vary "KEY=VALUE [KEY=VALUE ...]" ...]
    dvc queue start
    python tests/performance/ablation.py table

Each experiment trains params.yaml with one variation (--vary, or those of VARIATIONS) and one seed for split and
training alike, and measures on all validation pairs of that split; `baseline` varies nothing. The held-out pairs are
not looked at. The table has, by variation, the mean over the seeds of accuracy and log loss (of the rewards as they are
saved, at the fitted temperature), the mean difference of the log loss from the baseline of the same seed with the
standard deviation of those differences. Its last line is JSON.
"""

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from statistics import mean, stdev
from typing import Any, NamedTuple

import dvc.api

BASELINE = "baseline"
PARAMS = ("base", "data", "tokenize", "train")
SEEDS = ("data.seed", "train.seed")
VARIATIONS = (
    "train.layers=0.5",
    "train.layers=null",
    "train.head_init=zero",
    "train.learning_rate=2e-5",
    "train.learning_rate=8e-5",
    "train.num_train_epochs=2",
    "train.freeze_layers=0.35",
    "train.freeze_layers=0.5",
    "train.gradient_accumulation_steps=8",
    "train.keep=best",
    "train.comparison_weight=prompt",
    "train.degenerate_weight=0",
    "data.degenerate_per_prompt=1",
    "data.max_samples=1500",
    "data.sample_labels=votes",
    "data.sample_labels=votes data.max_samples=8000",
    "tokenize.max_length=256",
)


class Figures(NamedTuple):
    """Of the saved rewards on all validation pairs of a split."""

    loss: float
    accuracy: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    queue = commands.add_parser("queue", help="queue the experiments; nothing runs yet")
    queue.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    queue.add_argument("--vary", nargs="+", default=VARIATIONS, metavar="KEY=VALUE ...")
    commands.add_parser("table", help="the table of those that are done")
    options = parser.parse_args()
    if options.command == "queue":
        for seed in options.seeds:
            for variation in (BASELINE, *options.vary):
                queue_experiment(variation, seed)
    else:
        print_table(read_results(dvc.api.exp_show()))


def queue_experiment(variation: str, seed: int) -> None:
    """Queue one training; evaluation is not asked for, since it looks at the held-out pairs."""
    changes = [] if variation == BASELINE else variation.split()
    changes += [f"data.seed={seed}", f"train.seed={seed}"]
    options = [option for change in changes for option in ("--set-param", change)]
    subprocess.run([sys.executable, "-m", "dvc", "exp", "run", "--queue", *options, "train"], check=True)


def read_results(experiments: list[dict[str, Any]]) -> dict[str, dict[int, Figures]]:
    """By variation and seed what the experiments found; a variation is named by its params that the workspace has not.

    experiments: what dvc.api.exp_show gives, the workspace first. Those that failed or have not run are left out.
    """
    workspace, *others = experiments
    keys = [key for key in workspace if key.split(".")[0] in PARAMS and key not in SEEDS]
    found: dict[str, dict[int, Figures]] = defaultdict(dict)
    for row in others:
        if row["typ"] != "baseline" and isinstance(row.get("validation.loss"), float):
            changes = [f"{key}={row[key]}" for key in keys if row[key] != workspace[key]]
            figures = Figures(row["validation.loss"], row["validation.accuracy"])
            found[" ".join(changes) or BASELINE][int(row["train.seed"])] = figures
    return found


def print_table(found: dict[str, dict[int, Figures]]) -> None:
    """One line a variation, the lowest log loss first; the differences are those of the seeds that both have."""
    baseline = found.get(BASELINE, {})
    rows = [summary(name, by_seed, baseline) for name, by_seed in found.items()]
    rows.sort(key=lambda row: row["loss"])
    print(f"{'variation':<50} seeds  log loss  accuracy  difference of the log loss (deviation)")
    for row in rows:
        change = "" if row["difference"] is None else f"{row['difference']:+.3f}"
        spread = "" if row["deviation"] is None else f" ({row['deviation']:.3f})"
        figures = f"{row['seeds']:>5}  {row['loss']:>8.3f}  {row['accuracy']:>8.1%}"
        print(f"{row['variation']:<50} {figures}  {change}{spread}")
    print(json.dumps(rows))


def summary(name: str, by_seed: dict[int, Figures], baseline: dict[int, Figures]) -> dict[str, Any]:
    """Means over the seeds; mean and standard deviation of the differences from the same seed's baseline."""
    others = [] if name == BASELINE else by_seed.keys() & baseline.keys()
    paired = [by_seed[seed].loss - baseline[seed].loss for seed in others]
    return {
        "variation": name,
        "seeds": len(by_seed),
        "loss": mean(figures.loss for figures in by_seed.values()),
        "accuracy": mean(figures.accuracy for figures in by_seed.values()),
        "difference": mean(paired) if paired else None,
        "deviation": stdev(paired) if len(paired) > 1 else None,
    }


if __name__ == "__main__":
    main()
