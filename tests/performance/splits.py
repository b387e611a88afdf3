"""Train and evaluate on several splits of the data, each with a training seed of its own.

    python tests/performance/splits.py [--seeds 42 1 2 3 4] [--set train.layers=null ...]

Each split runs `dvc repro evaluate` in a copy of the project below .dvc/tmp, with data.seed and train.seed set; an
interrupted command goes on where it stopped. Rows go to metrics/splits.json (--output FILE) as they are found; splits
that it has, of the same params and code, are not run again. `mean` has the means over the splits; its gain_ci95 is
Student's interval of the gain over the splits. The last line is the file's JSON.
"""

import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from kill_recovery import ENVIRONMENT, ROOT, copy_tracked_files
from scipy.special import stdtrit

from reward_model.common.files import hash_folder, read_json, write_json

WORK = ROOT / ".dvc/tmp/splits"
DVC = [sys.executable, "-m", "dvc"]
CLOCK = "seconds.json"  # in a copy: how long features, probe and training took so far


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 1, 2, 3, 4])
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="another value of a param")
    parser.add_argument("--output", type=Path, default=ROOT / "metrics/splits.json")
    options = parser.parse_args()
    params = with_values(yaml.safe_load((ROOT / "params.yaml").read_text()), options.set)
    inputs = {"params": without_seeds(params), "code": hash_folder(ROOT / "stages/reward_model")}
    kept = read_json(options.output) if options.output.exists() else {}
    rows = kept["splits"] if kept.get("inputs") == inputs else []
    for seed in options.seeds:
        if seed not in [row["data_seed"] for row in rows]:
            rows.append(run_split(params, seed))
            write_json(options.output, {"inputs": inputs, "splits": rows, "mean": mean_of(rows)})
            print(json.dumps(rows[-1]), flush=True)
    print(json.dumps({"splits": rows, "mean": mean_of(rows)}))


def with_values(params: dict[str, Any], changes: list[str]) -> dict[str, Any]:
    """The params with values given as section.key=value."""
    for change in changes:
        key, _, value = change.partition("=")
        section, _, name = key.partition(".")
        if name not in params.get(section, {}):
            raise SystemExit(f"error: params.yaml has no {key}")
        params[section][name] = yaml.safe_load(value)
    return params


def without_seeds(params: dict[str, Any]) -> dict[str, Any]:
    """The sections that figures depend on, less what differs between splits."""
    sections = {name: dict(params[name]) for name in ("base", "data", "tokenize", "train", "evaluate")}
    del sections["data"]["seed"], sections["train"]["seed"]
    return sections


def run_split(params: dict[str, Any], seed: int) -> dict[str, Any]:
    """The row of one split."""
    project = WORK / str(seed)
    copy_project(project, params, seed)
    repro(project, "tokenize", "external_sets")
    clock = project / CLOCK
    before, start = read_json(clock) if clock.exists() else 0.0, time.perf_counter()
    try:
        repro(project, "train")
    finally:
        write_json(clock, before + time.perf_counter() - start)
    repro(project, "evaluate")
    row = read_row(read_json(project / "metrics/eval.json"), seed, read_json(clock))
    shutil.rmtree(project)
    return row


def copy_project(folder: Path, params: dict[str, Any], seed: int) -> None:
    """The project in a repository of its own that shares this one's cache, with the split's params."""
    copy_tracked_files(folder)
    own = {**params, "data": params["data"] | {"seed": seed}, "train": params["train"] | {"seed": seed}}
    (folder / "params.yaml").write_text(yaml.safe_dump(own))
    subprocess.run([*DVC, "cache", "dir", "--local", str(ROOT / ".dvc/cache")], cwd=folder, check=True)


def repro(project: Path, *stages: str) -> None:
    """Make some stages' outputs, and what they need."""
    subprocess.run([*DVC, "repro", *stages], cwd=project, env=ENVIRONMENT, check=True, stdout=sys.stderr)


def read_row(figures: dict[str, Any], seed: int, seconds: float) -> dict[str, Any]:
    """What metrics/eval.json says, in a row.

    best_rule is the rule with the lowest log loss, best_rule_accuracy the highest accuracy of any rule.
    """
    heldout, sense = figures["heldout"], figures["common_sense"]
    gain = heldout["loss_gain"]
    return {
        "data_seed": seed,
        "seed": seed,
        "n": heldout["n"],
        "accuracy": heldout["accuracy"],
        "loss": heldout["loss"],
        "best_rule": gain["best"],
        "best_rule_accuracy": max(heldout["baselines"].values()),
        "best_rule_loss": gain["baselines"][gain["best"]],
        "gain": gain["gain"],
        "shorter_preferred": heldout["shorter_preferred"]["accuracy"],
        "length_matched": heldout["length_matched"]["accuracy"],
        "ece": heldout["calibration"]["ece_before"],
        "common_sense": sense["accuracy"],
        **{name.partition("/")[2]: own["accuracy"] for name, own in sense["by_source"].items()},
        "mt_bench_accuracy": figures["mt_bench_human"]["accuracy"],
        "mt_bench_loss": figures["mt_bench_human"]["loss"],
        "seconds": round(seconds),
    }


def mean_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean of each figure, and the interval of the gain."""
    means: dict[str, Any] = {
        key: statistics.mean(row[key] for row in rows)
        for key, value in rows[0].items()
        if isinstance(value, (int, float)) and not key.endswith("seed")
    }
    gains = [row["gain"] for row in rows]
    if len(gains) > 1:
        half = float(stdtrit(len(gains) - 1, 0.975)) * statistics.stdev(gains) / math.sqrt(len(gains))
        means["gain_ci95"] = [means["gain"] - half, means["gain"] + half]
    return means


if __name__ == "__main__":
    main()
