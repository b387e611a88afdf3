"""Sharing the processor with other programs: torch's threads sleep while they wait, as long as others keep cores busy.

By default a waiting thread of libgomp, which torch's wheels for Linux use, spins for milliseconds. Where nothing else
runs that is the fastest; beside a busy process it takes the core from the very thread that it waits for. The setting is
read once, when torch is imported. But with more of its threads than cores libgomp hardly spins (`do_spin` in its
config/linux/wait.h), so one more team of threads, which does nothing, is all that it takes to switch. Results stay the
same bytes.
"""

import atexit
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

from reward_model.common.processes import available_cores

SECONDS = 1.0  # between two looks
SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")  # what the user has set is kept
GRAIN = 32_768  # numbers that torch gives one thread at least

_watchers: list[threading.Thread] = []


def share_processor() -> None:
    """Watch other processes from now on, in a thread that ends with this process."""
    threads = torch.get_num_threads()
    can_switch = sys.platform == "linux" and threads > 1 and os.environ.keys().isdisjoint(SETTINGS)
    if can_switch and not _watchers:
        ended = threading.Event()
        watcher = threading.Thread(target=_watch, args=(threads, ended), name="busy processor", daemon=True)
        _watchers.append(watcher)
        watcher.start()
        # A thread that is inside torch when Python ends would abort the process.
        atexit.register(lambda: (ended.set(), watcher.join()))


def are_disturbed(busy: float, cores: int, threads: int) -> bool:
    """Whether threads that meet after each operation lack a core of their own.

    Args:
        busy: cores that other processes keep busy, a mean over time.
        cores: that there are.
        threads: of this process.
    """
    return busy > cores - threads + 0.4


@contextmanager
def sleeping_threads(threads: int) -> Iterator[None]:
    """Have threads that wait sleep almost at once while the block runs.

    Args:
        threads: that torch computes with, more than one.
    """
    teams = (available_cores() - threads) // (threads - 1) + 1  # the fewest that make more threads than cores
    begun, ended = threading.Barrier(teams + 1), threading.Event()

    def hold_team() -> None:
        torch.ones(GRAIN * threads).add_(1)  # each thread that computes gets a team of its own, and keeps it
        begun.wait()
        ended.wait()

    holders = [threading.Thread(target=hold_team, daemon=True) for _ in range(teams)]
    for holder in holders:
        holder.start()
    begun.wait()
    try:
        yield
    finally:
        ended.set()
        for holder in holders:
            holder.join()


def _watch(threads: int, ended: threading.Event) -> None:
    disturbed = (are_disturbed(busy, available_cores(), threads) for busy in _busy_cores(ended))
    for now in disturbed:
        if now:
            with sleeping_threads(threads):
                while next(disturbed, False):
                    pass


def _busy_cores(ended: threading.Event) -> Iterator[float]:
    """How many cores other processes have kept busy since the look before, until this process ends."""
    now, others = time.monotonic(), _seconds_of_others()
    while not ended.wait(SECONDS):
        before, others_before = now, others
        now, others = time.monotonic(), _seconds_of_others()
        yield (others - others_before) / (now - before)


def _seconds_of_others() -> float:
    """Processor time that other processes have had on the cores that this one may use."""
    usable = os.sched_getaffinity(0)
    per_core = [core for number, core in enumerate(psutil.cpu_times(percpu=True)) if number in usable]
    own = psutil.Process().cpu_times()
    return sum(core.user + core.nice + core.system for core in per_core) - own.user - own.system
