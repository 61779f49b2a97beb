"""One structure as the host's graph, in plain numbers that can be packed."""

from __future__ import annotations

from itertools import permutations
from typing import Any, Final

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols
from sevenn import _keys as KEY
from sevenn.atom_graph_data import AtomGraphData

from sevennet_mf.arrays import Ints
from sevennet_mf.data.read import Structure
from sevennet_mf.errors import UserError

CLOSEST: Final[float] = 0.2  # Å: nearer than any two nuclei come
FLATTEST: Final[float] = 0.1  # volume of three vectors of length 1
FARTHEST: Final[float] = 50.0  # Å from the origin


def host_graph(atoms: Atoms, cutoff: float) -> dict[str, Any]:
    """Return the host's graph of a structure without labels; cutoff: Å.

    The structure may be periodic along any of its cell vectors, and is not changed.
    """
    # here: it takes scikit-learn along, which graphs from the cache do without
    from sevenn.train.dataload import unlabeled_atoms_to_graph

    return unlabeled_atoms_to_graph(as_host_takes(atoms), cutoff)


def as_host_takes(atoms: Atoms) -> Atoms:
    """Return the same structure as the host's neighbour list can take it.

    The host replaces the i-th cell vector, if nothing repeats along it, by one along
    the i-th of x, y, z that is longer for atoms farther from the origin. Where that
    gives no cell, or an enormous one, the structure is brought to the origin, and
    its cell vectors into the order that serves best.
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


def edges_of(structure: Structure, cutoff: float) -> dict[str, np.ndarray[Any, Any]]:
    """Return the host's edges of a structure, in float32 and int32.

    edge_index: (2, n_edges); edge_vec: (n_edges, 3) Å; cell_volume: () Å^3.
    Raises UserError for atoms on top of each other.
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


def _refuse_overlap(
    structure: Structure, edges: dict[str, np.ndarray[Any, Any]]
) -> None:
    if edges[KEY.EDGE_VEC].size == 0:
        return
    lengths = np.linalg.norm(edges[KEY.EDGE_VEC], axis=1)
    nearest = int(lengths.argmin())
    if lengths[nearest] >= CLOSEST:
        return
    i, j = edges[KEY.EDGE_IDX][:, nearest]
    first, second = (
        f'{chemical_symbols[structure.numbers[k]]}({k})' for k in (i, j)
    )
    other = f'an image of {second}' if i == j else second
    raise UserError(
        f'{structure.source}: atoms {first} and {other} are {lengths[nearest]:.3f} '
        f'Å apart, closer than {CLOSEST} Å. Correct the positions or the cell, or '
        'remove the structure.'
    )


def no_neighbours(cutoff: float) -> str:
    """Return what to say of training data without any pair within the cutoff, Å."""
    return (
        'data.load_trainset_path: no two atoms of any structure are within '
        f'model.cutoff ({cutoff:g} Å) of each other, so there is nothing to train '
        'on. Cutoff, positions and cells must be in Å; add structures in which '
        'atoms have neighbours.'
    )


def pack(
    structure: Structure, edges: dict[str, np.ndarray[Any, Any]]
) -> AtomGraphData:
    """Return all that is kept of a structure but its energy; NaN: no such label."""
    n = len(structure.numbers)
    forces, stress = structure.forces, structure.stress
    forces = np.full((n, 3), np.nan) if forces is None else forces
    stress = np.full(6, np.nan) if stress is None else stress
    values: dict[str, np.ndarray[Any, Any]] = {
        **edges,
        KEY.ATOMIC_NUMBERS: structure.numbers,
        KEY.POS: structure.positions.astype(np.float32),
        KEY.FORCE: forces.astype(np.float32),
        KEY.STRESS: stress.reshape(1, 6).astype(np.float32),
    }
    graph = AtomGraphData()
    for name, value in values.items():
        graph[name] = torch.from_numpy(np.array(value))
    return graph


def composition(numbers: Ints) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Return (119,) int32, atoms of each atomic number; numbers: (n_atoms,)."""
    count = np.bincount(numbers, minlength=len(chemical_symbols))
    return count.astype(np.int32)
