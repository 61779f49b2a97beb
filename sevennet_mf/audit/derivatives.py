"""Energies of similar structures against forces and stress: units, signs, order.

Between two similar structures a and b, the energy changes by the work of forces and
stress on the way: E_b - E_a = W_F + W_S, the trapezoidal rule over
positions within the cell (W_F) and over the cell (W_S). What is left is of third
order in the distance. If the rule fails, and holds far better with a factor before
one of the terms, with another order of the stress, or with a virial in its place,
then that is what the file holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from sevennet_mf.arrays import Floats
from sevennet_mf.audit.likely_units import (
    BOHR,
    ENERGY_UNITS,
    FORCE_UNITS,
    NEAR,
    ORDERS,
    STRESS_UNITS,
    match,
)
from sevennet_mf.audit.records import Records
from sevennet_mf.audit.remedies import (
    GRADIENT,
    SIGN,
    line,
    line_of_order,
    write,
)
from sevennet_mf.audit.robust import (
    FEWEST,
)
from sevennet_mf.audit.work_of_forces import (
    ENERGY,
    FIRST_ORDER,
    FORCE,
    SIZE,
    STRESS,
    VIRIAL,
    work_table,
)
from sevennet_mf.data.findings import Finding, note, problem

# What an explanation must leave of the error without it. Exact labels of 140 sets
# of rattled and strained metals never come below 0.33 with a factor of their own,
# nor below 0.8 with another order of the stress.
WITH_UNIT, WITHOUT, BESIDE_STRESS, REORDERED, VIRIALS = 0.5, 0.15, 0.3, 0.6, 0.3
BORNE_OUT: Final[float] = 0.7  # the same for a factor that something else suggests
SIMPLER, UNSURE = 0.7, 3.0  # factors of what is left, to choose the likeliest
CHANGED: Final[float] = 0.5  # of a factor, in its logarithm: less is no finding
UNRELATED: Final[float] = 0.3  # of the work itself; exact labels leave 0.2 at most


@dataclass(frozen=True)
class Explanation:
    """What may be wrong with labels.

    Attributes:
        left: Share of the error that remains with it, larger if it is unlikely.
        message: What the finding says.
    """

    left: float
    message: str


def against_energies(records: Records, fidelity: str) -> Iterator[Finding]:
    """Compare energy differences of similar structures with forces and stress."""
    table = work_table(records, fidelity)
    if len(table) < 2 * FEWEST:
        return
    energy, work = table[:, ENERGY], table[:, FORCE] + table[:, STRESS]
    error = float(np.median(np.abs(energy - work)))
    if error == 0.0 or not np.abs(table[:, FORCE]).max() > 1e-3:
        return
    single = [
        *_factors(fidelity, table, error),
        *_stresses(fidelity, table, error),
    ]
    best = min(single, key=lambda e: e.left, default=None)
    both = _both(fidelity, table, error)
    if both is not None and (best is None or both.left < 0.5 * best.left):
        best = both
    if best is not None:
        yield problem('unit', best.message, fidelity)
    elif error > UNRELATED * float(np.median(table[:, SIZE])):
        share = error / max(float(np.median(np.abs(energy))), 1e-12)
        yield note('unit', (
            f'the energies and forces of {fidelity} are inconsistent in '
            f'{len(table)} pairs of similar structures ({min(share, 1.0):.0%} of '
            'the energy differences unexplained). Check that both come from the '
            'same calculation and have the same order of atoms.'
        ), fidelity)


def force_factor(records: Records, fidelity: str, file: int) -> float:
    """Return what forces of one file are times those that its energies imply.

    It is NaN if too few structures are alike, or if no factor makes them agree.

    Args:
        file: Position in `records.paths`.
    """
    table = work_table(records, fidelity, file)
    force, rest = table[:, FORCE], table[:, ENERGY] - table[:, STRESS]
    if len(table) < 2 * FEWEST or not np.abs(force).max() > 0.0:
        return float('nan')
    error = float(np.median(np.abs(rest - force)))
    factor, left = _fit(force[:, None], rest)
    agree = factor[0] > 0.0 and left < BORNE_OUT * error
    return float(1 / factor[0]) if agree else float('nan')


# ---- what explains the error


def _factors(fidelity: str, table: Floats, error: float) -> list[Explanation]:
    """One factor before energies, before forces or before the stress."""
    energy, force, stress = (table[:, k] for k in (ENERGY, FORCE, STRESS))
    found = []
    factor, left = _fit(np.stack([force + stress], 1), energy)
    if np.abs(stress).max() > 1e-6:
        guess = _units(float(factor[0]), ENERGY_UNITS, 'energies in {}')
        found.append(_of_energy(fidelity, factor[0], left / error, guess, table))
        own, left = _fit(np.stack([stress], 1), energy - force)
        found.append(_of_stress(fidelity, float(own[0]), left / error))
        factor, left = _fit(np.stack([force], 1), energy - stress)
    found.append(_of_force(fidelity, float(factor[0]), left / error, table))
    return [e for e in found if e is not None]


def _of_energy(
    fidelity: str, factor: float, left: float, guess: str, table: Floats
) -> Explanation | None:
    return _judged(factor, left, bool(guess), (
        f'energies of {fidelity} change {factor:.3g} times as much as its forces '
        f'and stress imply ({len(table)} pairs of similar structures).'
        f'{_looks(guess)} '
        'Energies must be in eV, forces in eV/Å.'
        f'{write(line("energy_unit", guess.removeprefix("energies in ")))}'
    ))


def _of_force(
    fidelity: str, factor: float, left: float, table: Floats
) -> Explanation | None:
    guesses = []
    size = max(abs(factor), 1e-12)
    is_strained = np.abs(table[:, STRESS]).max() > 1e-6
    if not is_strained:  # else the stress would show it
        guesses.append(_units(size, ENERGY_UNITS, 'energies in {}'))
        if match(size, {'atomic units': 1 / BOHR}):
            guesses.append('both in Hartree or Rydberg')
    guesses.append(_units(1 / size, FORCE_UNITS, 'forces in {}'))
    if factor < 0:
        guesses.append('forces of the wrong sign (gradients)')
    guess = ', or '.join(g for g in guesses if g)
    if is_strained and left > BESIDE_STRESS:
        return None  # what is wrong may be the stress
    return _judged(factor, left, bool(guess) and _is_near(factor, guesses), (
        f'energies of {fidelity} change {factor:.3g} times as much as its forces '
        f'imply ({len(table)} pairs of similar structures).{_looks(guess)} Energies '
        f'must be in eV, forces in eV/Å.{_lines_of_force(size, factor, is_strained)}'
    ))


def _lines_of_force(size: float, factor: float, is_strained: bool) -> str:
    """The lines of YAML that would mend a factor between energies and forces."""
    energy = '' if is_strained else match(size, ENERGY_UNITS)
    force = match(1 / size, FORCE_UNITS)
    lines = line('energy_unit', energy), line('force_unit', force)
    return write(*lines, word='or') + (write(GRADIENT) if factor < 0 else '')


def _of_stress(fidelity: str, factor: float, left: float) -> Explanation | None:
    size = max(abs(factor), 1e-12)
    guesses = [_units(1 / size, STRESS_UNITS, 'stress in {}', 2 * NEAR)]
    if factor < 0:
        guesses.append('stress of the wrong sign')
    guess = ', or '.join(g for g in guesses if g)
    unit = line('stress_unit', match(1 / size, STRESS_UNITS, 2 * NEAR))
    return _judged(factor, left, bool(guess) and _is_near(factor, guesses), (
        f'energies of {fidelity} change {factor:.3g} times as much with the cell as '
        f'its stress implies.{_looks(guess)} {STRESS_RULE}'
        f'{write(unit, SIGN if factor < 0 else "")}'
    ))


def _stresses(fidelity: str, table: Floats, error: float) -> list[Explanation]:
    """A virial in place of the stress, or its components in another order."""
    if np.abs(table[:, STRESS]).max() <= 1e-6:
        return []
    rest = table[:, ENERGY] - table[:, FORCE]
    factor = float(_fit(table[:, [VIRIAL]], rest)[0][0])
    sign, which = (1.0, '') if factor > 0 else (-1.0, ' of the wrong sign')
    left = float(np.median(np.abs(rest - sign * table[:, VIRIAL]))) / error
    found = []
    near = 2 * CHANGED if factor > 0 else 0.5 * CHANGED
    if left < VIRIALS and abs(np.log(max(abs(factor), 1e-12))) < near:
        # without a factor of its own it is the simpler explanation
        found.append(Explanation(SIMPLER * left, (
            f'the stress of {fidelity} looks like a virial{which} (-V times the '
            'stress, in eV): with it, energies change with the cell as they should. '
            f'Read it with `virial_key`, or convert it. {STRESS_RULE}'
        )))
    for column, (order, _) in enumerate(ORDERS.items(), FIRST_ORDER):
        left = float(np.median(np.abs(rest - table[:, column]))) / error
        if left < REORDERED:
            found.append(Explanation(left, (
                f'energies of {fidelity} change with the cell as if the shear '
                f'components of its stress were in the order {order}. They must '
                f"be in ASE's order: yz, xz, xy.{write(line_of_order(order))}"
            )))
    return found


def _both(fidelity: str, table: Floats, error: float) -> Explanation | None:
    """Factors of their own before forces and stress."""
    if np.abs(table[:, STRESS]).max() <= 1e-6:
        return None
    factors, left = _fit(table[:, [FORCE, STRESS]], table[:, ENERGY])
    parts = [
        _of_force(fidelity, float(factors[0]), left / error, table),
        _of_stress(fidelity, float(factors[1]), left / error),
    ]
    wrong = [e for e in parts if e is not None]
    if not wrong:
        return None
    message = ' '.join(e.message for e in wrong)
    return Explanation(max(e.left for e in wrong), message)


def _judged(
    factor: float, left: float, is_sure: bool, message: str
) -> Explanation | None:
    """The explanation, if it is good enough and says anything."""
    is_one = factor > 0 and abs(np.log(factor)) < CHANGED
    if is_one or left > (WITH_UNIT if is_sure else WITHOUT):
        return None
    return Explanation(left if is_sure else UNSURE * left, message)


def _is_near(factor: float, guesses: list[str]) -> bool:
    """Whether a unit fits, or the factor is about -1."""
    units = [g for g in guesses if g and 'sign' not in g]
    return bool(units) or (factor < 0 and abs(np.log(-factor)) < 2 * CHANGED)


def _units(
    factor: float, units: dict[str, float], words: str, near: float = NEAR
) -> str:
    found = match(factor, units, near)
    return words.format(found) if found else ''


def _looks(guess: str) -> str:
    return f' It looks like {guess}.' if guess else ''


STRESS_RULE: Final[str] = (
    "Stress must be in eV/Å^3, positive under tension (ASE's sign)."
)


def _fit(columns: Floats, energy: Floats) -> tuple[Floats, float]:
    """Least squares without the worst; the factors and the median error, eV."""
    keep = np.ones(len(energy), bool)
    factors: Floats = np.zeros(columns.shape[1])
    rest = np.abs(energy)
    for _ in range(4):
        solution = np.linalg.lstsq(columns[keep], energy[keep], rcond=None)
        factors = np.array(solution[0])
        rest = np.abs(energy - columns @ factors)
        keep = rest <= 4 * 1.4826 * np.median(rest) + 1e-12
    return factors, float(np.median(rest))
