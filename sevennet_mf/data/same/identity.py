"""Is it the same structure? One answer for pairs, leaks, repeats, splits and pools.

Two representations are of one structure if a shift, wrapping, another order of the
atoms, other vectors of the same lattice or noise below geometry.TOLERANCE transforms
one into the other. Labels are transferred between them with the atoms reordered.
"""

from __future__ import annotations

import hashlib
import itertools
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from sevennet_mf.arrays import Floats, Ints
from sevennet_mf.data.reading.read import Structure
from sevennet_mf.data.same.geometry import TOLERANCE, Geometry, signature
from sevennet_mf.data.same.match import AT_ONCE, match

# what signatures of one structure differ by at most; see geometry.signature
WINDOW: Final[float] = 1.5
# numbers of a signature that structures are filed by, and how wide a drawer is: the
# lengths of a lattice are often equal, waves and distances hardly ever
FILED: Final[tuple[int, ...]] = (0, 1, 2, 3, 11, 13, 19, 21)
DRAWER: Final[Floats] = WINDOW * np.array([32.0] * 3 + [4.0] * 5)
# so that what is zero, or a round number, is not at the edge of a drawer
OFFSET: Final[float] = 0.3819660113
IN_MEMORY: Final[int] = 1 << 26  # bytes of geometries; more are in a file


@dataclass(frozen=True, eq=False)
class Traits:
    """What helps to find other representations of a structure.

    Attributes:
        digest: 64-bit hash of the representation, rounded to 1e-3 Å.
        kind: 64-bit hash of its atoms and of the number of periodic directions.
        signature: as from geometry.signature.
    """

    digest: int
    kind: int
    signature: Floats

    @classmethod
    def of(cls, structure: Structure, geometry: Geometry) -> Traits:
        directions = np.array([len(geometry.lattice)])
        kind = _hashed(np.sort(geometry.numbers), directions)
        return cls(digest(structure), kind, signature(geometry))


def digest(structure: Structure) -> int:
    """Return a 64-bit hash of a representation, which tells whether a file changed.

    Two representations of one structure may have different hashes.
    """
    lengths = [structure.positions, structure.cell]
    grains = [np.rint(x / TOLERANCE) for x in lengths if x is not None]
    return _hashed(structure.numbers, *grains)


def _hashed(*values: np.ndarray) -> int:
    found = hashlib.sha256()
    for value in values:
        found.update(value.astype(np.int64).tobytes())
    return int.from_bytes(found.digest()[:8], 'little', signed=True)


@dataclass(frozen=True, eq=False)
class Same:
    """Which structure a representation is of.

    Attributes:
        mark: equal for all representations of one structure.
        order: (n_atoms,); atom i of the first representation is atom order[i] of
            this one; None: atom i.
    """

    mark: int
    order: Ints | None

    def in_first_order(self, values: Floats) -> Floats:
        """Return (n_atoms, ...) values in the order of the first representation."""
        return values if self.order is None else values[self.order]


def order_between(this: Ints | None, other: Ints | None) -> Ints | None:
    """Return (n_atoms,): atom i of `other` is atom result[i] of `this`; None: i.

    Args:
        this, other: `order` of two representations of one structure.
    """
    if other is None:
        return this
    back = np.argsort(other)
    return back if this is None else this[back]


class Known:
    """The structures so far, each in its first representation.

    Attributes:
        geometry_of: returns the geometry of the n-th placed structure, which need
            not be in memory.
    """

    def __init__(self, geometry_of: Callable[[int], Geometry]) -> None:
        self._geometry_of = geometry_of
        self._drawers: dict[tuple[int, ...], list[int]] = {}
        self._signatures: dict[int, Floats] = {}
        self._marks: dict[int, int] = {}  # of the first writings
        self._taken: set[int] = set()
        self._count = 0

    def place(self, traits: Traits) -> Same:
        """Return which structure the next one is, and remember it."""
        number = self._count
        self._count += 1
        found: tuple[float, int, Ints | None] | None = None
        own = None
        for other in self._alike(traits):
            own = own or self._geometry_of(number)
            how = match(self._geometry_of(other), own)
            if how is not None and (found is None or how.distance < found[0]):
                found = how.distance, other, how.order
                if how.distance <= AT_ONCE * TOLERANCE:
                    break
        if found is not None:
            return Same(self._marks[found[1]], found[2])
        return Same(self._keep(number, traits), None)

    def _alike(self, traits: Traits) -> list[int]:
        """Numbers of those that the structure may be."""
        listed = [
            number
            for drawer in _drawers(traits, WINDOW)
            for number in self._drawers.get(drawer, ())
        ]
        if not listed:
            return []
        theirs = np.array([self._signatures[number] for number in listed])
        near = (np.abs(theirs - traits.signature) <= WINDOW).all(axis=1)
        return sorted(np.array(listed)[near].tolist())

    def _keep(self, number: int, traits: Traits) -> int:
        (drawer,) = _drawers(traits, 0.0)
        self._drawers.setdefault(drawer, []).append(number)
        self._signatures[number] = traits.signature
        mark = traits.digest
        while mark in self._taken:  # another structure that is written alike
            mark += 1
        self._taken.add(mark)
        self._marks[number] = mark
        return mark


