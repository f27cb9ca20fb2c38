"""Signals that end a process, handled as requests to stop after the current step."""

import signal
import threading
from types import FrameType
from typing import Any

from ffcv_ssl.system.signals import ENDING_SIGNALS


class StopSignals:
    """Context manager that records the first SIGINT, SIGTERM, SIGHUP or SIGQUIT.

    A second signal has its usual effect, unless repeats are ignored. A signal that the process
    ignores (SIGHUP under nohup) stays ignored. Handlers are installed in the main thread only,
    because Python allows none in other threads.

    Parameters
    ----------
    ignore_repeats
        Whether to ignore further signals. Set this under torchrun, which forwards a Ctrl-C that
        every process has already received from the terminal, and which kills after 30 s.

    Attributes
    ----------
    received
        Number of the first signal, or None.
    """

    def __init__(self, ignore_repeats: bool = False) -> None:
        self.ignore_repeats = ignore_repeats
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            self._previous = {
                number: signal.signal(number, self._record)
                for number in (signal.SIGINT, *ENDING_SIGNALS)
                if signal.getsignal(number) is not signal.SIG_IGN
            }
        return self

    def _record(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or number
        if not self.ignore_repeats:
            self._restore()

    def _restore(self) -> None:
        while self._previous:
            number, handler = self._previous.popitem()
            signal.signal(number, handler)

    def __exit__(self, *_: object) -> None:
        self._restore()
