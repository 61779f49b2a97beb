"""A folded model is the plain SevenNet model of one fidelity, exactly."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import sevenn
import sevenn._keys as KEY
import torch
from helpers import (
    ARCHITECTURES,
    ENCODINGS,
    NAMES,
    assert_close,
    build,
    evaluate,
    host_config,
    model_config,
    randomise,
    structures,
    to_double,
    trained,
)
from sevenn.nn.sequential import AtomGraphSequential

from sevennet_mf import keys
from sevennet_mf.errors import UserError
from sevennet_mf.model.build import fidelity_layers
from sevennet_mf.model.fold import FoldChoice, chosen, fold, without_theta

THREE = ('pbe', 'hse', 'r2scan')
ALL_SITES = list(keys.SITE_SWITCH)
# what is left of float32 weights that are rounded once more
EXACT = {'atol': 5e-6, 'rtol': 1e-6}


def folded(
    model: AtomGraphSequential, config: dict[str, Any], choice: FoldChoice
) -> AtomGraphSequential:
    """What SevenNet builds of the folded configuration and weights."""
    plain_config, state = fold(model, config, choice)
    plain = build(plain_config)
    plain.load_state_dict(state, strict=True)
    assert plain.modal_map is None
    assert fidelity_layers(plain) == []
    return plain


def assert_folds(
    model: AtomGraphSequential, config: dict[str, Any], names: tuple[str, ...]
) -> None:
    """Every fidelity and the common potential, in float64: rounding hides little.

    `model` is in float64 afterwards.
    """
    choices = [chosen(names, name) for name in names]
    choices.append(chosen(names, 'common', names[-1]))
    plain = [to_double(folded(model, config, choice)) for choice in choices]
    to_double(model)
    atoms = structures(2)
    energies = []
    for choice, one in zip(choices, plain, strict=True):
        with nullcontext() if choice.index is not None else without_theta(model):
            wanted = evaluate(model, atoms, [choice.references] * 2)
        assert_close(evaluate(one, atoms, [None, None]), wanted, **EXACT)
        energies.append(float(wanted['energy'][0]))
    assert min(abs(e - energies[0]) for e in energies[1:-1]) > 0.1
    assert abs(energies[-1] - energies[-2]) > 1e-3


@pytest.mark.parametrize('names', [NAMES, THREE], ids=len)
@pytest.mark.parametrize('encoding', ENCODINGS)
def test_every_encoding_and_number_of_fidelities(
    encoding: str, names: tuple[str, ...]
) -> None:
    assert_folds(*trained(encoding, names, **ARCHITECTURES['lmax2']), names)


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_every_site_scale_and_bias(encoding: str) -> None:
    """Everything that can be switched on, in the other architecture."""
    config = model_config(
        encoding,
        NAMES,
        {'sites': ALL_SITES, 'scale': 'per_fidelity'},
        use_bias_in_linear=True,
        **ARCHITECTURES['parity'],
    )
    config[KEY.SCALE] = {'pbe': 10.0, 'r2scan': 7.0}
    model = build(config)
    randomise(model)
    with torch.no_grad():  # biases that no fidelity owns
        model.get_submodule('reduce_hidden_to_energy').linear.bias.fill_(0.3)
    assert_folds(model, config, NAMES)


@pytest.mark.parametrize('site', ALL_SITES)
def test_one_site_alone(site: str) -> None:
    config = model_config('gain', NAMES, {'sites': [site]})
    model = build(config)
    randomise(model)
    assert_folds(model, config, NAMES)


@pytest.mark.parametrize('names', [NAMES, THREE], ids=len)
def test_a_multi_modal_model_of_the_host(names: tuple[str, ...]) -> None:
    ours, config = trained('bias', names, **ARCHITECTURES['parity'])
    model = build(host_config(config))
    model.load_state_dict(ours.state_dict(), strict=True)
    assert_folds(model, host_config(config), names)


def test_without_theta_is_the_common_potential_and_undone() -> None:
    ours, config = trained('bias')
    host = build(host_config(config))
    host.load_state_dict(ours.state_dict(), strict=True)
    atoms = structures(1)
    for layer in fidelity_layers(ours):
        layer.use_theta = False
    wanted = evaluate(ours, atoms, ['pbe'])
    before = evaluate(host, atoms, ['pbe'])
    with without_theta(host):
        assert_close(evaluate(host, atoms, ['pbe']), wanted)
    assert torch.equal(evaluate(host, atoms, ['pbe'])['energy'], before['energy'])
    assert abs(float(before['energy'] - wanted['energy'])) > 1e-3


def test_a_plain_model_folds_to_itself() -> None:
    config = model_config(names=('pbe',))
    model = build(config)
    plain = folded(model, config, chosen(['pbe'], None))
    atoms = structures(2)
    wanted = evaluate(model, atoms, [None, None])
    assert_close(evaluate(plain, atoms, [None, None]), wanted, atol=0, rtol=0)


def test_the_model_is_left_as_it_was() -> None:
    model, config = trained('lora')
    before = {k: v.clone() for k, v in model.state_dict().items()}
    _, state = fold(model, config, chosen(NAMES, 'pbe'))
    for value in state.values():
        value.zero_()
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_configuration_is_plain() -> None:
    model, config = trained('gain')
    config |= {
        'version': '0.9.4',
        'shift_cp': 1.0,
        'device': torch.device('cuda'),
        KEY.CUEQUIVARIANCE_CONFIG: {'use': True},
        KEY.USE_FLASH_TP: True,
        KEY.TYPE_MAP: dict(reversed(config[KEY.TYPE_MAP].items())),
    }
    plain, state = fold(model, config, chosen(NAMES, 'r2scan'))
    assert not plain[KEY.USE_MODALITY]
    assert not plain[KEY.USE_MODAL_WISE_SHIFT]
    assert not any(plain[switch] for switch in keys.SITE_SWITCH.values())
    gone = {KEY.MODAL_MAP, KEY.NUM_MODALITIES, keys.FIDELITY_MODEL}
    gone |= {keys.FIDELITY_DATA, 'shift_cp', 'load_trainset_path'}
    assert not gone & plain.keys()
    assert plain[KEY.USE_BIAS_IN_LINEAR] is True
    assert plain['version'] == sevenn.__version__
    assert plain[KEY.CUEQUIVARIANCE_CONFIG] == {}
    assert plain[KEY.USE_FLASH_TP] is False
    assert plain[KEY.SHIFT] == [-4.0] * 3  # of r2scan alone, by element
    assert plain[KEY.CONV_DENOMINATOR] == [3.0, 3.0]
    assert list(plain[KEY.TYPE_MAP].values()) == [0, 1, 2]  # deploy reads its order
    assert plain['device'] == 'cuda'
    biases = [name for name in state if name.endswith('.linear.bias')]
    assert len(biases) == 7
    assert all(state[name].numel() for name in biases)


def test_what_a_name_means() -> None:
    assert chosen(NAMES, 'r2scan') == FoldChoice('r2scan', 1, 'r2scan', 1)
    assert chosen(NAMES, 'common', 'pbe') == FoldChoice('common', None, 'pbe', 0)
    assert chosen(['pbe'], None) == FoldChoice('pbe', 0, 'pbe', 0)
    # a SevenNet file may have a modality of that name: references tell them apart
    own = ['common', 'pbe']
    assert chosen(own, 'common') == FoldChoice('common', 0, 'common', 0)
    assert chosen(own, 'common', 'pbe') == FoldChoice('common', None, 'pbe', 1)


@pytest.mark.parametrize(
    ('names', 'given', 'said'),
    [
        (NAMES, (None,), r"missing: the model has \['pbe', 'r2scan'\].*'common'"),
        (NAMES, ('r2scn',), r"got 'r2scn'. Did you mean 'r2scan'\?"),
        (NAMES, ('common',), r"give --references, one of \['pbe', 'r2scan'\]"),
        (NAMES, ('common', 'r2'), r"references must be one of .*'r2'"),
        (NAMES, ('pbe', 'r2scan'), "'pbe' has its own reference energies"),
        (['pbe'], ('common', 'pbe'), r"one of \['pbe'\], got 'common'.*out"),
    ],
)
def test_a_wrong_name_is_refused(
    names: list[str], given: tuple[str, ...], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        chosen(names, *given)
