"""Mixing energy along a line between two compounds, and R² of predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.formula import Formula

from sevennet_mf.arrays import Floats
from sevennet_mf.errors import UserError


@dataclass(frozen=True, eq=False)
class Mixing:
    """Mixing energies, in the order of the structures.

    Attributes:
        x: (n,), fraction of formula units of the second end member, 0 to 1.
        energy: (n,) meV/atom, positive where mixing costs energy.
    """

    x: Floats
    energy: Floats

    @property
    def is_mixed(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """(n,): whether it is neither of the end members."""
        return (self.x > 1e-9) & (self.x < 1 - 1e-9)


def mixing_energy(
    structures: Sequence[Atoms], energies: Sequence[float], ends: tuple[str, str]
) -> Mixing:
    """Return how much energy each structure has above its two end members.

    Every structure consists of a units of the first end member and b units of the
    second. With E_1 and E_2 the lowest energies per formula unit found for these,
    and N atoms::

        x = b / (a + b)        energy = (E - a E_1 - b E_2) / N

    in meV per atom (not per formula unit: of GaN and InN, multiply by 2). Nothing is
    relaxed: the energies are those of the structures as they are.

    Args:
        structures: n structures; both end members must be among them.
        energies: (n,) total energies in eV, all of one method.
        ends: Two formulas, such as `('GaN', 'InN')`.

    Returns:
        Composition and mixing energy of each structure.

    Raises:
        UserError: A structure is off the line, an end member is missing, or an
            energy is not a number.
    """
    totals = np.asarray(energies, dtype=np.float64)
    if len(structures) == 0 or totals.shape != (len(structures),):
        raise UserError(
            f'there are {len(structures)} structures and energies of shape '
            f'{totals.shape}; give one total energy in eV for each structure.'
        )
    if not np.isfinite(totals).all():
        bad = int(np.flatnonzero(~np.isfinite(totals))[0])
        raise UserError(f'the energy of structure {bad} is {totals[bad]}.')
    units = _units(structures, ends)  # (n, 2)
    x = units[:, 1] / units.sum(axis=1)
    at_end = [np.flatnonzero(x < 1e-9), np.flatnonzero(x > 1 - 1e-9)]
    for name, rows in zip(ends, at_end, strict=True):
        if not len(rows):
            raise UserError(
                f'none of the structures is {name}, which mixing energies are '
                'relative to. Add one, with its energy from the same method.'
            )
    per_unit = totals / units.sum(axis=1)
    lowest = np.array([per_unit[rows].min() for rows in at_end])
    n_atoms = np.array([len(atoms) for atoms in structures])
    return Mixing(x=x, energy=1000 * (totals - units @ lowest) / n_atoms)


def r_squared(reference: Sequence[float], predicted: Sequence[float]) -> float:
    """Return 1 - sum_i (r_i - p_i)² / sum_i (r_i - mean r)²; at most 1.

    0 is what predicting the mean of the reference would give, and worse is negative.
    Leave out values that are zero by definition (mixing energies of end members):
    they raise it for nothing.

    Args:
        reference: (n,), in any unit.
        predicted: (n,), in the same unit.

    Returns:
        R².

    Raises:
        UserError: The shapes differ, there are fewer than two values, or all of the
            reference are the same.
    """
    r = np.asarray(reference, dtype=np.float64)
    p = np.asarray(predicted, dtype=np.float64)
    if r.shape != p.shape or r.ndim != 1:
        raise UserError(
            'R² needs as many predictions as reference values, got shapes '
            f'{r.shape} and {p.shape}.'
        )
    spread = float(np.square(r - r.mean()).sum()) if r.size else 0.0
    if r.size < 2 or spread == 0:
        raise UserError(
            f'R² needs at least two different reference values, got {r.tolist()}.'
        )
    return 1 - float(np.square(r - p).sum()) / spread


def _units(structures: Sequence[Atoms], ends: tuple[str, str]) -> Floats:
    """(n, 2): how many formula units of each end member a structure has."""
    counts = [_count(name) for name in ends]
    elements = sorted(counts[0].keys() | counts[1].keys())
    # (elements, 2)
    basis = np.array([[count.get(el, 0.0) for count in counts] for el in elements])
    if np.linalg.matrix_rank(basis) < 2:
        raise UserError(f'the end members {ends[0]} and {ends[1]} are the same.')
    found = np.empty((len(structures), 2))
    for i, atoms in enumerate(structures):
        own = atoms.symbols.formula.count()
        wanted = np.array([float(own.get(el, 0)) for el in elements])
        units, *_ = np.linalg.lstsq(basis, wanted, rcond=None)
        fits = np.allclose(basis @ units, wanted, atol=1e-6)
        if not fits or units.min() < -1e-6 or set(own) - set(elements):
            raise UserError(
                f'structure {i}, {atoms.get_chemical_formula()}, is not a mixture '
                f'of {ends[0]} and {ends[1]}. Leave it out, or choose other end '
                'members.'
            )
        found[i] = np.clip(units, 0, None)
    return found


def _count(name: str) -> dict[str, float]:
    try:
        return {el: float(n) for el, n in Formula(name).count().items()}
    except ValueError:
        raise UserError(
            f"an end member must be a formula such as 'GaN', got {name!r}."
        ) from None
