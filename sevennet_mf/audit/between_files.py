"""A file of a fidelity whose units differ from those of its other files.

Files of one fidelity have the same reference energies. Their forces differ in size
where some are relaxed: a unit must also explain the forces of another fidelity for
the same structures, or the energies. Bonded atoms of any element
are 0.85 to 1.2 times the sum of their covalent radii apart; 1.9 times as much in
Bohr, half as much if Å were converted again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from sevennet_mf.arrays import Ints
from sevennet_mf.audit.derivatives import force_factor
from sevennet_mf.audit.likely_units import (
    BOHR,
    ENERGY_UNITS,
    EXACT,
    FORCE_UNITS,
    NEAR,
    ORDINARY,
    TOTAL,
    match,
)
from sevennet_mf.audit.records import Records
from sevennet_mf.audit.remedies import line, write
from sevennet_mf.audit.robust import (
    slope,
)
from sevennet_mf.data.findings import NOTE, PROBLEM, Finding, problem
from sevennet_mf.data.references import fit_references

FAR: Final[float] = 1.0  # eV/atom: what files of one fidelity may differ by
FEWEST: Final[int] = 3  # structures whose lengths or forces make a median
ROUGHLY: Final[float] = 1.0  # of the size of forces, in its logarithm
LONG: Final[float] = 1.5  # of the sum of the covalent radii: no bond is so long
SHORT: Final[float] = 0.62  # nor so short
WITHIN: Final[float] = 0.25  # of the factor between Å and Bohr, in its logarithm


def energies(records: Records, fidelity: str) -> Iterator[Finding]:
    """Compare each file's energies with the reference energies of the largest."""
    rows = records.rows(fidelity)
    for main, other, mine, theirs in _files(records, rows):
        references = fit_references(
            {fidelity: records.labels(mine)}, fidelity, []
        )
        known = references.determined(records.compositions, fidelity)
        known = known[records['kind'][theirs]]
        if not known.any():
            continue
        found = records['energy'][theirs[known]] / records['n_atoms'][theirs[known]]
        expected = records.reference_part(theirs[known], references.fitted[0])
        ratio = float(np.median(found / np.where(expected == 0.0, np.nan, expected)))
        off = float(np.median(found - expected))
        if unit := match(ratio, ENERGY_UNITS, 2 * EXACT):
            yield _in_unit(fidelity, other, main, ratio, unit)
        elif ratio > 0 and (unit := match(1 / ratio, ENERGY_UNITS, 2 * EXACT)):
            yield _in_unit(fidelity, main, other, 1 / ratio, unit)
        elif abs(off) > FAR:
            yield problem('unit', (
                f'{other}: its {fidelity} energies differ by {off:+.3f} eV/atom '
                f'from those of {main} for the same elements. They come from '
                'another level of theory or other pseudopotentials, or are in '
                'another unit: convert them, or give them a fidelity of their own.'
            ), fidelity, count=len(theirs))


def _files(records: Records, rows: Ints) -> Iterator[tuple[str, str, Ints, Ints]]:
    files, counts = np.unique(records['file'][rows], return_counts=True)
    if len(files) < 2:
        return
    main = files[counts.argmax()]
    mine = rows[records['file'][rows] == main]
    for file in files[files != main]:
        theirs = rows[records['file'][rows] == file]
        yield records.paths[main], records.paths[file], mine, theirs


def _in_unit(
    fidelity: str, wrong: str, right: str, ratio: float, unit: str
) -> Finding:
    return problem('unit', (
        f'{wrong}: its {fidelity} energies are {ratio:.3g} times as large as those '
        f'of {right} suggest. They look like {unit}. {TOTAL}'
        f'{write(line("energy_unit", unit), where="an entry of its own")}'
    ), fidelity)


def forces(
    records: Records, fidelity: str, with_energies: bool
) -> dict[int, Finding]:
    """Compare the size of each file's forces with that of the largest file.

    Args:
        with_energies: Whether energies may tell which file is wrong.

    Returns:
        {position in records.paths: finding}, for the files that are wrong.
    """
    found: dict[int, Finding] = {}
    for _, _, *both in _files(records, records.rows(fidelity)):
        for rows, beside in (both, both[::-1]):
            file = int(records['file'][rows[0]])
            if file in found:
                continue
            unit, others = _force_unit(
                records, fidelity, rows, beside, with_energies
            )
            if unit:
                found[file] = _forces_in_unit(
                    records, fidelity, rows, beside, unit, others
                )
    return found


