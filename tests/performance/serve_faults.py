"""The server beside clients that send nonsense, too much or half, and leave.

    python tests/performance/serve_faults.py [--bodies 1000] [--backend onnx] [--model models/export]

Two equal rounds; in each there are `--bodies` fuzzed bodies, and for every ten of them one of 10 MB, one client
that is killed within its body, and one that leaves before the answer. The last line is JSON: how many answers had
each status, `server_errors` (statuses from 500 on, by the server's own count), `lost` (requests without an answer),
`same_reward` (of a text before and after), and the server's memory after each round in MB. Writes no file.
"""

import argparse
import http.client
import json
import re
import socket
import struct
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from serve_load import ask, server

sys.path.insert(0, "tests")

from fuzzed_bodies import fuzzed_bodies

THREADS = 8
LARGE = b'{"text": "' + b"x" * 10_000_000 + b'"}'
KILLED_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: the connection is reset, as when a process is killed
LOST = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bodies", type=int, default=1000)
    parser.add_argument("--backend", choices=["onnx", "torch"], default="onnx")
    parser.add_argument("--model", default="models/export")
    options = parser.parse_args()
    statuses: Counter[int] = Counter()
    memory = []
    with server(["--model", options.model, "--backend", options.backend]) as port:
        rewards = [reward(port)]
        for seed in range(2):
            statuses += run_round(port, options.bodies, seed)
            memory.append(measure(port, r"^process_resident_memory_bytes (\S+)") / 1e6)
        rewards.append(reward(port))
        errors = measure(port, r'^reward_model_requests_total\{.*status="5\d\d"\} (\S+)')
    found = {
        "statuses": {status: count for status, count in sorted(statuses.items()) if status != LOST},
        "lost": statuses[LOST],
        "server_errors": int(errors),
        "same_reward": abs(rewards[0] - rewards[1]) < 1e-4,
        "memory_mb": memory,
    }
    print(json.dumps(found))


def run_round(port: int, bodies: int, seed: int) -> Counter[int]:
    """The statuses of the answers of a round."""
    with ThreadPoolExecutor(THREADS) as threads:
        answers = [threads.submit(post, port, path, body) for path, body in fuzzed_bodies(bodies, seed)]
        for _ in range(bodies // 10):
            answers.append(threads.submit(post, port, "/score", LARGE))
            threads.submit(leave, port, half=True)
            threads.submit(leave, port, half=False)
    return Counter(answer.result() for answer in answers)


def post(port: int, path: str, body: bytes) -> int:
    """The status of the answer; `LOST` if there is none, or no line of JSON with an error."""
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", path, body)
        answer = connection.getresponse()
        text = answer.read()
    except (OSError, http.client.HTTPException):
        return LOST
    if answer.status == 200:
        return 200
    return answer.status if text.count(b"\n") == 1 and isinstance(json.loads(text)["error"], str) else LOST


def leave(port: int, *, half: bool) -> None:
    """Send a request, or half of one, and be gone."""
    body = json.dumps([{"text": f"word {number} " * 20} for number in range(20)]).encode()
    head = f"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, KILLED_AT_ONCE)
        connection.sendall(head + body[: len(body) // 2 if half else None])


def reward(port: int) -> float:
    return ask(http.client.HTTPConnection("127.0.0.1", port), {"text": "good"})["reward"]


def measure(port: int, pattern: str) -> float:
    """The sum of what /metrics has under a pattern."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    return sum(map(float, re.findall(pattern, text, re.MULTILINE)))


if __name__ == "__main__":
    main()
