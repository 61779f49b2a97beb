"""How far labelling is, and how long it will take: a bar, or a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

from tqdm import tqdm

EVERY = 60.0  # s between lines where there is no terminal


class Labelling:
    """Counts structures, with the time left.

    Args:
        total: Structures to label in this call.
        stream: Where to show it; default: standard error.
        clock: Seconds since any time.
        what: What is done, in front of the bar.
        unit: What is counted.
    """

    def __init__(
        self,
        total: int,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        what: str = 'label',
        unit: str = 'structures',
    ) -> None:
        self.unit = unit
        self.total, self.done, self.failed = total, 0, 0
        self._stream = stream or sys.stderr
        self._clock = clock
        self._began = self._told = clock()
        self._bar = tqdm(
            total=total,
            desc=what,
            unit=f' {unit}',
            file=self._stream,
            disable=None,
            smoothing=0.05,
        )

    def count(self, failed: bool) -> None:
        """Count a structure."""
        self.done += 1
        self.failed += failed
        self._bar.update()
        if self.failed:
            self._bar.set_postfix_str(f'{self.failed} failed', refresh=False)
        now = self._clock()
        if self._bar.disable and now - self._told >= EVERY:
            self._told = now
            self._stream.write(f'{self.line()}\n')
            self._stream.flush()

    def line(self) -> str:
        """Return '120 of 1000 structures, 2 failed, 0.31 s each, 5 min 1 s left'."""
        each = (self._clock() - self._began) / max(self.done, 1)
        failed = f' {self.failed} failed,' if self.failed else ''
        left = spelt((self.total - self.done) * each)
        return (
            f'{self.done} of {self.total} {self.unit},{failed} {each:.3g} s each, '
            f'{left} left'
        )

    def close(self) -> None:
        """End the bar."""
        self._bar.close()


def spelt(seconds: float) -> str:
    """Return a time as '35 s', '4 min 33 s' or '2 h 10 min'."""
    whole = round(seconds)
    if whole < 60:
        return f'{whole} s'
    if whole < 3600:
        return f'{whole // 60} min {whole % 60} s'
    return f'{whole // 3600} h {whole % 3600 // 60} min'
