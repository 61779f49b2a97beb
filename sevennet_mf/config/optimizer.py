"""Optimiser and schedule of the learning rate: their names, classes, parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import sevenn._keys as KEY
import torch
from sevenn.train.optim import optim_dict, scheduler_dict
from torch.optim.lr_scheduler import OneCycleLR

from sevennet_mf.config import recipe
from sevennet_mf.config.recipe import ONE_CYCLE, Recipe, counts_steps
from sevennet_mf.errors import UserError, unknown

Config = dict[str, Any]

# SevenNet's by name, and ours
SCHEDULERS: Final[Config] = {**scheduler_dict, ONE_CYCLE: OneCycleLR}
# a schedule that depends on the metric of an epoch
OF_METRIC: Final = 'reducelronplateau'
BY_STEP: Final = 'train.fidelity.schedule_by'
LAST_EPOCH: Final = 'last_epoch'  # -1, the only value that works, is a new schedule
# what torch and the host raise for a parameter that they cannot use
TROUBLE: Final = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError),
    *(RuntimeError, TypeError, ValueError),
)
# epochs of so many steps, as long as their true number is unknown
MANY: Final[int] = 10**6


@dataclass(frozen=True)
class RateSchedule:
    """A schedule of the learning rate.

    Attributes:
        name: in lower case.
        by_step: whether it counts optimiser steps; else it counts epochs.
        length: how many of these the run has.
        parameters: those in the YAML, and those that follow from the length.
    """

    name: str
    by_step: bool = False
    length: int | None = None
    parameters: Config = field(default_factory=dict)

    def made(
        self, optimizer: torch.optim.Optimizer, told: Config | None = None
    ) -> Any:
        """Return torch's scheduler.

        Args:
            optimizer: Whose learning rates it sets.
            told: The parameters that errors show; default: all.

        Raises:
            UserError: It refuses its parameters.
        """
        make = partial(SCHEDULERS[self.name], optimizer, **self.parameters)
        shown = self.parameters if told is None else told
        return _made(make, shown, KEY.SCHEDULER_PARAM, self.name)

    def line(self, epochs: int) -> str:
        """Return what a run with a schedule by step says about it."""
        assert self.length is not None
        return (
            f'Schedule: {self.name} over {self.length} steps ({epochs} epochs of '
            f'{self.length // epochs}): {recipe.as_text(self.parameters)}'
        )


def schedule_of(
    config: Config, asked: str | None, style: Recipe, epochs: int, steps: int = MANY
) -> RateSchedule:
    """Return the schedule of a run.

    Args:
        config: the host's.
        asked: train.fidelity.schedule_by.
        style: the recipe of the run.
        epochs: that the run has.
        steps: of an epoch.

    Raises:
        UserError: The schedule cannot count steps, or there is none of that name.
    """
    name = _known(config, KEY.SCHEDULER, SCHEDULERS)
    by_step = counts_steps(name, asked)
    if by_step and name == OF_METRIC:
        raise UserError(
            f": 'step' cannot be combined with the scheduler {name}, which depends "
            'on the metric of each epoch. Remove it, or choose another scheduler.',
            BY_STEP,
        )
    given = dict(config.get(KEY.SCHEDULER_PARAM) or {})
    length = epochs * steps if by_step else epochs
    if by_step or name == ONE_CYCLE:
        rate = (config.get(KEY.OPTIM_PARAM) or {}).get('lr')
        given = {**recipe.scheduled(name, style, length, rate), **given}
    if name == 'exponentiallr':
        # a checkpoint may bring the host's default scheduler, which needs a gamma
        given.setdefault('gamma', 1.0)
    return RateSchedule(name, by_step, length, given)


def optimizer_of(
    config: Config, parameters: Iterable[torch.nn.Parameter]
) -> torch.optim.Optimizer:
    """Return the optimiser that a YAML names.

    Args:
        config: the host's.

    Raises:
        UserError: There is none of that name, or it refuses its parameters.
    """
    name = _known(config, KEY.OPTIMIZER, optim_dict)
    given = config.get(KEY.OPTIM_PARAM) or {}
    make = partial(optim_dict[name], parameters, **given)
    made: torch.optim.Optimizer = _made(make, given, KEY.OPTIM_PARAM, name)
    return made


def check(config: Config, asked: str | None, style: Recipe, epochs: int) -> None:
    """Refuse an optimiser or a schedule that cannot be made, before data are read.

    Args:
        config, asked, style, epochs: as for `schedule_of`.

    Raises:
        UserError: A name or a parameter is not valid.
    """
    weight = torch.nn.Parameter(torch.zeros(1))
    weight.grad = torch.zeros(1)
    optimizer = optimizer_of(config, [weight])
    # torch and the host take them, and go up the gradient
    for key, value in (config.get(KEY.SCHEDULER_PARAM) or {}).items():
        if key != LAST_EPOCH and isinstance(value, int | float) and value < 0:
            raise UserError(
                f': must not be negative, got {value}.',
                f'train.{KEY.SCHEDULER_PARAM}.{key}',
            )
    schedule = schedule_of(config, asked, style, epochs)
    # what follows from the number of steps is not known yet
    longer = schedule_of(config, asked, style, epochs, MANY + 1).parameters
    told = {k: v for k, v in schedule.parameters.items() if longer[k] == v}
    scheduler = schedule.made(optimizer, told)
    # torch notices some values, such as a step_size of 0, only when it takes a step
    given, name = config.get(KEY.OPTIM_PARAM) or {}, str(config[KEY.OPTIMIZER])
    _made(optimizer.step, given, KEY.OPTIM_PARAM, name.lower())
    metric = (1.0,) if schedule.name == OF_METRIC else ()
    step = partial(scheduler.step, *metric)
    _made(step, told, KEY.SCHEDULER_PARAM, schedule.name)


def _known(config: Config, key: str, known: Config) -> str:
    """The word of a key in lower case; UserError if it is not known."""
    name = str(config[key]).lower()
    if name not in known:
        raise unknown(f'train.{key}', str(config[key]), known)
    return name


def _made(make: Callable[[], Any], given: Config, key: str, name: str) -> Any:
    """What `make` makes; UserError if it refuses the block `key`, as `given`."""
    try:
        return make()
    except TROUBLE as error:
        # the host's own schedule asserts that its warm-up is shorter than its cycle
        why = str(error).strip().rstrip('.') or 'the warm-up takes the whole run'
        raise UserError(
            f': {why}; {name} was given {recipe.flow(given)}.', f'train.{key}'
        ) from None
