"""Signals that end a run after the step it is at."""

import os
import signal
import threading

import pytest

from sevennet_mf.interrupt import StopRequest


def test_signals_are_put_back() -> None:
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(n) for n in numbers]
    with StopRequest().listening() as stop:
        assert not stop
        os.kill(os.getpid(), signal.SIGINT)
        assert stop
        assert stop.name == 'SIGINT'
        with pytest.raises(KeyboardInterrupt):  # who insists gets it
            os.kill(os.getpid(), signal.SIGINT)
    assert before == [signal.getsignal(n) for n in numbers]


def test_a_second_sigterm_is_not_in_a_hurry() -> None:
    with StopRequest().listening() as stop:
        for _ in range(2):  # schedulers send several
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.name == 'SIGTERM'


def test_another_thread_cannot_listen() -> None:
    """And need not: a notebook may train in one."""
    found = []

    def listen() -> None:
        with StopRequest().listening() as stop:
            found.append(bool(stop))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert found == [False]
