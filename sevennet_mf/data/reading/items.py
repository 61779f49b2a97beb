"""Geometry and labels of what readers yield: ASE structures and SevenNet graphs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms
from sevenn import _keys as KEY
from sevenn.atom_graph_data import AtomGraphData

from sevennet_mf.arrays import Floats
from sevennet_mf.data.reading import labels as label_rules
from sevennet_mf.data.reading.labels import Entry, StructureLabels
from sevennet_mf.data.same.lattice import is_independent
from sevennet_mf.errors import UserError


def from_atoms(
    atoms: Atoms, entry: Entry, where: str
) -> tuple[dict[str, Any], StructureLabels]:
    """Return the fields of read.Structure that describe the atoms, and the labels.

    Args:
        where: the beginning of every error message.

    Raises:
        UserError: The structure or a label cannot be used.
    """
    geometry = {
        'numbers': atoms.get_atomic_numbers().astype(np.int64),
        'positions': atoms.get_positions(),
        'cell': np.array(atoms.get_cell()),
        'pbc': atoms.get_pbc(),
        'atoms': atoms,
        'graph': None,
    }
    _check_geometry(geometry, where)
    return geometry, label_rules.of_atoms(atoms, entry, where)


def from_graph(
    graph: AtomGraphData, entry: Entry, where: str
) -> tuple[dict[str, Any], StructureLabels]:
    """Return the same as `from_atoms` of a graph, with labels as in the host."""
    values = {
        key: graph[key].double().numpy()
        for key in (KEY.POS, KEY.ENERGY, KEY.FORCE, KEY.STRESS)
        if key in graph
    }
    positions = values[KEY.POS].reshape(-1, 3)
    geometry = {
        'numbers': graph[KEY.ATOMIC_NUMBERS].numpy().reshape(-1),
        'positions': positions,
        'cell': None,
        'pbc': None,
        'atoms': None,
        'graph': graph,
    }
    _check_geometry(geometry, where)
    energy = values.get(KEY.ENERGY, np.array(np.nan)).squeeze()
    if np.isnan(energy):
        raise UserError(f'{where} has no energy. Remove the structure.')

    def label(name: str, entry_key: str, shape: tuple[int, ...]) -> Floats | None:
        value = values.get(name)
        if value is None or entry_key in entry:  # there it can only be null
            return None
        # the host fills a missing label with NaN
        return None if np.isnan(value).all() else value.reshape(shape)

    labels = StructureLabels(
        float(energy),
        label(KEY.FORCE, 'force_key', positions.shape),
        label(KEY.STRESS, 'stress_key', (6,)),
    )
    label_rules.check(labels, len(positions), where)
    return geometry, labels


def _check_geometry(geometry: Mapping[str, Any], where: str) -> None:
    numbers, cell = geometry['numbers'], geometry['cell']
    if len(numbers) == 0:
        raise UserError(f'{where} has no atoms. Remove the structure.')
    if numbers.min() < 1:
        raise UserError(
            f'{where}: atom {numbers.argmin()} is not an element (atomic number '
            f'{numbers.min()}). Correct its symbol.'
        )
    is_finite = np.isfinite(geometry['positions'])
    if not is_finite.all():
        raise UserError(
            f'{where}: a position of atom {np.argwhere(~is_finite)[0][0]} is not a '
            'finite number. '
            'Correct or remove the structure.'
        )
    if cell is None:
        return
    periodic = cell[geometry['pbc']]
    finite = np.isfinite(cell).all()
    if not finite or not is_independent(periodic):
        raise UserError(
            f'{where} is periodic (pbc {geometry["pbc"].tolist()}), but its cell '
            f'{cell.tolist()} has no volume to repeat. Correct the cell or pbc.'
        )
