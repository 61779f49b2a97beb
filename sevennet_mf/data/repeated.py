"""Which of many structures are the same, for a whole data set at once.

The answer is that of identity.Known, to which they are given one after another.
Most structures resemble no other: a search tree finds those that do, and only these
are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from sevennet_mf.arrays import Floats, Ints
from sevennet_mf.data.geometry import TOLERANCE, Geometry
from sevennet_mf.data.identity import FILED, WINDOW
from sevennet_mf.data.match import AT_ONCE, match

# of the numbers of a signature, those that the tree is made of
SEARCHED: Final[list[int]] = list(FILED[3:])
# the search is in double precision, the comparison in single
REACH: Final[float] = 1.001 * WINDOW
APART: Final[float] = 1e3 * WINDOW  # between structures of different atoms
LEAF: Final[int] = 64  # structures in a leaf of the tree: more take less memory
CHUNK: Final[int] = 4096  # structures that are searched for at once

Signatures: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Identity:
    """Of n structures: marks, (n,) int64, and orders, (n,); see identity.Same."""

    marks: Ints
    orders: NDArray[np.object_]

    def at(self, rows: Ints) -> Identity:
        return Identity(self.marks[rows], self.orders[rows])


def identify(
    digest: Ints,
    kind: Ints,
    signatures_of: Callable[[Ints], Signatures],
    geometry_of: Callable[[int], Geometry],
) -> Identity:
    """Return which of n structures are the same.

    Args:
        digest, kind: (n,), see identity.Traits.
        signatures_of: returns the signatures, (k, WIDTH), of some of them.
        geometry_of: returns the geometry of the i-th of them.
    """
    search = _Lookup(kind, signatures_of, geometry_of)
    first = np.arange(len(digest))  # of each structure, its first representation
    orders: NDArray[np.object_] = np.empty(len(digest), object)
    for i in search.resembling():
        found = search.earlier(i)
        if found is not None:
            first[i], orders[i] = found
    is_first = first == np.arange(len(digest))
    marks = np.zeros(len(digest), np.int64)
    marks[is_first] = _different(digest[is_first])
    return Identity(marks[first], orders)


def _different(digests: Ints) -> Ints:
    """The marks of structures, none of which is another: digests but for chance."""
    marks = digests.copy()
    values, count = np.unique(digests, return_counts=True)
    alike = values[count > 1]  # of structures that are written alike
    taken: set[int] = set()
    for i in np.flatnonzero(np.isin(digests, alike)) if len(alike) else ():
        mark = int(digests[i])
        if mark in taken:
            while mark in taken or _is_in(values, mark):
                mark += 1
        taken.add(mark)
        marks[i] = mark
    return marks


def _is_in(values: Ints, mark: int) -> bool:
    """Whether a number is among sorted ones."""
    at = int(np.searchsorted(values, mark))
    return at < len(values) and int(values[at]) == mark


class _Lookup:
    """Finds structures that may be the same, among structures in their order."""

    def __init__(
        self,
        kind: Ints,
        signatures_of: Callable[[Ints], Signatures],
        geometry_of: Callable[[int], Geometry],
    ) -> None:
        self.signatures_of, self.geometry_of = signatures_of, geometry_of
        self.points: Floats = np.empty((len(kind), 1 + len(SEARCHED)))
        self.points[:, 0] = np.unique(kind, return_inverse=True)[1]
        self.points[:, 0] *= APART
        for start in range(0, len(kind), CHUNK):
            rows = np.arange(start, min(start + CHUNK, len(kind)))
            self.points[rows, 1:] = signatures_of(rows)[:, SEARCHED]
        # neither balanced nor compact: it is asked about once for each structure
        self.tree = cKDTree(
            self.points, LEAF, balanced_tree=False, compact_nodes=False
        )
        self.firsts: set[int] = set()  # representations that others may be like

    def resembling(self) -> Iterator[int]:
        """Yield those that another one may be the same as, in their order."""
        for start in range(0, len(self.points), CHUNK):
            distance, _ = self.tree.query(
                self.points[start : start + CHUNK],
                k=[2],  # the nearest is the structure itself, or one like it
                p=np.inf,
                distance_upper_bound=REACH,
            )
            near = np.flatnonzero(np.isfinite(distance[:, 0]))
            yield from (near + start).tolist()

    def earlier(self, i: int) -> tuple[int, Ints | None] | None:
        """Return the first representation of structure i before it, if any.

        Also how its atoms correspond; see identity.Same.
        """
        near = self.tree.query_ball_point(self.points[i], REACH, p=np.inf)
        known = np.array(sorted(k for k in near if k < i and k in self.firsts), int)
        best: tuple[float, int, Ints | None] | None = None
        geometry = None
        for k in self._alike(i, known):
            geometry = geometry or self.geometry_of(i)
            how = match(self.geometry_of(k), geometry)
            if how is not None and (best is None or how.distance < best[0]):
                best = how.distance, k, how.order
                if how.distance <= AT_ONCE * TOLERANCE:
                    break
        if best is None:
            self.firsts.add(i)
        return None if best is None else best[1:]

    def _alike(self, i: int, known: Ints) -> list[int]:
        """Those of `known` whose whole signature is that of structure i."""
        if not len(known):
            return []
        own, theirs = self.signatures_of(np.array([i])), self.signatures_of(known)
        near = (np.abs(theirs - own) <= WINDOW).all(axis=1)
        return known[near].tolist()
