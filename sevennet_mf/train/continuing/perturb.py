"""Perturbed copies of structures: strained cells and rattled atoms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from ase import Atoms

from sevennet_mf.arrays import Floats
from sevennet_mf.calculators.dynamics import shortest_distance
from sevennet_mf.errors import UserError

# of the shortest distance in the original: structures with closer atoms are outside
# the user's domain, and no potential is made for them
CLOSEST: Final[float] = 0.75
TRIES: Final[int] = 100


def copies(
    atoms: Atoms, n: int, rattle: float, strain: float, rng: np.random.Generator
) -> Iterator[Atoms]:
    """Yield n perturbed copies of a structure, without labels.

    Args:
        rattle: standard deviation of the displacement of each coordinate, Å.
        strain: the largest component of the symmetric strain; directions that are
            not periodic are not strained.

    Raises:
        UserError: The atoms of no copy are far enough apart.
    """
    allowed = CLOSEST * shortest_distance(atoms)
    for _ in range(n):
        for _ in range(TRIES):
            copy = changed(atoms, rattle, strain, rng)
            if shortest_distance(copy) >= allowed:
                yield copy
                break
        else:
            raise UserError(
                f'self_label.rattle: {rattle} Å brings atoms of '
                f'{atoms.get_chemical_formula()} too close to one another. Lower it.'
            )


def changed(
    atoms: Atoms, rattle: float, strain: float, rng: np.random.Generator
) -> Atoms:
    """Return a strained and rattled copy, without labels."""
    copy = bare(atoms)
    tensor = rng.uniform(-strain, strain, (3, 3))
    tensor = (tensor + tensor.T) / 2
    if atoms.cell.rank == 3:
        tensor = in_periodic_space(tensor, atoms)
        cell = np.asarray(atoms.cell) @ (np.eye(3) + tensor)
        copy.set_cell(cell, scale_atoms=True)
    copy.positions += rng.normal(0.0, rattle, copy.positions.shape)
    return copy


def in_periodic_space(tensor: Floats, atoms: Atoms) -> Floats:
    """Return the part of a strain, (3, 3), along the periodic vectors of a cell."""
    vectors = np.asarray(atoms.cell)[np.asarray(atoms.pbc)]
    if len(vectors) == 0:
        return np.zeros((3, 3))
    basis = np.linalg.qr(vectors.T)[0]  # (3, periodic directions)
    onto = basis @ basis.T
    part: Floats = onto @ tensor @ onto
    return part


def bare(atoms: Atoms) -> Atoms:
    """Return a structure without labels, tags and notes."""
    return Atoms(
        atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc
    )
