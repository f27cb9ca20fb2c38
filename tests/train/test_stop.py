"""Tests of signals as requests to stop."""

import os
import signal

import pytest

from ffcv_ssl.train.stop import StopSignals


def test_stop_signals__second_one_acts():
    """The first Ctrl-C is recorded, the second one interrupts."""
    with StopSignals() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_stop_signals__record_all_signals_that_end_a_process(number):
    """SIGTERM, SIGHUP and SIGQUIT are recorded; an ignored signal stays ignored."""
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
    """With ignore_repeats, further signals have no effect within the block."""
    before = signal.getsignal(signal.SIGINT)
    with StopSignals(ignore_repeats=True) as stop:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGINT):
            os.kill(os.getpid(), number)
        assert stop.received == signal.SIGTERM
    assert signal.getsignal(signal.SIGINT) is before
