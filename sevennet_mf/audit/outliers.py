"""Labels that are far from the others of their fidelity."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np

from sevennet_mf.arrays import Bools, Floats, Ints
from sevennet_mf.audit.records import Records
from sevennet_mf.audit.robust import scatter
from sevennet_mf.data.findings import (
    NOTE,
    PROBLEM,
    Finding,
    note,
    problem,
    some,
    structures,
)
from sevennet_mf.data.references import Labels, fit_references
from sevennet_mf.keys import KBAR

OUTLIER: Final[float] = 8.0  # robust standard deviations
# Below these, large z-scores are those of honest data: a rattled water molecule
# among near-equilibrium ones has z = 10 and 0.56 eV/atom.
FLOOR: Final[dict[str, float]] = {
    'energy': 1.0,  # eV/atom
    'difference': 0.1,  # eV/atom
    'force': 50.0,  # eV/Å
    'stress': 1000.0,  # kbar
}
MANY: Final[float] = 0.1  # share of structures that are no outliers any more
SAME_FORCE: Final[float] = 1e-3  # eV/Å
ISOLATED: Final[float] = 200.0  # Å^3 around one atom: no neighbour worth the name


def residuals(records: Records, rows: Ints, energy: Floats) -> Floats:
    """Return energies minus reference energies fitted to them.

    Outliers are left out of the fit, but not out of the result.

    Args:
        rows: (k,).
        energy: (k,) in eV, total.

    Returns:
        (k,) in eV/atom.
    """
    n = records['n_atoms'][rows]
    keep: Bools = np.ones(len(rows), bool)
    rest: Floats = np.zeros(len(rows))
    for _ in range(4):
        labels: Iterable[Labels] = records.labels(rows[keep], energy[keep])
        references = fit_references({'all': labels}, 'all', [])
        rest = energy / n - records.reference_part(rows, references.fitted[0])
        # the far ones pull the fit: leave them out, farthest first
        score = np.abs(rest - np.median(rest)) / max(scatter(rest), 1e-3)
        limit = max(OUTLIER, 0.5 * float(score.max()))
        if not (score > limit).any():
            break
        keep &= score <= limit
        # each composition keeps one structure, or its energy would be anything
        _, single = np.unique(records['kind'][rows], return_index=True)
        lost = ~np.isin(records['kind'][rows], records['kind'][rows[keep]])
        keep[single] |= lost[single]
    return rest


def far_off(values: Floats, floor: float) -> Floats:
    """Return robust z-scores, 0 for values that are no outliers or NaN.

    Args:
        values: (k,), in the unit of `floor`.
        floor: Smallest distance from the median that makes an outlier.

    Returns:
        (k,).
    """
    known = values[~np.isnan(values)]
    if len(known) < 8:
        return np.zeros(len(values))
    gap = values - np.median(known)
    score: Floats = gap / max(scatter(known), 1e-6)
    far = (np.abs(score) > OUTLIER) & (np.abs(gap) > floor)
    return np.where(far, score, 0.0)


def of_fidelity(records: Records, fidelity: str) -> Iterator[Finding]:
    """Yield outliers among the energies, forces and stresses of one fidelity."""
    rows = records.rows(fidelity)
    if len(rows) == 0:
        return
    volume = records['volume'][rows]
    alone = (records['n_atoms'][rows] == 1) & ~(volume < ISOLATED)
    bulk = rows[~alone]
    if len(bulk):
        energy = residuals(records, bulk, records['energy'][bulk])
        yield from _far_off(records, bulk, energy, fidelity, 'energy', 'eV/atom')
    force = records['force_max'][rows]
    yield from _far_off(records, rows, force, fidelity, 'force', 'eV/Å')
    stress = np.abs(records['stress'][rows]).max(axis=1) * KBAR
    yield from _far_off(records, rows, stress, fidelity, 'stress', 'kbar')


def of_differences(
    records: Records, low: str, high: str, second: Ints, rest: Floats
) -> Iterator[Finding]:
    """Yield outliers among the differences between two fidelities.

    Args:
        second: (k,) rows of `high`.
        rest: (k,) in eV/atom, as `residuals` returns them.
    """
    name = f'{high} - {low}'
    yield from _far_off(records, second, rest, name, 'difference', 'eV/atom')


def zeros(records: Records, fidelity: str) -> Iterator[Finding]:
    """Yield forces and stresses of exactly zero, which may be missing labels."""
    rows = records.rows(fidelity)
    largest = {
        'forces': records['force_max'][rows],
        'stresses': np.abs(records['stress'][rows]).max(axis=1),
    }
    for name, values in largest.items():
        zero = int(np.count_nonzero(values == 0.0))
        known = int(np.count_nonzero(~np.isnan(values)))
        if zero > max(MANY * known, 2):
            yield note('zeros', (
                f'{zero} of {structures(known)} of {fidelity} with {name} have '
                'only zeros. If these are placeholders for labels that were not '
                'computed, leave them out.'
            ), fidelity, count=zero)


def constant(records: Records, fidelity: str) -> Iterator[Finding]:
    """Yield placeholders: the same energy, often zero, for different structures."""
    rows = records.rows(fidelity)
    for file in np.unique(records['file'][rows]):
        own = rows[records['file'][rows] == file]
        values, count = np.unique(records['energy'][own], return_counts=True)
        most = int(count.argmax())
        same = own[records['energy'][own] == values[most]]
        if len(same) <= max(MANY * len(own), 2) or not _differ(records, same):
            continue
        what = 'zero' if values[most] == 0.0 else f'{values[most]:.6g} eV'
        yield problem('constant', (
            f'{records.paths[file]}: {len(same)} of {structures(len(own))} of '
            f'{fidelity} have the same energy, {what}, although they are different '
            f'(the first is {records.source(int(same[0]))}). It is probably a '
            'placeholder: name another key with `energy_key`, or remove them.'
        ), fidelity, count=len(same))


def _differ(records: Records, rows: Ints) -> bool:
    """Whether the structures have other atoms, or forces of another size."""
    force = records['force_max'][rows]
    spread = np.ptp(force[~np.isnan(force)]) if (~np.isnan(force)).any() else 0.0
    return len(np.unique(records['kind'][rows])) > 1 or bool(spread > SAME_FORCE)


def _far_off(
    records: Records, rows: Ints, values: Floats, name: str, what: str, unit: str
) -> Iterator[Finding]:
    score = far_off(values, FLOOR[what])
    worst = np.argsort(-np.abs(score))[: np.count_nonzero(score)]
    if len(worst) == 0:
        return
    middle = np.nanmedian(values)
    named = some(
        f'{records.source(int(rows[k]))} ({values[k] - middle:+.3g} {unit}, '
        f'z = {score[k]:+.0f})'
        for k in worst
    )
    after = (
        ' after subtracting reference energies'
        if what in ('energy', 'difference')
        else ''
    )
    # so many are another kind of structures rather than mistakes
    many = what == 'difference' and len(worst) > MANY * len(rows)
    yield Finding('outlier', NOTE if many else PROBLEM, (
        f'{what} of {structures(len(worst))} of {name} far from all others{after}: '
        f'{named}. Check them; correct or remove wrong labels.'
    ), (name,), len(worst))
