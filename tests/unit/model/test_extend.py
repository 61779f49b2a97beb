"""A model that gets another fidelity predicts at the old ones what it did."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import sevenn._keys as KEY
import torch
from helpers import (
    ARCHITECTURES,
    ENCODINGS,
    NAMES,
    build,
    host_config,
    model_config,
    randomise,
)
from pretrained_helpers import answers_of, assert_same
from sevenn.nn.sequential import AtomGraphSequential

from sevennet_mf import keys
from sevennet_mf.checkpoint.shipped import find_checkpoint
from sevennet_mf.deploy.probe import Answers, ask, probes
from sevennet_mf.errors import UserError
from sevennet_mf.model.build import fidelity_layers, theta_of
from sevennet_mf.model.extend import ExtensionPlan, check, extend, extended_config
from sevennet_mf.model.load import load_model

ALL_SITES = list(keys.SITE_SWITCH)
WITH_BIAS = {'use_bias_in_linear': True, **ARCHITECTURES['parity']}
Model = tuple[AtomGraphSequential, dict[str, Any]]


def fidelity(encoding: str = 'bias', **more: Any) -> dict[str, Any]:
    """`model.fidelity`, complete."""
    sites = ['self_interaction_1', 'self_interaction_2', 'output']
    defaults = {'rank': 4, 'sites': sites, 'scale': 'shared'}
    return {'encoding': encoding, **defaults, **more}


@cache
def plain(architecture: str) -> Model:
    """A model of one fidelity, as the host writes it; it stays as it is."""
    model = ARCHITECTURES[architecture]
    config = host_config(model_config(names=('pbe',), **model))
    config[KEY.SHIFT] = [-1.0, -2.0, -5.0]
    return build(config), config


def several(
    encoding: str, own: dict[str, Any] | None = None, **architecture: Any
) -> Model:
    """A model of two fidelities whose weights differ; own: model.fidelity."""
    own = own or {}
    config = model_config(encoding, NAMES, own, **architecture)
    config[KEY.SHIFT] = [[-1.0, -2.0, -5.0], [-1.5, -2.25, -5.5]]
    if own.get('scale') == 'per_fidelity':
        config[KEY.SCALE] = {'pbe': 4.0, 'r2scan': 3.0}
    model = build(config)
    randomise(model)
    with_biases(model)
    return model, config


def with_biases(model: AtomGraphSequential) -> None:
    """Biases that no fidelity owns, where the model has any, as if trained."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith('linear.bias'):
                value.fill_(0.3)


@cache
def of_host() -> Model:
    """A multi-modal model as the host has it; it stays as it is."""
    ours, config = several('bias', **ARCHITECTURES['lmax2'])
    config = host_config(config)
    model = build(config)
    model.load_state_dict(ours.state_dict(), strict=True)
    return model, config


def extended(made: Model, plan: ExtensionPlan) -> Model:
    """What the host builds of the extended configuration and weights."""
    model, config = made
    new_config = extended_config(config, plan)
    state = extend(model, plan)
    for key in (KEY.SHIFT, KEY.SCALE):
        new_config[key] = state[f'rescale_atomic_energy.{key}'].tolist()
    new = build(new_config)
    randomise(new, seed=9)  # nothing of it is to stay
    new.load_state_dict(state, strict=True)
    return new, new_config


def answers(
    model: AtomGraphSequential, config: dict[str, Any], name: str | None
) -> Answers:
    atoms = probes(sorted(model.type_map or ()), config[KEY.CUTOFF])
    return ask(model, atoms, config[KEY.CUTOFF], name)


def assert_extends(made: Model, plan: ExtensionPlan) -> Model:
    """Old fidelities are what they were and new ones their source."""
    model, config = made
    before = {k: v.clone() for k, v in model.state_dict().items()}
    is_plain = not config.get(KEY.USE_MODALITY)
    wanted = {n: answers(*made, None if is_plain else n) for n in plan.old}
    new, new_config = extended(made, plan)
    for index, name in enumerate(plan.names):
        source = name if name in plan.old else plan.source
        assert_same(answers(new, new_config, name), wanted[source])
        assert new_config[KEY.MODAL_MAP][name] == index
    after = model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    if len(wanted) > 1:  # or mixing them up would go unseen
        energies = [found.energy for found in wanted.values()]
        assert abs(energies[0] - energies[1]).min() > 0.05
    return new, new_config


def assert_own(made: Model, name: str) -> None:
    """Weights of a fidelity move that fidelity and no other one."""
    model, config = made
    names = keys.by_index(config[KEY.MODAL_MAP])
    before = {n: answers(*made, n).energy for n in names}
    with torch.no_grad():
        for parameter in theta_of(model, names.index(name)):
            parameter.add_(0.1)
    for other, energy in before.items():
        moved = abs(answers(*made, other).energy - energy).max()
        assert (moved > 1e-3) == (other == name), other


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_a_plain_model(encoding: str) -> None:
    plan = ExtensionPlan(('pbe',), ('r2scan', 'hse'), 'pbe', fidelity(encoding))
    made = assert_extends(plain('lmax2'), plan)
    assert_own(made, 'hse')


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_a_plain_model_with_biases_and_every_site(encoding: str) -> None:
    config = host_config(model_config(names=('pbe',), **WITH_BIAS))
    config[KEY.SCALE] = 4.0
    made = build(config), config
    with_biases(made[0])
    own = fidelity(encoding, sites=ALL_SITES, scale='per_fidelity')
    new, _ = assert_extends(made, ExtensionPlan(('pbe',), ('r2scan',), 'pbe', own))
    assert new.get_parameter('rescale_atomic_energy.scale').shape == (2, 3)


