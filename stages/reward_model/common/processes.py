"""Work on all cores, by processes, since threads of Python share one core."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from reward_model.common.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")
AHEAD = 3  # items of each process that are under way


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_in_processes(function: Callable[[Item], Result], items: Iterable[Item], processes: int) -> Iterator[Result]:
    """The results in the order of the items, of which no more are read than are soon worked on.

    Args:
        function: of a module, so that other processes find it.
        items: what it is called with.
        processes: how many; with one, all is done in this process.

    Raises:
        UserError: a process was killed. What `function` raises is raised here.
    """
    if processes == 1:
        yield from map(function, items)
        return
    waiting = deque[Future[Result]]()
    # Not forked: a copy of a process with threads may hang.
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(processes, context, _end_with_parent) as pool:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) == AHEAD * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    except BrokenProcessPool:
        raise UserError("a process was killed, for want of memory perhaps: run it again, with less beside it") from None


def _end_with_parent() -> None:
    """Leave Ctrl-C to the parent, and end when it does, even if it was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "this runs in a child alone"
    parent.join()
    os._exit(1)
