"""Termination signals as exceptions, so that `finally` blocks run before the process ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Signals that terminate a process by default: `kill`, a closed terminal and Ctrl-\ send them.
ENDING_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGQUIT") if hasattr(signal, name)
)


@contextmanager
def unwinding_on_signals() -> Iterator[None]:
    """Convert SIGTERM, SIGHUP and SIGQUIT into SystemExit(128 + signal number) inside the block.

    Signals that the program handles or ignores keep their handlers. Outside the main thread the
    context manager does nothing, because Python runs signal handlers in the main thread only.
    """
    converted = []
    if threading.current_thread() is threading.main_thread():
        converted = [each for each in ENDING_SIGNALS if signal.getsignal(each) is signal.SIG_DFL]

    def raise_exit(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    try:
        for number in converted:
            signal.signal(number, raise_exit)
        yield
    finally:
        for number in converted:
            signal.signal(number, signal.SIG_DFL)
