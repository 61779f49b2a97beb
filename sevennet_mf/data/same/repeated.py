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

from sevennet_mf.arrays import Bools, Floats, Ints
from sevennet_mf.data.same.geometry import TOLERANCE, Geometry
from sevennet_mf.data.same.identity import WINDOW
from sevennet_mf.data.same.match import AT_ONCE, match

SEARCHED: Final[int] = 5  # numbers of a signature that the tree is made of
SAMPLED: Final[int] = 4096  # structures that these are chosen by
NEIGHBOURS: Final[int] = 8  # others that each of them is compared with
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
    column: Callable[[str], Ints],
    signatures_of: Callable[[Ints], Signatures],
    geometry_of: Callable[[int], Geometry],
) -> Identity:
    """Return which of n structures are the same.

    Args:
        column: returns all 'digest' or 'kind', (n,), see identity.Traits. Each is
            asked for when it is needed, and not kept.
        signatures_of: returns the signatures, (k, WIDTH), of some of them.
        geometry_of: returns the geometry of the i-th of them.
    """
    search = _Lookup(_numbered(column('kind')), signatures_of, geometry_of)
    n = len(search.points)
    first = np.arange(n)  # of each structure, its first representation
    orders: NDArray[np.object_] = np.empty(n, object)
    for i in search.resembling():
        found = search.earlier(i)
        if found is not None:
            first[i], orders[i] = found
    del search
    marks = column('digest')
    is_first = first == np.arange(n)
    marks[is_first] = _different(marks[is_first])
    return Identity(marks[first], orders)


def _numbered(kind: Ints) -> NDArray[np.int32]:
    """Numbers from 0 in place of hashes, in less memory than np.unique needs."""
    order = np.argsort(kind, kind='stable')
    number = np.empty(len(kind), np.int32)
    number[order] = np.cumsum(np.diff(kind[order], prepend=kind[order[:1]]) != 0)
    return number


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


def _telling(
    kind: NDArray[np.int32], signatures_of: Callable[[Ints], Signatures]
) -> list[int]:
    """The numbers of a signature that together tell the structures apart best.

    In small cells many distances are those of the lattice, in a trajectory the cell
    is one: which ones tell depends on the data. They are chosen one after another,
    by pairs of structures of the same atoms.
    """
    random = np.random.default_rng(0)
    rows = np.sort(random.permutation(len(kind))[:SAMPLED])
    signatures = signatures_of(rows)
    order = np.argsort(kind[rows], kind='stable')
    none = np.zeros((0, signatures.shape[1]), bool)
    found = [none]
    for step in range(1, min(NEIGHBOURS, len(order))):
        one, other = order[:-step], order[step:]
        same = kind[rows[one]] == kind[rows[other]]
        apart = np.abs(signatures[one[same]] - signatures[other[same]])
        found.append(apart <= REACH)
    near = np.concatenate(found)
    near = near[~near.all(axis=1)]  # those are the same, by any number
    chosen: list[int] = []
    for _ in range(SEARCHED):
        left = near.sum(axis=0)
        left[chosen] = len(near) + 1
        chosen.append(int(left.argmin()))
        near = near[near[:, chosen[-1]]]
    return chosen


class _Lookup:
    """Finds structures that may be the same, among structures in their order."""

    def __init__(
        self,
        kind: NDArray[np.int32],
        signatures_of: Callable[[Ints], Signatures],
        geometry_of: Callable[[int], Geometry],
    ) -> None:
        """kind: (n,), equal for structures of the same atoms."""
        self.signatures_of, self.geometry_of = signatures_of, geometry_of
        searched = _telling(kind, signatures_of)
        self.points: Floats = np.empty((len(kind), 1 + len(searched)))
        np.multiply(kind, APART, out=self.points[:, 0])
        for start in range(0, len(kind), CHUNK):
            rows = np.arange(start, min(start + CHUNK, len(kind)))
            self.points[rows, 1:] = signatures_of(rows)[:, searched]
        # neither balanced nor compact: it is asked about once for each structure
        self.tree = cKDTree(
            self.points, LEAF, balanced_tree=False, compact_nodes=False
        )
        # representations that later ones may be like
        self.is_first: Bools = np.zeros(len(kind), bool)

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
        known = np.sort(np.array([k for k in near if k < i], np.int64))
        known = known[self.is_first[known]]
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
            self.is_first[i] = True
        return None if best is None else best[1:]

    def _alike(self, i: int, known: Ints) -> list[int]:
        """Those of `known` whose whole signature is that of structure i."""
        if not len(known):
            return []
        own, theirs = self.signatures_of(np.array([i])), self.signatures_of(known)
        near = (np.abs(theirs - own) <= WINDOW).all(axis=1)
        return known[near].tolist()
