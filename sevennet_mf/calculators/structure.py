"""What a structure must be to have an energy in a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import sevenn._keys as KEY
from ase import Atoms
from ase.data import chemical_symbols

from sevennet_mf.arrays import Floats
from sevennet_mf.errors import UserError


def check_structure(atoms: Atoms, references: Floats) -> None:
    """Raise UserError for atoms that no neighbour list or model can take.

    references: (119,) by atomic number, NaN for an element that is not known.
    """
    if len(atoms) == 0:
        raise UserError('the structure has no atoms.')
    known = ~np.isnan(references)
    foreign = sorted({int(z) for z in atoms.numbers if not known[z]})
    if foreign:
        unknown = ', '.join(chemical_symbols[z] for z in foreign)
        names = ', '.join(chemical_symbols[z] for z in np.flatnonzero(known))
        raise UserError(
            f'the model does not know {unknown}; it knows {names}. Use a model '
            'that was trained on these elements.'
        )
    cell = atoms.cell.array
    if not (np.isfinite(atoms.positions).all() and np.isfinite(cell).all()):
        raise UserError(
            'positions or cell of the structure are not numbers (NaN or inf).'
        )
    repeated = cell[atoms.pbc]
    if len(repeated) and np.linalg.matrix_rank(repeated) < len(repeated):
        raise UserError(
            f'the structure repeats along {len(repeated)} axes, for which its cell '
            f'{cell.tolist()} does not have as many independent vectors. Correct '
            'the cell, or set pbc=False.'
        )


def not_finite(atoms: Atoms, graph: dict[str, Any]) -> UserError:
    """The error for a structure whose energy or forces are not numbers.

    graph: the host's of these atoms, which tells the closest ones.
    """
    near = ''
    if len(graph[KEY.EDGE_VEC]):
        lengths = np.linalg.norm(graph[KEY.EDGE_VEC], axis=1)
        nearest = int(lengths.argmin())
        i, j = graph[KEY.EDGE_IDX][:, nearest]
        first, second = (f'{atoms.symbols[k]}({k})' for k in (i, j))
        near = (
            f' Its closest atoms, {first} and {second}, are '
            f'{lengths[nearest]:.3f} Å apart.'
        )
    return UserError(
        f'the energy or the forces of the structure are not numbers.{near} If that '
        'is as it should be, look for weights that are not: sevennet-mf info FILE.'
    )
