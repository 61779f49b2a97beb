"""Labels that look like another unit or sign, by what must agree with them.

Energies of two fidelities for one composition rise and fall together; energies
follow from forces and stress; files of one fidelity agree on what an atom weighs.
Where one of these fails by the factor between two units, it is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

from sevennet_mf.arrays import Floats, Ints
from sevennet_mf.audit.findings import Report
from sevennet_mf.audit.scan import Records
from sevennet_mf.data.labels import as_ase
from sevennet_mf.data.references import fit_references

HARTREE, RYDBERG, BOHR = 27.211386, 13.605693, 0.52917721
# what a number written in the unit is, over what it is in eV (eV/Å, eV/Å^3)
ENERGY_UNITS: Final[dict[str, float]] = {
    'Hartree': 1 / HARTREE,
    'Rydberg': 1 / RYDBERG,
    'kcal/mol': 23.060548,
    'kJ/mol': 96.485332,
    'meV': 1000.0,
}
FORCE_UNITS: Final[dict[str, float]] = {
    'Hartree/Bohr': BOHR / HARTREE,
    'Rydberg/Bohr': BOHR / RYDBERG,
    'eV/Bohr': BOHR,
    'Hartree/Å': 1 / HARTREE,
    'kcal/mol/Å': 23.060548,
    'kJ/mol/Å': 96.485332,
    'meV/Å': 1000.0,
}
STRESS_UNITS: Final[dict[str, float]] = {
    'GPa': 160.21766208,
    'kbar': 1602.1766208,
    'Hartree/Bohr^3': BOHR**3 / HARTREE,
    'Rydberg/Bohr^3': BOHR**3 / RYDBERG,
}
# other codes' orders of shear components, and how to have ASE's yz xz xy of them
ORDERS: Final[dict[str, list[int]]] = {
    'xy, yz, zx (VASP)': [0, 1, 2, 4, 5, 3],
    'xy, xz, yz (LAMMPS)': [0, 1, 2, 5, 4, 3],
}
NEAR: Final[float] = 0.25  # of a factor, in its logarithm: methods differ, too
ORDINARY: Final[float] = 0.7  # the same for 1: factors of 0.5 to 2 need no reason
SPREAD: Final[float] = 6.0  # factor of the spread of energies that is remarkable
EXACT: Final[float] = 0.02  # of total energies: those of a file, or all-electron
FAR: Final[float] = 1.0  # eV/atom: what files of one fidelity may differ by
ALIKE: Final[float] = 0.8  # cosine of the angle between shear components
FEWEST: Final[int] = 4  # structures beyond one for each composition
SURE: Final[int] = 12  # so many are believed without a unit that explains them
SMALLEST: Final[float] = 1e-4  # eV/atom (eV/Å, eV/Å^3): less says nothing


def match(factor: float, units: Mapping[str, float], near: float = NEAR) -> str:
    """Return 'Hartree or kcal/mol' for the units whose factor this may be."""
    if factor <= 0.0:
        return ''
    found = {u: abs(np.log(factor / f)) for u, f in units.items()}
    close = sorted((d, u) for u, d in found.items() if d < near)
    return ' or '.join(u for _, u in close)


def weighted_median(values: Floats, weights: Floats) -> float:
    """Return the value with half of the weight below it."""
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, 0.5 * total[-1])])


def slope(x: Floats, y: Floats) -> tuple[float, float]:
    """Return s of y = s x, from the median, and how much of y is left over (0 to 1).

    x, y: (n,), about zero.
    """
    use = np.abs(x) > SMALLEST
    if use.sum() < FEWEST:
        return float('nan'), 1.0
    x, y = x[use], y[use]
    s = weighted_median(y / x, np.abs(x))
    left = np.median(np.abs(y - s * x)) / max(np.median(np.abs(y)), 1e-12)
    return s, float(min(left, 1.0))


def grouped(values: Ints) -> dict[int, Ints]:
    """Return {value: its positions in `values`}."""
    order = np.argsort(values, kind='stable')
    known, first = np.unique(values[order], return_index=True)
    parts = np.split(order, first[1:])
    return {int(v): part for v, part in zip(known, parts, strict=bool(len(known)))}


def centred(values: Floats, groups: Ints) -> Floats:
    """Return values less the median of their group, NaN for groups of one."""
    result = np.full(len(values), np.nan)
    for rows in grouped(groups).values():
        if len(rows) > 1:
            result[rows] = values[rows] - np.median(values[rows])
    return result


# ---- two fidelities


def check_pair(
    records: Records, low: str, high: str, first: Ints, second: Ints, report: Report
) -> None:
    """Compare labels of `low` in rows `first` with those of `high` in `second`."""
    if not _paired_energies(records, low, high, first, second, report):
        _same_compositions(records, low, high, report)
    forces = [
        (records.forces[int(a)].ravel(), records.forces[int(b)].ravel())
        for a, b in zip(first, second, strict=True)
        if int(a) in records.forces and int(b) in records.forces
    ]
    stress = records['stress'][first], records['stress'][second]
    both = ~np.isnan(stress[0] + stress[1]).any(axis=1)
    x, y = (values[both] for values in stress)
    if forces:
        fx, fy = (
            np.concatenate(f).astype(np.float64) for f in zip(*forces, strict=True)
        )
        _components(low, high, 'forces', 'eV/Å', fx, fy, FORCE_UNITS, report)
    volume = records['volume'][first][both]
    if not _order(low, high, x, y, report):
        units = {**STRESS_UNITS, 'eV as a virial': _middle(volume)}
        _components(low, high, 'stresses', 'eV/Å^3', x, y, units, report)


def _middle(volume: Floats) -> float:
    known = volume[~np.isnan(volume)]
    return float(np.median(known)) if len(known) else np.inf


def _order(low: str, high: str, x: Floats, y: Floats, report: Report) -> bool:
    """Whether shear components agree in another order only; it is reported.

    x, y: (k, 6) eV/Å^3 as the host has them.
    """
    if len(x) < FEWEST:
        return False
    x, y = as_ase(x), as_ase(y)
    here = _agreement(x[:, 3:], y[:, 3:])
    for order, columns in ORDERS.items():
        shear = columns[3:]
        for wrong, there in (
            (high, _agreement(x[:, 3:], y[:, shear])),
            (low, _agreement(x[:, shear], y[:, 3:])),
        ):
            if there > ALIKE > ALIKE - 0.3 > here:
                report('unit', 'problem', (
                    f'shear components of the stress of {wrong} agree with those of '
                    f'{low if wrong == high else high} over {len(x)} structures if '
                    f"they stand in the order {order}. They must stand in ASE's "
                    'order: yz, xz, xy.'
                ))
                return True
    return False


def _agreement(x: Floats, y: Floats) -> float:
    """The cosine of the angle between two sets of numbers."""
    size = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(np.sum(x * y)) / size if size else 0.0


def _paired_energies(
    records: Records, low: str, high: str, first: Ints, second: Ints, report: Report
) -> bool:
    """Whether the paired energies say anything; what is wrong is reported."""
    n, kind = records['n_atoms'][first], records['kind'][first]
    x = centred(records['energy'][first] / n, kind)
    y = centred(records['energy'][second] / n, kind)
    use = ~np.isnan(x)
    x, y, n = x[use], y[use], n[use]
    s, left = slope(x, y)
    spare = len(x) - len(np.unique(kind[use]))
    if np.isnan(s) or s == 0.0 or left > 0.4 or spare < FEWEST:
        return False
    if abs(np.log(abs(s))) < ORDINARY and s > 0:
        return True
    says = (
        f'the energies of {high} vary {s:.3g} times as much as those of {low} over '
        f'the same {len(first)} structures'
    )
    per_atom, _ = slope(x, y * n)
    reverse, _ = slope(x * n, y)
    _say_energy(high, low, s, per_atom, reverse, says, report, spare >= SURE)
    return True


def _say_energy(
    high: str,
    low: str,
    s: float,
    per_atom: float,
    reverse: float,
    says: str,
    report: Report,
    sure: bool = True,
) -> None:
    guesses = []
    if unit := match(s, ENERGY_UNITS):
        guesses.append(f'{high} in {unit}')
    if unit := match(1 / s, ENERGY_UNITS):
        guesses.append(f'{low} in {unit}')
    one = {'per atom': 1.0}
    if abs(np.log(abs(s))) > ORDINARY:
        if match(per_atom, one):
            guesses.append(f'{high} per atom instead of total')
        if match(reverse, one):
            guesses.append(f'{low} per atom instead of total')
    if not guesses and not sure:
        return  # a factor of its own, from few structures, is chance
    why = f' It looks like {", or ".join(guesses)}.' if guesses else ''
    remedy = 'Energies must be total energies in eV.'
    report('unit', 'problem', f'{says}.{why} {remedy}')


def _components(
    low: str,
    high: str,
    name: str,
    unit: str,
    x: Floats,
    y: Floats,
    units: Mapping[str, float],
    report: Report,
) -> None:
    s, left = slope(x.ravel(), y.ravel())
    if np.isnan(s) or left > 0.5:
        return
    if s == 0.0:
        report('unit', 'problem', (
            f'the {name} of {high} are zero where those of {low} for the same '
            'structures are not. A label a structure does not have must be left out.'
        ))
        return
    if s > 0 and abs(np.log(s)) < ORDINARY:
        return
    report('unit', 'problem', (
        f'the {name} of {high} are {s:.3g} times those of {low} over the same '
        f'structures.{_guess(s, high, low, units)} They must be in {unit}.'
    ))


def _guess(s: float, high: str, low: str, units: Mapping[str, float]) -> str:
    guesses = []
    for value, name in ((abs(s), high), (1 / abs(s), low)):
        if unit := match(value, units):
            guesses.append(f'{name} in {unit}')
    if s < 0:
        guesses.append('the sign of one of them is wrong')
    return f' It looks like {", or ".join(guesses)}.' if guesses else ''


def _same_compositions(
    records: Records, low: str, high: str, report: Report
) -> None:
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
            spreads.append((_mad(a), _mad(b)))
    ratio = np.array([b / a for a, b in means if a != 0.0])
    if len(ratio) > 1 and np.ptp(ratio) < EXACT * abs(ratio.mean()):
        s = float(ratio.mean())
        if match(s, ENERGY_UNITS, EXACT) or match(1 / s, ENERGY_UNITS, EXACT):
            says = (
                f'the energies of {high} are {s:.3g} times those of {low} for all '
                f'{len(ratio)} compositions that both have'
            )
            _say_energy(high, low, s, np.nan, np.nan, says, report)
            return
    spread = np.array([b / a for a, b in spreads if a > SMALLEST])
    s = max(float(np.median(spread)), 1e-9) if len(spread) else 1.0
    if abs(np.log(s)) > np.log(SPREAD):
        unit = match(s, ENERGY_UNITS, 0.5) or match(1 / s, ENERGY_UNITS, 0.5)
        report('unit', 'note', (
            f'the energies of {high} vary {s:.2g} times as much as those of {low} '
            'within one composition. Other structures may be why, or another unit'
            f'{f" ({unit})" if unit else ""}: energies must be in eV.'
        ))


def _mad(values: Floats) -> float:
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


# ---- one fidelity: its files


def check_files(records: Records, fidelity: str, report: Report) -> None:
    """Compare each file's energies with what the largest one's atoms weigh."""
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
            _say_file(fidelity, other, main, ratio, unit, report)
        elif ratio > 0 and (unit := match(1 / ratio, ENERGY_UNITS, 2 * EXACT)):
            _say_file(fidelity, main, other, 1 / ratio, unit, report)
        elif abs(off) > FAR:
            report('unit', 'problem', (
                f'{other}: its {fidelity} energies lie {off:+.3f} eV/atom from '
                f'those of {main} for the same elements. They are of another level '
                'of theory, other pseudopotentials or another unit: make them one, '
                'or call them another fidelity.'
            ))


def _files(records: Records, rows: Ints) -> Iterator[tuple[str, str, Ints, Ints]]:
    files, counts = np.unique(records['file'][rows], return_counts=True)
    if len(files) < 2:
        return
    main = files[counts.argmax()]
    mine = rows[records['file'][rows] == main]
    for file in files[files != main]:
        theirs = rows[records['file'][rows] == file]
        yield records.paths[main], records.paths[file], mine, theirs


def _say_file(
    fidelity: str, wrong: str, right: str, ratio: float, unit: str, report: Report
) -> None:
    report('unit', 'problem', (
        f'{wrong}: its {fidelity} energies are {ratio:.3g} times what those of '
        f'{right} let expect. They look like {unit}. Energies must be total '
        'energies in eV.'
    ))

