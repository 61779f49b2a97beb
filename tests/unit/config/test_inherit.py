"""A YAML takes architecture and fidelities from the checkpoint it goes on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sevenn._keys as KEY
import torch
from helpers import INGAN, NAMES, host_config, model_config
from pretrained_helpers import extending

from sevennet_mf import keys
from sevennet_mf.config import inputs
from sevennet_mf.errors import UserError

DATA = str(INGAN / 'pbe_valid.extxyz')
OWN = {'rank': 2, 'sites': ['output'], 'scale': 'per_fidelity'}
LORA = {'encoding': 'lora', **OWN}


def write(path: Path, config: dict[str, Any]) -> str:
    """A file that has a configuration and no weights: they are not looked at."""
    state = {'nothing': torch.zeros(1)}
    torch.save({'config': config, 'model_state_dict': state}, path)
    return str(path)


@pytest.fixture(scope='module')
def pth(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Checkpoints: the host's plain one, one that ours named, one of two."""
    folder = tmp_path_factory.mktemp('inherit')
    plain = host_config(model_config(names=('pbe',)))
    named = {**plain, keys.PROVENANCE: {'fidelities': ['pbe']}}
    ours = model_config('lora', NAMES, OWN)
    return {
        'plain': write(folder / 'plain.pth', plain),
        'named': write(folder / 'named.pth', named),
        'ours': write(folder / 'ours.pth', ours),
        'host': write(folder / 'host.pth', host_config(model_config('bias'))),
    }


def read(sections: dict[str, Any]) -> dict[str, Any]:
    model, train, data = inputs.from_sections(sections)
    return {**model, **train, **data}


