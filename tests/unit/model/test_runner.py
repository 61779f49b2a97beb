"""The one evaluation of a model: against the host's own, and what it leaves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sevenn._keys as KEY
import torch
from ase import Atoms
from helpers import (
    CUTOFF,
    NAMES,
    build,
    evaluate,
    graph,
    no_derivatives,
    structures,
    trained,
)
from sevenn.nn.sequential import AtomGraphSequential
from torch_geometric.data import Batch

from sevennet_mf.data.processed.graphs import host_graph
from sevennet_mf.errors import UserError
from sevennet_mf.model.runner import Runner, structure_of, total_energy
from sevennet_mf.model.shift import reference_energies, shift_of

READOUT = 'reduce_input_to_hidden'


@pytest.fixture(scope='module')
def model() -> AtomGraphSequential:
    found, _ = trained('lora')
    return found


def graphs_of(atoms: list[Atoms]) -> list[dict[str, Any]]:
    return [host_graph(one, CUTOFF) for one in atoms]


def assert_as_the_host(model: AtomGraphSequential, rows: list[int]) -> None:
    atoms = structures(len(rows))
    several = bool(model.eval_modal_map)
    names = [NAMES[row] if several else None for row in rows]
    wanted = evaluate(model, atoms, names)  # type: ignore[arg-type]
    with Runner(model) as runner:
        found = runner.evaluate(graphs_of(atoms), rows)
    np.testing.assert_allclose(found.energy, wanted['energy'].numpy(), atol=2e-5)
    np.testing.assert_allclose(found.forces, wanted['forces'].numpy(), atol=1e-6)
    np.testing.assert_allclose(found.stress, wanted['stress'].numpy(), atol=1e-7)
    assert found.n_atoms.tolist() == [len(one) for one in atoms]
    parts = found.by_structure(found.energies)
    np.testing.assert_allclose([p.sum() for p in parts], found.energy, rtol=1e-12)
    pairs = zip(rows, atoms, strict=True)
    reference = [runner.references[row, a.numbers].sum() for row, a in pairs]
    np.testing.assert_allclose(found.reference, reference, rtol=1e-12)
    for values in (found.energy, found.forces, found.stress, found.energies):
        assert values.dtype == np.float64


def test_each_structure_of_a_batch_at_its_fidelity(
    model: AtomGraphSequential,
) -> None:
    assert_as_the_host(model, [0, 1, 1, 0])


@pytest.mark.parametrize('shift', [-3.0, [-4.0, -3.0, -5.0]])
@pytest.mark.parametrize('names', [('pbe',), NAMES])
def test_all_kinds_of_shift(
    shift: float | list[float], names: tuple[str, ...]
) -> None:
    """The host has one number, one by element, one by fidelity and element."""
    model, config = trained(names=names)
    by_type = np.broadcast_to(shift, 3)
    if isinstance(shift, list):
        by_number = np.zeros(119)
        for z, index in config[KEY.TYPE_MAP].items():
            by_number[z] = by_type[index]
        each = {n: (by_number - i).tolist() for i, n in enumerate(names)}
        own = each if len(names) > 1 else each['pbe']
        model = build({**config, KEY.SHIFT: own})
    table = reference_energies(model)
    assert table.shape == (len(names), 119)
    for z, index in config[KEY.TYPE_MAP].items():
        wanted = [by_type[index] - i for i in range(len(names))]
        np.testing.assert_allclose(table[:, z], wanted)
    assert np.isnan(table[:, 6]).all()
    assert_as_the_host(model, [0, len(names) - 1])


def test_a_structure_at_several_fidelities(model: AtomGraphSequential) -> None:
    one = host_graph(structures(1)[0], CUTOFF)
    with Runner(model) as runner:
        same = runner.evaluate([one, one], [0, 1])
        copies = runner.evaluate([one, dict(one)], [0, 1])
        alone = [runner.evaluate([one], [row]).energy for row in (0, 1)]
    assert np.array_equal(same.energies, copies.energies)
    assert np.array_equal(same.forces, copies.forces)
    np.testing.assert_allclose(same.energy, np.concatenate(alone), atol=1e-6)
    assert abs(alone[0] - alone[1]) > 0.1


def test_tensors_are_taken_as_arrays_are(model: AtomGraphSequential) -> None:
    atoms = structures(2)
    tensors = [graph(one, 'ignored') for one in atoms]
    with Runner(model) as runner:
        found = runner.evaluate(tensors, [1, 0])
        wanted = runner.evaluate(graphs_of(atoms), [1, 0])
    assert np.array_equal(found.energy, wanted.energy)
    assert np.array_equal(found.forces, wanted.forces)


@pytest.mark.parametrize('among_others', [False, True])
def test_without_neighbours_or_a_volume(
    among_others: bool, model: AtomGraphSequential
) -> None:
    atoms = [Atoms('N', cell=[20, 20, 20], pbc=True), Atoms('Ga')]
    given = graphs_of([*atoms, *structures(1)] if among_others else atoms)
    with Runner(model) as runner:
        found = runner.evaluate(given, [0] * len(given))
    assert not found.forces[:2].any()
    assert not found.stress[0].any()
    assert np.isnan(found.stress[1]).all()
    assert np.isfinite(found.energy).all()
    if among_others:
        assert np.abs(found.forces[2:]).max() > 0.01
        assert np.isfinite(found.stress[2]).all()
    assert given[1][KEY.CELL_VOLUME] == 0  # the host writes into its batch
    assert found.not_finite() is None


def test_a_backend_that_gives_no_derivatives(model: AtomGraphSequential) -> None:
    output = model.get_submodule('force_output')
    handle = output.register_forward_hook(no_derivatives)
    atoms = [Atoms('N', cell=[20, 20, 20], pbc=True), Atoms('Ga')]
    with Runner(model) as runner:
        found = runner.evaluate(graphs_of(atoms), [0, 1])
    handle.remove()
    assert found.forces.tolist() == [[0, 0, 0]] * 2
    assert found.stress[0].tolist() == [0] * 6
    assert np.isnan(found.stress[1]).all()


def test_references_are_added_in_float64(
    model: AtomGraphSequential, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Totals near -8000 eV have a grain of 5e-4 eV in float32."""
    given = graphs_of(structures(1))
    shift = shift_of(model).detach()
    residuals, energies = [], []
    for value in (0.0, -2041.321):
        with monkeypatch.context() as patch:
            patch.setattr(shift_of(model), 'data', torch.full_like(shift, value))
            with Runner(model) as runner:
                found = runner.evaluate(given, [0])
        residuals.append(found.residuals)
        energies.append(found.energy[0])
    assert np.array_equal(*residuals)
    wanted = int(found.n_atoms[0]) * float(np.float32(-2041.321))
    assert energies[1] - energies[0] == pytest.approx(wanted, abs=1e-9)


