"""SIGINT and SIGTERM as a request to stop after the step."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether a signal has asked the process to stop.

    Attributes:
        requested: a signal has come.
    """

    def __init__(self) -> None:
        self.requested = False

    def request(self, number: int, frame: Any) -> None:
        """Take the signal; a second one ends the process at once."""
        self.requested = True
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)


@contextmanager
def catch_stop_signals() -> Iterator[StopRequest]:
    """Take SIGINT and SIGTERM as a request to stop while the context lasts, not as an end at any point."""
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():  # Python gives signals to no other
        yield stop
        return
    before = {number: signal.signal(number, stop.request) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
