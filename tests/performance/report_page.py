"""How large the report of many evaluated pairs is, and how long a browser takes to open it.

    python tests/performance/report_page.py [--pairs 100000] [--rounds 3]

Takes the held-out pairs of the last `dvc repro`, as often as it takes to have so many, with other ids and slightly
other rewards, has stages/report.py make the page of them in a temporary folder, and opens it in a headless Chromium.
The last line is JSON: `pairs`, `make_s`, `open_s` (from the navigation to the end of its load event, the median),
`page_mb` and `without_texts_mb`. Writes no tracked file.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "stages")]
READ = ("data/evaluation", "data/external_sets", "data/pairs", "data/explanations.jsonl", "metrics", "params.yaml")
LOADED = "performance.getEntriesByType('navigation')[0].loadEventEnd / 1000"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        copy_project(folder)
        multiply_pairs(folder, options.pairs)
        start = time.perf_counter()
        subprocess.run([sys.executable, str(ROOT / "stages/report.py")], cwd=folder, check=True, capture_output=True)
        figures = {"pairs": options.pairs, "make_s": time.perf_counter() - start}
        page = folder / "data/report.html"
        figures["open_s"] = statistics.median(seconds_to_open(page, folder) for _ in range(options.rounds))
        sizes = {"page_mb": page, "without_texts_mb": folder / "metrics/report.html"}
        print(json.dumps(figures | {name: path.stat().st_size / 1e6 for name, path in sizes.items()}))


def copy_project(folder: Path) -> None:
    """What the report is made of."""
    (folder / "data").mkdir()
    for name in READ:
        source, target = ROOT / name, folder / name
        shutil.copytree(source, target) if source.is_dir() else shutil.copyfile(source, target)


def multiply_pairs(folder: Path, count: int) -> None:
    """Make the held-out pairs so many, in their texts and in their rewards."""
    from reward_model.common.files import read_jsonl, write_jsonl
    from reward_model.common.tables import read_parquet, write_parquet

    texts, scored = folder / "data/pairs/heldout.jsonl", folder / "data/evaluation/heldout.parquet"
    by_id = {row["id"]: row for row in read_jsonl(texts)}
    rewards = pd.DataFrame(read_parquet(scored))
    repeated: Any = rewards.iloc[np.arange(count) % len(rewards)]
    ids = [f"{number:016x}" for number in np.random.default_rng(0).permutation(count)]
    noise = np.random.default_rng(1).normal(0, 0.3, count)
    for path in (texts, scored):
        path.unlink()  # DVC's copies are read-only
    write_jsonl(texts, (by_id[original] | {"id": own} for original, own in zip(repeated["id"], ids, strict=True)))
    renamed = repeated.assign(id=ids, chosen_reward=repeated["chosen_reward"] + noise)
    write_parquet(scored, renamed.to_dict("records"))


def seconds_to_open(page: Path, folder: Path) -> float:
    """Of a browser that has just started."""
    from browser import Browser

    with tempfile.TemporaryDirectory(dir=folder) as profile, Browser(Path(profile)) as browser:
        browser.open(page.as_uri())
        while (seconds := browser.evaluate(LOADED)) == 0:
            time.sleep(0.01)
    return seconds


if __name__ == "__main__":
    main()
