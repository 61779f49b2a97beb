"""Labels that look like another unit or sign, by what must agree with them.

Energies of two fidelities for one composition vary together, and labels of one
structure are of about the same size. A mismatch by the factor between two units is
reported. derivatives.py and between_files.py look at one fidelity alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from sevennet_mf.arrays import Floats, Ints
from sevennet_mf.audit.likely_units import (
    ENERGY_UNITS,
    EXACT,
    FORCE_UNITS,
    ORDERS,
    ORDINARY,
    STRESS_UNITS,
    TOTAL,
    match,
)
from sevennet_mf.audit.records import Records
from sevennet_mf.audit.remedies import (
    GRADIENT,
    SIGN,
    VIRIAL,
    either,
    entry_of,
    line,
    line_of_order,
    write,
)
from sevennet_mf.audit.robust import (
    FEWEST,
    SMALLEST,
    centred,
    grouped,
    scatter,
    slope,
)
from sevennet_mf.data.findings import Finding, note, problem
from sevennet_mf.data.reading.stress import as_ase

SPREAD: Final[float] = 6.0  # factor of the spread of energies that is remarkable
ALIKE: Final[float] = 0.8  # cosine of the angle between shear components
SURE: Final[int] = 12  # so many are believed without a unit that explains them


# ---- two fidelities


def of_pair(
    records: Records,
    low: str,
    high: str,
    first: Ints,
    second: Ints,
    told: Collection[int] = (),
) -> Iterator[Finding]:
    """Compare labels of `low` in rows `first` with those of `high` in `second`.

    Args:
        told: Files, by position in `records.paths`, whose forces are known to be
            in another unit.
    """
    found = _paired_energies(records, low, high, first, second)
    yield from _same_compositions(records, low, high) if found is None else found
    files = np.stack([records['file'][first], records['file'][second]])
    other = ~np.isin(files, list(told)).any(axis=0)
    yield from _forces(records, low, high, first[other], second[other])
    stress = records['stress'][first], records['stress'][second]
    both = ~np.isnan(stress[0] + stress[1]).any(axis=1)
    x, y = (values[both] for values in stress)
    reordered = list(_order(low, high, x, y))
    yield from reordered
    if not reordered:
        volume = records['volume'][first][both]
        known = {**STRESS_UNITS, 'eV as a virial': _middle(volume)}
        yield from _components(low, high, 'stresses', 'eV/Å^3', x, y, known)


def _forces(
    records: Records, low: str, high: str, first: Ints, second: Ints
) -> Iterator[Finding]:
    """Compare the forces of all files together, or of each two that differ."""
    paths, n_files = records.paths, len(records.paths)
    code = records['file'][first] * n_files + records['file'][second]
    parts = {
        pair: records.paired_forces(first[at], second[at])
        for pair, at in grouped(code).items()
        if len(at) >= FEWEST
    }
    fits = {pair: slope(x, y) for pair, (x, y) in parts.items()}
    known = {pair: s for pair, (s, left) in fits.items() if s and left < 0.5}
    sizes = np.log(np.abs([*known.values()]))
    if len({s > 0 for s in known.values()}) < 2 and (
        len(known) < 2 or np.ptp(sizes) < ORDINARY
    ):
        x, y = records.paired_forces(first, second)
        yield from _components(low, high, 'forces', 'eV/Å', x, y, FORCE_UNITS)
        return
    for pair, s in known.items():
        if s > 0 and not _in_units(s, high, low, FORCE_UNITS):
            continue  # of a part alone: chance, or files of relaxed structures
        below, above = divmod(pair, n_files)
        names = f'{low} in {paths[below]}', f'{high} in {paths[above]}'
        what = *names, 'forces', 'eV/Å'
        for found in _components(*what, *parts[pair], FORCE_UNITS):
            yield replace(found, names=(low, high))


def _middle(volume: Floats) -> float:
    known = volume[~np.isnan(volume)]
    return float(np.median(known)) if len(known) else np.inf


def _order(low: str, high: str, x: Floats, y: Floats) -> Iterator[Finding]:
    """Shear components that agree in another order only.

    x, y: (k, 6) eV/Å^3 as the host has them.
    """
    if len(x) < FEWEST:
        return
    x, y = as_ase(x), as_ase(y)
    here = _agreement(x[:, 3:], y[:, 3:])
    for order, columns in ORDERS.items():
        shear = columns[3:]
        for wrong, there in (
            (high, _agreement(x[:, 3:], y[:, shear])),
            (low, _agreement(x[:, shear], y[:, 3:])),
        ):
            if there > ALIKE > ALIKE - 0.3 > here:
                mended = write(line_of_order(order), where=entry_of(wrong))
                yield problem('unit', (
                    f'shear components of the stress of {wrong} agree with those of '
                    f'{low if wrong == high else high} over {len(x)} structures if '
                    f"they are in the order {order}. They must be in ASE's order: "
                    f'yz, xz, xy.{mended}'
                ), wrong, count=len(x))
                return


def _agreement(x: Floats, y: Floats) -> float:
    """The cosine of the angle between two sets of numbers."""
    size = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(np.sum(x * y)) / size if size else 0.0


def _paired_energies(
    records: Records, low: str, high: str, first: Ints, second: Ints
) -> list[Finding] | None:
    """What is wrong with the paired energies; None if they say nothing."""
    n, kind = records['n_atoms'][first], records['kind'][first]
    x = centred(records['energy'][first] / n, kind)
    y = centred(records['energy'][second] / n, kind)
    use = ~np.isnan(x)
    x, y, n = x[use], y[use], n[use]
    s, left = slope(x, y)
    spare = len(x) - len(np.unique(kind[use]))
    if np.isnan(s) or s == 0.0 or left > 0.4 or spare < FEWEST:
        return None
    if abs(np.log(abs(s))) < ORDINARY and s > 0:
        return []
    guesses = _in_units(s, high, low, ENERGY_UNITS)
    mended = _lines('energy_unit', s, high, low, ENERGY_UNITS)
    if abs(np.log(abs(s))) > ORDINARY:
        for wrong, factor in ((high, slope(x, y * n)), (low, slope(x * n, y))):
            if match(factor[0], {'per atom': 1.0}):
                guesses.append(f'{wrong} per atom instead of total')
                mended.append((line('energy_unit', 'eV/atom'), entry_of(wrong)))
    if not guesses and spare < SURE:
        return []  # a factor of its own, from few structures, is chance
    return [problem('unit', (
        f'the energies of {high} vary {s:.3g} times as much as those of {low} over '
        f'the same {len(first)} structures.{_looks(guesses)} {TOTAL}'
        f'{either(mended)}'
    ), low, high, count=len(first))]


def _in_units(
    s: float, high: str, low: str, known: Mapping[str, float]
) -> list[str]:
    """['high in Hartree'], by what `high` is times `low`."""
    found = (match(s, known), high), (match(1 / s, known), low)
    return [f'{name} in {unit}' for unit, name in found if unit]


def _lines(
    key: str, s: float, high: str, low: str, known: Mapping[str, float]
) -> list[tuple[str, str]]:
    """The lines that would mend it, and where, by what `high` is times `low`."""
    found = []
    for factor, name in ((s, high), (1 / s, low)):
        unit = match(factor, known)
        is_virial = 'virial' in unit.split(' or ')[0]
        text = VIRIAL if is_virial else line(key, unit)
        found.append((text, entry_of(name)))
    return found


def _looks(guesses: Sequence[str]) -> str:
    return f' It looks like {", or ".join(guesses)}.' if guesses else ''


def _components(
    low: str,
    high: str,
    name: str,
    unit: str,
    x: Floats,
    y: Floats,
    known: Mapping[str, float],
) -> Iterator[Finding]:
    s, left = slope(x.ravel(), y.ravel())
    if np.isnan(s) or left > 0.5:
        return
    if s == 0.0:
        yield problem('unit', (
            f'the {name} of {high} are zero where those of {low} for the same '
            'structures are not. Leave out labels that a structure does not have.'
        ), high)
        return
    if s > 0 and abs(np.log(s)) < ORDINARY:
        return
    guesses = _in_units(abs(s), high, low, known)
    key = {'forces': 'force_unit', 'stresses': 'stress_unit'}[name]
    mended = either(_lines(key, abs(s), high, low, known))
    if s < 0:
        guesses.append('the sign of one of them is wrong')
        of_sign = GRADIENT if name == 'forces' else SIGN
        mended += write(of_sign, where='the entry whose sign is wrong')
    yield problem('unit', (
        f'the {name} of {high} are {s:.3g} times those of {low} over the same '
        f'structures.{_looks(guesses)} They must be in {unit}.'
        f'{mended}'
    ), low, high)


def _same_compositions(
    records: Records, low: str, high: str
) -> Iterator[Finding]:
    """What is left without pairs: averages over structures of one composition."""
    each = records['energy'] / records['n_atoms']
    first, second = (
        {kind: rows[part] for kind, part in grouped(records['kind'][rows]).items()}
        for rows in (records.rows(low), records.rows(high))
    )
    means, spreads = [], []
    for kind in first.keys() & second.keys():
        a, b = each[first[kind]], each[second[kind]]
        means.append((np.median(a), np.median(b)))
        if min(len(a), len(b)) > FEWEST:
            spreads.append((scatter(a), scatter(b)))
    ratio = np.array([b / a for a, b in means if a != 0.0])
    if len(ratio) > 1 and np.ptp(ratio) < EXACT * abs(ratio.mean()):
        s = float(ratio.mean())
        if match(s, ENERGY_UNITS, EXACT) or match(1 / s, ENERGY_UNITS, EXACT):
            guesses = _in_units(s, high, low, ENERGY_UNITS)
            mended = either(_lines('energy_unit', s, high, low, ENERGY_UNITS))
            yield problem('unit', (
                f'the energies of {high} are {s:.3g} times those of {low} for all '
                f'{len(ratio)} compositions that both have.{_looks(guesses)} {TOTAL}'
                f'{mended}'
            ), low, high)
            return
    spread = np.array([b / a for a, b in spreads if a > SMALLEST])
    s = max(float(np.median(spread)), 1e-9) if len(spread) else 1.0
    if abs(np.log(s)) > np.log(SPREAD):
        unit = match(s, ENERGY_UNITS, 0.5) or match(1 / s, ENERGY_UNITS, 0.5)
        yield note('unit', (
            f'the energies of {high} vary {s:.2g} times as much as those of {low} '
            'within one composition. The reason may be different structures, or a '
            f'wrong unit{f" ({unit})" if unit else ""}: energies must be in eV.'
        ), low, high)
