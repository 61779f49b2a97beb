"""One structure as the host's graph, as plain numbers, and its closest atoms."""

from __future__ import annotations

from itertools import permutations
from typing import Any, Final

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from ase.neighborlist import neighbor_list
from sevenn import _keys as KEY

from sevennet_mf.arrays import Floats, Ints
from sevennet_mf.data.reading.read import Structure
from sevennet_mf.errors import UserError

CLOSEST: Final[float] = 0.2  # Å: nearer than any two nuclei come
FLATTEST: Final[float] = 0.1  # volume of three vectors of length 1
FARTHEST: Final[float] = 50.0  # Å from the origin
TOO_CLOSE: Final[float] = 0.5  # of the sum of the covalent radii
BONDED, FAR_APART = 1.3, 2.6  # of the sum of the covalent radii
NOBLE: Final[tuple[int, ...]] = (2, 10, 18, 36, 54, 86)  # these have no bonds
SMALL: Final[int] = 100  # atoms


def host_graph(atoms: Atoms, cutoff: float) -> dict[str, Any]:
    """Return the host's graph of a structure without labels.

    The structure may be periodic along any of its cell vectors, and is not changed.

    Args:
        cutoff: in Å.
    """
    # here: it takes scikit-learn along, which graphs from the cache do without
    from sevenn.train.dataload import unlabeled_atoms_to_graph

    return unlabeled_atoms_to_graph(as_host_takes(atoms), cutoff)


def as_host_takes(atoms: Atoms) -> Atoms:
    """Return the same structure in a form that the host's neighbour list can handle.

    If nothing repeats along the i-th cell vector, the host replaces it by one along
    the i-th of x, y, z, which is longer for atoms farther from the origin. Where
    that gives no valid cell, or an enormous one, the structure is moved to the
    origin, and its cell vectors are put into the most suitable order.
    """
    pbc, cell = atoms.pbc, atoms.cell.array
    if pbc.all():
        return atoms
    lengths = np.linalg.norm(cell, axis=1, keepdims=True)
    unit = cell / np.where(lengths > 0, lengths, 1)

    def volume(order: Any) -> float:
        rows = list(order)
        return abs(float(np.linalg.det(np.where(pbc[rows, None], unit[rows], axes))))

    axes = np.eye(3)
    near = np.abs(atoms.positions).max() <= FARTHEST
    if near and volume(range(3)) >= FLATTEST:
        return atoms  # its numbers are those of the host
    order = list(max(permutations(range(3)), key=volume))  # the first of equals
    return Atoms(
        numbers=atoms.numbers,
        positions=atoms.positions - atoms.positions.mean(axis=0),
        cell=cell[order],
        pbc=pbc[order],
    )


def check_structure(atoms: Atoms, references: Floats) -> None:
    """Raise UserError for atoms that no neighbour list or model can handle.

    Args:
        references: (119,) by atomic number, NaN for an unknown element.
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
            'positions or cell of the structure are not finite (NaN or inf).'
        )
    repeated = cell[atoms.pbc]
    if len(repeated) and np.linalg.matrix_rank(repeated) < len(repeated):
        raise UserError(
            f'the structure repeats along {len(repeated)} axes, for which its cell '
            f'{cell.tolist()} does not have as many independent vectors. Correct '
            'the cell, or set pbc=False.'
        )


def not_finite(atoms: Atoms, graph: dict[str, Any]) -> UserError:
    """Return the error for a structure whose energy or forces are not finite.

    Args:
        graph: the host's graph of these atoms, from which the closest are found.
    """
    near = ''
    if len(graph[KEY.EDGE_VEC]):
        lengths = np.linalg.norm(graph[KEY.EDGE_VEC], axis=1)
        k = int(lengths.argmin())
        pair = _named(atoms.numbers, *graph[KEY.EDGE_IDX][:, k])
        near = f' Its closest atoms, {pair}, are {lengths[k]:.3f} Å apart.'
    return UserError(
        f'the energy or the forces of the structure are not finite.{near} If the '
        'structure is correct, look for weights that are not: sevennet-mf info FILE.'
    )


def edges_of(structure: Structure, cutoff: float) -> dict[str, np.ndarray[Any, Any]]:
    """Return the host's edges of a structure, in float32 and int32.

    Returns:
        edge_index: (2, n_edges); edge_vec: (n_edges, 3) in Å; cell_volume: () in
            Å^3.

    Raises:
        UserError: Atoms are on top of each other.
    """
    if structure.graph is not None:
        graph = structure.graph
        try:
            edges = {
                KEY.EDGE_IDX: graph[KEY.EDGE_IDX].numpy().reshape(2, -1),
                KEY.EDGE_VEC: graph[KEY.EDGE_VEC].numpy().reshape(-1, 3),
                KEY.CELL_VOLUME: graph[KEY.CELL_VOLUME].numpy().reshape(()),
            }
        except KeyError as error:
            raise UserError(
                f'{structure.source}: the graph has no {error}. Write the graph '
                'file again with SevenNet, or give the structures themselves.'
            ) from None
    else:
        assert structure.atoms is not None
        graph = host_graph(structure.atoms, cutoff)
        names = (KEY.EDGE_IDX, KEY.EDGE_VEC, KEY.CELL_VOLUME)
        edges = {name: graph[name] for name in names}
    _refuse_overlap(structure, edges)
    edges[KEY.EDGE_IDX] = edges[KEY.EDGE_IDX].astype(np.int32)  # half the disk
    edges[KEY.EDGE_VEC] = edges[KEY.EDGE_VEC].astype(np.float32)
    edges[KEY.CELL_VOLUME] = edges[KEY.CELL_VOLUME].astype(np.float32)
    return edges


def composition(numbers: Ints) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Return (119,) int32, number of atoms of each atomic number."""
    count = np.bincount(numbers, minlength=len(chemical_symbols))
    return count.astype(np.int32)


