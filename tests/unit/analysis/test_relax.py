"""Relaxation: what is reached, what is kept, and what is said if it is not."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from sevennet_mf.analysis.relax import relax, relaxed


def test_atoms_and_cell_reach_the_minimum() -> None:
    start = bulk('Cu', a=3.7, cubic=True)
    start.rattle(0.05, seed=1)
    positions = start.positions.copy()
    found = relax(start, EMT(), fmax=0.01)
    assert np.abs(found.get_forces()).max() < 0.01
    assert np.abs(found.get_stress()).max() < 1e-3
    # EMT's own lattice constant of Cu, as in ASE's tutorial on equations of state
    assert found.cell.volume ** (1 / 3) == pytest.approx(3.59, abs=0.01)
    assert np.array_equal(start.positions, positions)
    assert start.calc is None
    fixed = relax(start, EMT(), cell=False)
    assert np.array_equal(fixed.cell.array, start.cell.array)
    assert found.get_potential_energy() < fixed.get_potential_energy()


def test_a_molecule_has_no_cell_to_relax() -> None:
    found = relax(Atoms('N2', [[0, 0, 0], [0, 0, 1.3]]), EMT())
    # as in ASE's introduction: EMT's N2 bond
    assert found.get_distance(0, 1) == pytest.approx(0.998, abs=0.01)
    assert not found.cell.array.any()
    with pytest.raises(NotImplementedError):
        found.get_stress()


def test_results_outlive_the_calculator() -> None:
    calculator = EMT()
    first = relax(bulk('Cu', a=3.6), calculator, steps=0)
    energy = first.get_potential_energy()
    relax(bulk('Au', a=4.1), calculator, steps=0)
    assert first.get_potential_energy() == energy
    assert first.get_stress().shape == (6,)
    assert np.array_equal(first.positions, bulk('Cu', a=3.6).positions)


def test_too_few_steps_are_told() -> None:
    start = bulk('Cu', a=3.8)
    with pytest.warns(UserWarning, match='Cu is not relaxed after 1 steps: .* eV/Å'):
        found = relax(start, EMT(), steps=1)
    before = relax(start, EMT(), steps=0)
    assert found.get_potential_energy() < before.get_potential_energy()


def test_a_relaxation_can_be_stopped_after_any_step() -> None:
    start, asked = bulk('Cu', a=3.8), []

    def stop() -> bool:
        asked.append(True)
        return len(asked) == 3

    found = relaxed(start, EMT(), fmax=1e-6, steps=50, stop=stop)
    # asked before the first as well
    assert (found.steps, found.converged) == (2, False)
    assert found.force > 1e-6
    assert found.atoms.get_potential_energy() < relax(
        start, EMT(), steps=0
    ).get_potential_energy()
    rest = relaxed(found.atoms, EMT(), fmax=1e-3, steps=50)
    assert rest.converged
