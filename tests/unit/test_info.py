"""What `info` tells of the host's checkpoints and of ours."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sevenn
import sevenn._keys as KEY
import torch
from helpers import registered, save_checkpoint, trained
from rich.console import Console

from sevennet_mf import keys
from sevennet_mf.errors import UserError
from sevennet_mf.info import info, render

PROVENANCE = {
    'fidelities': ['pbe', 'r2scan'],
    'order': ['pbe', 'r2scan'],
    'base': 'pbe',
    'target': 'r2scan',
    'about': {'r2scan': {'functional': 'r2SCAN', 'dispersion': None}},
    'reference_energies': {
        'pbe': {
            s: {'energy': -3.0, 'std': 0.02, 'determined': True}
            for s in ('Ga', 'In', 'N')
        },
        'r2scan': {
            'Ga': {'energy': -4.0, 'std': 0.1, 'determined': True},
            'In': {'energy': -4.0, 'std': None, 'determined': False},
            'N': {'energy': -4.0, 'std': 0.1, 'determined': True},
        },
    },
    'data': {
        'trainset': {
            'pbe': {'structures': 164, 'atoms': 1100, 'force': 164},
            'r2scan': {'structures': 29, 'atoms': 180, 'force': 29},
        },
        'validset': {'r2scan': {'structures': 13}},
    },
    'files': {'trainset: pbe.extxyz': 'ab' * 32},
    'versions': {'sevennet_mf': '0.0.1', 'torch': '2.13.0'},
}


@pytest.fixture(autouse=True)
def _leave_registration_as_it_was() -> Iterator[None]:
    with registered():
        yield


def shown(found: dict[str, Any]) -> str:
    stream = io.StringIO()
    Console(width=110, file=stream).print(render(found))
    return stream.getvalue()


def ours(path: Path, **changes: Any) -> str:
    model, config = trained('lora')
    config[keys.PROVENANCE] = {**PROVENANCE, **changes}
    return str(save_checkpoint(path, model, config))


def test_own_checkpoint(tmp_path: Path) -> None:
    found = info(ours(tmp_path / 'c.pth'))
    json.dumps(found, allow_nan=False)  # plain builtins only
    assert found['sevenn'] == sevenn.__version__
    assert (found['epoch'], found['when']) == (1, '2026-01-01 00:00')
    assert found['hash'] == '0' * 32
    assert found['elements'] == ['N', 'Ga', 'In']
    assert found['fidelities'] == found['order'] == ['pbe', 'r2scan']
    assert (found['base'], found['target']) == ('pbe', 'r2scan')
    assert (found['encoding'], found['rank']) == ('lora', 4)
    assert found['scale'] == 'shared'
    sites = ['self_interaction_1', 'self_interaction_2', 'output']
    assert found['sites'] == sites
    architecture = found['architecture']
    assert architecture['channel'] == 4
    assert (architecture['lmax'], architecture['layers']) == (1, 2)
    assert architecture['cutoff'] == 4.0
    # of the weights, not of the provenance: helpers.py puts -3 and -4 there
    references = found['reference_energies']
    assert references['pbe']['Ga'] == {
        'energy': -3.0,
        'std': 0.02,
        'determined': True,
    }
    assert references['r2scan']['In']['energy'] == -4.0
    assert found['files'] == PROVENANCE['files']
    assert found['best'] == {'metric': 'TotalLoss', 'value': None, 'epoch': None}
    (warning,) = found['warnings']
    assert warning.startswith('r2scan: not determined for In;')


def test_what_is_shown(tmp_path: Path) -> None:
    text = shown(info(ours(tmp_path / 'c.pth')))
    for part in (
        '4 channels, lmax 1, 2 layers, cutoff 4 Å',
        'pbe < r2scan',
        'lora of rank 4, scale shared',
        'functional: r2SCAN',
        '-3.000 ± 0.02',
        '-4.000 not determined',
        'trainset',
        '1100',
        'abababababab',
        'torch 2.13.0',
        'Warning: r2scan: not determined for In',
    ):
        assert part in text, part


@pytest.mark.parametrize(
    ('source', 'key'), [('provenance', 'value'), ('state', 'best')]
)
def test_best_value(tmp_path: Path, source: str, key: str) -> None:
    best = {key: 0.25, 'epoch': 7, 'best_epoch': 7}
    changes = {'best': best} if source == 'provenance' else {}
    path = ours(tmp_path / 'c.pth', **changes)
    if source == 'state':
        content = torch.load(path, weights_only=False)
        torch.save({**content, keys.TRAINING_STATE: {'state': best}}, path)
    found = info(path)
    assert found['best'] == {'metric': 'TotalLoss', 'value': 0.25, 'epoch': 7}
    assert 'TotalLoss 0.25 (epoch 7)' in shown(found)


def test_multi_modal_checkpoint_of_the_host() -> None:
    found = info('7net-mf-0')
    assert found['sevenn'] == '0.9.4'
    assert found['fidelities'] == ['R2SCAN', 'PBE']
    assert found['order'] is found['when'] is found['hash'] is None
    assert found['encoding'] == 'bias'
    sites = ['self_interaction_1', 'self_interaction_2', 'output']
    assert found['sites'] == sites
    assert len(found['elements']) == 89
    assert found['data'] == found['files'] == found['versions'] == {}
    # -3.58 eV: the shift in the file that ships with sevenn 0.13.0 (trap 1)
    (warning,) = found['warnings']
    assert warning.startswith('Yb: its reference energy is 0 at R2SCAN but -3.58 eV')
    text = shown(found)
    assert '│ Yb │' in text
    assert '-3.585' in text
    assert 'not determined' not in text


def test_single_fidelity_checkpoint_of_the_host() -> None:
    found = info('7net-0')
    assert found['fidelities'] == ['model']
    assert found['encoding'] is None
    assert found['sites'] == found['warnings'] == []
    assert (found['architecture']['channel'], found['epoch']) == (128, 600)
    assert found['architecture']['parity'] is False
    # config of the shipped checkpoint
    energy = found['reference_energies']['model']['Ga']
    assert energy == {
        'energy': pytest.approx(-3.527, abs=1e-3),
        'std': None,
        'determined': None,
    }
    assert 'encoding' not in shown(found)


def test_untrained_fidelity_biases_and_nan(tmp_path: Path) -> None:
    data = {'trainset': {'pbe': {'structures': 3}}}
    model, config = trained(use_bias_in_linear=True)
    config[keys.PROVENANCE] = {'data': data}
    with torch.no_grad():
        next(p for p in model.parameters() if p.numel() > 3).fill_(float('nan'))
    path = save_checkpoint(tmp_path / 'c.pth', model, config)
    found = info(str(path))
    nan, untrained, biases = found['warnings']
    assert nan.startswith('weights are NaN')
    assert untrained == 'r2scan had no training structure.'
    assert 'cuEquivariance' in biases
    assert found['architecture']['linear_bias'] is True


def test_one_number_for_all_elements(tmp_path: Path) -> None:
    model, config = trained(names=('pbe',))
    config[KEY.SHIFT] = -3.0
    found = info(str(save_checkpoint(tmp_path / 'c.pth', model, config)))
    energies = found['reference_energies']['model']
    assert {e['energy'] for e in energies.values()} == {-3.0}


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='no such file'):
        info(str(tmp_path / 'gone.pth'))