def _force_unit(
    records: Records, fidelity: str, rows: Ints, beside: Ints, with_energies: bool
) -> tuple[str, list[str]]:
    """The unit that the forces in `rows` of one file are in, '' if in eV/Å.

    Returns:
        The unit, and the fidelities whose forces of the same structures show it;
        none if energies do.
    """
    ratio = _size(records, rows) / _size(records, beside)
    known = {
        unit: factor
        for unit, factor in FORCE_UNITS.items()
        if abs(np.log(factor)) > ORDINARY and match(ratio, {unit: factor}, ROUGHLY)
    }
    if not known or not np.isin(
        records.numbers(rows), records.numbers(beside)
    ).any():
        return '', []
    paired = _against_others(records, fidelity, rows)
    if not paired and with_energies:
        factor = force_factor(records, fidelity, int(records['file'][rows[0]]))
        return match(factor, known, 2 * NEAR), []
    right = _against_others(records, fidelity, beside)
    for other, factor in paired.items():
        if abs(np.log(right.get(other, 1.0))) < ORDINARY and (
            unit := match(factor / right.get(other, 1.0), known)
        ):
            return unit, list(paired)
    return '', []


def _size(records: Records, rows: Ints) -> float:
    """The usual size of forces, eV/Å; NaN without enough of them."""
    square = records['force_square'][rows] / (3 * records['n_atoms'][rows])
    square = square[square > 0.0]
    return float(np.sqrt(np.median(square))) if len(square) >= FEWEST else np.nan


def _against_others(
    records: Records, fidelity: str, rows: Ints
) -> dict[str, float]:
    """{other fidelity: what forces in `rows` are times its for same structures}."""
    found = {}
    for other in records.fidelities:
        if other == fidelity:
            continue
        first, second = records.pairs(fidelity, other)
        own = np.isin(first, rows)
        x, y = records.paired_forces(second[own], first[own])
        factor, left = slope(x, y)
        if factor > 0.0 and left < 0.5:
            found[other] = factor
    return found


def _forces_in_unit(
    records: Records,
    fidelity: str,
    rows: Ints,
    beside: Ints,
    unit: str,
    others: Sequence[str],
) -> Finding:
    wrong, right = (records.paths[records['file'][r[0]]] for r in (rows, beside))
    ratio = _size(records, rows) / _size(records, beside)
    paired = ' and '.join(others)
    witness = f'the forces of {paired} for the same structures' if others else (
        'its energies'
    )
    factor = FORCE_UNITS[unit.split(' or ')[0]]
    return problem('unit', (
        f'{wrong}: its {fidelity} forces are {ratio:.3g} times as large as those of '
        f'{right}, and {witness} suggest a factor of {factor:.3g}, too. They look '
        f'like {unit}. Forces must be in eV/Å.'
        f'{write(line("force_unit", unit), where="an entry of its own")}'
    ), fidelity, count=len(rows))


def lengths(records: Records) -> Iterator[Finding]:
    """Yield files whose closest atoms are too far apart or too close for Å."""
    groups = list(_groups(records))
    usual = [median for _, _, median in groups if SHORT < median < LONG]
    for fidelity, path, median in groups:
        if SHORT < median < LONG:
            continue
        factor = 1 / BOHR if median >= LONG else BOHR
        expected = float(np.median(usual)) if usual else 1.0
        fits = abs(np.log(median / expected / factor)) < WITHIN
        guess = ''
        if fits and factor > 1:
            guess = f' They look like Bohr.{write(line("length_unit", "bohr"))}'
        elif fits:
            guess = (
                ' They look like values in Å that were converted as if in Bohr.'
            )
        beside = f', and {expected:.2f} times in other files' if usual else ''
        yield Finding('unit', PROBLEM if usual and fits else NOTE, (
            f'{path}: the closest atoms in structures of {fidelity} are '
            f'{median:.2f} times the sum of their covalent radii apart{beside}.'
            f'{guess} Positions and cells must be in Å.'
        ), (fidelity,))


def _groups(records: Records) -> Iterator[tuple[str, str, float]]:
    """(fidelity, path, median of the closest distance) of each file."""
    known = ~np.isnan(records['nearest'])
    for name in records.fidelities:
        rows = records.rows(name)
        rows = rows[known[rows]]
        for file in np.unique(records['file'][rows]):
            values = records['nearest'][rows[records['file'][rows] == file]]
            if len(values) >= FEWEST:
                yield name, records.paths[file], float(np.median(values))
