"""The normal equations of a two-body difference."""

import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import neighbor_list

from sevennet_mf.data.inferred.two_body import PairEdges
from sevennet_mf.data.inferred.two_body_folds import folds
from sevennet_mf.data.inferred.two_body_system import (
    Difference,
    Settings,
    Sums,
    System,
    total,
)


def difference(formula: str, energy: float = 0.0, spread: float = 1.8) -> Difference:
    atoms = Atoms(formula)
    atoms.positions[:, 0] = spread * np.arange(len(atoms))
    i, j, vector = neighbor_list('ijD', atoms, 4.0)
    edges = PairEdges(atoms.numbers.astype(np.int64), i, j, vector)
    return Difference(edges, energy, np.zeros((len(atoms), 3)))


def test_sums_give_the_residual() -> None:
    generator = np.random.default_rng(1)
    rows, values = generator.normal(size=(7, 3)), generator.normal(size=7)
    parts = [Sums.empty(3), Sums.empty(3)]
    parts[0].add(rows[:4], values[:4])
    parts[1].add(rows[4:], values[4:])
    whole = total(parts)
    solution = generator.normal(size=3)
    left = ((values - rows @ solution) ** 2).sum()
    assert whole.residual(solution) == pytest.approx(left)
    assert whole.count == 7


def test_a_fold_with_an_element_of_its_own_cannot_be_predicted() -> None:
    labels = [difference('GaN') for _ in range(4)] + [difference('InN')]
    system = System.of(labels, [7, 31, 49], 4.0)
    lone = folds([label.edges.numbers for label in labels])[4]
    known = [system.can_predict(fold) for fold in range(5)]
    assert known == [fold != lone for fold in range(5)]


def test_a_composition_of_its_own_cannot_be_predicted_either() -> None:
    """Its label alone says what its elements have: it would be a test of itself."""
    labels = [difference('GaN') for _ in range(5)] + [difference('Ga2N', 5.0)]
    system = System.of(labels, [7, 31], 4.0)
    lone = folds([label.edges.numbers for label in labels])[5]
    assert [system.can_predict(fold) for fold in range(5)] == [
        fold != lone for fold in range(5)
    ]
    labels += [difference('Ga2N', 5.0) for _ in range(4)]
    system = System.of(labels, [7, 31], 4.0)
    assert all(system.can_predict(fold) for fold in range(5))


def test_evidence_prefers_the_noise_that_is_there() -> None:
    generator = np.random.default_rng(2)
    labels = [
        difference('GaN', 2 * 0.003 * generator.normal(), 1.6 + 0.02 * k)
        for k in range(30)
    ]
    system = System.of(labels, [7, 31], 4.0)
    noises = (3e-4, 3e-3, 3e-2)
    sums = system.sums()
    evidence = [system.solve(Settings(0.03, n, 0.01), sums).evidence for n in noises]
    assert np.argmax(evidence) == 1
