"""What the high fidelity costs for a structure."""

from __future__ import annotations

from typing import Final

import numpy as np
from ase import Atoms

from sevennet_mf.errors import UserError, nearest
from sevennet_mf.select.pool import Cost

ATOMS3: Final[str] = 'atoms3'
NONE: Final[str] = 'none'


def cost_of(name: str) -> Cost | None:
    """Return what gives the cost of atoms at 'file:frame'; None for 'none'.

    name: 'none'; 'atoms3' for n_atoms^3, as plane-wave codes grow; or a key of
    `atoms.info` with a positive number. Calling it raises UserError for a structure
    whose info has no such number.
    """
    if name == NONE:
        return None
    if name == ATOMS3:
        return lambda atoms, where: float(len(atoms)) ** 3
    return lambda atoms, where: _column(atoms, where, name)


def _column(atoms: Atoms, where: str, name: str) -> float:
    if name not in atoms.info:
        known = [ATOMS3, NONE, *map(str, atoms.info)]
        listed = ', '.join(map(str, atoms.info)) or 'nothing'
        raise UserError(
            f'{where}: --cost {name!r} is not in its info, which has {listed}.'
            f'{nearest(name, known)} Name a key that all structures have, '
            f'{ATOMS3} or {NONE}.'
        )
    try:
        value = float(np.asarray(atoms.info[name]).squeeze())
    except (TypeError, ValueError):
        value = float('nan')
    if not (np.isfinite(value) and value > 0):
        raise UserError(
            f'{where}: its {name} (--cost) is {atoms.info[name]!r}; a cost must be '
            'a positive number.'
        )
    return value
