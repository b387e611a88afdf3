"""SIGINT and SIGTERM as a request to stop after the step."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether somebody has asked the process to end.

    Attributes:
        asked: a signal has come.
    """

    def __init__(self) -> None:
        self.asked = False

    def ask(self, number: int, frame: Any) -> None:
        """Take the signal; a second one ends the process at once."""
        self.asked = True
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)


@contextmanager
def catch_stop_signals() -> Iterator[StopRequest]:
    """Take SIGINT and SIGTERM as a wish while the context lasts, not as an end at any point whatever."""
    wish = StopRequest()
    if threading.current_thread() is not threading.main_thread():  # Python gives signals to no other
        yield wish
        return
    before = {number: signal.signal(number, wish.ask) for number in SIGNALS}
    try:
        yield wish
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
