"""Models with fused convolutions are the models they were made of."""

import warnings

import numpy as np
import pytest
import sevenn._keys as KEY
import torch
from ase import Atoms
from helpers import (
    ARCHITECTURES,
    assert_close,
    build,
    evaluate,
    graph,
    host_config,
    model_config,
    registered,
    save_checkpoint,
    structures,
    to_double,
    trained,
)
from scipy.spatial.transform import Rotation
from sevenn.calculator import SevenNetCalculator
from sevenn.nn.convolution import IrrepsConvolution
from sevenn.scripts import train

from sevennet_mf.kernels import library
from sevennet_mf.model import fused
from sevennet_mf.model.fused import describe, fuse, fused_layers
from sevennet_mf.model.load import load_model

pytestmark = pytest.mark.skipif(
    library.path() is None, reason='the kernel was not compiled here'
)
FIDELITIES = ['pbe', 'r2scan', 'pbe']


@pytest.mark.parametrize('name', ARCHITECTURES)
def test_energies_forces_and_stress_are_those_of_e3nn(name: str) -> None:
    model, _ = trained(**ARCHITECTURES[name])
    to_double(model)
    wanted = evaluate(model, structures(), FIDELITIES)
    fuse(model)
    assert len(fused_layers(model)) == 2
    found = evaluate(model, structures(), FIDELITIES)
    assert_close(found, wanted, atol=1e-10, rtol=1e-10)


def test_gradients_of_a_loss_on_forces_are_those_of_e3nn() -> None:
    def gradients(use: bool) -> dict[str, torch.Tensor]:
        model, _ = trained(**ARCHITECTURES['parity'])
        to_double(model)
        if use:
            fuse(model)
        model.train().set_is_batch_data(False)
        output = model(graph(structures(1)[0], 'pbe', dtype=torch.float64))
        loss = output[KEY.PRED_FORCE].square().sum() + output[
            KEY.PRED_TOTAL_ENERGY
        ].sum() * output[KEY.PRED_STRESS].square().sum()
        loss.backward()
        return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}

    found, wanted = gradients(True), gradients(False)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        scale = max(float(value.abs().max()), 1.0)
        assert float((found[name] - value).abs().max()) < 1e-10 * scale, name


def test_a_checkpoint_does_not_know_of_it() -> None:
    model, _ = trained()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    parameters = dict(model.named_parameters())
    fuse(model)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    # the very same parameters: an optimiser made before goes on
    assert all(p is parameters[name] for name, p in model.named_parameters())
    model.load_state_dict(before)


def test_rotating_a_structure_rotates_its_forces() -> None:
    model, _ = trained(**ARCHITECTURES['lmax2'])
    fuse(to_double(model))
    atoms = structures(1)[0]
    turned = atoms.copy()
    rotation = Rotation.random(random_state=3).as_matrix()
    turned.set_cell(atoms.cell @ rotation.T, scale_atoms=True)
    one, two = (evaluate(model, [a], ['pbe']) for a in (atoms, turned))
    assert float((one['energy'] - two['energy']).abs().max()) < 1e-10
    np.testing.assert_allclose(
        two['forces'].numpy(), one['forces'].numpy() @ rotation.T, atol=1e-10
    )


@pytest.mark.parametrize(
    'atoms',
    [
        Atoms('N', [[0, 0, 0]]),
        Atoms('N', [[0, 0, 0]], cell=[2.5, 2.6, 2.7], pbc=True),
        Atoms('GaN', [[0, 0, 0], [0, 0, 1.9]]),
    ],
    ids=['lone_atom', 'its_own_neighbour', 'pair'],
)
def test_odd_structures(atoms: Atoms) -> None:
    model, _ = trained()

    def answers() -> list[torch.Tensor]:
        model.set_is_batch_data(False)
        output = model(graph(atoms, 'pbe'))
        found = (output[KEY.PRED_TOTAL_ENERGY], output.get(KEY.PRED_FORCE))
        return [value.detach() for value in found if value is not None]

    wanted = answers()
    fuse(model)
    found = answers()
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_virials_of_atoms_are_those_of_e3nn(tmp_path) -> None:
    config = model_config(names=('pbe',))
    file = save_checkpoint(tmp_path / 'model.pth', build(config), config)
    atoms = structures(1)[0]
    stresses = []
    for use in (False, True):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            calc = SevenNetCalculator(str(file), compute_atomic_virial=True)
        if use:
            fuse(calc.model)
            assert fused_layers(calc.model)
        stresses.append(calc.get_property('stresses', atoms))
    np.testing.assert_allclose(*stresses, atol=1e-5)


def test_loaded_models_have_it_unless_it_is_off(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = model_config()
    file = str(save_checkpoint(tmp_path / 'model.pth', build(config), config))
    model = load_model(file).model
    assert fused_layers(model)
    assert describe(model).startswith('fused kernel (')
    assert not fused_layers(load_model(file, fused=False).model)
    monkeypatch.setenv(library.SWITCH, 'off')
    model = load_model(file).model
    assert not fused_layers(model)
    assert describe(model).startswith('e3nn, because it is turned off (--e3nn or ')


@pytest.mark.parametrize(('value', 'n'), [('', 0), ('on', 0), ('always', 2)])
def test_sevennets_own_training_has_it_on_request_only(
    value: str, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(library.SWITCH, value)
    with registered():
        model = train.build_E3_equivariant_model(host_config(model_config()))
    assert len(fused_layers(model)) == n


def test_a_layer_that_it_cannot_do_stays_and_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, _ = trained()
    fused._say_left.cache_clear()

    def refuse(product: object) -> torch.Tensor:
        raise ValueError('its l is greater than 4')

    monkeypatch.setattr(fused, 'plan_of', refuse)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        fuse(model)
        fuse(model)  # each is said once
    assert [str(one.message) for one in said] == [
        f'{i}_convolution runs with e3nn: its l is greater than 4.' for i in (0, 1)
    ]
    layers = [m for m in model.modules() if isinstance(m, IrrepsConvolution)]
    assert len(layers) == 2
    assert not fused_layers(model)


def test_another_type_runs_with_e3nn() -> None:
    model, _ = trained()
    layer = fused_layers(fuse(model))[0]
    fused._say_left.cache_clear()
    with pytest.warns(UserWarning, match=r'a torch\.bfloat16 model runs with'):
        assert not fused._can(torch.zeros(1, dtype=torch.bfloat16))
    assert fused._can(torch.zeros(1))
    assert not fused._can(torch.zeros(1, device='meta'))
    assert layer.first
