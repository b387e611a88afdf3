"""The server under many clients, beside score.py on a file of the same rows.

    python tests/performance/serve_load.py [--clients 50] [--seconds 60] [--backend onnx] [--model models/export]

Each client sends pairs of its own over one connection, one after another, and compares every answer with the rewards
that score.py gave for them. The last line is JSON: `requests`, `errors` (no answer, or another status than 200),
`wrong` (a reward more than 1e-4 away), `max_abs_diff`, `p50_s` and `p99_s` of a request, `texts_per_s`,
`file_texts_per_s` of score.py with the same backend on a file, without its start, once before the clients and once
after, and `throughput_ratio` of the two. Writes no tracked file.
"""

import argparse
import http.client
import json
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

PAIRS_PER_CLIENT = 2
TOLERANCE = 1e-4
ASKED = ("prompt", "chosen", "rejected")
WORDS = ["boil", "water", "salt", "pasta", "answer", "question", "why", "because", "people", "often", "think", "good"]

Row = dict[str, Any]


class Client(threading.Thread):
    """Asks again and again, and checks the answers.

    Args:
        port: the server's.
        pairs: what it asks, with the rewards that it expects.
        end: when it stops, by `time.perf_counter`.
    """

    def __init__(self, port: int, pairs: list[Row], end: float) -> None:
        super().__init__()
        self.connection = http.client.HTTPConnection("127.0.0.1", port)
        self.pairs = pairs
        self.end = end
        self.seconds: list[float] = []
        self.differences: list[float] = []
        self.errors = 0

    def run(self) -> None:
        for pair in cycle(self.pairs):
            start = time.perf_counter()
            if start > self.end:
                break
            try:
                answer = ask(self.connection, {name: pair[name] for name in ASKED})
            except (OSError, http.client.HTTPException, ValueError):
                self.errors += 1
                self.connection.close()
                continue
            self.seconds.append(time.perf_counter() - start)
            self.differences += [abs(answer[name] - pair[name]) for name in ("reward_chosen", "reward_rejected")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--backend", choices=["onnx", "torch"], default="torch")
    parser.add_argument("--model", default="models/export")
    options = parser.parse_args()
    how = ["--model", options.model, "--backend", options.backend]
    pairs, seconds_before = score_file(make_pairs(options.clients * PAIRS_PER_CLIENT), how)
    with server(how) as port:
        start = time.perf_counter()
        end = start + options.seconds
        clients = [Client(port, pairs[number :: options.clients], end) for number in range(options.clients)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        seconds = time.perf_counter() - start
    _, seconds_after = score_file(pairs, how)
    file_rate = 4 * (len(pairs) - 1) / (seconds_before + seconds_after)
    print(json.dumps(figures(clients, seconds, file_rate)))


def figures(clients: list[Client], seconds: float, file_rate: float) -> dict[str, float]:
    taken = [each for client in clients for each in client.seconds]
    differences = [each for client in clients for each in client.differences]
    percentiles = statistics.quantiles(taken, n=100)
    return {
        "requests": len(taken),
        "errors": sum(client.errors for client in clients),
        "wrong": sum(each > TOLERANCE for each in differences),
        "max_abs_diff": max(differences),
        "p50_s": percentiles[49],
        "p99_s": percentiles[98],
        "texts_per_s": 2 * len(taken) / seconds,
        "file_texts_per_s": file_rate,
        "throughput_ratio": 2 * len(taken) / seconds / file_rate,
    }


def make_pairs(count: int) -> list[Row]:
    """Made-up pairs, all different, of the lengths of chats."""
    choose = random.Random(0)

    def text(longest: int) -> str:
        return " ".join(choose.choices(WORDS, k=choose.randint(10, longest)))

    return [{"prompt": text(80), "chosen": text(200), "rejected": text(200)} for _ in range(count)]


def score_file(pairs: list[Row], how: list[str]) -> tuple[list[Row], float]:
    """The pairs with their rewards, and how many seconds all but one take score.py once it has started."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "pairs.jsonl", Path(folder) / "scored.jsonl"
        seconds = []
        for rows in (pairs[:1], pairs):
            source.write_text("".join(json.dumps({name: row[name] for name in ASKED}) + "\n" for row in rows))
            seconds.append(timed_score(["--input", str(source), "--output", str(target), *how]))
        scored = [json.loads(line) for line in target.read_text().splitlines()]
    return scored, seconds[1] - seconds[0]


def timed_score(options: list[str]) -> float:
    """Seconds of wall time."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "stages/score.py", *options], check=True, capture_output=True)
    return time.perf_counter() - start


@contextmanager
def server(how: list[str]) -> Iterator[int]:
    """A server that runs while the block does; gives its port."""
    command = [sys.executable, "stages/serve.py", "--port", "0", *how]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        try:
            yield int(line.partition("http://127.0.0.1:")[2].partition(",")[0])
        finally:
            process.terminate()


def ask(connection: http.client.HTTPConnection, row: Row) -> Row:
    connection.request("POST", "/score", json.dumps(row))
    response = connection.getresponse()
    body = response.read()
    if response.status != 200:
        raise ValueError(body)
    return json.loads(body)


if __name__ == "__main__":
    main()
