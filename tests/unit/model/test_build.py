"""Fidelity sites in the host's models, and whole models in every form."""

import io
from collections import OrderedDict
from typing import Any

import e3nn.util.jit
import numpy as np
import pytest
import sevenn._keys as KEY
import sevenn.checkpoint
import torch
from ase import Atoms
from helpers import (
    ARCHITECTURES,
    ENCODINGS,
    assert_close,
    build,
    evaluate,
    graph,
    host_config,
    model_config,
    randomise,
    registered,
    save_checkpoint,
    structures,
    to_double,
    trained,
)
from sevenn.model_build import build_E3_equivariant_model
from sevenn.nn.linear import IrrepsLinear
from sevenn.nn.sequential import AtomGraphSequential

from sevennet_mf.errors import HostError
from sevennet_mf.model.build import (
    common_potential,
    drop_absent_gradients,
    fidelity_layers,
    patch_fidelity,
    theta_of,
)
from sevennet_mf.model.linear import FidelityLinear

FIDELITIES = ['r2scan', 'pbe', 'r2scan']
SITES = {
    'node_embedding': ['onehot_to_feature_x'],
    'self_interaction_1': ['0_self_interaction_1', '1_self_interaction_1'],
    'self_interaction_2': ['0_self_interaction_2', '1_self_interaction_2'],
    'output': ['reduce_input_to_hidden'],
}
BOTH = pytest.mark.parametrize('architecture', list(ARCHITECTURES))
EACH = pytest.mark.parametrize('encoding', ENCODINGS)
SOME = pytest.mark.parametrize(  # each encoding, each architecture
    ('encoding', 'architecture'),
    [('bias', 'parity'), ('gain', 'lmax2'), ('lora', 'lmax2')],
)


def replaced(model: AtomGraphSequential) -> set[str]:
    return {n for n, m in model.named_children() if isinstance(m, FidelityLinear)}


def alone(model: Any, atoms: Atoms, type_map: dict[int, int]) -> dict[str, Any]:
    """Run a scripted model that was prepared for one fidelity on one structure."""
    data = {
        name: value
        for name, value in graph(atoms, None).to_dict().items()
        if isinstance(value, torch.Tensor)
    }
    data[KEY.NODE_FEATURE] = torch.tensor([type_map[z] for z in atoms.numbers])
    output = model(data)
    return {
        'energy': output[KEY.PRED_TOTAL_ENERGY].detach().reshape(1),
        'forces': output[KEY.PRED_FORCE].detach(),
        'stress': output[KEY.PRED_STRESS].detach().reshape(1, 6),
    }


# ---- whole models


@SOME
def test_every_form_is_the_same(encoding: str, architecture: str, tmp_path) -> None:
    model, config = trained(encoding, **ARCHITECTURES[architecture])
    atoms = structures(3)
    wanted = evaluate(model, atoms, FIDELITIES)
    path = save_checkpoint(tmp_path / 'model.pth', model, config)
    with registered():
        from_file = sevenn.checkpoint.SevenNetCheckpoint(path).build_model()
    assert_close(evaluate(from_file.eval(), atoms, FIDELITIES), wanted)

    first = evaluate(model, atoms[:1], FIDELITIES[:1])
    one_by_one = [
        evaluate(model, [a], [f])['energy']
        for a, f in zip(atoms, FIDELITIES, strict=True)
    ]
    assert_close({'energy': torch.cat(one_by_one)}, {'energy': wanted['energy']})

    from_file.eval_type_map = False
    from_file.prepare_modal_deploy(FIDELITIES[0])
    scripted = e3nn.util.jit.script(from_file)
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.freeze(scripted), buffer)
    buffer.seek(0)
    frozen = torch.jit.load(buffer)
    for form in (scripted, frozen):
        assert_close(alone(form, atoms[0], model.type_map), first)


