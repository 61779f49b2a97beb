"""Signals that end a run after its current step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Lost:
    """A Ctrl-C before the first step that a library may have swallowed."""

    name = ''


@contextmanager
def remembered() -> Iterator[None]:
    """Within, Ctrl-C interrupts as usual, and training will know that it came.

    Libraries catch KeyboardInterrupt in places, for example while they are imported.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: Any) -> None:
        Lost.name = signal.Signals(number).name
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        Lost.name = ''
        signal.signal(signal.SIGINT, before)


class StopRequest:
    """Set by SIGTERM or Ctrl-C; a second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.name = Lost.name

    def __bool__(self) -> bool:
        return bool(self.name)

    def _handle(self, number: int, frame: Any) -> None:
        if self.name and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.name = signal.Signals(number).name

    @contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Catch the signals, which only the main thread of a program can do."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        numbers = (signal.SIGTERM, signal.SIGINT)
        before = {n: signal.signal(n, self._handle) for n in numbers}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
