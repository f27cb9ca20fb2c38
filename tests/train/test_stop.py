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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_stop_signals__heed_all_that_would_end_the_process(number):
    """kill, a closed terminal and Ctrl-\\ are requests too; what the process was told to ignore (nohup) stays ignored."""
    with StopSignals() as stop:
        os.kill(os.getpid(), number)
        assert stop.received == number
    assert signal.getsignal(number) is signal.SIG_DFL
    signal.signal(number, signal.SIG_IGN)
    try:
        with StopSignals() as stop:
            os.kill(os.getpid(), number)
            assert stop.received is None
    finally:
        signal.signal(number, signal.SIG_DFL)


def test_stop_signals__ignore_repeats():
    """Under torchrun, which repeats them, further signals change nothing until the block ends."""
    before = signal.getsignal(signal.SIGINT)
    with StopSignals(ignore_repeats=True) as stop:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGINT):
            os.kill(os.getpid(), number)
        assert stop.received == signal.SIGTERM
    assert signal.getsignal(signal.SIGINT) is before