def _drawers(traits: Traits, reach: float) -> Iterator[tuple[int, ...]]:
    """The drawers within reach of a signature."""
    filed = traits.signature[list(FILED)]
    low, high = (
        np.floor((filed + step) / DRAWER + OFFSET).astype(np.int64).tolist()
        for step in (-reach, reach)
    )
    choices = (
        (a,) if a == b else (a, b) for a, b in zip(low, high, strict=True)
    )
    return itertools.product((traits.kind,), *choices)


def first_of(marks: Ints, wanted: Ints) -> Ints:
    """Return for each of `wanted` its first position in `marks`, or -1."""
    if len(marks) == 0:
        return np.full(len(wanted), -1, np.int64)
    known, first = np.unique(marks, return_index=True)
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    found: Ints = np.where(known[at] == wanted, first[at], -1)
    return found


def nearest(one: Geometry, others: Iterable[Geometry]) -> int:
    """Return the index of the representation in `others` closest to `one`."""
    best, least = 0, np.inf
    for number, other in enumerate(others):
        how = match(one, other)
        if how is not None and how.distance < least - AT_ONCE * TOLERANCE:
            best, least = number, how.distance
        if least <= AT_ONCE * TOLERANCE:
            break
    return best


def partners(
    marks: Ints,
    rows: Ints,
    wanted: Ints,
    rows_wanted: Ints,
    geometry_of: Callable[[int], Geometry],
) -> Ints:
    """Return where each of `wanted` is in `marks`, the nearest of several.

    Args:
        marks: (n,).
        rows: (n,), arguments of geometry_of for `marks`.
        wanted: (k,) marks.
        rows_wanted: (k,), arguments of geometry_of for `wanted`.

    Returns:
        (k,) positions in `marks`, or -1.
    """
    found = first_of(marks, wanted)
    order = np.argsort(marks, kind='stable')
    start, end = (
        np.searchsorted(marks[order], wanted, side) for side in ('left', 'right')
    )
    for at in np.flatnonzero(end - start > 1):
        same = order[start[at] : end[at]]
        others = (geometry_of(int(k)) for k in rows[same])
        found[at] = same[nearest(geometry_of(int(rows_wanted[at])), others)]
    return found


class Reader:
    """Recognises structures that are read one after another.

    It keeps the atoms of all of them, in memory or, if there are many, in a file.
    """

    def __init__(self) -> None:
        self._stored = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115
        weakref.finalize(self, self._stored.close)
        self._where: list[tuple[int, int, Floats]] = []
        self._known = Known(self.geometry)

    def same(self, structure: Structure) -> Same:
        """Return which structure the next one is, and remember it."""
        geometry = Geometry.of(structure)
        self._store(geometry)
        return self._known.place(Traits.of(structure, geometry))

    def _store(self, geometry: Geometry) -> None:
        start = self._stored.seek(0, 2)
        # from the middle, where 32 bits are enough
        inside = geometry.positions - geometry.positions.mean(axis=0)
        self._stored.write(geometry.numbers.astype(np.int16).tobytes())
        self._stored.write(inside.astype(np.float32).tobytes())
        self._where.append((start, len(geometry.numbers), geometry.lattice))

    def geometry(self, number: int) -> Geometry:
        """Return the atoms and lattice of the structure with this number, from 0."""
        start, n, lattice = self._where[number]
        self._stored.seek(start)
        numbers = np.frombuffer(self._stored.read(2 * n), np.int16)
        positions = np.frombuffer(self._stored.read(12 * n), np.float32)
        return Geometry(
            numbers.astype(np.int64),
            positions.astype(np.float64).reshape(n, 3),
            lattice,
        )
