"""The host's graphs of structures that are periodic along any cell vectors."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import neighbor_list
from sevenn import _keys as KEY

import sevennet_mf
from sevennet_mf.data.processed.graphs import host_graph

CUTOFF = 3.5
# rows are not orthogonal, and the last is no multiple of a Cartesian axis
CELL = np.array([[3.0, 0.2, 0.1], [0.4, 3.3, -0.2], [0.3, -0.5, 9.0]])
POSITIONS = np.array([[0.0, 0.1, 0.3], [1.5, 1.2, 1.9], [0.2, 1.4, 3.4]])
ORDERS = list(itertools.permutations(range(3)))


def written(pbc: tuple[bool, ...], order: tuple[int, ...], far: float) -> Atoms:
    """The same atoms with their cell vectors in another order, elsewhere."""
    rows = list(order)
    return Atoms(
        'GaNN', POSITIONS + far, cell=CELL[rows], pbc=np.array(pbc)[rows]
    )


def edges(atoms: Atoms) -> list[tuple[float, ...]]:
    graph = host_graph(atoms, CUTOFF)
    found = zip(*graph[KEY.EDGE_IDX], *graph[KEY.EDGE_VEC].round(6).T, strict=True)
    return sorted(tuple(float(x) + 0.0 for x in edge) for edge in found)


@pytest.mark.parametrize('far', [0.0, 300.0])
@pytest.mark.parametrize('order', ORDERS)
@pytest.mark.parametrize('pbc', list(itertools.product([True, False], repeat=3)))
def test_edges_are_those_of_ase(
    pbc: tuple[bool, ...], order: tuple[int, ...], far: float
) -> None:
    """Whichever vector is the vacuum; wires and molecules alike."""
    atoms = written(pbc, order, far)
    before = atoms.copy()
    found = edges(atoms)
    i, j, vectors = neighbor_list('ijD', atoms, CUTOFF)
    wanted = sorted(
        tuple(float(x) + 0.0 for x in edge)
        for edge in zip(i, j, *vectors.round(6).T, strict=True)
    )
    np.testing.assert_allclose(found, wanted, atol=3e-6)
    assert (atoms.cell == before.cell).all()
    assert (atoms.positions == before.positions).all()


def test_one_place_builds_graphs() -> None:
    """Elsewhere, such structures would crash again."""
    package = Path(sevennet_mf.__file__).parent
    found = [
        path.relative_to(package).as_posix()
        for path in sorted(package.rglob('*.py'))
        if 'unlabeled_atoms_to_graph' in path.read_text()
        and path.name != 'host_calls.py'  # the table of what is called of the host
    ]
    assert found == ['data/processed/graphs.py']
