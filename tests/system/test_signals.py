"""Termination signals run `finally` blocks before the process ends."""

import os
import signal
import threading

import pytest

from ffcv_ssl.system.atomic import replacing
from ffcv_ssl.system.signals import ENDING_SIGNALS, unwinding_on_signals


@pytest.mark.parametrize("number", ENDING_SIGNALS)
def test_signal__unwinds_the_block(tmp_path, number):
    """SIGTERM, SIGHUP and SIGQUIT raise SystemExit; the handlers are restored after the block."""
    assert signal.getsignal(number) is signal.SIG_DFL
    with (
        pytest.raises(SystemExit) as caught,
        unwinding_on_signals(),
        replacing(str(tmp_path / "file")),
    ):
        os.kill(os.getpid(), number)
    assert caught.value.code == 128 + number
    assert os.listdir(tmp_path) == []
    assert signal.getsignal(number) is signal.SIG_DFL


@pytest.mark.parametrize("number", ENDING_SIGNALS)
def test_signal__keeps_a_handler_of_the_program(number):
    """Existing handlers and ignored signals (nohup) stay; other threads change no handler."""
    seen = []
    for handler in (lambda number, frame: seen.append(number), signal.SIG_IGN):
        signal.signal(number, handler)
        try:
            with unwinding_on_signals():
                os.kill(os.getpid(), number)
        finally:
            signal.signal(number, signal.SIG_DFL)
    assert seen == [number]

    def enter():
        with unwinding_on_signals():
            seen.append(signal.getsignal(number))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen[-1] is signal.SIG_DFL