# ---- the closest atoms


def _refuse_overlap(
    structure: Structure, edges: dict[str, np.ndarray[Any, Any]]
) -> None:
    lengths = np.linalg.norm(edges[KEY.EDGE_VEC].reshape(-1, 3), axis=1)
    if len(lengths) and lengths.min() < CLOSEST:
        i, j = edges[KEY.EDGE_IDX]
        raise UserError(_too_close(structure, i, j, lengths))


def close_atoms(structure: Structure) -> str:
    """Return what is wrong with the two closest atoms of a structure, or ''.

    This is what processing refuses, in the same words, and any distance too short
    for a bond.
    """
    radii = radii_of(structure.numbers)
    limits = np.maximum(TOO_CLOSE * radii, 0.5 * CLOSEST)
    i, j, length = pairs_within(structure, limits)
    if len(length) == 0:
        return ''
    if length.min() < CLOSEST:
        return _too_close(structure, i, j, length)
    ratio = length / (radii[i] + radii[j])
    k = int(ratio.argmin())
    if ratio[k] >= TOO_CLOSE:
        return ''
    share = f'{ratio[k]:.2f} of the sum of their covalent radii'
    return _apart(structure, int(i[k]), int(j[k]), float(length[k]), share)


def _too_close(structure: Structure, i: Ints, j: Ints, length: Floats) -> str:
    k = int(length.argmin())
    limit = f'closer than {CLOSEST} Å'
    return _apart(structure, int(i[k]), int(j[k]), float(length[k]), limit)


def _apart(structure: Structure, i: int, j: int, length: float, how: str) -> str:
    return (
        f'{structure.source}: atoms {_named(structure.numbers, i, j)} are '
        f'{length:.3f} Å apart, {how}. Correct the positions or the cell, or remove '
        'the structure.'
    )


def _named(numbers: Ints, i: int, j: int) -> str:
    """Two atoms by symbol and index."""
    first, second = (f'{chemical_symbols[numbers[k]]}({k})' for k in sorted((i, j)))
    return f'{first} and an image of {second}' if i == j else f'{first} and {second}'


def nearest_distance(structure: Structure) -> float:
    """Return the smallest distance divided by the sum of the covalent radii.

    It is NaN beyond FAR_APART, and for noble gases.
    """
    if np.isin(structure.numbers, NOBLE).all():
        return float('nan')
    radii = radii_of(structure.numbers)
    for factor in (BONDED, FAR_APART):
        i, j, length = pairs_within(structure, factor * radii)
        if len(length):
            return float((length / (radii[i] + radii[j])).min())
    return float('nan')


def radii_of(numbers: Ints) -> Floats:
    """Return covalent radii, (n_atoms,) in Å, of elements without one as well."""
    radii: Floats = np.nan_to_num(covalent_radii[numbers], nan=1.5)
    return radii


def pairs_within(
    structure: Structure, limits: Floats
) -> tuple[Ints, Ints, Floats]:
    """Return pairs closer than the sum of their limits, or those of the graph.

    Args:
        limits: (n_atoms,) in Å.

    Returns:
        i and j, (k,) int64 each, and their distance, (k,) in Å.
    """
    if structure.atoms is not None:
        return neighbours(structure.atoms, limits)
    assert structure.graph is not None
    if KEY.EDGE_VEC not in structure.graph:
        none = np.zeros(0, np.int64)
        return none, none, np.zeros(0)
    i, j = structure.graph[KEY.EDGE_IDX].numpy().reshape(2, -1)
    vectors = structure.graph[KEY.EDGE_VEC].numpy().reshape(-1, 3)
    return i, j, np.linalg.norm(vectors, axis=1)


def neighbours(atoms: Atoms, limits: Floats) -> tuple[Ints, Ints, Floats]:
    """Return pairs closer than the sum of their limits, as `pairs_within`."""
    cell, pbc = atoms.get_cell().complete(), atoms.get_pbc()
    heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    if len(atoms) > SMALL or (heights[pbc] < 4.0 * limits.max()).any():
        return neighbor_list('ijd', atoms, limits)
    # many times as fast for small cells, where one image of an atom can be near
    i, j = np.triu_indices(len(atoms), 1)
    step = (atoms.positions[j] - atoms.positions[i]) @ np.linalg.inv(cell)
    step[:, pbc] -= np.rint(step[:, pbc])
    length = np.linalg.norm(step @ cell, axis=1)
    near = length < limits[i] + limits[j]
    return i[near], j[near], length[near]
