"""Results of a calculator, checked before anybody trains on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms

from sevennet_mf.arrays import Floats
from sevennet_mf.data.extxyz import with_labels
from sevennet_mf.data.reading.labels import (
    MAX_ENERGY,
    MAX_FORCE,
    MAX_STRESS,
    is_placeholder,
)
from sevennet_mf.data.reading.stress import has_stress, stress_of
from sevennet_mf.errors import UserError
from sevennet_mf.keys import KBAR


def labelled(atoms: Atoms, results: Mapping[str, Any]) -> Atoms:
    """Return a structure with labels from the results of a calculator.

    The energy is the one that the forces are the derivative of.

    Args:
        results: In ASE's units, order and sign.

    Raises:
        UserError: A label is not finite, has another shape, or is no label at all.
    """
    n = len(atoms)
    name = 'energy' if is_placeholder(results) else 'free_energy'
    energy = results.get(name, results.get('energy'))
    for value in (results.get('energy'), energy):
        total = _values('energy', value, (), MAX_ENERGY * n, 'eV')
    forces = stress = None
    if results.get('forces') is not None:
        forces = _values('forces', results['forces'], (n, 3), MAX_FORCE, 'eV/Å')
    if results.get('stress') is not None and has_stress(atoms):
        stress = stress_of(results['stress'], 'the result')
        _values('stress', stress * KBAR, (6,), MAX_STRESS, 'kbar')
    return with_labels(atoms.copy(), float(total), forces, stress)


def _values(
    name: str, value: Any, shape: tuple[int, ...], limit: float, unit: str
) -> Floats:
    """A result as an array, if it may be a label."""
    try:
        found: Floats = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise UserError(f'{name}: {value!r} are not numbers.') from None
    if not shape and found.size == 1:
        found = found.reshape(())
    if found.shape != shape:
        raise UserError(f'{name} of shape {found.shape}, where it must be {shape}.')
    wrong = found[~(np.abs(found) <= limit)]  # NaN compares false
    if wrong.size:
        shown = f'{wrong[0]:.6g} {unit}'
        beyond = f', beyond {limit:g}' if np.isfinite(wrong[0]) else ''
        raise UserError(f'{name} of {shown}{beyond}.')
    return found
