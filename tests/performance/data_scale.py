"""How prepare and tokenize grow with the data: time, and memory of all processes.

    python tests/performance/data_scale.py --rows 100000 [--stages prepare] [--cores 1] [--base models/base]

Makes a file of pairs of about 1 kB, four to a prompt, some of them duplicates, contradictions or without text, and runs
both stages on it in a temporary folder, with no limit to the training pairs. The last line is JSON: `rows`, `seconds`,
`peak_rss_mb` and `microseconds_per_row`, of both stages together and of each; the peak is that of the stage's process
and all below it, added up. Writes no tracked file.
"""

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import yaml

ROOT = Path(__file__).parents[2]
STAGES = ("prepare", "tokenize_pairs")
PAIRS_OF_PROMPT = 4
WORDS_OF_PROMPT, WORDS_OF_RESPONSE = 30, 65  # about 1 kB a pair
SECONDS = 0.05  # between two looks at the memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--stages", nargs="+", default=STAGES, choices=STAGES, help="to run; both by default")
    parser.add_argument("--cores", type=int, help="of this machine, for the stages (Linux)")
    parser.add_argument("--base", type=Path, default=Path("models/base"), help="a folder with a tokenizer")
    options = parser.parse_args()
    if options.cores:
        psutil.Process().cpu_affinity(list(range(options.cores)))
    with tempfile.TemporaryDirectory(dir=".") as text:
        folder = Path(text)
        make_project(folder, options.rows, options.base.resolve())
        stages = {name: measure(name, folder, options.rows) for name in options.stages}
    seconds = sum(stage["seconds"] for stage in stages.values())
    peak = max(stage["peak_rss_mb"] for stage in stages.values())
    print(json.dumps({"rows": options.rows, **figures(seconds, peak, options.rows), **stages}))


def make_project(folder: Path, rows: int, base: Path) -> None:
    """Write the pairs, and what else the two stages read."""
    for name in ("data/own", "data/raw", "models"):
        (folder / name).mkdir(parents=True)
    (folder / "models/base").symlink_to(base, target_is_directory=True)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["data"] |= {"source": "path", "path": "data/own/pairs.jsonl", "max_samples": rows}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    with (folder / "data/own/pairs.jsonl").open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in make_rows(rows))
    mt_bench = {"prompt": "Which of the two?", "chosen": "The first.", "rejected": "The second."}
    (folder / "data/raw/mt_bench_human.jsonl").write_text(json.dumps(mt_bench) + "\n")


def make_rows(count: int) -> Iterator[dict[str, str]]:
    """Rows of words out of this project's own texts, the same for the same count."""
    chance = random.Random(count)
    words = re.findall(r"[a-z]+", "".join(path.read_text() for path in sorted(ROOT.glob("*/README.md"))))
    row, prompt = {}, ""
    for number in range(count):
        if number % PAIRS_OF_PROMPT == 0:
            prompt = " ".join(chance.choices(words, k=WORDS_OF_PROMPT)) + "?"
        kind = chance.random()
        if kind < 0.02 and row:
            row = dict(row)  # a duplicate
        elif kind < 0.03 and row:
            row = row | {"chosen": row["rejected"], "rejected": row["chosen"]}  # a contradiction
        else:
            chosen, rejected = (" ".join(chance.choices(words, k=WORDS_OF_RESPONSE)) for _ in range(2))
            row = {"prompt": prompt, "chosen": f"{chosen}.", "rejected": "" if kind < 0.04 else f"{rejected}."}
        yield row


def measure(stage: str, folder: Path, rows: int) -> dict[str, float]:
    """Run a stage: its time, and the most memory that it and its children had together."""
    start, peak = time.perf_counter(), 0
    process = psutil.Popen([sys.executable, str(ROOT / f"stages/{stage}.py")], cwd=folder)
    while process.poll() is None:
        peak = max(peak, memory(process))
        time.sleep(SECONDS)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, stage)
    return figures(time.perf_counter() - start, peak / 2**20, rows)


def memory(process: psutil.Process) -> int:
    """Resident bytes of a process and all below it."""
    found = 0
    try:
        for each in (process, *process.children(recursive=True)):
            found += each.memory_info().rss
    except psutil.NoSuchProcess:  # it ended meanwhile
        pass
    return found


def figures(seconds: float, peak_rss_mb: float, rows: int) -> dict[str, Any]:
    return {
        "seconds": round(seconds, 2),
        "peak_rss_mb": round(peak_rss_mb),
        "microseconds_per_row": round(seconds / rows * 1e6, 1),
    }


if __name__ == "__main__":
    main()
