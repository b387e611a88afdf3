"""How long a new process takes from the command to a reward: score.py by onnxruntime and by torch, and the server by
onnxruntime, in turn.

    python tests/performance/cold_start.py [--rounds 5]

The last line is JSON: medians in seconds, `server_s` that of the server, and `speedup`, torch's median over
onnxruntime's. Writes no file.
"""

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import time

from serve_load import ask, server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="models/export")
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {"onnx": [], "torch": [], "server": []}
    for number in range(-1, options.rounds):
        for name, times in seconds.items():
            taken = start_server(options.model) if name == "server" else score_once(options.model, name)
            if number >= 0:  # the first round warms the file cache
                times.append(taken)
                print(f"{name}: {taken:.2f} s", flush=True)
    medians = {f"{name}_s": statistics.median(times) for name, times in seconds.items()}
    print(json.dumps(medians | {"speedup": medians["torch_s"] / medians["onnx_s"]}))


def score_once(model: str, backend: str) -> float:
    """Seconds of wall time."""
    start = time.perf_counter()
    command = [sys.executable, "stages/score.py", "--text", "Your text here", "--model", model, "--backend", backend]
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def start_server(model: str) -> float:
    """Seconds from the command to the first answer."""
    start = time.perf_counter()
    with server(["--model", model, "--backend", "onnx"]) as port:
        ask(http.client.HTTPConnection("127.0.0.1", port), {"text": "Your text here"})
        return time.perf_counter() - start


if __name__ == "__main__":
    main()
