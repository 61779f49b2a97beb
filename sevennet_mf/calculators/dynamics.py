"""Structures from Langevin dynamics at constant volume, with a calculator of ASE."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.neighborlist import neighbor_list

from sevennet_mf.errors import UserError


def langevin(
    atoms: Atoms,
    temperature: float,
    rng: np.random.Generator,
    time_step: float,
    friction: float,
) -> Langevin:
    """Draw momenta, and return the dynamics of a structure with a calculator.

    Args:
        temperature: K.
        time_step: fs.
        friction: 1/fs.
    """
    # Maxwell-Boltzmann; ASE renames its own function from version to version
    spread = np.sqrt(units.kB * temperature * atoms.get_masses())[:, None]
    atoms.set_momenta(spread * rng.standard_normal((len(atoms), 3)))
    return Langevin(
        atoms,
        time_step * units.fs,
        temperature_K=temperature,
        friction=friction / units.fs,
        fixcm=False,  # which would not sample the ensemble
        rng=rng,
    )


def snapshots(
    motion: Langevin, n: int, equilibration: int, interval: int, closest: float
) -> Iterator[Atoms]:
    """Yield the structure of a run n times; copy it before the next is asked for.

    Args:
        equilibration: Steps before the first interval.
        interval: Steps before each structure.
        closest: Distance of two atoms in Å that only a broken structure has.

    Raises:
        UserError: Atoms are closer, or positions are no longer numbers.
    """
    motion.run(equilibration)
    for _ in range(n):
        motion.run(interval)
        atoms = motion.atoms
        known = bool(np.isfinite(atoms.positions).all())
        distance = shortest_distance(atoms) if known else 0.0
        if distance <= closest:
            apart = f'two are {distance:.2f} Å apart'
            raise UserError(
                f'the atoms of {atoms.get_chemical_formula()} fly apart or collide: '
                f'{apart if known else "positions are NaN"}. Use another calculator.'
            )
        yield atoms


def shortest_distance(atoms: Atoms) -> float:
    """Return the shortest distance between two atoms or their images, Å.

    Distances beyond 4 Å are returned as 4 Å.
    """
    found = neighbor_list('d', atoms, 4.0)
    return float(found.min()) if len(found) else 4.0
