"""Fitting a two-body difference: what it finds, how far it trusts itself."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list

from sevennet_mf.data.inferred.two_body import PairEdges
from sevennet_mf.data.inferred.two_body_fit import fit
from sevennet_mf.data.inferred.two_body_system import Difference

REACH = 4.0
STRETCH, REST = 0.8, 1.95  # eV/Å^2 and Å of a made-up difference between Ga and N


def edges(atoms: Atoms) -> PairEdges:
    i, j, vector = neighbor_list('ijD', atoms, REACH)
    return PairEdges(atoms.numbers.astype(np.int64), i, j, vector)


def difference(atoms: Atoms, angular: float = 0.0) -> Difference:
    """A pair potential of near atoms, and an energy of each element.

    angular: eV of a part that depends on three atoms.
    """
    i, j, r, vector = neighbor_list('ijdD', atoms, 2.4)
    energy = 0.25 * STRETCH * ((r - REST) ** 2).sum()
    energy += (3.1 * (atoms.numbers == 31) - 0.7 * (atoms.numbers == 7)).sum()
    pull = (STRETCH * (r - REST) / r)[:, None] * vector
    forces = np.zeros((len(atoms), 3))
    np.add.at(forces, i, pull)
    unit = vector / r[:, None]
    for atom in range(len(atoms)):
        cosine = unit[i == atom] @ unit[i == atom].T
        energy += angular * (cosine**3).sum()
    return Difference(edges(atoms), float(energy), forces)


def cells(n: int, seed: int, rattle: float = 0.06) -> list[Atoms]:
    generator = np.random.default_rng(seed)
    found = []
    for k in range(n):
        a = 3.2 * (1 + 0.02 * generator.normal())
        atoms = bulk('GaN', 'wurtzite', a=a, c=1.63 * a)
        atoms.rattle(rattle, seed=100 * seed + k)
        found.append(atoms)
    return found


def test_a_pair_potential_is_found() -> None:
    found = fit([difference(a) for a in cells(6, 1)], REACH)
    for atoms in cells(4, 2):
        true = difference(atoms)
        off = (found.model.energy(true.edges) - true.energy) / len(atoms)
        assert abs(off) < 0.003
        assert np.abs(found.model.forces(true.edges) - true.forces).mean() < 0.03
        assert abs(off) < 4 * found.predict(true.edges)[1]
    assert found.errors.energy < 0.1 * found.errors.base_energy
    assert found.errors.force < 0.3 * found.errors.base_force


def test_energies_alone_are_enough() -> None:
    labels = [
        Difference(d.edges, d.energy, None) for d in map(difference, cells(8, 1))
    ]
    found = fit(labels, REACH)
    assert np.isnan(found.errors.force)
    assert found.errors.energy < 0.5 * found.errors.base_energy


def test_what_is_not_two_body_shows_in_the_errors() -> None:
    pairwise = fit([difference(a) for a in cells(8, 1)], REACH)
    angular = fit([difference(a, 0.05) for a in cells(8, 1)], REACH)
    assert angular.errors.energy > 3 * pairwise.errors.energy


def test_what_the_labels_do_not_tell_shows_in_the_std() -> None:
    found = fit([difference(a) for a in cells(6, 1)], REACH)
    (known,) = cells(1, 5)
    energy, std = found.predict(edges(known))
    assert energy == pytest.approx(found.model.energy(edges(known)), abs=1e-9)
    assert std < 0.01
    mixed = known.copy()  # another stoichiometry, whose elements are known
    mixed.numbers[1] = 31
    assert found.knows(mixed.numbers)
    assert found.predict(edges(mixed))[1] > 0.1
    foreign = known.copy()
    foreign.numbers[0] = 49
    assert not found.knows(foreign.numbers)


def test_distances_that_no_label_has_are_not_known() -> None:
    """Short molecules say nothing of a crystal's second neighbours."""
    pairs = [
        Difference(edges(Atoms('GaN', [(0, 0, 0), (0, 0, r)])), 0.01 * k, None)
        for k, r in enumerate(np.linspace(1.7, 2.1, 8))
    ]
    found = fit(pairs, REACH)
    near = edges(Atoms('GaN', [(0, 0, 0), (0, 0, 1.9)]))
    (crystal,) = cells(1, 5)
    assert found.predict(edges(crystal))[1] > 5 * found.predict(near)[1]


def test_large_differences_of_elements_do_no_harm() -> None:
    """All-electron beside pseudopotential energies are 1000 eV/atom apart."""
    labels = [difference(a) for a in cells(8, 1)]
    far = [
        Difference(
            d.edges, d.energy - 1e3 * int((d.edges.numbers == 31).sum()), d.forces
        )
        for d in labels
    ]
    one, other = fit(labels, REACH), fit(far, REACH)
    assert other.errors.energy == pytest.approx(one.errors.energy, rel=0.05)


def test_no_error_is_known_where_an_element_would_be_lost() -> None:
    labels = [difference(a) for a in cells(3, 1)]
    lone = cells(1, 7)[0]
    lone.numbers[lone.numbers == 31] = 49
    found = fit([*labels, difference(lone)], REACH)
    assert np.isfinite(found.errors.energy)  # over the three others
    different = [labels[0], difference(lone), difference(Atoms('C'))]
    single = fit(different, REACH)
    assert np.isnan(single.errors.energy)
