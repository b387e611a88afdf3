"""Importing this module has torch's threads sleep while they wait, if other processes keep the processor busy.

Import it before torch, where the work takes minutes. By default a waiting thread spins, and beside a busy process takes
the core from the very thread that it waits for; asleep it is slower where nothing else runs. libgomp (Linux) asks once,
when torch is imported. What the user has set is kept.
"""

import os

import psutil

SECONDS = 0.2  # to look for
KEYS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def is_busy(busy_cores: float, cores: int) -> bool:
    """Whether so many busy cores of all disturb torch's threads, which take all of them."""
    return busy_cores >= max(0.5, cores / 10)


def _sleep_if_busy() -> None:
    cores = os.cpu_count() or 1
    if not any(key in os.environ for key in KEYS) and is_busy(psutil.cpu_percent(SECONDS) / 100 * cores, cores):
        os.environ["OMP_WAIT_POLICY"] = "passive"


_sleep_if_busy()
