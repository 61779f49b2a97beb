"""The norm of the gradient over an epoch, where it is limited."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sevenn.logger import Logger

# columns of lc.csv
COLUMNS: Final = ('grad_norm', 'grad_norm_max', 'clipped')


class GradientNorms:
    """What the norms of the gradient were, before they were limited.

    They are of the joint gradient, and so the same on all processes.

    Args:
        limit: train.fidelity.grad_clip.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.reset()

    def reset(self) -> None:
        self.total = self.largest = 0.0
        self.clipped = self.steps = 0

    def update(self, norm: float) -> None:
        """Record the norm of one step."""
        self.total += norm
        self.largest = max(self.largest, norm)
        self.clipped += norm > self.limit
        self.steps += 1

    def values(self) -> dict[str, float]:
        """Return mean, maximum and the share of steps that were limited."""
        n = max(1, self.steps)
        means = (self.total / n, self.largest, self.clipped / n)
        return dict(zip(COLUMNS, means, strict=True))

    def log(self) -> None:
        """Write a line into the log."""
        values = self.values()
        Logger().writeline(
            f'Gradient norm: mean {values["grad_norm"]:.4g}, largest '
            f'{self.largest:.4g}; limited to {self.limit:g} in {self.clipped} of '
            f'{self.steps} steps'
        )

    def state(self) -> list[float]:
        """Return the sums so far, for a checkpoint within an epoch."""
        return [self.total, self.largest, self.clipped, self.steps]

    def load(self, state: Sequence[float]) -> None:
        self.total, self.largest = state[:2]
        self.clipped, self.steps = int(state[2]), int(state[3])
