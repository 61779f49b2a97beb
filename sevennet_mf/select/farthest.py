"""Farthest-point sampling, element by element.

The distance of an atom to a set of structures is that to the nearest of their atoms
of the same element, in units of that element's spread. Each choice is followed by
one matrix product of all features with those of the structure chosen. Time grows as
atoms x atoms chosen x width; memory holds the features and one number per atom.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from sevennet_mf.arrays import Bools, Floats
from sevennet_mf.model.runner import Values
from sevennet_mf.select.features import CHUNK, NodeFeatures

MEAN, MAX = 'mean', 'max'
# in spreads: float32 cannot tell nearer environments apart, and nobody needs to
SAME: Final[float] = 1e-3
BLOCK: Final[int] = 1024  # chosen atoms that all others are compared with at once


class Coverage:
    """How far every atom of a pool is from what has been chosen.

    Args:
        features: Standardised features of the pool.
        of: What the distance of a structure is: 'mean' (over its atoms of each
            element, then over its elements) or 'max' (over its atoms).

    Attributes:
        unseen: The distance of an atom whose element is in no chosen structure:
            twice the largest distance from the mean of any element, so that no
            distance within the pool is larger.
    """

    def __init__(self, features: NodeFeatures, of: str = MEAN) -> None:
        assert of in (MEAN, MAX), of
        self.features, self.of = features, of
        self._nearest: dict[int, Floats] = {}
        self._rows, self._starts, self._counts = {}, {}, {}
        self._from_mean: dict[int, Floats] = {}
        for z, owner in features.owner.items():
            rows, starts = np.unique(owner, return_index=True)
            self._rows[z], self._starts[z] = rows, starts
            self._counts[z] = np.diff([*starts, len(owner)])
            self._from_mean[z] = np.linalg.norm(features.values[z], axis=1)
            self._nearest[z] = np.full(len(owner), np.inf)
        radii = [radius.max() for radius in self._from_mean.values()]
        self.unseen = 2.0 * max(1.0, *radii)

    def add(self, chosen: Mapping[int, Values]) -> None:
        """Add structures to those chosen.

        Args:
            chosen: (atoms, width) standardised features, by atomic number.
        """
        for z, own in chosen.items():
            if z not in self._nearest:  # no structure of the pool has the element
                continue
            values, nearest = self.features.values[z], self._nearest[z]
            for i in range(0, len(values), CHUNK):
                part = values[i : i + CHUNK].astype(np.float64)
                squares = np.square(part).sum(axis=1)
                for j in range(0, len(own), BLOCK):
                    found = _smallest(part, squares, own[j : j + BLOCK])
                    np.minimum(
                        nearest[i : i + CHUNK], found, out=nearest[i : i + CHUNK]
                    )

    def distances(self) -> Floats:
        """Return the distance of each structure, (n,), in spreads."""
        known = {
            z: np.where(np.isinf(nearest), self.unseen, nearest)
            for z, nearest in self._nearest.items()
        }
        return self._means(known) if self.of == MEAN else self._largest(known)

    def lacking(self) -> Bools:
        """Return whether a structure has an element that no chosen one has, (n,)."""
        found = np.zeros(self.features.n, dtype=bool)
        for z, rows in self._rows.items():
            if np.isinf(self._nearest[z][0]):  # then of all its atoms
                found[rows] = True
        return found

    def covered(self) -> Bools:
        """Return whether each atom of a structure equals a chosen one, (n,)."""
        return self._largest(self._nearest) < SAME

    def typical(self) -> Floats:
        """Return the distance of each structure from the mean of the pool, (n,)."""
        return self._means(self._from_mean)

    def _means(self, values: Mapping[int, Floats]) -> Floats:
        total, elements = np.zeros(self.features.n), np.zeros(self.features.n)
        for z, rows in self._rows.items():
            sums = np.add.reduceat(values[z], self._starts[z])
            total[rows] += sums / self._counts[z]
            elements[rows] += 1.0
        return total / elements

    def _largest(self, values: Mapping[int, Floats]) -> Floats:
        largest = np.zeros(self.features.n)
        for z, rows in self._rows.items():
            found = np.maximum.reduceat(values[z], self._starts[z])
            largest[rows] = np.maximum(largest[rows], found)
        return largest


def _smallest(part: Floats, squares: Floats, own: Values) -> Floats:
    """(atoms,) distance of each to the nearest of `own`; squares: |part|^2."""
    chosen = own.astype(np.float64)
    product = part @ chosen.T
    product *= -2.0
    product += squares[:, None]
    product += np.square(chosen).sum(axis=1)
    return np.sqrt(np.maximum(product.min(axis=1), 0.0))


@dataclass(frozen=True)
class Pick:
    """One choice.

    Attributes:
        index: Index of the structure in the pool.
        score: distance x weight at the time of the choice.
        distance: Distance at that time, in spreads.
        lacking: Whether it adds an element, so that score and distance are
            placeholders.
    """

    index: int
    score: float
    distance: float
    lacking: bool


@dataclass(frozen=True, eq=False)
class Chosen:
    """All choices.

    Attributes:
        choices: In the order of choosing.
        left: (choices + 1, 2) largest and mean distance of the structures not
            chosen, before the first choice and after each one.
    """

    choices: list[Pick]
    left: Floats


def choose(
    coverage: Coverage,
    n: int,
    weight: Floats,
    cost: Floats | None = None,
    budget: float = np.inf,
    seed: int | None = None,
) -> Chosen:
    """Choose structures one by one, each time the one with the highest score.

    As long as some structures have an element that no chosen one has, one of these
    is chosen: no label determines their energy. Among equal scores the most typical
    structure is chosen; it is also the first one if nothing was chosen before and
    all weights are equal. Ends before `n` if the budget is spent, or if all that
    remain have the same atoms as chosen ones.

    Args:
        weight: (n,) what the distance is multiplied by.
        cost: (n,) cost of each structure.
        budget: Upper limit for the total cost of what is chosen.
        seed: If given, the first structure is chosen at random.
    """
    cost = np.zeros(coverage.features.n) if cost is None else cost
    typical, open_ = coverage.typical(), np.ones(coverage.features.n, dtype=bool)
    distances = coverage.distances()
    choices: list[Pick] = []
    left = [_left(distances, open_)]
    while len(choices) < n:
        possible = open_ & ~coverage.covered() & (cost <= budget)
        if not possible.any():
            break
        lacking = possible & coverage.lacking()
        if lacking.any():
            possible = lacking
        score = np.where(possible, distances * weight, -np.inf)
        if seed is not None and not choices:
            best = np.flatnonzero(possible)
            index = int(np.random.default_rng(seed).choice(best))
        else:
            best = np.flatnonzero(score >= score.max() - 1e-9 * abs(score.max()))
            index = int(best[typical[best].argmin()])
        at = float(score[index]), float(distances[index])
        choices.append(Pick(index, *at, lacking=bool(lacking.any())))
        open_[index] = False
        budget -= cost[index]
        coverage.add(coverage.features.of(index))
        distances = coverage.distances()
        left.append(_left(distances, open_))
    return Chosen(choices, np.array(left))


def _left(distances: Floats, open_: Bools) -> tuple[float, float]:
    if not open_.any():
        return 0.0, 0.0
    return float(distances[open_].max()), float(distances[open_].mean())
