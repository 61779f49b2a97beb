"""The results of an audit: counts, ranges, histograms and findings."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from ase.data import chemical_symbols

from sevennet_mf.arrays import Floats, Ints
from sevennet_mf.audit.records import FORCE_EDGES, Records
from sevennet_mf.data.findings import Finding
from sevennet_mf.data.references import References
from sevennet_mf.keys import KBAR

BINS: Final[int] = 40  # fewer where there are few structures
NARROWEST: Final[float] = 1e-3  # eV/atom on both sides of the middle


@dataclass(frozen=True)
class Statistics:
    """Statistics of a number over structures."""

    min: float
    mean: float
    max: float
    std: float

    @classmethod
    def of(cls, values: Floats) -> Statistics:
        return cls(
            float(values.min()),
            float(values.mean()),
            float(values.max()),
            float(values.std()),
        )


@dataclass(frozen=True)
class SetAudit:
    """One fidelity in one set (`trainset`, `validset`, ...).

    Attributes:
        elements: Per symbol, the numbers of 'atoms' and of 'structures' with it.
        labels: Numbers of structures with 'energy', 'force' and 'stress'.
        energy: In eV/atom.
        force: 'max' of the atoms' forces and 'rms' of their components, in eV/Å;
            None without forces.
        stress: 'min' and 'max' of the components, in kbar, compression positive;
            None without stresses.
    """

    set: str
    fidelity: str
    structures: int
    atoms: int
    elements: dict[str, dict[str, int]]
    labels: dict[str, int]
    energy: Statistics
    force: dict[str, float] | None
    stress: dict[str, float] | None


@dataclass(frozen=True)
class PairAudit:
    """Structures labelled at two fidelities, over all sets.

    Attributes:
        energy: High minus low, in eV/atom.
        scatter: Standard deviation of the difference after subtracting reference
            energies, in eV/atom.
        with_forces: Number of structures with forces at both fidelities.
        force_rms: RMS of the components of their difference, in eV/Å; None
            without such structures.
    """

    low: str
    high: str
    structures: int
    energy: Statistics
    scatter: float
    with_forces: int
    force_rms: float | None


@dataclass(frozen=True)
class Audit:
    """All results of an audit.

    Attributes:
        references: {fidelity: {symbol: {energy, std, determined}}} in eV, fitted to
            the training data as in training.
        histograms: {'edges': [...], 'counts': {name: [...]}} of 'energy' (eV/atom
            minus references, by fidelity), 'difference' (eV/atom minus references,
            by pair) and 'force' (eV/Å, by fidelity).
    """

    file: str
    fidelities: list[str]
    base: str
    target: str
    sets: list[SetAudit]
    pairs: list[PairAudit]
    references: dict[str, dict[str, dict[str, Any]]]
    histograms: dict[str, dict[str, Any]]
    problems: list[Finding]

    @property
    def has_problems(self) -> bool:
        """Whether any of `problems` is more than a note."""
        return any(p.is_problem for p in self.problems)

    def as_dict(self) -> dict[str, Any]:
        """Return plain builtins, ready for JSON."""
        said = dataclasses.asdict(self)
        for finding in said['problems']:
            finding['names'] = list(finding['names'])
        return said


# ---- from the records


def describe_sets(records: Records) -> list[SetAudit]:
    """Describe each fidelity in each set that has any of it."""
    audits = []
    for held, name in itertools.product(records.sets, records.fidelities):
        rows = records.rows(name, held)
        if len(rows):
            audits.append(_one_set(records, held, name, rows))
    return audits


def _one_set(records: Records, held: str, name: str, rows: Ints) -> SetAudit:
    n = records['n_atoms'][rows]
    count = np.bincount(records['kind'][rows], minlength=len(records.compositions))
    atoms = count @ records.compositions
    holding = count @ (records.compositions > 0)
    square, stress = records['force_square'][rows], records['stress'][rows] * KBAR
    has_force, has_stress = ~np.isnan(square), ~np.isnan(stress).any(axis=1)
    force = limits = None
    if has_force.any():
        components = 3 * n[has_force].sum()
        force = {
            'max': float(np.nanmax(records['force_max'][rows])),
            'rms': float(np.sqrt(square[has_force].sum() / components)),
        }
    if has_stress.any():
        stress = stress[has_stress]
        limits = {'min': float(stress.min()), 'max': float(stress.max())}
    return SetAudit(
        set=held,
        fidelity=name,
        structures=len(rows),
        atoms=int(n.sum()),
        elements={
            chemical_symbols[z]: {
                'atoms': int(atoms[z]),
                'structures': int(holding[z]),
            }
            for z in np.flatnonzero(atoms)
        },
        labels={
            'energy': len(rows),
            'force': int(has_force.sum()),
            'stress': int(has_stress.sum()),
        },
        energy=Statistics.of(records['energy'][rows] / n),
        force=force,
        stress=limits,
    )


def describe_pairs(
    records: Records, low: str, high: str, first: Ints, second: Ints, rest: Floats
) -> PairAudit:
    """Describe the pairs of two fidelities.

    Args:
        first: (k,) rows of `low`.
        second: (k,) rows of `high`.
        rest: (k,) differences minus reference energies, in eV/atom.
    """
    gap = records['energy'][second] - records['energy'][first]
    both, force_rms = _force_difference(records, first, second)
    return PairAudit(
        low=low,
        high=high,
        structures=len(first),
        energy=Statistics.of(gap / records['n_atoms'][first]),
        scatter=float(rest.std()),
        with_forces=both,
        force_rms=force_rms,
    )


def _force_difference(
    records: Records, first: Ints, second: Ints
) -> tuple[int, float | None]:
    total, components, count = 0.0, 0, 0
    for a, b in zip(first, second, strict=True):
        one, other = records.forces.get(int(a)), records.forces.get(int(b))
        if one is not None and other is not None:
            total += float(np.sum((other - one) ** 2))
            components += one.size
            count += 1
    return count, float(np.sqrt(total / components)) if components else None


def histograms(
    records: Records, references: References | None, differences: dict[str, Floats]
) -> dict[str, dict[str, Any]]:
    """Return Audit.histograms.

    Args:
        differences: (k,) in eV/atom for each pair of fidelities, by its name.
    """
    energy = {}
    for name in () if references is None else references.fidelities:
        rows = records.rows(name)
        if references is not None and len(rows):
            kind, n = records['kind'][rows], records['n_atoms'][rows]
            known = references.determined(records.compositions, name)[kind]
            fitted = references.fitted[references.index(name)]
            rest = records['energy'][rows] / n - records.reference_part(rows, fitted)
            energy[name] = rest[known]
    force = {
        name: counts.tolist()
        for name, counts in zip(
            records.fidelities, records.force_counts, strict=True
        )
        if counts.any()
    }
    return {
        'energy': _histogram(energy),
        'difference': _histogram(differences),
        'force': {'edges': FORCE_EDGES.tolist(), 'counts': force},
    }


def _histogram(values: Mapping[str, Floats]) -> dict[str, Any]:
    """Equal bins over all but the outliers, which go into the first and last."""
    values = {name: v for name, v in values.items() if len(v)}
    if not values:
        return {'edges': [], 'counts': {}}
    everything = np.concatenate(list(values.values()))
    middle = float(np.median(everything))
    width = 10.0 * 1.4826 * float(np.median(np.abs(everything - middle)))
    low = max(float(everything.min()), middle - width)
    high = min(float(everything.max()), middle + width)
    low, high = min(low, middle - NARROWEST), max(high, middle + NARROWEST)
    fewest = min(len(v) for v in values.values())
    bins = min(max(int(2.0 * np.sqrt(fewest)), 10), BINS)
    edges = np.linspace(low, high, bins + 1)
    counts = {
        name: np.histogram(np.clip(v, low, high), edges)[0].tolist()
        for name, v in values.items()
    }
    return {'edges': edges.tolist(), 'counts': counts}