@pytest.mark.parametrize('to', ENCODINGS)
def test_a_multi_modal_model_of_the_host(to: str) -> None:
    plan = ExtensionPlan(NAMES, ('hse',), 'r2scan', fidelity(to))
    assert_own(assert_extends(of_host(), plan), 'hse')


@pytest.mark.parametrize(
    ('encoding', 'to'),
    [('bias', 'lora'), *((encoding, encoding) for encoding in ENCODINGS)],
)
def test_ours_of_every_encoding(encoding: str, to: str) -> None:
    made = several(encoding)
    plan = ExtensionPlan(NAMES, ('hse',), 'pbe', fidelity(to))
    new, config = assert_extends(made, plan)
    assert len(fidelity_layers(new)) == len(fidelity_layers(made[0]))
    assert {layer.encoding for layer in fidelity_layers(new)} == {to}
    assert_own((new, config), 'pbe')


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_everything_that_can_be_switched_on(encoding: str) -> None:
    own = {'sites': ALL_SITES, 'scale': 'per_fidelity'}
    made = several(encoding, own, **WITH_BIAS)
    plan = ExtensionPlan(NAMES, ('hse',), 'r2scan', fidelity(encoding, **own))
    new, _ = assert_extends(made, plan)
    scale = new.get_parameter('rescale_atomic_energy.scale').detach()
    torch.testing.assert_close(scale[:, 0], torch.tensor([4.0, 3.0, 3.0]))


def test_another_site_is_added() -> None:
    made = several('gain', {'sites': ['output']})
    plan = ExtensionPlan(NAMES, ('hse',), 'pbe', fidelity('gain', sites=ALL_SITES))
    assert_extends(made, plan)


def test_twice() -> None:
    """What was extended can be extended."""
    own = fidelity('lora')
    plan = ExtensionPlan(('pbe',), ('r2scan',), 'pbe', own)
    first = assert_extends(plain('parity'), plan)
    randomise(first[0])
    assert_extends(first, ExtensionPlan(NAMES, ('hse',), 'r2scan', own))


# ---- what cannot be

CONFIG: dict[str, Any] = {
    KEY.USE_MODALITY: True,
    'use_modal_self_inter_intro': True,
    'use_modal_output_block': True,
}
WRONG = {
    'readout': (
        {KEY.READOUT_AS_FCN: True, **CONFIG},
        {},
        "sites: 'output' needs the linear readout, .* Take it out of the sites",
    ),
    'sites': (
        CONFIG,
        {'sites': ['self_interaction_1']},
        r"sites lacks \['output'\], where \['pbe', 'r2scan'\] have their "
        r"own weights. .* leave sites out to get \['self_interaction_1', 'output'\]",
    ),
    'encoding of ours': (
        {**CONFIG, keys.FIDELITY_MODEL: {'encoding': 'gain'}},
        {'encoding': 'lora'},
        r"encoding: 'lora' cannot hold the weights of \['pbe', 'r2scan'\], which "
        r"are 'gain'. Leave it out",
    ),
    'rank': (
        {**CONFIG, keys.FIDELITY_MODEL: {'encoding': 'lora', 'rank': 2}},
        {'encoding': 'lora'},
        r"rank: 4, but \['pbe', 'r2scan'\] have rank 2. Leave it out",
    ),
    'scale': (
        {**CONFIG, KEY.USE_MODAL_WISE_SCALE: True},
        {},
        "scale: 'shared', but each of .* has its own. Leave it out",
    ),
}


@pytest.mark.parametrize(('config', 'own', 'words'), WRONG.values(), ids=WRONG)
def test_what_would_lose_weights_is_refused(
    config: dict[str, Any], own: dict[str, Any], words: str
) -> None:
    options = fidelity(**{'encoding': 'bias', **own})
    plan = ExtensionPlan(NAMES, ('hse',), 'pbe', options)
    with pytest.raises(UserError, match=f'^model.fidelity\\.{words}'):
        extended_config(config, plan)


def test_what_loses_nothing_is_allowed() -> None:
    """The same configurations with what the errors ask for."""
    lora = {'encoding': 'lora', 'rank': 2}
    readout = {KEY.READOUT_AS_FCN: True}
    for config, own in (
        (readout, fidelity(sites=['self_interaction_1'])),
        (CONFIG, fidelity('lora')),
        ({**CONFIG, keys.FIDELITY_MODEL: lora}, fidelity(**lora)),
        ({**CONFIG, KEY.USE_MODAL_WISE_SCALE: True}, fidelity(scale='per_fidelity')),
    ):
        check(config, ExtensionPlan(NAMES, ('hse',), 'pbe', own))


# ---- published models


@pytest.mark.slow
@pytest.mark.parametrize(
    ('name', 'old', 'encoding'),
    [('7net-0', ('pbe',), 'lora'), ('7net-mf-0', ('R2SCAN', 'PBE'), 'bias')],
)
def test_published_models(name: str, old: tuple[str, ...], encoding: str) -> None:
    """Some of their elements: to 1e-6 eV/atom, with one arithmetic on both sides."""
    loaded = load_model(find_checkpoint(name), fused=False)
    plan = ExtensionPlan(old, ('ccsdt',), old[-1], fidelity(encoding))
    atoms = probes([1, 8, 13, 29, 70, 92], loaded.cutoff)
    wanted = [
        answers_of(loaded, n if len(old) > 1 else None, atoms)
        for n in (*old, old[-1])
    ]
    config = copy.deepcopy(loaded.config)
    new, _ = extended((loaded.model, config), plan)
    for fidelity_name, before in zip(plan.names, wanted, strict=True):
        found = ask(new, atoms, loaded.cutoff, fidelity_name)
        assert_same(found, before)