def turned(atoms: Atoms, rotation: np.ndarray) -> Atoms:
    result = atoms.copy()
    result.set_cell(atoms.cell @ rotation.T)
    result.set_positions(atoms.positions @ rotation.T)
    return result


def as_matrix(stress: torch.Tensor) -> np.ndarray:
    xx, yy, zz, xy, yz, zx = stress.numpy()
    return np.array([[xx, xy, zx], [xy, yy, yz], [zx, yz, zz]])


@EACH
@BOTH
@pytest.mark.parametrize('determinant', [1, -1])
def test_equivariant(encoding: str, architecture: str, determinant: int) -> None:
    options = ARCHITECTURES[architecture]
    if determinant == -1 and not options['is_parity']:
        pytest.skip('without parity a model knows left from right')
    model, _ = trained(encoding, **options)
    to_double(model)
    rotation = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))[0]
    rotation *= determinant * np.sign(np.linalg.det(rotation))
    atoms = structures(2)
    names = ['pbe', 'r2scan']
    before = evaluate(model, atoms, names)
    after = evaluate(model, [turned(a, rotation) for a in atoms], names)
    tolerance = {'atol': 1e-10, 'rtol': 0}
    np.testing.assert_allclose(after['energy'], before['energy'], **tolerance)
    np.testing.assert_allclose(
        after['forces'], before['forces'].numpy() @ rotation.T, **tolerance
    )
    for was, now in zip(before['stress'], after['stress'], strict=True):
        wanted = rotation @ as_matrix(was) @ rotation.T
        np.testing.assert_allclose(as_matrix(now), wanted, **tolerance)
    assert before['forces'].abs().max() > 0.01
    assert before['stress'].abs().max() > 1e-4


@SOME
@pytest.mark.parametrize('use_bias', [False, True])
def test_folded_layers_are_the_model(
    encoding: str, architecture: str, use_bias: bool
) -> None:
    sites = {'sites': list(SITES)}
    options = {**ARCHITECTURES[architecture], 'use_bias_in_linear': use_bias}
    config = model_config(encoding, ('pbe', 'hse', 'r2scan'), sites, **options)
    atoms = structures(2)
    energies = []
    for i, name in enumerate(config[KEY.MODAL_MAP]):
        model = build(config)
        randomise(model)
        wanted = evaluate(model, atoms, [name, name])
        for site, layer in list(model.named_children()):
            if isinstance(layer, FidelityLinear):
                model.replace_module(site, layer.fold(i))
        assert not fidelity_layers(model)
        assert_close(evaluate(model, atoms, [name, name]), wanted)
        energies.append(wanted['energy'] + i * torch.tensor([len(a) for a in atoms]))
    assert not torch.allclose(energies[0], energies[1], atol=1e-3)


@EACH
@BOTH
def test_untrained_is_the_hosts_model(encoding: str, architecture: str) -> None:
    config = model_config(encoding, **ARCHITECTURES[architecture])
    ours, host = build(config), build(host_config(config))
    state = {k: v for k, v in ours.state_dict().items() if k in host.state_dict()}
    host.load_state_dict(state, strict=True)  # theta_T is zero
    atoms = structures(3)
    assert_close(
        evaluate(ours, atoms, FIDELITIES),
        evaluate(host, atoms, FIDELITIES),
        atol=2e-6,
        rtol=1e-6,
    )


# ---- sites


@pytest.mark.parametrize('site', list(SITES))
def test_each_site(site: str) -> None:
    model = build(model_config(fidelity={'sites': [site]}))
    assert replaced(model) == set(SITES[site])


def test_default_sites() -> None:
    wanted = {name for site in list(SITES)[1:] for name in SITES[site]}
    assert replaced(build(model_config())) == wanted


