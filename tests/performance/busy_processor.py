"""How fast this project trains beside a busy process and alone, and with threads that always spin, as libgomp's do.

    python tests/performance/busy_processor.py [--pairs 32] [--rounds 3]

On an idle machine and beside one process that keeps a core busy, each training in a process of its own, in turn. The
pairs are whole prompts of data/pairs/train.jsonl. The last line is JSON: pairs/s of every round, and the medians of the
ratio to libgomp's own. Linux only. Writes no tracked file.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from train_throughput import WARM_UP_STEPS, effective_batch, in_own_process, tokenized_pairs

OWN = "300000"  # what libgomp (GCC 4.4 and later) takes where neither variable is set; setting it turns the watch off
SPIN_COUNTS = {"watched": None, "libgomp": OWN}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tokens = Path(folder) / "tokens.json"
        batch = effective_batch()
        rows = tokenized_pairs("sample", None, WARM_UP_STEPS * batch + options.pairs, seed=0)
        tokens.write_text(json.dumps({"rows": rows, "batch": batch}))
        found = {"idle": measure(tokens, options.rounds)}
        with busy_core():
            found["busy"] = measure(tokens, options.rounds)
    ratios = {
        load: median(one / other for one, other in zip(own["watched"], own["libgomp"], strict=True))
        for load, own in found.items()
    }
    print(json.dumps({"pairs_per_s": found, "ratio": ratios}))


def measure(tokens: Path, rounds: int) -> dict[str, list[float]]:
    """Pairs/s by kind of waiting."""
    found: dict[str, list[float]] = {name: [] for name in SPIN_COUNTS}
    for _ in range(rounds):
        for name, count in SPIN_COUNTS.items():
            found[name].append(train(tokens, count))
            print(f"{name}: {found[name][-1]:.2f} pairs/s", flush=True)
    return found


def train(tokens: Path, spin_count: str | None) -> float:
    """Pairs/s of one training."""
    environment = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    if spin_count is not None:
        environment["GOMP_SPINCOUNT"] = spin_count
    return in_own_process("ours", tokens, 0, environment)["pairs_per_s"]


@contextmanager
def busy_core() -> Iterator[None]:
    """Keep one core busy."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
