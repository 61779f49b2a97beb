"""A file of any number of small structures, made from a few real ones.

Each is a cell of 4 or 8 atoms of In(x)Ga(1-x)N, drawn in turn from the tests' data,
with every atom displaced and the cell strained at random, so that no two are alike.
Energies, forces and stress are those of the original: their size and their number of
digits is what matters to a reader, not their physics.
"""

from __future__ import annotations

import os
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms

SOURCE = Path(__file__).parents[1] / 'tests/data/ingan/pbe_train.extxyz'
DISPLACED = 0.05  # Å, standard deviation of each coordinate
STRAINED = 0.01  # standard deviation of each component
HEADER = (
    'Lattice="{cell}" Properties=species:S:1:pos:R:3:forces:R:3 '
    'energy={energy:.8f} stress="{stress}" pbc="T T T"\n'
)


def written(path: Path, n: int, seed: int = 0) -> Path:
    """Write `n` structures to `path`, unless it is there, and return it."""
    if path.exists():
        return path
    originals = [_Original(atoms) for atoms in ase.io.iread(SOURCE, ':')]
    random = np.random.default_rng(seed)
    part = path.with_suffix('.part')
    with open(part, 'w', encoding='utf-8') as stream:
        for k in range(n):
            stream.write(originals[k % len(originals)].perturbed(random))
    os.replace(part, path)
    return path


class _Original:
    """A real structure, of which copies are written."""

    def __init__(self, atoms: Atoms) -> None:
        self.cell, self.parts = atoms.cell.array, atoms.get_scaled_positions()
        self.energy = atoms.get_potential_energy()
        self.stress = _joined(atoms.get_stress(voigt=False).ravel())
        symbols = atoms.get_chemical_symbols()
        forces = [
            '{:16.8f}{:16.8f}{:16.8f}'.format(*row) for row in atoms.get_forces()
        ]
        # {:.8f} three times for each atom, the rest is settled
        self.rows = ''.join(
            f'{symbol:<2}{{:16.8f}}{{:16.8f}}{{:16.8f}}{force}\n'
            for symbol, force in zip(symbols, forces, strict=True)
        )

    def perturbed(self, random: np.random.Generator) -> str:
        strain = np.eye(3) + random.normal(0, STRAINED, (3, 3))
        cell = self.cell @ strain
        positions = self.parts @ cell
        positions += random.normal(0, DISPLACED, positions.shape)
        header = HEADER.format(
            cell=_joined(cell.ravel()), energy=self.energy, stress=self.stress
        )
        rows = self.rows.format(*positions.ravel())
        return f'{len(positions)}\n{header}{rows}'


def _joined(numbers: np.ndarray) -> str:
    return ' '.join(f'{x:.8f}' for x in numbers)