@pytest.mark.parametrize(('encoding', 'n'), [('bias', 5), ('gain', 3), ('lora', 5)])
def test_any_number_of_fidelities(encoding: str, n: int) -> None:
    names = tuple(f'f{i}' for i in range(n))
    model, _ = trained(encoding, names)
    assert {layer.num_modalities for layer in fidelity_layers(model)} == {n}
    atoms = structures(1) * n
    energy = evaluate(model, atoms, list(names))['energy']
    shift = torch.arange(n) * len(atoms[0])  # see helpers.model_config
    assert len(torch.unique((energy + shift).round(decimals=3))) == n


@pytest.mark.parametrize('encoding', ['bias', 'lora'])
def test_one_fidelity_is_the_plain_host_model(encoding: str) -> None:
    config = model_config(encoding, ('r2scan',))
    model = build(config)
    assert replaced(model) == set()
    assert 'one_hot_modality' not in dict(model.named_children())
    host = build(host_config(config))
    assert list(model.state_dict()) == list(host.state_dict())
    atoms = structures(2)
    assert_close(
        evaluate(model, atoms, [None, None]), evaluate(host, atoms, [None, None])
    )


def test_off_is_untouched() -> None:
    layers = OrderedDict(a=torch.nn.Identity())
    assert patch_fidelity(layers, {}) is layers
    assert patch_fidelity(layers, {'fidelity_model': False}) is layers
    config = {'fidelity_model': {'sites': ['output']}, 'use_modality': False}
    assert patch_fidelity(layers, config) is layers


def test_the_given_layers_are_not_changed() -> None:
    config = model_config()
    plain = IrrepsLinear('2x0e', '2x0e', KEY.NODE_FEATURE, biases=False)
    layers = OrderedDict(reduce_input_to_hidden=plain)
    patched = patch_fidelity(layers, config)
    assert layers['reduce_input_to_hidden'] is plain
    assert isinstance(patched['reduce_input_to_hidden'], FidelityLinear)


def test_a_lost_site_is_an_error() -> None:
    sites = {'sites': ['node_embedding']}
    config = model_config(fidelity=sites, readout_as_fcn=True)
    config['fidelity_model']['sites'] = ['output']
    wanted = "no layer 'reduce_input_to_hidden' for the site 'output'"
    with pytest.raises(HostError, match=wanted):
        build(config)


@SOME
def test_parallel_segments(encoding: str, architecture: str) -> None:
    sites = {'sites': list(SITES)}
    config = model_config(encoding, fidelity=sites, **ARCHITECTURES[architecture])
    whole = build(config)
    randomise(whole)
    with registered():
        segments = build_E3_equivariant_model(config, parallel=True)
    assert len(segments) == config[KEY.NUM_CONVOLUTION]
    found = [name for segment in segments for name in replaced(segment)]
    ghosts = ['ghost_onehot_to_feature_x', 'ghost_0_self_interaction_1']
    assert sorted(found) == sorted(sum(SITES.values(), ghosts))
    # as the host's deploy_parallel does
    state = whole.state_dict()
    for ghost in ghosts:
        source = ghost.removeprefix('ghost_')
        state.update(
            {
                f'ghost_{name}': value
                for name, value in whole.state_dict().items()
                if name.startswith(source)
            }
        )
    for segment in segments:
        missing, _ = segment.load_state_dict(state, strict=False)
        assert missing == []
        for name in replaced(segment):
            layer = segment.get_submodule(name)
            twin = whole.get_submodule(name.removeprefix('ghost_'))
            for own, wanted in zip(layer.theta(1), twin.theta(1), strict=True):
                assert own.any()
                assert torch.equal(own, wanted)
        segment.set_is_batch_data(False)


# ---- theta_T in training


def loss_of(model: AtomGraphSequential, name: str) -> torch.Tensor:
    from torch_geometric.data import Batch

    model.train()
    model.set_is_batch_data(True)
    output = model(Batch.from_data_list([graph(a, name) for a in structures(2)]))
    forces = output[KEY.PRED_FORCE].square().sum()
    return output[KEY.PRED_TOTAL_ENERGY].square().sum() + forces


