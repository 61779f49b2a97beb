"""Energies of like structures against forces and stress: units and signs."""

from __future__ import annotations

import itertools
from typing import Final

import numpy as np
from ase.stress import voigt_6_to_full_3x3_stress as full

from sevennet_mf.data.estimator import Floats
from sevennet_mf.data.inspect_audit import Report
from sevennet_mf.data.inspect_scan import Records
from sevennet_mf.data.inspect_units import (
    BOHR,
    ENERGY_UNITS,
    FEWEST,
    FORCE_UNITS,
    NEAR,
    ORDINARY,
    STRESS_UNITS,
    match,
)
from sevennet_mf.data.labels import as_ase
from sevennet_mf.data.read import Structure

CLOSE_BY: Final[float] = 0.4  # Å: farther moves are no straight line in energy
STRAIN: Final[float] = 0.12
TRIED: Final[int] = 20_000  # pairs of structures: two seconds


def check(records: Records, fidelity: str, report: Report) -> None:
    """Compare energy differences of like structures with forces and stress."""
    whole = records.whole
    pairs = itertools.chain.from_iterable(
        itertools.combinations(group, 2) for group in records.alike[fidelity]
    )
    found = [
        work
        for a, b in itertools.islice(pairs, TRIED)
        if (work := _work(whole[a], whole[b])) is not None
    ]
    if len(found) < 2 * FEWEST:
        return
    table = np.array(found)
    # energies with the stress's work where the cells differ, without where not
    table = table[~np.isnan(table).any(axis=1)]
    if len(table) < 2 * FEWEST:
        return
    used = np.sqrt(np.mean(table[:, 1:] ** 2, axis=0)) > 1e-3
    if not used[0]:
        return
    factors, left = _fit(table[:, 1:][:, used], table[:, 0])
    share = np.median(np.abs(table[:, 1:][:, used] * factors), axis=0)
    telling = share > 0.1 * np.median(np.abs(table[:, 0]))
    if left > 0.5:
        report('unit', 'note', (
            f'the energies of {fidelity} do not follow from its forces between '
            f'{len(table)} pairs of like structures ({left:.0%} unexplained). '
            'Check that both belong to the same calculation and order of atoms.'
        ))
        return
    if telling[0]:
        _say_forces(fidelity, float(factors[0]), len(table), report)
    if len(factors) > 1 and telling[1]:
        _say_stress(fidelity, float(factors[1]), float(factors[0]), report)


def _work(a: Structure, b: Structure) -> tuple[float, float, float] | None:
    """(energy difference, work of the forces, work of the stress), eV; or None."""
    assert a.cell is not None
    assert b.cell is not None
    assert a.pbc is not None
    assert a.forces is not None
    assert b.forces is not None
    if not a.pbc.any():
        moved, strain = b.positions - a.positions, np.zeros((3, 3))
    elif not a.pbc.all():
        return None
    else:
        change = np.linalg.solve(a.cell, b.cell)
        strain = 0.5 * (change + change.T) - np.eye(3)
        if np.abs(strain).max() > STRAIN:
            return None
        step = b.positions @ np.linalg.inv(b.cell)
        step = step - a.positions @ np.linalg.inv(a.cell)
        moved = (step - np.rint(step)) @ (0.5 * (a.cell + b.cell))
    if np.abs(moved).max() > CLOSE_BY:
        return None
    by_forces = -0.5 * float(np.sum((a.forces + b.forces) * moved))
    by_stress = 0.0
    if np.abs(strain).max() > 1e-6:
        by_stress = np.nan
        if a.stress is not None and b.stress is not None:
            by_stress = 0.5 * (_to_strain(a, strain) + _to_strain(b, strain))
    return b.energy - a.energy, by_forces, by_stress


def _to_strain(structure: Structure, strain: Floats) -> float:
    """eV that a strain (3, 3) costs against the stress of a structure."""
    assert structure.stress is not None
    assert structure.cell is not None
    volume = abs(np.linalg.det(structure.cell))
    return float(volume * np.sum(full(as_ase(structure.stress)) * strain))


def _fit(columns: Floats, energy: Floats) -> tuple[Floats, float]:
    """Least squares without the worst; the factors and the share unexplained."""
    keep = np.ones(len(energy), bool)
    factors: Floats = np.zeros(columns.shape[1])
    for _ in range(4):
        solution = np.linalg.lstsq(columns[keep], energy[keep], rcond=None)
        factors = np.array(solution[0])
        rest = np.abs(energy - columns @ factors)
        keep = rest <= 4 * 1.4826 * np.median(rest) + 1e-12
    rest = energy[keep] - columns[keep] @ factors
    left = np.sum(rest**2) / max(float(np.sum(energy[keep] ** 2)), 1e-12)
    return factors, float(np.sqrt(left))


def _say_forces(fidelity: str, factor: float, pairs: int, report: Report) -> None:
    if factor > 0 and abs(np.log(factor)) < 0.5:
        return
    guesses = []
    size = abs(factor)
    if unit := match(size, ENERGY_UNITS):
        guesses.append(f'energies in {unit}')
    if unit := match(1 / size, FORCE_UNITS):
        guesses.append(f'forces in {unit}')
    if match(size, {'atomic units': 1 / BOHR}):
        guesses.append('both in Hartree or Rydberg')
    if factor < 0:
        guesses.append('forces of the wrong sign (gradients)')
    why = f' It looks like {", or ".join(guesses)}.' if guesses else ''
    report('unit', 'problem', (
        f'energies of {fidelity} change {factor:.3g} times as much as its forces '
        f'say ({pairs} pairs of like structures).{why} Energies must be in eV, '
        'forces in eV/Å.'
    ))


def _say_stress(fidelity: str, factor: float, energy: float, report: Report) -> None:
    ratio = factor / energy  # the energies' own unit is the other check's matter
    if ratio > 0 and abs(np.log(ratio)) < 2 * ORDINARY:
        return
    guesses = []
    if unit := match(1 / abs(ratio), STRESS_UNITS, 2 * NEAR):
        guesses.append(f'stress in {unit}')
    if ratio < 0:
        guesses.append('stress of the wrong sign')
    why = f' It looks like {", or ".join(guesses)}.' if guesses else ''
    report('unit', 'problem', (
        f'energies of {fidelity} change {ratio:.3g} times as much with the cell as '
        f'its stress says.{why} Stress must be in eV/Å^3, positive under tension '
        "(ASE's sign)."
    ))
