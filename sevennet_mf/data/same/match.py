"""Whether two geometries are one structure, and which atoms correspond."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from sevennet_mf.arrays import Floats, Ints
from sevennet_mf.data.same.geometry import TOLERANCE, Geometry, periodic_tree
from sevennet_mf.data.same.lattice import inverse_of, reduced

# of TOLERANCE: where atoms are this near, no nearer way is looked for
AT_ONCE: Final[float] = 0.01
TESTED: Final[int] = 4  # atoms that a shift is tried on before all are
STEPS: Final[int] = 40  # towards the best shift
APART: Final[float] = 100.0  # Å between atoms of two elements, to the search


@dataclass(frozen=True, eq=False)
class Match:
    """How two geometries of one structure correspond.

    Attributes:
        order: (n_atoms,); atom i of the one is atom order[i] of the other; None: i.
        distance: in Å, the largest displacement of an atom after the best shift.
    """

    order: Ints | None
    distance: float


def match(one: Geometry, other: Geometry) -> Match | None:
    """Return how `other` corresponds to `one`; None if it is another structure.

    A shift, wrapping, another order of the atoms, other vectors of the same lattice,
    and displacements of an atom or a vector up to TOLERANCE leave the structure the
    same; a rotation, a reflection or a larger cell do not. If symmetry allows
    several correspondences, it is the one with the smallest displacements,
    preferably in the order of the files.
    """
    pair = _Pair.of(one, other)
    if pair is None:
        return None
    best = pair.in_order()
    if best is not None and best.distance <= AT_ONCE * TOLERANCE:
        return best
    for found in pair.reordered():
        if best is None or found.distance < best.distance - AT_ONCE * TOLERANCE:
            best = found
        if best.distance <= AT_ONCE * TOLERANCE:
            break
    return best


@dataclass(frozen=True, eq=False)
class _Pair:
    """Two geometries of the same elements in one lattice.

    basis: (d, 3) Å; numbers: (n,); parts: (n, d) of the basis; across: (n, 3) Å,
    what is not along it; each for `one` and for `other`.
    """

    basis: Floats
    numbers: tuple[Ints, Ints]
    parts: tuple[Floats, Floats]
    across: tuple[Floats, Floats]

    @classmethod
    def of(cls, one: Geometry, other: Geometry) -> _Pair | None:
        numbers = one.numbers, other.numbers
        if len(one.numbers) != len(other.numbers) or (
            np.sort(one.numbers) != np.sort(other.numbers)
        ).any():
            return None
        basis, theirs = reduced(one.lattice), reduced(other.lattice)
        if len(basis) != len(theirs):
            return None
        inverse = inverse_of(basis)
        whole = np.rint(theirs @ inverse)
        if len(basis) and (
            abs(round(float(np.linalg.det(whole)))) != 1
            or np.linalg.norm(theirs - whole @ basis, axis=1).max() > TOLERANCE
        ):
            return None
        own = one.positions @ inverse
        parts = other.positions @ inverse_of(theirs)
        across = one.positions - own @ basis, other.positions - parts @ theirs
        return cls(basis, numbers, (own, parts @ whole), across)

    def in_order(self) -> Match | None:
        """The match without another order of the atoms."""
        if (self.numbers[0] != self.numbers[1]).any():
            return None
        distance = self._distance(np.arange(len(self.numbers[0])), 0, 0)
        return None if distance > TOLERANCE else Match(None, distance)

    def _distance(self, order: Ints, i: int, j: int) -> float:
        """Å that an atom is off at most, with atoms i and j about on each other."""
        step = self.parts[1][order] - self.parts[1][j] - self.parts[0]
        step += self.parts[0][i]
        step -= np.rint(step)
        off = step @ self.basis + self.across[1][order] - self.across[0]
        return _radius(off)

    def reordered(self) -> Iterator[Match]:
        """All matches that put one atom of the rarest element on another."""
        mine, theirs = self.numbers
        n = len(mine)
        elements, count = np.unique(mine, return_counts=True)
        rarest = elements[count.argmin()]
        i = int(np.flatnonzero(mine == rarest)[0])
        anchors = np.flatnonzero(theirs == rarest)
        search = _Search(self, i)
        tested = np.linspace(0, n - 1, min(TESTED, n)).astype(int)
        # no atom is off by more than this where one is on its partner
        near = search.nearest(anchors, tested)[0] <= 2 * TOLERANCE
        for j in anchors[near.all(axis=1)]:
            _, (places,) = search.nearest(np.array([j]), np.arange(n))
            order = np.argsort(places, kind='stable')
            # each atom of the one is taken once, by its own element
            once = (places[order] == np.arange(n)).all()
            if once and (mine == theirs[order]).all():
                distance = self._distance(order, i, int(j))
                if distance <= TOLERANCE:
                    yield Match(order, distance)


def _radius(points: Floats) -> float:
    """The radius of about the smallest sphere around points (n, 3)."""
    centre = 0.5 * (points.min(axis=0) + points.max(axis=0))
    least = np.inf
    for step in range(2, STEPS):
        square = ((points - centre) ** 2).sum(axis=1)
        farthest = int(square.argmax())
        least = min(least, float(np.sqrt(square[farthest])))
        if not TOLERANCE < least < 2 * TOLERANCE:
            break  # what it is exactly does not matter
        # Badoiu and Clarkson: towards the farthest, ever less
        centre = centre + (points[farthest] - centre) / step
    return least


class _Search:
    """Finds atoms of the one near atoms of the other, shifted onto its atom i."""

    def __init__(self, pair: _Pair, i: int) -> None:
        self.pair = pair
        # Å between planes of the lattice: so much is one in `parts`
        self.heights = 1 / np.linalg.norm(inverse_of(pair.basis), axis=0)
        parts = pair.parts[0] - pair.parts[0][i]
        across = pair.across[0] - pair.across[0][i]
        element = APART * pair.numbers[0][:, None]
        others = np.concatenate([across, element], axis=1)
        self.tree = periodic_tree(parts, others, self.heights)

    def nearest(self, origins: Ints, atoms: Ints) -> tuple[Floats, Ints]:
        """(len(origins), len(atoms)) each: Å to the nearest of the one, and which.

        Å as the largest of all coordinates, which is no more than the distance.
        """
        parts, across = self.pair.parts[1], self.pair.across[1]
        inside = (parts[atoms] - parts[origins, None]) * self.heights
        outside = across[atoms] - across[origins, None]
        shape = len(origins), len(atoms)
        element = APART * self.pair.numbers[1][atoms, None]
        element = np.broadcast_to(element, (*shape, 1))
        points = np.concatenate([inside, outside, element], axis=2)
        distance, place = self.tree.query(points, p=np.inf)
        return distance, place.astype(np.int64)
