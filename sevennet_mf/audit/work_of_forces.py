"""The work of forces and stress between like structures, beside their energies."""

from __future__ import annotations

import itertools
from typing import Final

import numpy as np
from ase.geometry import complete_cell
from ase.stress import voigt_6_to_full_3x3_stress as full

from sevennet_mf.arrays import Floats
from sevennet_mf.audit.likely_units import ORDERS
from sevennet_mf.audit.records import Records
from sevennet_mf.data.reading.read import Structure
from sevennet_mf.data.reading.stress import as_ase

CLOSE_BY: Final[float] = 0.4  # Å: farther moves are no straight line in energy
STRAIN: Final[float] = 0.12
TRIED: Final[int] = 20_000  # pairs of structures: two seconds
CLOSEST: Final[int] = 60  # pairs that are used in any case; of more the closest half
# columns of the table, those of ORDERS from FIRST_ORDER on
ENERGY, FORCE, STRESS, VIRIAL, SIZE, MOVED = range(6)
FIRST_ORDER: Final[int] = 6


def work_table(
    records: Records, fidelity: str, file: int | None = None
) -> Floats:
    """Return a table of pairs of similar structures, the closest ones.

    Args:
        file: Position in `records.paths`, for structures of that file alone.

    Returns:
        (k, columns): all but MOVED, a measure of the distance, are in eV.
    """
    whole, files = records.whole, records['file']
    pairs = itertools.chain.from_iterable(
        itertools.combinations(
            [row for row in group if file is None or files[row] == file], 2
        )
        for group in records.alike[fidelity]
    )
    found = [
        work
        for a, b in itertools.islice(pairs, TRIED)
        if (work := _work(whole[a], whole[b])) is not None
    ]
    table = np.array(found).reshape(len(found), FIRST_ORDER + len(ORDERS))
    table = table[~np.isnan(table).any(axis=1)]
    if len(table) <= CLOSEST:
        return table
    closest = np.argsort(table[:, MOVED], kind='stable')
    return table[closest[: max(CLOSEST, len(table) // 2)]]


def _work(a: Structure, b: Structure) -> tuple[float, ...] | None:
    """Columns of the table, eV; or None for structures too far from each other."""
    assert a.forces is not None
    assert b.forces is not None
    path = _path(a, b)
    if path is None:
        return None
    first, second, change = path
    if np.abs(first).max() > CLOSE_BY:
        return None
    by_force = -float(np.sum(a.forces * first)), -float(np.sum(b.forces * second))
    strain: Floats = np.zeros((3, 3))
    by_cell: Floats = np.zeros((2, 2 + len(ORDERS)))
    if np.abs(change).max() > 1e-6:
        assert a.cell is not None
        strain = np.asarray(np.linalg.solve(a.cell, change), np.float64)
        if np.abs(strain).max() > STRAIN:
            return None
        by_cell = np.array([_by_cell(a, change), _by_cell(b, change)])
    stress, virial, *others = 0.5 * by_cell.sum(axis=0)
    size = 0.5 * float(np.abs(by_force).sum() + np.abs(by_cell[:, 0]).sum())
    far = float(np.sqrt(np.mean(first**2)) + np.abs(strain).max())
    forces = 0.5 * sum(by_force)
    return (b.energy - a.energy, forces, stress, virial, size, far, *others)


def _path(a: Structure, b: Structure) -> tuple[Floats, Floats, Floats] | None:
    """The way from a to b: (n_atoms, 3) Å as seen from either, and that of the cell.

    None where a cell that repeats in some directions only has changed.
    """
    assert a.cell is not None
    assert b.cell is not None
    assert a.pbc is not None
    if not a.pbc.all():
        if a.pbc.any() and np.abs(a.cell - b.cell).max() > 1e-6:
            return None
        cell: Floats = complete_cell(np.where(a.pbc[:, None], a.cell, 0.0))
        part: Floats = (b.positions - a.positions) @ np.linalg.inv(cell)
        moved: Floats = (part - np.rint(part) * a.pbc) @ cell
        return moved, moved, np.zeros((3, 3))
    start: Floats = a.positions @ np.linalg.inv(a.cell)
    step: Floats = b.positions @ np.linalg.inv(b.cell) - start
    step -= np.rint(step)
    return step @ a.cell, step @ b.cell, b.cell - a.cell


def _by_cell(structure: Structure, change: Floats) -> list[float]:
    """eV that a change of the cell, (3, 3) Å, costs by the stress at one end.

    As it is; as if it were a virial; for each of ORDERS. NaN without a stress.
    """
    if structure.stress is None:
        return [np.nan] * (2 + len(ORDERS))
    assert structure.cell is not None
    strain = np.linalg.solve(structure.cell, change)
    volume = abs(np.linalg.det(structure.cell))
    stress = as_ase(structure.stress)

    def work(values: Floats) -> float:
        return float(np.sum(full(values) * strain))

    reordered = [volume * work(stress[order]) for order in ORDERS.values()]
    return [volume * work(stress), -work(stress), *reordered]
