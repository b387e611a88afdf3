"""Threads that sleep while other processes are busy. Each test has a process of its own, with threads of torch's."""

import os
import subprocess
import sys

import pytest

from reward_model.common.processes import available_cores
from reward_model.modeling.busy_processor import SETTINGS, are_disturbed

THREADS = available_cores() + 1

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="only libgomp's threads can be switched")


@pytest.mark.parametrize(
    ("busy", "cores", "threads", "expected"),
    [
        (0.1, 2, 2, False),
        (0.8, 2, 2, True),
        (1.0, 4, 2, False),
        (2.9, 4, 2, True),
        (0.3, 16, 16, False),
        (1.0, 16, 16, True),
        (1.0, 2, 1, False),
    ],
)
def test_threads_are_disturbed_where_too_few_cores_are_left(
    busy: float, cores: int, threads: int, expected: bool
) -> None:
    assert are_disturbed(busy, cores, threads) == expected


@needs_linux
def test_more_threads_than_cores_are_held_and_let_go_and_sums_stay_the_same() -> None:
    found = run(
        "from reward_model.modeling.busy_processor import sleeping_threads\n"
        "numbers = torch.randn(999_999)\n"
        "sums, tasks = [], []\n"
        "def look():\n"
        "    sums.append(numbers.sum().item())\n"
        "    tasks.append(len(os.listdir('/proc/self/task')))\n"
        "look()\n"
        "for _ in range(2):\n"
        "    with sleeping_threads(torch.get_num_threads()):\n"
        "        look()\n"
        "    for _ in range(100):\n"  # a thread that was let go ends when it is next run
        "        if len(os.listdir('/proc/self/task')) <= tasks[0]:\n"
        "            break\n"
        "        time.sleep(0.05)\n"
        "    look()\n"
        "print(len(set(sums)), *tasks)",
        threads=2,
    )
    sums, before, *tasks = map(int, found.split())
    assert sums == 1
    cores = available_cores()
    assert [held - before > cores - 2 for held in tasks] == [True, False, True, False]


@needs_linux
def test_a_busy_process_is_noticed() -> None:
    found = run(
        "import time\n"
        "from reward_model.modeling.busy_processor import share_processor\n"
        "torch.ones(999_999).add_(1)\n"
        "share_processor()\n"
        "share_processor()\n"
        "before = len(os.listdir('/proc/self/task'))\n"
        "busy = [subprocess.Popen([sys.executable, '-c', 'while True: pass']) for _ in os.sched_getaffinity(0)]\n"
        "end = time.monotonic() + 60\n"
        "while len(os.listdir('/proc/self/task')) <= before and time.monotonic() < end:\n"
        "    time.sleep(0.1)\n"
        "print(len(os.listdir('/proc/self/task')) > before)\n"
        "[process.kill() for process in busy]",
        threads=THREADS,
    )
    assert found == "True"


@pytest.mark.parametrize("own", [*({name: "5"} for name in SETTINGS), {"OMP_NUM_THREADS": "1"}])
def test_nothing_is_watched_where_the_user_has_said_how_to_wait_or_there_is_one_thread(own: dict[str, str]) -> None:
    found = run(
        "import threading\n"
        "from reward_model.modeling.busy_processor import share_processor\n"
        "share_processor()\n"
        "print(threading.active_count())",
        threads=2,
        own=own,
    )
    assert found == "1"


def run(code: str, threads: int, own: dict[str, str] | None = None) -> str:
    kept = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    environment = kept | {"PYTHONPATH": "stages", "OMP_NUM_THREADS": str(threads)} | (own or {})
    command = [sys.executable, "-c", f"import os, subprocess, sys, time, torch\n{code}"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()
