"""Ctrl-C, and the signals that would end the process, as a request to stop between two steps."""

import signal
import threading
from types import FrameType
from typing import Any

from ffcv_ssl.system.signals import ENDING_SIGNALS


class StopSignals:
    """Remember the first SIGINT, SIGTERM, SIGHUP or SIGQUIT; a second one acts as it would have without us, unless repeats are ignored.

    A signal that the process was told to ignore (SIGHUP under nohup) stays ignored.

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

    def __init__(self, ignore_repeats: bool = False) -> None:
        self.ignore_repeats = ignore_repeats
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            heeded = [number for number in (signal.SIGINT, *ENDING_SIGNALS) if signal.getsignal(number) is not signal.SIG_IGN]
            self._previous = {number: signal.signal(number, self._remember) for number in heeded}
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
