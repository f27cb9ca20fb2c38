"""Signals that end a process, as exceptions: what it has begun is cleaned up."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Each ends a process that has no handler for it: sent by `kill`, by a terminal that is closed, by Ctrl-\.
ENDING_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGQUIT") if hasattr(signal, name)
)


@contextmanager
def unwinding_on_signals() -> Iterator[None]:
    """Turn SIGTERM, SIGHUP and SIGQUIT, where each would just end the process, into SystemExit(128 + its number): `finally` blocks run."""
    taken = []
    if threading.current_thread() is threading.main_thread():
        taken = [number for number in ENDING_SIGNALS if signal.getsignal(number) is signal.SIG_DFL]

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    try:
        for number in taken:
            signal.signal(number, leave)
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
