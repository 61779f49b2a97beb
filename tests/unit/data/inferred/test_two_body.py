"""The two-body form of a difference: its forces, and what unseen pairs take over."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list

from sevennet_mf.arrays import N_SPECIES
from sevennet_mf.data.inferred.two_body import MOST_PAIRS, Basis, PairEdges, TwoBody


def edges(atoms: Atoms, cutoff: float) -> PairEdges:
    i, j, vector = neighbor_list('ijD', atoms, cutoff)
    return PairEdges(atoms.numbers.astype(np.int64), i, j, vector)


def random_model(elements: list[int], cutoff: float) -> TwoBody:
    basis = Basis(elements, cutoff)
    generator = np.random.default_rng(3)
    weights = generator.normal(size=len(basis.prior))
    return TwoBody(basis, weights, generator.normal(size=N_SPECIES))


@pytest.fixture
def cell() -> Atoms:
    """A small cell, where atoms neighbour their own images."""
    atoms = bulk('GaN', 'wurtzite', a=3.2, c=5.2)
    atoms.rattle(0.1, seed=1)
    return atoms


def test_forces_are_minus_the_gradient(cell: Atoms) -> None:
    model = random_model([7, 31], 4.0)
    forces = model.forces(edges(cell, 5.0))
    step = 1e-5
    for atom, axis in ((0, 0), (1, 2), (3, 1)):
        energy = []
        for sign in (1, -1):
            moved = cell.copy()
            moved.positions[atom, axis] += sign * step
            energy.append(model.energy(edges(moved, 5.0)))
        assert forces[atom, axis] == pytest.approx(
            -(energy[0] - energy[1]) / (2 * step), abs=1e-6
        )
    assert np.abs(forces.sum(axis=0)).max() < 1e-10


def test_stress_is_what_a_strain_costs(cell: Atoms) -> None:
    model = random_model([7, 31], 4.0)
    stress = model.derivatives(edges(cell, 5.0))[1] / cell.get_volume()
    step = 1e-5
    for a, b in ((0, 0), (2, 2), (0, 1), (1, 2), (2, 0)):
        energy = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[a, b] += 0.5 * sign * step
            strain[b, a] += 0.5 * sign * step
            strained = cell.copy()
            strained.set_cell(cell.cell @ strain, scale_atoms=True)
            energy.append(model.energy(edges(strained, 5.0)))
        found = (energy[0] - energy[1]) / (2 * step) / cell.get_volume()
        assert stress[a, b] == pytest.approx(found, abs=1e-7)
    np.testing.assert_allclose(stress, stress.T, atol=1e-12)


def test_features_are_what_the_model_sums(cell: Atoms) -> None:
    model = random_model([7, 31], 4.0)
    own = edges(cell, 4.0)
    rows = model.basis.force_features(own)
    np.testing.assert_allclose(
        rows @ model.weights, model.forces(own).ravel(), atol=1e-12
    )


def test_nothing_jumps_at_the_cutoff() -> None:
    model = random_model([7, 31], 4.0)
    energy, force = [], []
    for length in (3.9999, 4.0001):
        pair = edges(Atoms('GaN', [(0, 0, 0), (0, 0, length)]), 5.0)
        energy.append(model.energy(pair))
        force.append(np.abs(model.forces(pair)).max())
    assert energy[0] == pytest.approx(energy[1], abs=1e-6)
    assert force == pytest.approx([0, 0], abs=1e-3)


def test_many_elements_share_weights() -> None:
    few, many = Basis([1, 6, 8], 4.0), Basis(list(range(1, 21)), 4.0)
    assert len(few.prior) == (1 + 3 + 6) * few.size
    assert many.n_slots > MOST_PAIRS
    assert len(many.prior) == (1 + 20) * many.size


def test_an_unseen_pair_takes_over_what_pairs_share() -> None:
    basis = Basis([7, 31, 49], 4.0)
    weights = np.zeros(len(basis.prior))
    weights[: basis.size] = 1.0  # what all pairs have in common
    model = TwoBody(basis, weights, np.zeros(N_SPECIES))
    assert (model.table == 1.0).all()  # Ga-In among them
