"""Ctrl-C and SIGTERM as a request to stop between two steps."""

import signal
import threading
from types import FrameType
from typing import Any


class StopSignals:
    """Remember the first SIGINT or SIGTERM; a second one acts as it would have without us, unless repeats are ignored.

    Handlers are installed for the duration of a `with` block, in the main thread only (elsewhere Python allows none).

    Parameters
    ----------
    ignore_repeats
        For a process under torchrun, which passes on a Ctrl-C that the terminal has sent to every process already. (It kills after 30 s.)

    Attributes
    ----------
    received
        The signal's number, or None.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, ignore_repeats: bool = False) -> None:
        self.ignore_repeats = ignore_repeats
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._remember) for number in self.SIGNALS}
        return self

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or number
        if not self.ignore_repeats:
            self._restore()

    def _restore(self) -> None:
        while self._previous:
            number, handler = self._previous.popitem()
            signal.signal(number, handler)

    def __exit__(self, *_: object) -> None:
        self._restore()
