"""Kill `dvc repro` at random moments on the real base, and compare what it ends with to an uninterrupted run.

    python tests/performance/kill_recovery.py [--kills 20] [--pairs 64] [--save-steps 2]

Works in a copy of the project, with this checkout's data/raw and models/base, a validation in every step, and the best
weights kept. Each kill is a SIGKILL to `dvc repro` and
all its children, at a moment drawn from the time that the train stage took; a run that gets through before it is killed
starts over. The last line is JSON: `kills`; `recovered`, kills less the runs that ended with an error; `equal_weights`,
whether the final model's bytes are those of an uninterrupted run; `resumed`, runs that resumed from a checkpoint.
Writes no tracked file.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "stages"))

from reward_model.common.files import hash_file  # noqa: E402

REPRO = [sys.executable, "-m", "dvc", "repro", "--single-item", "train"]
ENVIRONMENT = os.environ | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
MODEL = Path("models/reward/model.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--save-steps", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    generator = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        project = copy_of_project(Path(folder) / "project", options.pairs, options.save_steps)
        start = time.perf_counter()
        subprocess.run(REPRO, cwd=project, env=ENVIRONMENT, check=True, stdout=sys.stderr)
        seconds, expected = time.perf_counter() - start, hash_file(project / MODEL)
        kills = failed = resumed = 0
        afresh(project)
        while kills < options.kills and failed < options.kills:
            log = project / "log"
            ended = killed(project, generator.uniform(0, seconds), log)
            resumed += "resumes from" in log.read_text(errors="replace")
            kills += ended is None
            failed += bool(ended)
            if ended == 0:
                afresh(project)
            print(f"{kills} kills; the last run {'was killed' if ended is None else f'ended with {ended}'}", flush=True)
        final = subprocess.run(REPRO, cwd=project, env=ENVIRONMENT, check=False, stdout=sys.stderr).returncode
        equal = final == 0 and hash_file(project / MODEL) == expected
    recovered = kills - failed if final == 0 else 0
    print(json.dumps({"kills": kills, "recovered": recovered, "equal_weights": equal, "resumed": resumed}))


def copy_tracked_files(folder: Path) -> None:
    """Make a repository of the tracked files, less what runs write."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.strip("\0").split("\0"):
        if not name.startswith("metrics/") and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)


def copy_of_project(folder: Path, pairs: int, save_steps: int) -> Path:
    """The project in a repository of its own, with params for a short run, tokenized."""
    copy_tracked_files(folder)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["data"]["max_samples"] = pairs
    validated = {"keep": "best", "eval_steps": 1, "eval_pairs": 16}
    params["train"] |= {"save_steps": save_steps, **validated}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    for name in ("data/raw", "models/base"):
        shutil.copytree(ROOT / name, folder / name)
    for script in ("prepare.py", "tokenize_pairs.py", "features.py", "probe.py"):
        subprocess.run([sys.executable, f"stages/{script}"], cwd=folder, check=True, stdout=sys.stderr)
    return folder


def afresh(project: Path) -> None:
    """Forget the finished training, so that the next run trains again."""
    (project / "dvc.lock").unlink(missing_ok=True)
    shutil.rmtree(project / ".dvc/cache", ignore_errors=True)
    shutil.rmtree(project / "models/reward", ignore_errors=True)


def killed(project: Path, delay: float, log: Path) -> int | None:
    """Run `dvc repro` and kill it after a while; its exit status if it ended before."""
    with log.open("w") as file:
        process = subprocess.Popen(
            REPRO, cwd=project, env=ENVIRONMENT, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            return process.wait(delay)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None


if __name__ == "__main__":
    main()
