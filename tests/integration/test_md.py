"""Molecular dynamics and relaxations with `7net-mf-0`, mixtures included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.filters import FrechetCellFilter
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from sevenn.calculator import SevenNetCalculator

from sevennet_mf import FidelityCalculator

FIDELITIES = ['PBE', 'R2SCAN', {'PBE': 0.3, 'R2SCAN': 0.7}]
TEMPERATURE = 600  # K
DURATION = 24.0  # fs: half a period of the fastest vibration


@pytest.fixture(scope='module')
def calculator() -> FidelityCalculator:
    return FidelityCalculator('7net-mf-0', 'PBE', device='cpu')


def gallium_nitride() -> Atoms:
    return bulk('GaN', 'wurtzite', a=3.19, c=5.19, u=0.377)


def total_energies(calculator: FidelityCalculator, step: float) -> np.ndarray:
    """(n_steps + 1,) eV/atom at constant energy, always from the same start."""
    atoms = gallium_nitride()
    width = np.sqrt(atoms.get_masses() * units.kB * TEMPERATURE)[:, None]
    momenta = width * np.random.default_rng(0).normal(size=(len(atoms), 3))
    atoms.set_momenta(momenta - momenta.mean(axis=0))
    atoms.calc = calculator
    energies: list[float] = []
    with VelocityVerlet(atoms, step * units.fs) as dynamics:
        dynamics.attach(lambda: energies.append(atoms.get_total_energy()))
        dynamics.run(round(DURATION / step))
    return np.array(energies) / len(atoms)


@pytest.mark.slow
@pytest.mark.parametrize('fidelity', FIDELITIES, ids=str)
def test_energy_is_conserved(calculator: FidelityCalculator, fidelity: Any) -> None:
    """What is left is Verlet's own error, which is of second order in the step."""
    calculator.fidelity = fidelity
    spread = {step: total_energies(calculator, step).std() for step in (2.0, 1.0)}
    assert spread[1.0] < 1e-4
    assert 3 < spread[2.0] / spread[1.0] < 5


@pytest.mark.slow
def test_without_the_right_forces_it_is_not(
    calculator: FidelityCalculator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above notices forces that are not of the energy's fidelity."""
    calculator.fidelity = 'PBE'
    evaluate = calculator._evaluator.evaluate

    def mixed_up(atoms: Atoms, names: Any) -> Any:
        found = evaluate(atoms, ['PBE', 'R2SCAN'])
        found['PBE']['forces'] = found['R2SCAN']['forces']
        return found

    monkeypatch.setattr(calculator._evaluator, 'evaluate', mixed_up)
    spread = {step: total_energies(calculator, step).std() for step in (2.0, 1.0)}
    assert spread[2.0] / spread[1.0] < 2


def relaxed_volume(calculator: Any) -> float:
    """Å^3, of positions and cell at rest."""
    atoms = gallium_nitride()
    atoms.rattle(0.03, rng=np.random.default_rng(0))
    atoms.calc = calculator
    with BFGS(FrechetCellFilter(atoms), logfile=None) as optimizer:
        assert optimizer.run(fmax=0.01, steps=60)
    assert np.abs(atoms.get_forces()).max() < 0.01
    assert np.abs(atoms.get_stress()).max() < 1e-3
    return atoms.get_volume()


@pytest.mark.slow
def test_cells_relax_and_differ(calculator: FidelityCalculator) -> None:
    volumes = {}
    for fidelity in FIDELITIES:
        calculator.fidelity = fidelity
        volumes[str(fidelity)] = relaxed_volume(calculator)
    low, high, between = volumes.values()
    assert high + 0.1 < between < low - 0.1
    for modal in ('PBE', 'R2SCAN'):
        host = SevenNetCalculator('7net-mf-0', modal=modal, device='cpu')
        assert volumes[modal] == pytest.approx(relaxed_volume(host), abs=0.02)


@pytest.mark.slow
def test_work_along_lambda_is_the_difference_in_energy(
    calculator: FidelityCalculator,
) -> None:
    """Thermodynamic integration at fixed atoms: the integral is E_b - E_a."""
    atoms = gallium_nitride()
    points, weights = np.polynomial.legendre.leggauss(3)
    integral = 0.0
    for point, weight in zip(points, weights, strict=True):
        x = (1 + point) / 2
        calculator.fidelity = {'PBE': 1 - x, 'R2SCAN': x}
        integral += weight / 2 * calculator.get_denergy_dlambda(atoms)
    ends = calculator.all_fidelities(atoms)
    difference = ends['R2SCAN']['energy'] - ends['PBE']['energy']
    assert integral == pytest.approx(difference, abs=1e-5)
    h = 1e-3
    slope = 0.0
    for sign in (1, -1):
        x = 0.5 + sign * h
        calculator.fidelity = {'PBE': 1 - x, 'R2SCAN': x}
        slope += sign * calculator.get_potential_energy(atoms) / (2 * h)
    # of float32 energies: 1e-5 eV over 2e-3
    assert slope == pytest.approx(difference, abs=0.01)
