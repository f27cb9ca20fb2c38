"""Signals as requests."""

import os
import signal

import pytest

from ffcv_ssl.train.stop import StopSignals


def test_stop_signals__second_one_acts():
    """The first Ctrl-C is remembered, the second interrupts as ever."""
    with StopSignals() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_stop_signals__ignore_repeats():
    """Under torchrun, which repeats them, further signals change nothing until the block ends."""
    before = signal.getsignal(signal.SIGINT)
    with StopSignals(ignore_repeats=True) as stop:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGINT):
            os.kill(os.getpid(), number)
        assert stop.received == signal.SIGTERM
    assert signal.getsignal(signal.SIGINT) is before