def refused(sections: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as raised:
        inputs.from_sections(sections)
    assert '\n' not in str(raised.value)


# ---- the architecture


def test_the_architecture_is_filled_in(pth: dict[str, str]) -> None:
    config = read(extending(pth['plain'], DATA, known_as='pbe'))
    assert config[KEY.CUTOFF] == 4.0
    assert config[KEY.NODE_FEATURE_MULTIPLICITY] == 4  # 128 by default
    assert config[KEY.LMAX] == 1
    assert config[KEY.NUM_CONVOLUTION] == 2
    assert config[KEY.CONVOLUTION_WEIGHT_NN_HIDDEN_NEURONS] == [8]
    assert config[KEY.RADIAL_BASIS]['bessel_basis_num'] == 4
    assert config[KEY.CONV_DENOMINATOR] == 'avg_num_neigh'  # of the weights, later


def test_what_agrees_may_stay(pth: dict[str, str]) -> None:
    model = {
        'cutoff': 4,
        'channel': 4,
        'radial_basis': {'radial_basis_name': 'bessel'},
        'weight_nn_hidden_neurons': [8],
    }
    config = read(extending(pth['plain'], DATA, model=model, known_as='pbe'))
    assert config[KEY.RADIAL_BASIS]['bessel_basis_num'] == 4


@pytest.mark.parametrize(
    ('model', 'words'),
    [
        ({'channel': 8}, r'^model.channel is 8, but .*plain.pth has 4'),
        ({'cutoff': 5.0}, r'^model.cutoff is 5.0, but .* has 4.0'),
        (
            {'weight_nn_hidden_neurons': [64, 64]},
            r'hidden_neurons is \[64, 64\], but .* has \[8\]',
        ),
        (
            {'radial_basis': {'bessel_basis_num': 8}},
            r"^model.radial_basis is \{'bessel_basis_num': 8\}, but .* has \{",
        ),
        ({'is_parity': False}, r'^model.is_parity is False, but .* has True'),
    ],
)
def test_another_architecture(
    pth: dict[str, str], model: dict[str, Any], words: str
) -> None:
    sections = extending(pth['plain'], DATA, model=model, known_as='pbe')
    refused(sections, f'{words}.*Remove it from the YAML: the architecture comes')


def test_fidelity_owned_weights_are_those_it_has(pth: dict[str, str]) -> None:
    for name, wanted in (
        ('ours', LORA),
        (
            'host',
            {
                'encoding': 'bias',
                'sites': ['self_interaction_1', 'self_interaction_2', 'output'],
                'scale': 'shared',
            },
        ),
    ):
        config = read(extending(pth[name], DATA, fidelity='hse'))
        assert wanted.items() <= config[keys.FIDELITY_MODEL].items()
    asked = {'fidelity': {'encoding': 'gain'}}
    config = read(extending(pth['host'], DATA, fidelity='hse', model=asked))
    assert config[keys.FIDELITY_MODEL]['encoding'] == 'gain'


# ---- names


@pytest.mark.parametrize('name', ['plain', 'named'])
def test_a_checkpoint_of_one_fidelity_has_a_name(
    pth: dict[str, str], name: str
) -> None:
    known = {'known_as': 'pbe'} if name == 'plain' else {}
    config = read(extending(pth[name], DATA, **known))
    assert config[keys.OLD_FIDELITIES] == ['pbe']
    assert config[keys.FIDELITY_DATA]['order'] == ['pbe', 'r2scan']
    assert config[keys.FIDELITY_DATA]['base'] == 'pbe'
    train = config[keys.FIDELITY_TRAIN]
    assert (train['start_from'], train['target']) == ('pbe', 'r2scan')
    for reset in ('reset_optimizer', 'reset_scheduler', 'reset_epoch'):
        assert config[KEY.CONTINUE][reset] is True


def test_known_as_names_another(pth: dict[str, str]) -> None:
    config = read(extending(pth['named'], DATA, known_as='omat'))
    assert config[keys.FIDELITY_DATA]['order'] == ['omat', 'r2scan']


def test_names_are_added_in_their_order(pth: dict[str, str]) -> None:
    data = {'fidelity': {'order': ['hse', 'pbe', 'r2scan'], 'base': 'r2scan'}}
    sections = extending(pth['ours'], DATA, fidelity='hse', data=data, target='hse')
    config = read(sections)
    assert config[keys.FIDELITY_DATA]['order'] == ['hse', 'pbe', 'r2scan']
    assert config[keys.FIDELITY_TRAIN]['start_from'] == 'r2scan'
    data['fidelity'].pop('base')
    config = read(extending(pth['ours'], DATA, fidelity='hse', data=data))
    assert config[keys.FIDELITY_DATA]['base'] == 'pbe'  # the first that is old


def test_a_fidelity_of_the_checkpoint_needs_no_share(pth: dict[str, str]) -> None:
    """It may have no data, as when another one is trained further."""
    data = {'fidelity': {'order': ['pbe', 'r2scan']}}
    shares = {'r2scan': 1.0}
    config = read(extending(pth['ours'], DATA, data=data, sampling=shares))
    assert config[keys.FIDELITY_TRAIN]['sampling'] == shares


def order(*names: str, **more: Any) -> dict[str, Any]:
    return {'data': {'fidelity': {'order': list(names), **more}}}


REPLAY = {'self_label': {}}
# (checkpoint, arguments of `extending`, what is said)
WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    'no name': (
        'plain',
        order('pbe', 'r2scan'),
        r"^train.fidelity.known_as is missing: .* one of \['pbe', 'r2scan'\]",
    ),
    'a name for several': (
        'ours',
        {'fidelity': 'hse', 'known_as': 'pbe'},
        r"known_as: 'pbe' is for .* one fidelity; .* \['pbe', 'r2scan'\]. Remove",
    ),
    'a name that the data has': (
        'plain',
        {'known_as': 'r2scan'},
        "known_as: 'r2scan' is also a fidelity of the data, .*or remove known_as",
    ),
    'other case': (
        'ours',
        {'fidelity': 'PBE'},
        "^'PBE' differs from 'pbe' of .* only in case. Write 'pbe'",
    ),
    'order without old names': (
        'ours',
        {'fidelity': 'hse', **order('pbe', 'hse')},
        r"^data.fidelity.order lacks \['r2scan'\], which .* has. Add them, or",
    ),
    'base': (
        'plain',
        {'known_as': 'pbe', **order('pbe', 'r2scan', base='r2scan')},
        r"^data.fidelity.base must be one of \['pbe'\], got 'r2scan'",
    ),
    'start_from': (
        'ours',
        {'fidelity': 'hse', 'start_from': 'hse'},
        r"start_from must be one of \['pbe', 'r2scan'\], got 'hse'",
    ),
    'start_from without anything new': (
        'ours',
        {'fidelity': 'r2scan', 'start_from': 'pbe', **order('pbe', 'r2scan')},
        "^train.fidelity.start_from: 'pbe' is where an added fidelity .*none is",
    ),
    'replay of what is new': (
        'ours',
        {'fidelity': 'hse', 'replay': {'fidelity': 'hse', **REPLAY}},
        r"replay.fidelity must be one of \['pbe', 'r2scan'\], got 'hse'",
    ),
    'key without order': (
        'plain',
        {
            'known_as': 'pbe',
            'fidelity': None,
            'data': {'fidelity': {'key': 'level'}},
        },
        '^data.fidelity.order is missing. It is required with data.fidelity.key',
    ),
    'one of two': (
        'ours',
        {'fidelity': 'r2scan'},
        r"^data.fidelity.order is missing: .* has \['pbe', 'r2scan'\], but the data "
        r"have only \['r2scan'\]. List all of them",
    ),
    'replay of the only one': (
        'named',
        {'fidelity': 'pbe', 'replay': REPLAY},
        "^train.fidelity.replay refers to fidelities .* has only 'pbe'. Remove",
    ),
    'a limit for the only one': (
        'named',
        {'fidelity': 'pbe', 'max_drift': {'energy': 1.0}},
        '^train.fidelity.max_drift refers to fidelities other',
    ),
    'frozen shift': (
        'plain',
        {
            'known_as': 'pbe',
            'update': 'fidelity_only',
            'model': {'train_shift_scale': True},
        },
        '^model.train_shift_scale: True has no effect with .*fidelity_only.*Remove',
    ),
    'a set of that name': (
        'plain',
        {'known_as': 'pbe', 'data': {'load_drift_path': DATA}},
        '^data.load_drift_path: .*Rename it, for example to load_testset_path',
    ),
    'replay file': (
        'plain',
        {'known_as': 'pbe', 'replay': {'file': 'nowhere.extxyz'}},
        r'^train.fidelity.replay.file: no such file: nowhere.extxyz',
    ),
    'structures': (
        'plain',
        {'known_as': 'pbe', 'replay': {'self_label': {'structures': 'none.xyz'}}},
        r'^train.fidelity.replay.self_label.structures: no such file: none.xyz',
    ),
    'neither file nor labels': (
        'plain',
        {'known_as': 'pbe', 'replay': {'held_out': 0.2}},
        r'^train.fidelity.replay: needs either `file` or `self_label`',
    ),
    'no share for what is replayed': (
        'plain',
        {'known_as': 'pbe', 'sampling': {'r2scan': 1.0}, 'replay': REPLAY},
        r"^train.fidelity.sampling has no share for \['pbe'\]; give each fid",
    ),
    'shares': (
        'plain',
        {'known_as': 'pbe', 'sampling': {'hse': 1.0}},
        r"sampling must be one of \['pbe', 'r2scan'\], got 'hse'",
    ),
}


