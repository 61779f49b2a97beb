"""Structures with planted defects, and what an audit says of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from sevennet_mf.audit.inspect import Audit, Finding

Frames = list[Atoms]


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
