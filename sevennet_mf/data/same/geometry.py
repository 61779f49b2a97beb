"""The atoms and lattice of a structure, however they are written.

Signatures are numbers that hardly differ between two representations of a structure;
they find candidates, and match.py decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from scipy.spatial import cKDTree
from sevenn import _keys as KEY
from sevenn.atom_graph_data import AtomGraphData

from sevennet_mf.arrays import Floats, Ints
from sevennet_mf.data.reading.read import Structure
from sevennet_mf.data.same.lattice import inverse_of, reduced, volume_of

# Å that an atom, or a vector of the cell, of the same structure may be off
TOLERANCE: Final[float] = 1e-3
RANGE: Final[float] = 2.2  # wave vectors up to this, in 2 pi / volume^(1/d)
# how many of the largest waves are kept, for each of the weights of elements
KEPT: Final[tuple[int, ...]] = (4, 2, 2)
CLOSE: Final[int] = 8  # how many distances are kept, of the shortest, of the longest
FAR: Final[float] = 4.0  # Å; distances beyond it count as this
DENSE: Final[int] = 100  # atoms; of more, not all pairs are looked at
# of a signature; processed data hold them, so that what changes them asks for
# another cache.CACHE_FORMAT
WIDTH: Final[int] = 3 + sum(KEPT) + 2 * CLOSE
# |S| of an atom of each element, for each kind of wave; positive
_WEIGHTS: Final[Floats] = 1.0 + 0.5 * np.cos(np.outer([1.0, 1.9, 2.7], range(119)))
# for each kind, a direction that no crystal is likely to be symmetric about
_AXES: Final[Floats] = np.array(
    [[0.36, 0.48, 0.80], [0.79, -0.59, 0.17], [-0.53, -0.63, 0.57]]
)
# 1/Å, along what does not repeat
_ACROSS: Final[Floats] = np.array([
    [0.31, 0.87, -0.45],
    [-1.02, 0.22, 0.38],
    [0.57, -0.41, 0.93],
    [0.83, 0.66, 0.29],
    [-0.24, 1.13, 0.61],
    [0.71, -0.19, -1.21],
])


@dataclass(frozen=True, eq=False)
class Geometry:
    """The atoms of a structure and the lattice that they repeat in.

    Attributes:
        numbers: (n_atoms,), atomic numbers.
        positions: (n_atoms, 3) in Å.
        lattice: (d, 3) in Å, the d vectors along which it repeats.
    """

    numbers: Ints
    positions: Floats
    lattice: Floats

    @classmethod
    def of(cls, structure: Structure) -> Geometry:
        """Return the geometry of a structure, of a graph as its edges allow."""
        if structure.cell is None:
            assert structure.graph is not None
            lattice = _lattice_in(structure.graph, structure.positions)
        else:
            assert structure.pbc is not None
            lattice = structure.cell[structure.pbc]
        return cls(structure.numbers, structure.positions, lattice)


def _lattice_in(graph: AtomGraphData, positions: Floats) -> Floats:
    """The shortest independent vectors that edges of a graph are shifted by."""
    if KEY.EDGE_VEC not in graph:
        return np.zeros((0, 3))
    i, j = graph[KEY.EDGE_IDX].numpy().reshape(2, -1)
    shifts = graph[KEY.EDGE_VEC].double().numpy() - positions[j] + positions[i]
    lengths = np.linalg.norm(shifts, axis=1)
    basis = np.zeros((0, 3))
    for k in np.argsort(lengths, kind='stable'):
        rest = shifts[k] - shifts[k] @ np.linalg.pinv(basis) @ basis
        if np.linalg.norm(rest) > max(0.1, 0.01 * lengths[k]):
            basis = np.concatenate([basis, shifts[k : k + 1]])
            if len(basis) == 3:
                break
    return basis


# ---- signatures


def signature(geometry: Geometry) -> Floats:
    """Return (WIDTH,) float32, unchanged by shifts, wrapping and the order of atoms.

    Displacements of atoms and lattice vectors by up to TOLERANCE change each number
    by about 1 at most. Lengths of the lattice come first, then what the atoms
    scatter, and their distances.
    """
    lattice = np.ascontiguousarray(geometry.lattice, np.float64)
    waves = _waves(lattice.tobytes())
    phases = geometry.positions @ waves.vectors.T
    weights = _WEIGHTS[:, geometry.numbers]
    real, imaginary = weights @ np.cos(phases), weights @ np.sin(phases)
    sizes = np.hypot(real, imaginary) / weights.sum(axis=1, keepdims=True)
    parts = [waves.lengths / TOLERANCE]
    sizes *= waves.factors
    sizes.sort(axis=1)
    for values, kept in zip(sizes[:, ::-1], KEPT, strict=True):
        parts.append(_few(values, kept, 0.0))
    shortest, nearest = _distances(geometry.positions, waves)
    shortest.sort()
    nearest.sort()
    two = 2 * TOLERANCE  # both atoms may move
    parts.append(_few(shortest, CLOSE, waves.far) / two)
    parts.append(_few(nearest[::-1], CLOSE, 0.0) / two)
    return np.concatenate(parts).astype(np.float32)


def _few(values: Floats, count: int, rest: float) -> Floats:
    """The first `count` values, `rest` for those that there are not."""
    found = np.full(count, rest)
    found[: len(values)] = values[:count]
    return found


@dataclass(frozen=True, eq=False)
class _Waves:
    """Of a lattice: its basis (d, 3), reduced, and the inverse of that (3, d).

    lengths: (3,) Å of the basis, 0 where it has none; vectors: (m, 3) 1/Å; factors:
    (kinds, m), what each amplitude per atom counts; far: Å, below which the nearest
    image of an atom is found by rounding.
    """

    basis: Floats
    inverse: Floats
    lengths: Floats
    vectors: Floats
    factors: Floats
    far: float


def _distances(positions: Floats, waves: _Waves) -> tuple[Floats, Floats]:
    """Å between atoms, at most `far`: of pairs, and (n,) to the nearest."""
    n, far = len(positions), waves.far
    i, j = _pairs(n) if n <= DENSE else _near_pairs(positions, waves)
    step = positions[j] - positions[i]
    step -= np.rint(step @ waves.inverse) @ waves.basis
    found = np.minimum(np.sqrt((step**2).sum(axis=1)), far)
    nearest = np.full(n, far)
    for atoms in (i, j):
        np.minimum.at(nearest, atoms, found)
    return found, nearest


@lru_cache(maxsize=DENSE + 1)
def _pairs(n: int) -> tuple[Ints, Ints]:
    return np.triu_indices(n, 1)


def _near_pairs(positions: Floats, waves: _Waves) -> tuple[Ints, Ints]:
    """Pairs of atoms that may be nearer than `far`."""
    heights = 1 / np.linalg.norm(waves.inverse, axis=0)
    parts = positions @ waves.inverse
    across = positions - parts @ waves.basis
    tree = periodic_tree(parts, across, heights)
    pairs = tree.query_pairs(waves.far, p=np.inf, output_type='ndarray')
    return pairs[:, 0], pairs[:, 1]


def periodic_tree(parts: Floats, others: Floats, heights: Floats) -> cKDTree:
    """Return a search tree whose distances (p=inf) never exceed the true ones.

    Args:
        parts: (n, d), fractions of the lattice vectors.
        others: (n, k) in Å, coordinates that do not repeat.
        heights: (d,) in Å, distances between lattice planes.
    """
    inside = (parts - np.floor(parts)) * heights
    inside = np.where(inside < heights, inside, 0.0)  # rounded up
    box = np.concatenate([heights, np.zeros(others.shape[1])])
    return cKDTree(np.concatenate([inside, others], axis=1), boxsize=box)


@lru_cache(maxsize=256)
def _waves(lattice: bytes) -> _Waves:
    """Waves that are periodic in a lattice, whichever vectors it is written in.

    lattice: the bytes of (d, 3) float64.
    """
    basis = reduced(np.frombuffer(lattice).reshape(-1, 3))
    d = len(basis)
    lengths = np.zeros(3)
    lengths[:d] = np.sqrt((basis**2).sum(axis=1))
    inverse = inverse_of(basis)
    vectors, squares, limit = _reciprocal(basis, inverse)
    # none beyond the limit, and none that comes or goes at once
    fade = 1.0 - squares / limit**2 if d else np.ones(1)
    if d < 3:
        across = _ACROSS - _ACROSS @ inverse @ basis
        vectors = (vectors[:, None] + across).reshape(-1, 3)
        squares = (vectors**2).sum(axis=1)
        fade = np.repeat(fade, len(_ACROSS))
    size = np.sqrt(squares)
    cosines = _AXES @ (vectors / np.hypot(size, 1e-3)[:, None]).T
    factors = fade * (0.3 + 0.7 * cosines**2) / (np.hypot(size, 0.3) * TOLERANCE)
    heights = 1 / np.sqrt((inverse**2).sum(axis=0))
    far = min(FAR, 0.5 * float(heights.min(initial=np.inf)))
    return _Waves(basis, inverse, lengths, vectors, factors, far)


def _reciprocal(basis: Floats, inverse: Floats) -> tuple[Floats, Floats, float]:
    """Vectors (m, 3) of the reciprocal lattice in 1/Å, their squares (m,), and what
    they are below.

    Of two opposite ones in a lattice of three dimensions there is one, and not the
    zero; beside what does not repeat, all are different.
    """
    d = len(basis)
    if d == 0:
        return np.zeros((1, 3)), np.zeros(1), 0.0
    size = volume_of(basis) ** 2 if d == 3 else np.linalg.det(basis @ basis.T)
    limit = RANGE * 2 * np.pi * size ** (-0.5 / d)
    most = limit / (2 * np.pi) * np.sqrt((basis**2).sum(axis=1))
    whole = _whole_numbers(tuple(int(x) for x in most), d == 3)
    vectors = 2 * np.pi * whole @ inverse.T
    squares = (vectors**2).sum(axis=1)
    near = squares < limit**2
    return vectors[near], squares[near], float(limit)


@lru_cache(maxsize=256)
def _whole_numbers(most: tuple[int, ...], half: bool) -> Floats:
    """(m, d) all whole numbers from -most to most; half: one of two opposite."""
    shape = tuple(2 * k + 1 for k in most)
    whole = np.indices(shape).reshape(len(most), -1).T - np.array(most)
    return (whole[len(whole) // 2 + 1 :] if half else whole).astype(np.float64)