@pytest.mark.parametrize(('name', 'given', 'words'), WRONG.values(), ids=WRONG)
def test_names_and_files_that_cannot_be_meant(
    pth: dict[str, str], name: str, given: dict[str, Any], words: str
) -> None:
    sections = extending(pth[name], DATA, **given)
    if 'fidelity' in given and given['fidelity'] is None:
        del sections['data']['load_trainset_path'][0]['fidelity']
    refused(sections, words)


# ---- the checkpoint


NEEDING = [
    ('known_as', 'pbe'),
    ('start_from', 'pbe'),
    ('update', 'fidelity_only'),
    ('replay', REPLAY),
    ('max_drift', {'energy': 1.0}),
]


@pytest.mark.parametrize(('key', 'value'), NEEDING)
def test_what_needs_a_checkpoint(key: str, value: Any) -> None:
    sections = extending('', DATA, **{key: value})
    del sections['train']['continue']
    refused(
        sections,
        rf'^train.fidelity.{key} needs a checkpoint to start from. Name one in '
        'train.continue.checkpoint, or remove the key',
    )
    sections['train']['fidelity'] = {'update': 'all'}  # the default
    assert read(sections)[keys.OLD_FIDELITIES] == []


@pytest.mark.parametrize(('key', 'value'), NEEDING)
def test_transfer_learning_keeps_no_old_fidelity(
    pth: dict[str, str], key: str, value: Any
) -> None:
    sections = extending(pth['plain'], DATA, **{key: value})
    statistics = {'use_statistic_values_of_checkpoint': False}
    sections['train']['continue'].update(statistics)
    refused(
        sections,
        rf'^train.fidelity.{key} refers to a fidelity of the checkpoint, but with '
        'train.continue.use_statistic_values_of_checkpoint: false none is kept. ',
    )


def test_a_checkpoint_that_is_not_there(tmp_path: Path) -> None:
    where = r'^train.continue.checkpoint: '
    refused(extending('7net-00', DATA), f"{where}no such file: .*mean '7net-0'")
    (tmp_path / 'text.pth').write_text('no checkpoint')
    refused(extending(tmp_path / 'text.pth', DATA), f'{where}.*is not a SevenNet')
    strange = write(tmp_path / 'strange.pth', {'version': '0.9.0'})
    refused(extending(strange, DATA), f'{where}.*configuration cannot be read')
