"""Stress and virial: converted from files to the host's convention, and back.

The host's order is (xx, yy, zz, xy, yz, zx), its sign minus ASE's.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from ase import Atoms
from ase.stress import full_3x3_to_voigt_6_stress

from sevennet_mf.arrays import Floats
from sevennet_mf.data.reading.convention import ASE, Convention
from sevennet_mf.data.same.lattice import volume_of
from sevennet_mf.errors import UserError
from sevennet_mf.keys import FLAT

HOST_ORDER: Final[list[int]] = [0, 1, 2, 5, 3, 4]  # of ASE's xx yy zz yz xz xy
STRESS_SHAPES: Final[tuple[tuple[int, ...], ...]] = ((6,), (9,), (3, 3))


def has_stress(atoms: Atoms) -> bool:
    """Return whether a stress is meaningful: without a volume it is not."""
    return bool(atoms.pbc.any()) and volume_of(atoms.cell.array) >= FLAT


def array_of(value: Any, name: str, shape: str, where: str) -> Floats:
    """Return a label as an array; raise UserError that names the shape if not."""
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise UserError(
            f'{where} has {name} {value!r}: they must be numbers, {shape}. Correct '
            'them, or name another key.'
        ) from None


def stress_of(value: Any, where: str, written: Convention = ASE) -> Floats:
    """Return a stress of 6, 9 or 3x3 numbers as (6,) in the host's convention."""
    return as_host(written.stress * _six(value, 'stress', where, written))


def of_virial(
    value: Any, atoms: Atoms, where: str, written: Convention = ASE
) -> Floats:
    """Return the stress, (6,) in the host's convention, of a virial.

    Args:
        value: 6, 9 or 3x3 numbers of the structure, or of each atom, which are
            summed: minus the volume times ASE's stress, unless `written` differs.
    """
    virial = array_of(value, 'virial', '6, 9 or 3x3', where)
    if virial.shape in ((len(atoms), *shape) for shape in STRESS_SHAPES):
        virial = virial.sum(axis=0)
    six = _six(virial, 'virial', where, written)
    return as_host(-written.virial * six / atoms.cell.volume)


def _six(value: Any, name: str, where: str, written: Convention) -> Floats:
    """6, 9 or 3x3 numbers -> (6,) in ASE's order."""
    numbers = array_of(value, name, '6, 9 or 3x3', where).squeeze()
    if numbers.shape in ((9,), (3, 3)):
        return full_3x3_to_voigt_6_stress(numbers.reshape(3, 3))
    if numbers.shape != (6,):
        raise UserError(
            f'{where} has a {name} of shape {numbers.shape}: it must be 6, 9 or 3x3 '
            f'numbers. Correct it, or write `{name}_key: null`.'
        )
    return numbers[list(written.order)]


def as_host(stress: Floats) -> Floats:
    """Return ASE's stress, (..., 6), in the host's order and sign."""
    return -stress[..., HOST_ORDER]


def as_ase(stress: Floats) -> Floats:
    """Return the host's stress, (..., 6), in ASE's order and sign."""
    theirs: Floats = np.empty(stress.shape)
    theirs[..., HOST_ORDER] = -stress
    return theirs
