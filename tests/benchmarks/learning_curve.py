"""Held-out accuracy against the number of training pairs, and how long training on them took.

    python tests/benchmarks/learning_curve.py [--sizes 125 250 500 1000 2000 all] [--svg metrics/learning_curve.svg]

Each size trains once, in a process of its own, with params.yaml's train section, on the pairs that `data.max_samples`
would choose. TF-IDF and length, fitted on the same pairs, stand beside it. The last line is JSON; --svg draws it.
Writes no tracked file otherwise.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, "stages")

import reward_model.environment  # noqa: F401

# The environment comes before torch.
# isort: split
import numpy as np
import vl_convert
import yaml
from quality_beside_trl import held_out_figures
from train_throughput import train_ours

from reward_model.baselines import TextBaseline
from reward_model.evaluation_sets import OWN, pairs_of_set
from reward_model.files import write_text
from reward_model.metrics import wins
from reward_model.tables import read_parquet

EVERYTHING = 10**9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["125", "250", "500", "1000", "2000", "all"])
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.data:
        print(json.dumps(train_on(int(options.sizes[0]), options.data, options.seed)))
        return
    points = []
    with tempfile.TemporaryDirectory() as folder:
        data = all_pairs(Path(folder))
        count = len(read_parquet(data / "tokens/train.parquet"))
        for size in sorted({count if size == "all" else min(int(size), count) for size in options.sizes}):
            points.append(in_own_process(size, data, options.seed))
            print(json.dumps(points[-1]), flush=True)
    if options.svg:
        write_text(options.svg, vl_convert.vegalite_to_svg(picture(points)))
    print(json.dumps({"seed": options.seed, "points": points}))


def all_pairs(folder: Path) -> Path:
    """Prepare and tokenize the pairs of params.yaml, all of them, in `folder`; returns its data folder."""
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["data"]["max_samples"] = EVERYTHING
    write_text(folder / "params.yaml", yaml.safe_dump(params))
    shutil.copytree("data/raw", folder / "data/raw")
    (folder / "models").mkdir()
    (folder / "models/base").symlink_to(Path("models/base").resolve())
    for script in ("prepare.py", "tokenize_pairs.py"):
        subprocess.run([sys.executable, Path("stages", script).resolve()], cwd=folder, check=True, stdout=sys.stderr)
    return folder / "data"


def in_own_process(size: int, data: Path, seed: int) -> dict[str, Any]:
    """A point of the curve."""
    command = [sys.executable, __file__, "--data", str(data), "--sizes", str(size), "--seed", str(seed)]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(result.stdout.splitlines()[-1])


def train_on(size: int, data: Path, seed: int) -> dict[str, Any]:
    """Train on the first pairs, and score the held-out ones."""
    rows = read_parquet(data / "tokens/train.parquet")[:size]
    start = time.perf_counter()
    model, _ = train_ours(rows, seed)
    seconds = time.perf_counter() - start
    text = TextBaseline(pairs_of_set(data / "pairs/train.jsonl", rows))
    figures = held_out_figures(model, data / "tokens")
    for name, file in OWN.items():
        pairs = pairs_of_set(data / f"pairs/{file}.jsonl", read_parquet(data / f"tokens/{file}.parquet"))
        figures[name]["tfidf"] = float(wins(text.margins(pairs)).mean())
        longer = np.array([len(pair.chosen) - len(pair.rejected) for pair in pairs], dtype=float)
        figures[name]["longer_wins"] = float(wins(longer).mean())
    return {"pairs": size, "minutes": seconds / 60, **figures}


def picture(points: list[dict[str, Any]]) -> dict[str, Any]:
    """The curve in Vega-Lite."""
    rules = {"accuracy": "reward model", "tfidf": "TF-IDF and length", "longer_wins": "the longer wins"}
    values = [
        {
            "pairs": point["pairs"],
            "accuracy": point["heldout"][key],
            "rule": rule,
            "minutes": round(point["minutes"], 1),
        }
        for point in points
        for key, rule in rules.items()
    ]
    x = {"field": "pairs", "type": "quantitative", "scale": {"type": "log"}, "title": "training pairs"}
    y = {"field": "accuracy", "type": "quantitative", "scale": {"zero": False}, "axis": {"format": "%"}}
    minutes = {
        "transform": [
            {"filter": "datum.rule == 'reward model'"},
            {"calculate": "datum.minutes + ' min'", "as": "told"},
        ],
        "mark": {"type": "text", "dy": -10},
        "encoding": {"x": x, "y": y, "text": {"field": "told"}},
    }
    lines = {
        "mark": {"type": "line", "point": True},
        "encoding": {"x": x, "y": y, "color": {"field": "rule", "title": None, "sort": list(rules.values())}},
    }
    return {"data": {"values": values}, "width": 480, "height": 280, "layer": [lines, minutes]}


if __name__ == "__main__":
    main()
