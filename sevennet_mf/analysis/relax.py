"""Structures brought to their energy minimum, with a limit of steps."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from ase.calculators.singlepoint import SinglePointCalculator
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

KEPT = ('energy', 'free_energy', 'forces', 'stress')


@dataclass(frozen=True, eq=False)
class Relaxed:
    """A structure after some steps of relaxation.

    Attributes:
        atoms: With energy (eV), forces (n_atoms, 3) in eV/Å and stress (6,) in
            eV/Å^3, in ASE's order and sign.
        force: The largest that is left, in eV/Å; of cell vectors as well if they
            relax, in eV. NaN if the calculator has none.
        steps: That were taken.
        converged: Whether that force is small enough.
    """

    atoms: Atoms
    force: float
    steps: int
    converged: bool


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
    found = relaxed(atoms, calculator, fmax=fmax, steps=steps, cell=cell)
    if steps and not found.converged:
        warnings.warn(
            f'{atoms.get_chemical_formula()} is not relaxed after {steps} '
            f'steps: the largest force is {found.force:.3f} eV/Å, and {fmax:g} was '
            'requested. '
            'Its energy is too high; allow more steps.',
            stacklevel=2,
        )
    return found.atoms


def relaxed(
    atoms: Atoms,
    calculator: BaseCalculator,
    *,
    fmax: float,
    steps: int,
    cell: bool | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Relaxed:
    """Relax as `relax` does, and return how far that got instead of warning.

    Args:
        stop: Asked after each step whether to end there.
    """
    copy = atoms.copy()
    copy.calc = calculator
    with_cell = bool(copy.pbc.all()) if cell is None else cell
    target = FrechetCellFilter(copy) if with_cell and steps else copy
    taken = 0
    if steps:
        with warnings.catch_warnings(), BFGS(target, logfile=None) as optimizer:
            # of the matrices of cells, by 1e-13
            warnings.filterwarnings('ignore', 'logm result may be inaccurate')
            for _ in optimizer.irun(fmax=fmax, steps=steps):
                if stop():
                    break
            taken = optimizer.nsteps
    force = np.nan
    if 'forces' in calculator.implemented_properties:
        force = float(np.linalg.norm(target.get_forces(), axis=1).max())
    wanted = KEPT if copy.cell.rank == 3 else KEPT[:-1]
    known = [name for name in wanted if name in calculator.implemented_properties]
    results = {name: calculator.get_property(name, copy) for name in known}
    copy.calc = SinglePointCalculator(copy, **results)
    return Relaxed(copy, force, taken, converged=force < fmax)
