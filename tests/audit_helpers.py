"""Structures with planted defects, and what an audit says of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from sevennet_mf.audit.inspect import Audit, Finding

Frames = list[Atoms]
SPACING = {'Pt': 3.92, 'Cu': 3.61, 'Al': 4.05, 'Ni': 3.52, 'Ag': 4.09}
HARTREE, BOHR = 27.211386, 0.52917721  # eV, Å


def rattled(
    symbol: str, seed: int, n: int = 14, strain: float = 0.01, size: float = 0.05
) -> Frames:
    """Exact labels of n cells of 4 atoms."""
    rng, frames = np.random.default_rng(seed), []
    for _ in range(n):
        atoms = bulk(symbol, 'fcc', a=SPACING[symbol], cubic=True)
        turn = np.eye(3) + strain * rng.standard_normal((3, 3))
        atoms.set_cell(atoms.cell @ turn, scale_atoms=True)
        atoms.positions += rng.normal(0, size, (4, 3))
        atoms.calc = EMT()
        for ask in (atoms.get_potential_energy, atoms.get_forces, atoms.get_stress):
            ask()
        bare = atoms.copy()
        keep = {k: atoms.calc.results[k] for k in ('energy', 'forces', 'stress')}
        bare.calc = SinglePointCalculator(bare, **keep)
        frames.append(bare)
    return frames


def relabel(atoms: Atoms, **labels: Any) -> Atoms:
    """A copy with other labels: functions of the old one, or values."""
    results = dict(atoms.calc.results)
    results.pop('free_energy', None)
    for name, value in labels.items():
        results[name] = value(results[name]) if callable(value) else value
    copy = atoms.copy()
    copy.calc = SinglePointCalculator(copy, **results)
    return copy


def times(frames: Iterable[Atoms], **factors: float) -> Frames:
    """Copies whose labels are multiplied."""
    return [
        relabel(a, **{k: lambda v, f=f: v * f for k, f in factors.items()})
        for a in frames
    ]


def only(frames: Frames, keep: Callable[[Atoms], bool]) -> Frames:
    return [atoms for atoms in frames if keep(atoms)]


def found(audit: Audit, kind: str, severity: str = 'problem') -> list[Finding]:
    """The findings of a kind; there is no other problem."""
    problems = [p for p in audit.problems if p.severity == 'problem']
    assert {p.kind for p in problems} <= {kind}
    return [p for p in audit.problems if (p.kind, p.severity) == (kind, severity)]


def the(audit: Audit, kind: str, severity: str = 'problem') -> str:
    (problem,) = found(audit, kind, severity)
    return problem.message
