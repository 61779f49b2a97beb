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
    """Return a copy of `atoms` at the minimum of `calculator`'s energy.

    The copy carries its energy (eV), forces (eV/Å) and stress (eV/Å^3, ASE's order
    and sign). fmax: the largest force (eV/Å) that counts as relaxed; cell vectors
    have forces too (eV), as ase.filters.FrechetCellFilter defines them. steps: of
    BFGS, at most; 0: the structure stays as it is. cell: whether the cell relaxes as
    well; None: if the structure repeats along all three axes. Warns, with the force
    that is left, if `steps` were not enough: the energy is then too high.
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
                'asked for. '
                'Its energy is too high; allow more steps.',
                stacklevel=2,
            )
    wanted = KEPT if relaxed.cell.rank == 3 else KEPT[:-1]
    known = [name for name in wanted if name in calculator.implemented_properties]
    results = {name: calculator.get_property(name, relaxed) for name in known}
    relaxed.calc = SinglePointCalculator(relaxed, **results)
    return relaxed
