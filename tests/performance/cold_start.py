"""How long a new process takes from the command to a reward: onnxruntime beside torch, in turn.

    python tests/performance/cold_start.py [--rounds 5]

The last line is JSON: medians in seconds, and `speedup`, torch's median over onnxruntime's. Writes no file.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="models/export")
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {"onnx": [], "torch": []}
    for number in range(-1, options.rounds):
        for backend, times in seconds.items():
            taken = score_once(options.model, backend)
            if number >= 0:  # the first round warms the file cache
                times.append(taken)
                print(f"{backend}: {taken:.2f} s", flush=True)
    medians = {f"{backend}_s": statistics.median(times) for backend, times in seconds.items()}
    print(json.dumps(medians | {"speedup": medians["torch_s"] / medians["onnx_s"]}))


def score_once(model: str, backend: str) -> float:
    """Seconds of wall time."""
    start = time.perf_counter()
    command = [sys.executable, "stages/score.py", "--text", "Your text here", "--model", model, "--backend", backend]
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
