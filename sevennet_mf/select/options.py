"""Options of a selection, and their checks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sevennet_mf.errors import UserError
from sevennet_mf.select import farthest, features, output
from sevennet_mf.select.pool import NONE

DEFAULT_N: Final[int] = 20


@dataclass(frozen=True)
class Options:
    """How `select` chooses.

    Attributes:
        n: Number of structures; by default 20, all of fewer, or as many as the
            budget allows.
        fidelity: Of the checkpoints; needed if one has several.
        distance: `'mean'` over the atoms of a structure, or `'max'`.
        disagreement: Further checkpoints.
        disagreement_of: What they disagree on, `'force'` or `'energy'`.
        cost: `'none'`, `'atoms3'` or a key of `atoms.info`.
        budget: What the costs may sum to.
        keep: Keys of `atoms.info` that are written again.
        seed: Take the first structure at random, with this seed.
        batch_size: Structures at a time.
        device: `'cpu'`, `'cuda'`, or `'auto'` for a GPU if there is one.
        progress: Show a bar, if there is a terminal.
    """

    n: int | None = None
    fidelity: str | None = None
    distance: str = farthest.MEAN
    disagreement: Sequence[str] = ()
    disagreement_of: str = features.FORCE
    cost: str = NONE
    budget: float | None = None
    keep: Sequence[str] = ()
    seed: int | None = None
    batch_size: int = 8
    device: str = 'cpu'
    progress: bool = True


def check(options: Options) -> None:
    """Check options before anything is read.

    Raises:
        UserError: For a value out of range, or options that contradict each other.
    """
    least = {'-n': options.n, '--batch_size': options.batch_size}
    for name, value in least.items():
        if value is not None and value < 1:
            raise UserError(f'{name} must be 1 or more, got {value}.')
    if options.seed is not None and options.seed < 0:
        raise UserError(f'--seed must be 0 or more, got {options.seed}.')
    if options.budget is not None and options.cost == NONE:
        raise UserError(
            f'--budget {options.budget:g} needs the cost of a structure: give '
            '--cost.'
        )
    if options.budget is not None and not 0 < options.budget < math.inf:
        raise UserError(
            f'--budget must be a number above 0, got {options.budget:g}. Without '
            '--budget, costs have no limit.'
        )
    if options.disagreement_of != features.FORCE and not options.disagreement:
        raise UserError(
            f'--disagreement_of {options.disagreement_of} needs --disagreement with '
            'further checkpoints.'
        )
    output.check_keys(options.keep)


def number(options: Options, given: int, pool: int) -> int:
    """Return how many structures to choose.

    Args:
        given: Number of structures in the files.
        pool: How many of them are neither copies nor labelled.

    Raises:
        UserError: If more are asked for than were given, or if `pool` is 0.
    """
    if pool == 0:
        raise UserError(
            f'all {given} structures are already labelled: there is nothing to '
            'choose.'
        )
    if options.n is None:
        return min(DEFAULT_N, pool) if options.budget is None else pool
    if options.n > given:
        raise UserError(
            f'-n {options.n}: there are only {given} structures to choose from. Ask '
            'for fewer, or give more files.'
        )
    return options.n
