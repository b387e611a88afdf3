"""How much faster two workers of `score.py --workers` are than one, and what is left of them if they are killed.

    python tests/performance/scale_out.py [--rows 20000] [--shards 8] [--kills 10] [--model models/export] [--layers N]
    python tests/performance/scale_out.py --memory [--tiny] [--rows 20000]

Scores the same shards three times on a Ray cluster of this machine, one thread to a worker: with one worker, with two,
and with two of which one is killed (SIGKILL) at random moments. The last line is JSON: `rows`, `seconds_1` and
`seconds_2` from the first row to the last, without the start, `speedup` (seconds_1 / seconds_2), `kills`, and `equal`:
whether the three have the same bytes. Needs Ray (`pip install '.[ray]'`). Writes no tracked file.

With `--memory` it scores the shards once, with two workers, and the JSON has `rows`, `seconds` and `worker_mb`: the
most memory that a worker had for itself, without what processes share. `--layers` takes the model's first layers only,
`--tiny` a random model of two small layers instead, so that many rows take minutes.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

sys.path[:0] = ["stages", "tests"]

WORDS = ["boil", "water", "salt", "pasta", "answer", "question", "why", "because", "people", "often", "think", "good"]
MAX_WORDS = 60
WORKER = "ray::_Worker"  # how Ray names its process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--model", type=Path, default=Path("models/export"))
    parser.add_argument("--layers", type=int)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    measure = measure_memory if options.memory else measure_speed
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        options.model = small_model(options, folder)
        write_shards(folder / "in", options.rows, options.shards, chance)
        print(json.dumps(measure(options, folder, chance)))


def small_model(options: argparse.Namespace, folder: Path) -> Path:
    """The folder of the model to score with."""
    if options.tiny:
        from tiny_bases import try_base

        try_base("llama", folder)
        return folder / "model"
    if options.layers is None:
        return options.model
    from reward_model.common.files import write_checksums
    from reward_model.contract.encoder import Encoder
    from reward_model.modeling.model import build_reward_model

    cut = folder / "cut"
    shutil.copytree(options.model, cut, ignore=shutil.ignore_patterns("*.safetensors", "*.onnx", "*.data"))
    build_reward_model(options.model, Encoder.load(options.model), seed=0, layers=options.layers).save_pretrained(cut)
    write_checksums(cut)
    return cut


def measure_speed(options: argparse.Namespace, folder: Path, chance: random.Random) -> dict[str, object]:
    """One worker beside two, and two of which some are killed."""
    seconds_1, _ = score(options, folder, "one", workers=1)
    seconds_2, _ = score(options, folder, "two", workers=2)
    moments = sorted(chance.uniform(0, seconds_2) for _ in range(options.kills))
    _, kills = score(options, folder, "killed", workers=2, moments=moments)
    contents = [read_shards(folder / name) for name in ("one", "two", "killed")]
    return {
        "rows": options.rows,
        "seconds_1": seconds_1,
        "seconds_2": seconds_2,
        "speedup": seconds_1 / seconds_2,
        "kills": kills,
        "equal": len(contents[0]) == options.shards and contents[0] == contents[1] == contents[2],
    }


def measure_memory(options: argparse.Namespace, folder: Path, _: random.Random) -> dict[str, object]:
    """What two workers take of memory for the rows."""
    peaks: dict[int, int] = {}
    seconds, _kills = score(options, folder, "two", workers=2, peaks=peaks)
    return {"rows": options.rows, "seconds": seconds, "worker_mb": max(peaks.values()) / 1e6}


def write_shards(folder: Path, rows: int, shards: int, chance: random.Random) -> None:
    """Pairs of random words; the first shard has half of the rows."""
    folder.mkdir()
    sizes = [rows // 2] + [rows // 2 // (shards - 1)] * (shards - 1)
    sizes[-1] += rows - sum(sizes)
    for number, size in enumerate(sizes):
        lines = (json.dumps({name: words(chance) for name in ("prompt", "chosen", "rejected")}) for _ in range(size))
        (folder / f"part-{number}.jsonl").write_text("".join(f"{line}\n" for line in lines))


def words(chance: random.Random) -> str:
    return " ".join(chance.choices(WORDS, k=chance.randint(1, MAX_WORDS)))


def score(
    options: argparse.Namespace,
    folder: Path,
    name: str,
    workers: int,
    moments: Sequence[float] = (),
    peaks: dict[int, int] | None = None,
) -> tuple[float, int]:
    """Seconds from the first row to the last, and how many workers were killed: at `moments`, from the first row on.

    `peaks` is filled with the most memory of each worker, by its process, in bytes.
    """
    command = [sys.executable, "stages/score.py", "--model", str(options.model), "--workers", str(workers)]
    command += ["--input", str(folder / "in"), "--output", str(folder / name)]
    log = folder / f"{name}.log"
    waiting = list(moments)
    start = end = None
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, stderr=stderr, env=os.environ | {"OMP_NUM_THREADS": "1"})
    while process.poll() is None:
        time.sleep(0.02)
        now, bar = time.perf_counter(), log.read_text()
        if start is None and f" 0/{options.rows} [" in bar:
            start = now
        if end is None and f" {options.rows}/{options.rows} [" in bar:
            end = now
        if start and not end and waiting and now - start >= waiting[0] and kill_worker(process.pid):
            waiting.pop(0)
        if peaks is not None:
            note_memory(process.pid, peaks)
    if process.returncode or start is None or end is None:
        raise SystemExit(f"{name}: score.py ended with status {process.returncode}:\n{log.read_text()}")
    return end - start, len(moments) - len(waiting)


def find_workers(driver: int) -> list[psutil.Process]:
    """The workers that `driver` has started and that run."""
    found = []
    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process(driver).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if process.name().startswith(WORKER) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
    return found


def kill_worker(driver: int) -> bool:
    """Kill one of the workers that `driver` has started; False if there is none just now."""
    found = find_workers(driver)
    if found:
        random.choice(found).kill()
    return bool(found)


def note_memory(driver: int, peaks: dict[int, int]) -> None:
    """Take down the memory of the workers, where it is more than it was before."""
    for worker in find_workers(driver):
        with suppress(psutil.NoSuchProcess):
            peaks[worker.pid] = max(peaks.get(worker.pid, 0), worker.memory_full_info().uss)


def read_shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.jsonl"))}


if __name__ == "__main__":
    main()
