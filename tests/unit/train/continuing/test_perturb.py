"""Changed copies are near the original, and never broken."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from helpers import structures

from sevennet_mf.errors import UserError
from sevennet_mf.train.continuing import perturb


def copies(
    atoms: Atoms,
    n: int = 5,
    rattle: float = 0.05,
    strain: float = 0.03,
    seed: int = 0,
) -> list[Atoms]:
    rng = np.random.default_rng(seed)
    return list(perturb.copies(atoms, n, rattle, strain, rng))


def strain_of(copy: Atoms, atoms: Atoms) -> np.ndarray:
    """The strain that takes the cell of `atoms` to that of its copy, (3, 3)."""
    return np.linalg.solve(np.asarray(atoms.cell), np.asarray(copy.cell)) - np.eye(3)


@pytest.mark.parametrize('n', [0, 1, 7])
def test_as_many_as_were_asked_for(n: int) -> None:
    (atoms,) = structures(1)
    found = copies(atoms, n)
    assert len(found) == n
    for copy in found:
        assert list(copy.symbols) == list(atoms.symbols)
        assert copy.calc is None
        assert not copy.info
        assert 1e-3 < np.abs(copy.positions - atoms.positions).max() < 1.0
    places = {copy.positions.tobytes() for copy in found}
    assert len(places) == n  # no two are the same


def test_the_seed_says_which() -> None:
    (atoms,) = structures(1)
    before = atoms.positions.copy(), np.array(atoms.cell)
    a, b, other = copies(atoms), copies(atoms), copies(atoms, seed=1)
    for left, right, third in zip(a, b, other, strict=True):
        assert np.array_equal(left.positions, right.positions)
        assert np.array_equal(left.cell, right.cell)
        assert not np.allclose(left.positions, third.positions)
    assert np.array_equal(atoms.positions, before[0])
    assert np.array_equal(atoms.cell, before[1])


def test_size_of_what_is_changed() -> None:
    atoms = bulk('Cu', cubic=True).repeat(3)
    (copy,) = copies(atoms, 1, rattle=0.1, strain=0.0)
    assert np.array_equal(copy.cell, atoms.cell)
    assert np.std(copy.positions - atoms.positions) == pytest.approx(0.1, rel=0.15)
    for copy in copies(atoms, 20, rattle=0.0, strain=0.02):
        strain = strain_of(copy, atoms)
        assert 1e-4 < np.abs(strain).max() <= 0.02
        np.testing.assert_allclose(strain, strain.T, atol=1e-12)  # no rotation
        places = copy.get_scaled_positions() - atoms.get_scaled_positions()
        np.testing.assert_allclose(places - np.rint(places), 0, atol=1e-9)


def test_a_slab_is_strained_in_its_plane() -> None:
    slab = fcc111('Al', (2, 2, 3), vacuum=6.0)
    assert list(slab.pbc) == [True, True, False]
    for copy in copies(slab, rattle=0.0):
        strain = strain_of(copy, slab)
        assert np.abs(strain[:2, :2]).max() > 1e-4
        np.testing.assert_allclose(strain[2], 0, atol=1e-12)
        np.testing.assert_allclose(strain[:, 2], 0, atol=1e-12)
        np.testing.assert_allclose(copy.positions[:, 2], slab.positions[:, 2])


def test_a_chain_whose_periodic_direction_is_tilted() -> None:
    cell = [[4.0, 3.0, 0.0], [-6.0, 8.0, 0.0], [0.0, 0.0, 10.0]]
    chain = Atoms('Cu2', [[0, 0, 0], [2.0, 1.5, 0]], cell=cell, pbc=[1, 0, 0])
    for copy in copies(chain, rattle=0.0):
        along = np.array([0.8, 0.6, 0.0])
        strain = strain_of(copy, chain)
        size = along @ strain @ along
        assert abs(size) > 1e-5
        np.testing.assert_allclose(strain, size * np.outer(along, along), atol=1e-12)


@pytest.mark.parametrize('box', [None, 12.0], ids=['no cell', 'a box'])
def test_a_molecule_has_no_strain(box: float | None) -> None:
    atoms = molecule('CH3OH')
    if box:
        atoms.set_cell([box] * 3)
    for copy in copies(atoms, rattle=0.0, strain=0.1):
        assert np.array_equal(copy.cell, atoms.cell)
        np.testing.assert_allclose(copy.positions, atoms.positions)
    (copy,) = copies(atoms, 1, rattle=0.02)
    assert not copy.pbc.any()


def test_atoms_never_come_too_close() -> None:
    atoms = molecule('H2O')
    allowed = perturb.CLOSEST * perturb.shortest_distance(atoms)
    rng = np.random.default_rng(0)
    free = [perturb.changed(atoms, 0.15, 0.0, rng) for _ in range(40)]
    assert min(map(perturb.shortest_distance, free)) < allowed  # it would happen
    found = copies(atoms, 40, rattle=0.15)
    assert len(found) == 40
    assert min(map(perturb.shortest_distance, found)) >= allowed


def test_images_count_as_atoms() -> None:
    atoms = bulk('Cu')
    assert len(atoms) == 1
    nearest = perturb.shortest_distance(atoms)
    assert nearest == pytest.approx(3.61 / np.sqrt(2))
    assert perturb.shortest_distance(Atoms('Cu')) == 4.0


def test_too_large_a_rattle_is_an_error() -> None:
    words = r'self_label.rattle: 2.0 Å brings atoms of CuH?.* too close.*Lower it'
    with pytest.raises(UserError, match=words):
        copies(bulk('Cu', cubic=True).repeat((2, 1, 1)), rattle=2.0)
