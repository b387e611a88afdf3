"""Held-out accuracy against the number of training pairs, and how long training on them took.

    python tests/performance/learning_curve.py [--sizes 125 250 500 1000 all] [--points FILE] [--svg FILE]

Each size trains once, in a process of its own, with params.yaml's train section, on the pairs that `data.max_samples`
would choose. TF-IDF and length, fitted on the same pairs, stand beside it. `minutes` is the median time of a step
times their number, so that other work on the machine counts little. The last line is JSON, which --points keeps: sizes
that the file has are not trained again. --svg draws it. Writes no tracked file otherwise.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from operator import itemgetter
from pathlib import Path
from typing import Any

sys.path.insert(0, "stages")

import reward_model.common.environment  # noqa: F401

# The environment comes before torch.
# isort: split
import numpy as np
import vl_convert
import yaml
from quality_beside_trl import held_out_figures
from train_throughput import ends_of_steps, train_ours

from reward_model.common.accuracy import pair_accuracy
from reward_model.common.files import hash_folder, read_json, write_json, write_text
from reward_model.common.tables import read_parquet
from reward_model.data.evaluation_sets import evaluation_sets, read_set_pairs
from reward_model.evaluation.baselines import TextBaseline
from reward_model.evaluation.margins import log_loss
from reward_model.params import load_params

EVERYTHING = 10**9
MODEL = "reward model"
# Wide, since an axis cut close would make much of small differences.
SCALE = {"zero": False, "domain": {"unionWith": [0.5, 0.8]}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["125", "250", "500", "1000", "all"])
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--points", type=Path)
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.data:
        print(json.dumps(train_on(int(options.sizes[0]), options.data, options.seed)))
        return
    with tempfile.TemporaryDirectory() as folder:
        data = all_pairs(Path(folder))
        inputs = {
            "seed": options.seed,
            "train": asdict(load_params().train),
            "tokens": hash_folder(data / "tokens"),
        }
        points = points_kept(options.points, inputs)
        count = len(read_parquet(data / "tokens/train.parquet"))
        wanted = {count if size == "all" else min(int(size), count) for size in options.sizes}
        for size in sorted(wanted - {point["pairs"] for point in points}):
            points.append(in_own_process(size, data, options.seed) | {"baselines": baselines_on(size, data)})
            points.sort(key=itemgetter("pairs"))
            print(json.dumps(points[-1]), flush=True)
            if options.points:
                write_json(options.points, {"inputs": inputs, "points": points})
    if options.svg:
        write_text(options.svg, vl_convert.vegalite_to_svg(picture(points)))
    print(json.dumps({"inputs": inputs, "points": points}))


def points_kept(path: Path | None, inputs: dict[str, Any]) -> list[dict[str, Any]]:
    """What --points has from before, of the same inputs."""
    if path is None or not path.exists():
        return []
    kept = read_json(path)
    if kept["inputs"] != json.loads(json.dumps(inputs)):
        raise SystemExit(f"{path} has the points of other params or data: give another file")
    return kept["points"]


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
    times = ends_of_steps()
    model, _ = train_ours(rows, seed)
    seconds = float(np.median(np.diff(times))) * len(times)
    return {"pairs": size, "minutes": seconds / 60, **held_out_figures(model)}


def baselines_on(size: int, data: Path) -> dict[str, dict[str, float]]:
    """By set, what TF-IDF and length reach that are fitted on the same pairs, and how often the longer wins."""
    rows = read_parquet(data / "tokens/train.parquet")[:size]
    text = TextBaseline(read_set_pairs(data / "pairs/train.jsonl", rows))
    figures = {}
    for each in evaluation_sets():
        pairs = read_set_pairs(each.pairs, read_parquet(each.tokens))
        margins = text.margins(pairs)
        longer = np.array([len(pair.chosen) - len(pair.rejected) for pair in pairs], dtype=float)
        figures[each.name] = {
            "tfidf": float(pair_accuracy(margins).mean()),
            "tfidf_loss": log_loss(margins),
            "longer_wins": float(pair_accuracy(longer).mean()),
        }
    return figures


def picture(points: list[dict[str, Any]]) -> dict[str, Any]:
    """Accuracy and log loss on each set of pairs in Vega-Lite, with the minutes of training."""
    minutes = {str(point["pairs"]): f"{point['minutes']:.1f} min" for point in points}
    return {
        "vconcat": [{"hconcat": panels(name, points, minutes)} for name in points[0] if name in points[0]["baselines"]]
    }


def panels(name: str, points: list[dict[str, Any]], minutes: dict[str, str]) -> list[dict[str, Any]]:
    """The figures of one set by training pairs, a line a rule."""
    values = []
    for point in points:
        model, rules = point[name], point["baselines"][name]
        shown = {
            MODEL: (model["accuracy"], model["loss"]),
            "TF-IDF and length": (rules["tfidf"], rules["tfidf_loss"]),
            "the longer wins": (rules["longer_wins"], None),
        }
        for rule, (accuracy, loss) in shown.items():
            values.append({"pairs": point["pairs"], "rule": rule, "accuracy": accuracy, "log loss": loss})
    labels = f"[datum.label, {json.dumps(minutes)}[datum.value]]"
    x = {
        "field": "pairs",
        "type": "quantitative",
        "scale": {"type": "log", "nice": False, "padding": 20},
        "axis": {"title": "training pairs, time", "values": [int(size) for size in minutes], "labelExpr": labels},
    }
    axes = {"accuracy": {"format": "%"}, "log loss": {}}
    return [
        {
            "title": name,
            "width": 340,
            "height": 200,
            "data": {"values": [value for value in values if value[figure] is not None]},
            "mark": {"type": "line", "point": True},
            "encoding": {
                "x": x,
                "y": {"field": figure, "type": "quantitative", "scale": SCALE, "axis": axis},
                "color": {"field": "rule", "type": "nominal", "title": None, "sort": [MODEL]},
            },
        }
        for figure, axis in axes.items()
    ]


if __name__ == "__main__":
    main()