# ---- features, derivatives, parts


def test_features_are_what_a_layer_receives(model: AtomGraphSequential) -> None:
    seen, after = [], []
    readout = model.get_submodule(READOUT)
    handle = readout.register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0][KEY.NODE_FEATURE].clone())
    )
    atoms = structures(2)
    with Runner(model) as runner:
        found = runner.evaluate(graphs_of(atoms), [0, 1], READOUT)
        assert runner.evaluate(graphs_of(atoms), [0, 1]).features is None
        handle.remove()
        handle = readout.register_forward_pre_hook(
            lambda module, inputs: after.append(1)
        )
        alone = runner.features(graphs_of(atoms), [0, 1], READOUT)
    handle.remove()
    assert not after
    assert found.features is not None
    assert found.features.shape == (found.n_atoms.sum(), 4)
    np.testing.assert_array_equal(found.features, seen[0].detach().numpy())
    np.testing.assert_array_equal(found.features, alone)
    assert not readout._forward_pre_hooks


def test_forces_can_be_differentiated_if_asked(model: AtomGraphSequential) -> None:
    weight = model.get_parameter('onehot_to_feature_x.linear.weight')
    given = graphs_of(structures(1))
    for differentiable in (False, True):
        with Runner(model, differentiable=differentiable) as runner:
            forces = runner.output(given, [0])[KEY.PRED_FORCE]
        assert forces.requires_grad is differentiable
    (slope,) = torch.autograd.grad(forces.square().sum(), [weight])
    assert slope.abs().max() > 0
    with Runner(model) as runner, torch.no_grad():
        assert runner.evaluate(given, [0]).forces.any()


def test_energies_without_derivatives(model: AtomGraphSequential) -> None:
    atoms = structures(2)
    wanted = evaluate(model, atoms, list(NAMES))['energy']
    calls: list[int] = []
    handle = model.get_submodule('force_output').register_forward_pre_hook(
        lambda module, inputs: calls.append(1)
    )
    pairs = zip(atoms, NAMES, strict=True)
    batch = Batch.from_data_list([graph(a, name) for a, name in pairs])
    with torch.no_grad():
        found = total_energy(model, batch)
    handle.remove()
    assert torch.equal(found, wanted)
    assert not calls


# ---- what is left, and what cannot be


def test_the_model_is_given_back_as_it_was(model: AtomGraphSequential) -> None:
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.train().set_is_batch_data(False)
    try:
        with Runner(model) as runner:
            assert not model.training
            assert model.is_batch_data
            assert not shift_of(model).any()
            assert runner.references[1, 7] == -4.0
        assert model.training
        with pytest.raises(KeyError), Runner(model) as runner:
            runner.evaluate([{}], [0])
        after = model.state_dict()
        assert all(torch.equal(value, after[k]) for k, value in before.items())
        assert model.training
        assert not model.is_batch_data
    finally:
        model.eval()


def test_a_device_that_is_not_there(model: AtomGraphSequential) -> None:
    with pytest.raises(UserError, match="device 'cuda:99' cannot be used.*Use cpu"):
        Runner(model, 'cuda:99')
    assert shift_of(model).any()


@pytest.mark.parametrize(('marked', 'wanted'), [(1, 0), (2, 1), (5, 2), (6, None)])
def test_the_first_structure_that_is_marked(
    marked: int, wanted: int | None
) -> None:
    assert structure_of([2, 3, 1], np.arange(6) >= marked) == wanted


def test_what_is_not_a_number_is_found(model: AtomGraphSequential) -> None:
    atoms = [*structures(1), Atoms('N2'), *structures(1)]  # two in one place
    with Runner(model) as runner:
        found = runner.evaluate(graphs_of(atoms), [0, 0, 0])
        assert runner.evaluate(graphs_of(atoms[:1]), [0]).not_finite() is None
    assert found.not_finite() == 1
