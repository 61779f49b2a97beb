"""How much of an epoch its steps wait for batches."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

SHARE: Final = 0.05  # of the time of an epoch; less is not worth a word
SECONDS: Final = 10.0  # an epoch shorter than that says little


class Waiting:
    """Time that passes while a loader is asked for its next batch.

    The first batch of an epoch does not count, because workers may have to start.

    Attributes:
        waited: s
        total: s, the steps included
    """

    def __init__(self) -> None:
        self.waited = self.total = 0.0

    def batches(self, loader: Iterable[Any]) -> Iterator[Any]:
        """Yield the batches of an epoch, and measure anew."""
        self.waited = self.total = 0.0
        batches = iter(loader)
        start = None
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            now = time.perf_counter()
            if start is None:
                start = now
            else:
                self.waited += now - asked
                self.total = now - start
            if batch is None:
                return
            yield batch

    def advice(self, workers: int) -> str:
        """Return a line about an epoch that waited, or ''.

        Args:
            workers: `train.num_workers` as it is.
        """
        if self.total < SECONDS or self.waited < SHARE * self.total:
            return ''
        return (
            f'{self.waited / self.total:.0%} of this epoch was spent waiting for '
            f'batches. train.num_workers: {2 * workers or 2} (it is {workers}) '
            'loads them in processes of their own, beside the steps.'
        )
