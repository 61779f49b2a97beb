"""Errors of what `pretrained.py` trained, at the new level and at the old one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from statistics import mean
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from pretrained_systems import System


def measure(
    path: str,
    system: System,
    split: str,
    *,
    several: bool,
    forgiven: list[Atoms],
    is_universal: bool,
) -> dict[str, float | None]:
    """Mean absolute errors in meV/atom and meV/Å of the checkpoint.

    several: it has both levels; forgiven: labels of the new level which its energies
    by element are taken from, for a model without references of its own for that
    level; is_universal: it knows all elements of the pretrained one.
    """
    new = _calculator(path, system.new if several else None)
    old = _calculator(path, system.old if several else None)
    shift = offsets(forgiven, system) if forgiven else np.zeros(119)
    energy, force = _errors(new, system.halves()[split], shift)
    baseline = _baseline(system)
    of_old = baseline.offsets if is_universal else np.zeros(119)
    after = _errors(old, system.old_labels(), of_old)
    found = {
        'energy': energy,
        'force': force,
        'drift_energy': after[0] - baseline.errors[0],
        'drift_force': after[1] - baseline.errors[1],
        'moved': None,
        'elsewhere': None,
    }
    if is_universal:
        found['moved'] = _moved(old, system.old_labels(), baseline.known)
        found['elsewhere'] = _moved(old, _probes(system), baseline.probes)
    return found


def aligned(labels: Sequence[Atoms], system: System) -> list[Atoms]:
    """The labels on the energies per element of the checkpoint."""
    found = offsets(labels, system)
    moved = []
    for atoms in labels:
        energy = atoms.get_potential_energy() - found[atoms.numbers].sum()
        copy = atoms.copy()
        copy.calc = SinglePointCalculator(
            copy, energy=energy, forces=atoms.get_forces()
        )
        moved.append(copy)
    return moved


def offsets(labels: Sequence[Atoms], system: System) -> np.ndarray:
    """What labels differ by from the checkpoint by element, (119,) eV."""
    from sevennet_mf.data.references import Labels, fit_to_model

    counts = np.stack([np.bincount(a.numbers, minlength=119) for a in labels])
    calculator = _pretrained(system)
    found = fit_to_model(
        system.new,
        Labels(
            counts,
            np.array([atoms.get_potential_energy() for atoms in labels]),
            model_energy=np.array(
                [_energy(calculator, atoms) for atoms in labels], np.float64
            ),
        ),
        np.zeros(119),
        system.elements(),
    )
    return found.energies[0]


class Baseline(NamedTuple):
    """What the checkpoint is at its own level; energies in eV.

    offsets: what the labels of that level differ by from it by element, (119,).
    """

    offsets: np.ndarray
    errors: tuple[float, float | None]
    known: list[float]
    probes: list[float]


@cache
def _baseline(system: System) -> Baseline:
    calculator = _pretrained(system)
    known = system.old_labels()
    found = offsets(known, system)
    return Baseline(
        found,
        _errors(calculator, known, found),
        [_energy(calculator, atoms) for atoms in known],
        [_energy(calculator, atoms) for atoms in _probes(system)],
    )


@cache
def _probes(system: System) -> list[Atoms]:
    """Structures of all elements that the checkpoint knows."""
    from sevennet_mf.deploy.probe import probes
    from sevennet_mf.model.load import load_model

    return probes(sorted(load_model(system.checkpoint).type_map), 5.0)


def _pretrained(system: System) -> Any:
    return _calculator(system.checkpoint, None if system.known_as else system.old)


@cache
def _calculator(path: str, fidelity: str | None) -> Any:
    from sevennet_mf import FidelityCalculator

    return FidelityCalculator(path, fidelity)


def _energy(calculator: Any, atoms: Atoms) -> float:
    return float(calculator.get_potential_energy(atoms.copy()))


def _errors(
    calculator: Any, labelled: Sequence[Atoms], offset: np.ndarray
) -> tuple[float, float | None]:
    """offset: what to take off labels, (119,) eV; no force labels: None."""
    energy, force = [], []
    for atoms in labelled:
        found = atoms.copy()
        found.calc = calculator
        wanted = atoms.get_potential_energy() - offset[atoms.numbers].sum()
        energy.append(abs(found.get_potential_energy() - wanted) / len(atoms))
        if 'forces' in atoms.calc.results:
            force.append(np.abs(found.get_forces() - atoms.get_forces()).ravel())
    forces = 1e3 * float(np.concatenate(force).mean()) if force else None
    return 1e3 * mean(energy), forces


def _moved(
    calculator: Any, structures: Sequence[Atoms], before: Sequence[float]
) -> float:
    """How far energies are from the checkpoint's, meV/atom."""
    gaps = [
        abs(_energy(calculator, atoms) - energy) / len(atoms)
        for atoms, energy in zip(structures, before, strict=True)
    ]
    return 1e3 * mean(gaps)
