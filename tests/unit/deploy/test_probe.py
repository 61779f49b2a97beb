"""Probe structures reach every element, and their comparison sees what it must."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import CUTOFF, NAMES, evaluate, structures, trained

from sevennet_mf.data.processed.graphs import host_graph
from sevennet_mf.deploy.probe import Answers, ask, deviation, probes, worst

PERIODIC_TABLE = list(range(1, 119))


@pytest.mark.parametrize('cutoff', [3.5, 5.0, 6.0])
@pytest.mark.parametrize('elements', [PERIODIC_TABLE, [7, 31, 49], [1], [0, 118]])
def test_every_element_has_near_neighbours(
    elements: list[int], cutoff: float
) -> None:
    found = probes(elements, cutoff)
    met = set()
    for atoms in found[:-2]:  # the last two are a pair and an atom
        graph = host_graph(atoms, cutoff)
        lengths = np.linalg.norm(graph['edge_vec'], axis=1)
        assert 0.9 < float(lengths.min()) < cutoff
        assert float(lengths.min()) > 0.75 * min(1.6, cutoff)
        met |= {int(atoms.numbers[i]) for i in graph['edge_index'][0]}
    assert met == set(elements)
    assert [len(atoms) for atoms in found[-2:]] == [2, 1]
    assert max(len(atoms) for atoms in found) == 8


def test_they_are_always_the_same() -> None:
    first, second = (probes([7, 31, 49], CUTOFF) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert a == b


def test_answers_are_those_of_the_model() -> None:
    model, _ = trained()
    atoms = structures(2)
    shift = model.get_submodule('rescale_atomic_energy').shift.clone()
    wanted = evaluate(model, atoms, ['r2scan'] * 2)
    found = ask(model, atoms, CUTOFF, 'r2scan')
    np.testing.assert_allclose(found.energy, wanted['energy'], atol=2e-5)
    np.testing.assert_allclose(found.forces, wanted['forces'], atol=1e-6)
    assert found.n_atoms.tolist() == [len(a) for a in atoms]
    assert model.get_submodule('rescale_atomic_energy').shift.equal(shift)
    assert set(NAMES) == set(model.modal_map)


def answers(energy: float, forces: float = 0.0) -> Answers:
    """Of one structure of two atoms."""
    return Answers(np.array([energy]), np.full((2, 3), forces), np.array([2.0]))


@pytest.mark.parametrize(
    ('found', 'wanted', 'holds'),
    [
        (answers(-8.0 + 1.9e-5), answers(-8.0), True),
        (answers(-8.0 + 2.1e-5), answers(-8.0), False),
        # an energy of 6000 eV/atom has a grain of 5e-4 eV
        (answers(-12000.0 + 3e-3), answers(-12000.0), True),
        (answers(-12000.0 + 5e-3), answers(-12000.0), False),
        (answers(-8.0, 0.9e-4), answers(-8.0), True),
        (answers(-8.0, 1.1e-4), answers(-8.0), False),
        (answers(np.nan), answers(-8.0), False),
        (answers(np.nan, np.nan), answers(np.nan, np.nan), False),
    ],
)
def test_the_tolerance(found: Answers, wanted: Answers, holds: bool) -> None:
    one = deviation(found, wanted)
    assert one.holds is holds
    assert worst([one, deviation(wanted, answers(-8.0))]).holds is (
        holds and float(wanted.energy[0]) == -8.0
    )
