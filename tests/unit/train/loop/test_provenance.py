"""What a checkpoint says of itself."""

import hashlib
import json
from pathlib import Path

import pytest
import sevenn
import torch
from train_helpers import (
    INGAN,
    MOLECULES,
    PBE,
    R2SCAN,
    entry,
    fit_of,
    yaml_of,
)

import sevennet_mf
from sevennet_mf import keys
from sevennet_mf.checkpoint import file as checkpoint_file
from sevennet_mf.train import setup
from sevennet_mf.train.loop.fit import Fit
from sevennet_mf.train.loop.provenance import report, versions

ABOUT = {'r2scan': {'functional': 'r2SCAN', 'dispersion': None}}


@pytest.fixture(scope='module')
def fit(tmp_path_factory: pytest.TempPathFactory) -> Fit:
    bare = entry('pbe_train', 'pbe', '6:8', force_key=None, stress_key=None)
    sections = yaml_of(
        train=[PBE, bare, R2SCAN],
        fidelity={'data': {'about': ABOUT, 'order': ['pbe', 'r2scan']}},
    )
    return fit_of(sections, tmp_path_factory.mktemp('provenance'))


def test_who_and_what(fit: Fit) -> None:
    found = fit.config[keys.PROVENANCE]
    assert found['fidelities'] == found['order'] == ['pbe', 'r2scan']
    assert (found['base'], found['target']) == ('pbe', 'r2scan')
    assert found['about'] == ABOUT


def test_labels_are_counted(fit: Fit) -> None:
    data = fit.config[keys.PROVENANCE]['data']
    train = fit.sets['trainset'].dataset
    pbe = data['trainset']['pbe']
    assert pbe['atoms'] == int(train.n_atoms[:8].sum())
    del pbe['atoms']
    assert pbe == {'structures': 8, 'energy': 8, 'force': 6, 'stress': 6}
    assert data['trainset']['r2scan']['stress'] == 0
    assert list(data['validset']) == ['r2scan']


def test_files_are_known_by_content(fit: Fit) -> None:
    files = fit.config[keys.PROVENANCE]['files']
    for name, file in (('trainset', 'pbe_train'), ('validset', 'r2scan_valid')):
        path = INGAN / f'{file}.extxyz'
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert files[f'{name}: {path}'] == digest
    assert len(files) == 3


def test_references_are_those_of_the_model(fit: Fit) -> None:
    found = fit.config[keys.PROVENANCE]['reference_energies']
    shift = fit.trainer.references
    for row, name in enumerate(('pbe', 'r2scan')):
        for z, symbol in ((31, 'Ga'), (49, 'In'), (7, 'N')):
            energy = shift[row, fit.config['_type_map'][z]].item()
            assert found[name][symbol]['energy'] == energy


def test_everything_is_plain(fit: Fit) -> None:
    found = fit.config[keys.PROVENANCE]
    assert json.loads(json.dumps(found)) == found


def test_checkpoints_carry_it(fit: Fit) -> None:
    fit.provenance['best'] = {'epoch': 1}  # what training finds
    fit.write('a.pth', 0)
    assert 'best' not in fit.settled.provenance  # that stays as it was
    saved = checkpoint_file.load(fit.path('a.pth'))
    assert saved['config'][keys.PROVENANCE] == fit.config[keys.PROVENANCE]
    assert saved['config'][keys.FIDELITY_DATA]['about'] == ABOUT


def test_versions() -> None:
    found = versions()
    assert found['sevennet_mf'] == sevennet_mf.__version__
    assert found['sevenn'] == sevenn.__version__
    assert found['torch'] == torch.__version__
    assert {'e3nn', 'ase', 'numpy'} <= set(found)


def test_the_log_says_what_is_not_determined(tmp_path: Path) -> None:
    train = [
        entry('pbe_train', 'pbe', ':4', MOLECULES),
        entry('ccsdt_train', 'ccsdt', ':1', MOLECULES),
    ]
    with pytest.warns(UserWarning, match='no label that contains O: not determined'):
        fit = fit_of(yaml_of(train=train, valid=[]), tmp_path)
    sets = {name: data.dataset for name, data in fit.sets.items()}
    types = fit.config['_type_map']
    head, pbe, ccsdt = report(setup.fit(fit.settled.inputs, types, sets))
    assert head.startswith('Reference energies (eV)')
    assert pbe.split()[0] == 'pbe'
    assert 'not determined' not in pbe
    energies = fit.config[keys.PROVENANCE]['reference_energies']['ccsdt']
    for symbol, value in energies.items():
        mark = '' if symbol != 'O' else ' (not determined)'
        assert f'{symbol} {value["energy"]:.4f}{mark}' in ccsdt
