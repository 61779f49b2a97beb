"""Which optimiser and which schedule of the learning rate a run has."""

from __future__ import annotations

from typing import Any

from sevenn import _keys as KEY
from sevenn.train.optim import optim_dict, scheduler_dict

from sevennet_mf.errors import unknown

Config = dict[str, Any]


def classes_of(config: Config) -> tuple[Any, Any]:
    """Return the classes of the optimiser and the schedule that a YAML names.

    Args:
        config: the host's, with `optimizer` and `scheduler` in any case.

    Raises:
        UserError: SevenNet has no such optimiser or schedule.
    """
    chosen = []
    for key, known in ((KEY.OPTIMIZER, optim_dict), (KEY.SCHEDULER, scheduler_dict)):
        name = str(config[key]).lower()
        if name not in known:
            raise unknown(f'train.{key}', str(config[key]), known)
        chosen.append(known[name])
    return chosen[0], chosen[1]


def scheduler_arguments(config: Config) -> Config:
    """Return the parameters of the schedule, complete."""
    given = dict(config.get(KEY.SCHEDULER_PARAM) or {})
    if str(config[KEY.SCHEDULER]).lower() == 'exponentiallr':
        # a checkpoint may bring the host's default scheduler, which needs a gamma
        given.setdefault('gamma', 1.0)
    return given