@EACH
def test_theta_of_is_what_a_fidelity_owns(encoding: str) -> None:
    model, _ = trained(encoding)
    mine = {id(p) for p in theta_of(model, 0)}
    others = {id(p) for p in theta_of(model, 1)}
    assert mine.isdisjoint(others)
    shared = [n for n, p in model.named_parameters() if id(p) not in mine | others]
    assert shared
    assert not [n for n in shared if '.bias.' in n or 'gain' in n or 'lora' in n]


@EACH
def test_gradients_of_a_one_fidelity_batch(encoding: str) -> None:
    model, _ = trained(encoding, ('pbe', 'hse', 'r2scan'))
    loss_of(model, 'hse').backward()
    for fidelity, is_there in enumerate((False, True, False)):
        for parameter in theta_of(model, fidelity):
            if parameter.numel():
                assert parameter.grad is not None
                assert bool(parameter.grad.any()) is is_there
    drop_absent_gradients(model, [False, True, False])
    assert all(p.grad is None for i in (0, 2) for p in theta_of(model, i))
    assert all(p.grad is not None for p in theta_of(model, 1) if p.numel())


@EACH
def test_adam_moves_no_absent_fidelity(encoding: str) -> None:
    model, _ = trained(encoding)
    adam = torch.optim.Adam(model.parameters(), lr=0.01)

    def step(name: str, present: list[bool]) -> None:
        adam.zero_grad()
        loss_of(model, name).backward()
        drop_absent_gradients(model, present)
        adam.step()

    step('r2scan', [False, True])  # Adam has a momentum for r2scan now
    before = [p.detach().clone() for p in theta_of(model, 1)]
    low = [p.detach().clone() for p in theta_of(model, 0)]
    step('pbe', [True, False])
    step('pbe', [True, False])
    for parameter, was in zip(theta_of(model, 1), before, strict=True):
        assert torch.equal(parameter, was)
    moved = zip(theta_of(model, 0), low, strict=True)
    assert any(not torch.equal(parameter, was) for parameter, was in moved)


def test_adam_moves_an_absent_fidelity_in_the_host() -> None:
    """Trap 22, and so that the test above can fail: the rows share one weight."""
    model = build(host_config(model_config()))
    layer = model.get_submodule('reduce_input_to_hidden')
    n_rows = 2 * layer.irreps_out.dim
    adam = torch.optim.Adam(model.parameters(), lr=0.01)

    def step(name: str) -> None:
        adam.zero_grad()
        loss_of(model, name).backward()
        adam.step()

    def high_row() -> torch.Tensor:
        rows = layer.linear.weight.detach()[-n_rows:]
        return rows.reshape(2, -1)[1].clone()

    step('r2scan')
    before = high_row()
    step('pbe')
    assert not torch.equal(high_row(), before)


@EACH
def test_common_potential_is_theta_zero(encoding: str) -> None:
    model, config = trained(encoding)
    atoms = structures(2)
    names = ['pbe', 'r2scan']
    with_theta = evaluate(model, atoms, names)
    with common_potential(model):
        common = evaluate(model, atoms, names)
        with common_potential(model):
            pass
        assert_close(evaluate(model, atoms, names), common)  # nesting is safe
    assert_close(evaluate(model, atoms, names), with_theta)
    assert not torch.allclose(common['energy'], with_theta['energy'], atol=1e-3)

    with torch.no_grad():
        for fidelity in (0, 1):
            for parameter in theta_of(model, fidelity):
                parameter.zero_()
    assert_close(evaluate(model, atoms, names), common)


def test_common_potential_comes_back_after_an_error() -> None:
    model, _ = trained()
    with pytest.raises(ZeroDivisionError), common_potential(model):
        raise ZeroDivisionError
    assert all(layer.use_theta for layer in fidelity_layers(model))
