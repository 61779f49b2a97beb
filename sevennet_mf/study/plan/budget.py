"""The same number of optimiser steps for every method, as epochs of a YAML."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from sevennet_mf.config.recipe import counts_steps
from sevennet_mf.errors import UserError

Config = dict[str, Any]

# factor by which epochs may differ from input_yaml's if that makes the steps exact
NEAR: Final[float] = 1.5
# steps per epoch; with fewer, validation would take longer than training
LEAST: Final[int] = 10
# parameters of schedulers that count epochs or steps, and the smallest value of each
COUNTS: Final[dict[str, int]] = {
    'total_iters': 1,
    'T_max': 1,
    'step_size': 1,
    'first_cycle_steps': 2,
    'warmup_steps': 0,
    'patience': 0,
    'cooldown': 0,
}


@dataclass(frozen=True)
class Budget:
    """The length of a training."""

    epochs: int
    steps_per_epoch: int

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    def split(self, share: float) -> tuple[Budget, Budget]:
        """Return the budgets of two stages, which add up to this one.

        Args:
            share: Fraction of the first stage.

        Raises:
            UserError: If there are too few steps.
        """
        first = round(share * self.steps_per_epoch)
        if 0 < first < self.steps_per_epoch:
            rest = self.steps_per_epoch - first
            return Budget(self.epochs, first), Budget(self.epochs, rest)
        if self.epochs < 2:
            raise UserError(
                f'study.steps: {self.steps} is too small for the two stages of '
                'transfer and delta. Raise it.'
            )
        epochs = min(max(1, round(share * self.epochs)), self.epochs - 1)
        rest = self.epochs - epochs
        return (
            Budget(epochs, self.steps_per_epoch),
            Budget(rest, self.steps_per_epoch),
        )


def budget_of(steps: int | None, epochs: int, steps_per_epoch: int) -> Budget:
    """Return the budget for a number of steps.

    It has exactly `steps` if they are divisible by a number of epochs near that of
    input_yaml, and fewer epochs if there are few steps.

    Args:
        steps: Optimiser steps; None for those of input_yaml.
        epochs: Epochs of input_yaml.
        steps_per_epoch: Steps per epoch of input_yaml.
    """
    if steps is None:
        return Budget(epochs, steps_per_epoch)
    epochs = min(epochs, max(1, steps // LEAST))
    near = [
        n
        for n in range(math.ceil(epochs / NEAR), math.floor(epochs * NEAR) + 1)
        if steps % n == 0
    ]
    if near:
        chosen = min(near, key=lambda n: abs(math.log(n / epochs)))
        return Budget(chosen, steps // chosen)
    return Budget(epochs, round(steps / epochs))


def by_step(train: Config) -> bool:
    """Whether the scheduler of a section `train` counts steps."""
    asked = (train.get('fidelity') or {}).get('schedule_by')
    return counts_steps(_scheduler(train), asked)


def _scheduler(train: Config) -> str:
    return str(train.get('scheduler', 'exponentiallr')).lower()


def set_epochs(train: Config, budget: Budget, given: Budget) -> None:
    """Write a number of epochs into a section `train`, and scale the scheduler.

    Args:
        train: The section, changed in place.
        given: What the scheduler in the section is meant for.
    """
    train['epoch'] = budget.epochs
    train['per_epoch'] = budget.epochs  # the last checkpoint, and no other
    block = train.get('scheduler_param')
    ratio = budget.epochs / given.epochs
    if by_step(train):
        ratio = budget.steps / given.steps
    if not isinstance(block, dict) or ratio == 1:
        return
    scaled = dict(block)
    for name, least in COUNTS.items():
        if isinstance(scaled.get(name), (int, float)):
            scaled[name] = max(least, round(scaled[name] * ratio))
    if isinstance(scaled.get('milestones'), list):
        marks = [max(1, round(mark * ratio)) for mark in scaled['milestones']]
        scaled['milestones'] = marks
    gamma = scaled.get('gamma')
    if _scheduler(train) == 'exponentiallr' and isinstance(gamma, (int, float)):
        scaled['gamma'] = float(gamma) ** (1 / ratio)
    train['scheduler_param'] = scaled
