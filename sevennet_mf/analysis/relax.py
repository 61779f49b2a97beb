"""Structures brought to their energy minimum, with a limit of steps."""

from __future__ import annotations

import warnings

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from ase.calculators.singlepoint import SinglePointCalculator
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

KEPT = ('energy', 'free_energy', 'forces', 'stress')


def relax(
    atoms: Atoms,
    calculator: BaseCalculator,
    *,
    fmax: float = 0.02,
    steps: int = 200,
    cell: bool | None = None,
) -> Atoms:
    """Return a copy of a structure at the minimum of a calculator's energy.

    It warns, with the force that is left, if `steps` were not enough: the energy is
    then too high.

    Args:
        atoms: The structure; it is left as it is.
        calculator: Any calculator of ASE.
        fmax: The largest force (eV/Å) that counts as relaxed; cell vectors have
            forces too (eV), as `ase.filters.FrechetCellFilter` defines them.
        steps: Steps of BFGS, at most; with 0 the structure stays as it is.
        cell: Whether the cell relaxes as well; None: if the structure repeats along
            all three axes.

    Returns:
        The relaxed copy, with its energy (eV), forces (n_atoms, 3) in eV/Å and
        stress (6,) in eV/Å^3, in ASE's order and sign.
    """
    relaxed = atoms.copy()
    relaxed.calc = calculator
    with_cell = bool(relaxed.pbc.all()) if cell is None else cell
    if steps:
        target = FrechetCellFilter(relaxed) if with_cell else relaxed
        with BFGS(target, logfile=None) as optimizer:
            converged = optimizer.run(fmax=fmax, steps=steps)
        if not converged:
            left = float(np.linalg.norm(target.get_forces(), axis=1).max())
            warnings.warn(
                f'{atoms.get_chemical_formula()} is not relaxed after {steps} '
                f'steps: the largest force is {left:.3f} eV/Å, and {fmax:g} was '
                'requested. '
                'Its energy is too high; allow more steps.',
                stacklevel=2,
            )
    wanted = KEPT if relaxed.cell.rank == 3 else KEPT[:-1]
    known = [name for name in wanted if name in calculator.implemented_properties]
    results = {name: calculator.get_property(name, relaxed) for name in known}
    relaxed.calc = SinglePointCalculator(relaxed, **results)
    return relaxed
