"""In which order labels of the target are added to the training sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from sevennet_mf.arrays import Ints
from sevennet_mf.data.graphs import composition
from sevennet_mf.study.plan.labels import Labels, chances

NEW_DIRECTION: Final[float] = 1e-6  # of a composition vector of length about 1


def label_order(pool: Labels, seed: int, first: Sequence[int] = ()) -> list[int]:
    """Return the rows of a pool in the order in which labels are added.

    At random, but `first` lead; then those that bring a new element or a new
    direction of composition, so that a few labels determine reference energies.
    """
    by_chance = np.argsort(chances(pool, seed), kind='stable').tolist()
    led = [i for i in by_chance if i in set(first)]
    by_chance = [*led, *(i for i in by_chance if i not in set(first))]
    basis: list[np.ndarray] = []
    leading = []
    for i in by_chance:
        direction = _new_direction(pool.structures[i].numbers, basis)
        if direction is not None:
            basis.append(direction)
            leading.append(i)
    leading = [*led, *(i for i in leading if i not in set(led))]
    taken = set(leading)
    return [*leading, *(i for i in by_chance if i not in taken)]


def _new_direction(numbers: Ints, basis: list[np.ndarray]) -> np.ndarray | None:
    """The part of a composition that a basis lacks, of length 1; None if small."""
    count = composition(numbers).astype(np.float64)
    rest = count / np.linalg.norm(count)
    for vector in basis:
        rest = rest - (rest @ vector) * vector
    length = float(np.linalg.norm(rest))
    return rest / length if length > NEW_DIRECTION else None
