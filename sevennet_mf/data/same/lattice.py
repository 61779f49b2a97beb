"""The shortest vectors of a lattice, and their inverse.

For three vectors, plain numbers are several times as fast as arrays, and this is
done for every structure that is read.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np

from sevennet_mf.arrays import Floats

EQUAL: Final[float] = 1e-9  # Å^2: a vector is shorter if it is so by more
FLAT: Final[float] = 1e-12  # of a box: a squared volume above it is beyond doubt
PASSES: Final[int] = 1000  # vectors shorten in every one; a few are enough

Vector: TypeAlias = tuple[float, float, float]


def reduced(lattice: Floats) -> Floats:
    """Return (d, 3), the shortest vectors of the same lattice, shortest first.

    It is a Minkowski-reduced basis; vectors that are one already stay as they are.
    The algorithm is the greedy one (Nguyen and Stehlé, ACM Trans. Algorithms 5, 46
    (2009)): each vector in turn is made as short as those before it allow.
    """
    basis: list[Vector] = [(x, y, z) for x, y, z in lattice.tolist()]
    basis.sort(key=_square)
    for _ in range(PASSES):
        shorter = False
        if len(basis) > 1:
            shorter = _shorten(basis, 1, _nearest_along(basis))
        if len(basis) > 2 and not shorter:
            shorter = _shorten(basis, 2, _nearest_in_plane(basis))
        if not shorter:
            break
        basis.sort(key=_square)
    return np.array(basis, np.float64).reshape(-1, 3)


def is_independent(vectors: Floats) -> bool:
    """Return whether vectors (d, 3) span d dimensions."""
    if len(vectors) == 3:
        u, v, w = vectors.tolist()
        volume = volume_of(vectors)
        if volume * volume > FLAT * _square(u) * _square(v) * _square(w):
            return True
    return bool(np.linalg.matrix_rank(vectors) == len(vectors))


def volume_of(vectors: Floats) -> float:
    """Return the volume of a cell (3, 3), in the cube of its unit."""
    u, v, w = vectors.tolist()
    return abs(_dot(u, _cross(v, w)))


def inverse_of(basis: Floats) -> Floats:
    """Return (3, d): positions times it are fractions of the vectors (d, 3)."""
    inverse = np.linalg.inv if len(basis) == 3 else np.linalg.pinv
    return np.asarray(inverse(basis), np.float64)


def _shorten(basis: list[Vector], k: int, other: Vector) -> bool:
    """Replace vector k unless the other is not shorter; return whether it is."""
    if _square(other) < _square(basis[k]) - EQUAL:
        basis[k] = other
        return True
    return False


def _nearest_along(basis: list[Vector]) -> Vector:
    """The second vector, less the multiple of the first that is nearest to it."""
    u, v = basis[:2]
    return _less(v, round(_dot(u, v) / _square(u)), u)


def _nearest_in_plane(basis: list[Vector]) -> Vector:
    """The third vector, less the lattice point of the first two nearest to it.

    For the shortest two vectors of a plane it is next to the rounded coordinates.
    """
    u, v, w = basis
    uu, uv, vv, uw, vw = _square(u), _dot(u, v), _square(v), _dot(u, w), _dot(v, w)
    det = uu * vv - uv * uv
    if det <= 0.0:  # a lattice that is flat but for rounding
        return w
    a, b = round((vv * uw - uv * vw) / det), round((uu * vw - uv * uw) / det)
    near = _less(_less(w, a, u), b, v)
    steps = [_less(_less(near, i, u), j, v) for i in (0, -1, 1) for j in (0, -1, 1)]
    return min(steps, key=_square)


def _dot(u: Vector, v: Vector) -> float:
    return u[0] * v[0] + u[1] * v[1] + u[2] * v[2]


def _cross(u: Vector, v: Vector) -> Vector:
    return (
        u[1] * v[2] - u[2] * v[1],
        u[2] * v[0] - u[0] * v[2],
        u[0] * v[1] - u[1] * v[0],
    )


def _square(u: Vector) -> float:
    return u[0] * u[0] + u[1] * u[1] + u[2] * u[2]


def _less(u: Vector, n: int, v: Vector) -> Vector:
    return u[0] - n * v[0], u[1] - n * v[1], u[2] - n * v[2]
