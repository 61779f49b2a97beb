"""Which structures are left out together to test the predictions of a difference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from sevennet_mf.arrays import N_SPECIES, Floats, Ints

FOLDS: Final[int] = 5
MOST_FOLDS: Final[int] = 10
# of the largest; what is smaller is rounding. One atom in a hundred in one of a
# thousand structures gives 1e-7
LEAST_SQUARE: Final[float] = 1e-10


def folds(structures: Sequence[Ints]) -> list[int]:
    """Return which structures are left out together, as fold numbers from 0.

    Each fold has one stoichiometry, if there are enough, because the structures to
    be predicted usually have another one. Otherwise folds are random.

    Args:
        structures: atomic numbers of each.
    """
    kinds = [_stoichiometry(numbers) for numbers in structures]
    number = {kind: k for k, kind in enumerate(sorted(set(kinds)))}
    if len(number) >= FOLDS:
        return [number[kind] % MOST_FOLDS for kind in kinds]
    order = np.random.default_rng(0).permutation(len(structures))
    return [int(place) % FOLDS for place in np.argsort(order)]


def _stoichiometry(numbers: Ints) -> tuple[int, ...]:
    count = np.bincount(numbers, minlength=N_SPECIES)
    return tuple((count // np.gcd.reduce(count)).tolist())


def spans(others: Floats, left_out: Floats) -> bool:
    """Return whether the compositions left out are combinations of the others.

    Only these determine the energies of elements: along a direction that only
    left-out structures have, the prediction would be the label itself or the prior.

    Args:
        others, left_out: (n_elements, n_elements), sums of x x^T of compositions x.
    """
    value, vector = np.linalg.eigh(others)
    unknown = vector[:, value <= LEAST_SQUARE * value[-1]]
    square = float(np.sum(unknown * (left_out @ unknown)))
    return square <= LEAST_SQUARE * float(np.trace(left_out))
