"""The benchmark of many-body differences measures what it says."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from helpers import save_checkpoint, structures, trained

ROOT = Path(__file__).parents[2]
ELEMENTS = [7, 31, 49]
STEPS = 0.01, -0.01  # Å


@pytest.fixture(scope='module')
def benchmark() -> Any:
    """The programs of the folder, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / 'benchmarks'))
        import many_body
        import many_body_train

        many_body.train = many_body_train
        yield many_body
    for name in [name for name in sys.modules if name.startswith('many_body')]:
        sys.modules.pop(name)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp('many_body')
    return str(save_checkpoint(folder / 'checkpoint.pth', *trained()))


@pytest.fixture(scope='module')
def network(benchmark: Any, checkpoint: str) -> Any:
    return benchmark.Network(checkpoint)


def structure(benchmark: Any, network: Any, atoms: Atoms, most: int = 99) -> Any:
    """Without a difference."""
    rng = np.random.default_rng(0)
    directions = benchmark.directions_of(atoms, most, rng)
    nodes = network.sums(atoms, ELEMENTS, directions)
    edges = benchmark.edges_of(atoms, network.cutoff)
    return benchmark.Structure(edges, nodes, 0.0, np.zeros((len(atoms), 3)))


@pytest.mark.parametrize('most', [99, 5])
def test_slopes_are_what_sums_change_by(
    benchmark: Any, network: Any, most: int
) -> None:
    (atoms,) = structures(1)
    one = structure(benchmark, network, atoms, most).nodes
    assert len(one.slopes) == min(most, 3 * len(atoms))
    np.testing.assert_allclose(np.linalg.norm(one.directions, axis=1), 1.0)
    for direction, slope in zip(one.directions[:3], one.slopes, strict=False):
        there, back = (sums_at(network, atoms, step * direction) for step in STEPS)
        quotient = (there - back) / (STEPS[0] - STEPS[1])
        np.testing.assert_allclose(quotient, slope, atol=0.1 * np.abs(slope).max())


def sums_at(network: Any, atoms: Atoms, by: Any) -> Any:
    """The features after the atoms have moved."""
    copy = atoms.copy()
    copy.positions += by.reshape(-1, 3)
    return network.sums(copy, ELEMENTS, np.zeros((0, 3 * len(atoms)))).sums


def test_derivatives_are_those_of_the_sums(benchmark: Any, network: Any) -> None:
    (atoms,) = structures(1)
    one = structure(benchmark, network, atoms).nodes
    weights = np.random.default_rng(0).normal(size=one.sums.shape)
    forces, strain = network.derivatives(atoms, ELEMENTS, weights)
    slopes = np.einsum('dzk,zk->d', one.slopes, weights)
    np.testing.assert_allclose(-forces.ravel(), slopes, atol=0.1 * slopes.max())
    large, small = atoms.copy(), atoms.copy()
    large.set_cell(atoms.cell * 1.002, scale_atoms=True)
    small.set_cell(atoms.cell * 0.998, scale_atoms=True)
    still = np.zeros(3 * len(atoms))
    there, back = (sums_at(network, copy, still) for copy in (large, small))
    quotient = ((there - back) * weights).sum() / 0.004
    assert np.trace(strain) == pytest.approx(quotient, rel=0.05)


def test_a_difference_of_features_is_found(benchmark: Any, network: Any) -> None:
    known = [structure(benchmark, network, atoms) for atoms in structures(12)]
    width = known[0].nodes.sums.shape
    weights = np.random.default_rng(1).normal(size=width)

    def labelled(one: Any) -> Any:
        pulls = -np.einsum('dzk,zk->d', one.nodes.slopes, weights)
        energy = float((weights * one.nodes.sums).sum()) / one.n_atoms
        forces = (one.nodes.directions.T @ pulls).reshape(-1, 3)
        return replace(one, energy=energy, forces=forces)

    known = [labelled(one) for one in known]
    error = benchmark._errors(known[:9], known[9:], ELEMENTS, 9, 0, network.cutoff)
    by_form = np.array(error[:8]).reshape(4, 2)
    assert (by_form[2] < 0.2 * by_form[0]).all()
    assert (by_form[2] < by_form[1]).all()
    assert (by_form[3] < by_form[1]).all()


def test_labels_are_inferred_in_both_ways(benchmark: Any, checkpoint: str) -> None:
    pool, test = benchmark.systems.ingan()
    options = argparse.Namespace(model=checkpoint, cutoff=4.0)
    raw = benchmark.train._off([low for low, _ in test[:3]], test[:3])
    for arm in ('pairs', 'both'):
        found = benchmark.train._inferred(pool[:9], test[:3], arm, options)
        energy, force = benchmark.train._off(found, test[:3])
        assert energy < 10.0  # PBE energies have another zero
        assert force < raw[1]
        change = found[0].get_stress() - test[0][0].get_stress()
        assert 1e-4 < np.abs(change).max() < 0.1  # eV/Å^3


def test_a_table(
    benchmark: Any, checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ['--pool', '9', '--test', '3', '--labels', '8', '--choices', '2']
    few += ['--systems', 'ingan', '--directions', '6']
    benchmark.main([*few, '--model', checkpoint])
    head, _, row = capsys.readouterr().out.splitlines()
    assert row.startswith('| ingan | 8 |')
    assert row.count('|') == head.count('|')
    assert row.count(' / ') == 5
    # there are no forces at CCSD(T)
    energies = np.array([[0.01, np.nan] * 5 + [1.0]])
    said = benchmark._line('molecules', 8, energies)
    assert said == '| molecules | 8 |' + ' 10.0 ± 0.0 |' * 5 + ' 1.0 |'
