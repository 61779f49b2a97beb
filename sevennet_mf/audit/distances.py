"""Distances between the atoms of one structure."""

from __future__ import annotations

from typing import Final

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from ase.neighborlist import neighbor_list
from sevenn import _keys as KEY

from sevennet_mf.arrays import Floats, Ints
from sevennet_mf.data.graphs import CLOSEST
from sevennet_mf.data.read import Structure

TOO_CLOSE: Final[float] = 0.5  # of the sum of the covalent radii
SMALL: Final[int] = 100  # atoms
BONDED, FARTHEST = 1.3, 2.6  # of the sum of the covalent radii
NOBLE: Final[tuple[int, ...]] = (2, 10, 18, 36, 54, 86)  # these have no bonds


def closest_pair(structure: Structure) -> str:
    """Return what is wrong with the two closest atoms of a structure, or ''."""
    numbers = structure.numbers
    radii = np.nan_to_num(covalent_radii[numbers], nan=1.5)
    limits = np.maximum(TOO_CLOSE * radii, 0.5 * CLOSEST)
    i, j, length = edges(structure, limits)
    if len(length) == 0:
        return ''
    ratio = length / (radii[i] + radii[j])
    k = int(ratio.argmin())
    if ratio[k] >= TOO_CLOSE and length[k] >= CLOSEST:
        return ''
    first, second = (f'{chemical_symbols[numbers[a]]}({a})' for a in (i[k], j[k]))
    return (
        f'{structure.source}: atoms {first} and {second} are {length[k]:.3f} Å '
        f'apart, {ratio[k]:.2f} of the sum of their covalent radii. Correct the '
        'positions or the cell, or remove the structure.'
    )


def edges(
    structure: Structure, limits: Floats
) -> tuple[Ints, Ints, Floats]:
    """Return pairs closer than the sum of their limits, or those of the graph.

    limits: (n_atoms,) Å; i and j, (k,) int64 each, and distance, (k,) Å.
    """
    if structure.atoms is not None:
        return _neighbours(structure.atoms, limits)
    assert structure.graph is not None
    if KEY.EDGE_VEC not in structure.graph:
        none = np.zeros(0, np.int64)
        return none, none, np.zeros(0)
    i, j = structure.graph[KEY.EDGE_IDX].numpy().reshape(2, -1)
    vectors = structure.graph[KEY.EDGE_VEC].numpy().reshape(-1, 3)
    return i, j, np.linalg.norm(vectors, axis=1)


def nearest(structure: Structure) -> float:
    """Return the smallest distance over the sum of the covalent radii.

    NaN beyond FARTHEST, and for noble gases.
    """
    numbers = structure.numbers
    if np.isin(numbers, NOBLE).all():
        return float('nan')
    radii = np.nan_to_num(covalent_radii[numbers], nan=1.5)
    for factor in (BONDED, FARTHEST):
        i, j, length = edges(structure, factor * radii)
        if len(length):
            return float((length / (radii[i] + radii[j])).min())
    return float('nan')


def _neighbours(atoms: Atoms, limits: Floats) -> tuple[Ints, Ints, Floats]:
    """Pairs closer than the sum of their limits (n,): i, j and distance, (k,)."""
    cell, pbc = atoms.get_cell().complete(), atoms.get_pbc()
    heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    if len(atoms) > SMALL or (heights[pbc] < 4.0 * limits.max()).any():
        return neighbor_list('ijd', atoms, limits)
    # many times as fast for small cells, where one image of an atom can be near
    i, j = np.triu_indices(len(atoms), 1)
    step = (atoms.positions[j] - atoms.positions[i]) @ np.linalg.inv(cell)
    step[:, pbc] -= np.rint(step[:, pbc])
    length = np.linalg.norm(step @ cell, axis=1)
    near = length < limits[i] + limits[j]
    return i[near], j[near], length[near]
