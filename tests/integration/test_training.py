"""From a YAML to a trained potential, for the data people have (points 6, 8)."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helpers
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from commandline import (
    INGAN,
    MODEL,
    MOLECULES,
    entry,
    run,
    small_yaml,
    table,
    write_yaml,
)
from sevenn.train.graph_dataset import SevenNetGraphDataset

import sevennet_mf
from sevennet_mf.cli import main
from sevennet_mf.evaluate.predict import predict
from sevennet_mf.model.load import load_model

# a machine that has only sevenn
PLAIN = """
import json, sys
from ase.io import read
from sevenn.calculator import SevenNetCalculator
path, file, *modals = sys.argv[1:]
found = []
for modal in modals or [None]:
    atoms = read(file)
    atoms.calc = SevenNetCalculator(path, modal=modal, device='cpu')
    found.append([atoms.get_potential_energy(), atoms.get_forces().tolist()])
print(json.dumps(found))
assert not [name for name in sys.modules if name.startswith('sevennet_mf')]
"""


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    with helpers.registered():
        yield


def train(folder: Path, yaml: dict[str, Any], out: str = 'out') -> Path:
    """Train within this process; returns the output folder."""
    path = write_yaml(folder / 'input.yaml', yaml)
    assert main(['train', path, '-w', str(folder / out)]) == 0
    return folder / out


def assert_plain_sevenn_agrees(path: Path, file: Path, *fidelities: str) -> None:
    """Energy and forces of a file's last structure, there and by us."""
    command = [sys.executable, '-c', PLAIN, path, file, *fidelities]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    loaded = load_model(str(path))
    atoms = read(file)
    for fidelity, (energy, forces) in zip(fidelities or [None], found, strict=True):
        wanted = helpers.evaluate(loaded.model, [atoms], [fidelity], loaded.cutoff)
        total = float(wanted['energy'][0])
        grain = float(np.spacing(np.float32(abs(total))))
        tolerance = max(1e-5 * len(atoms), 4 * grain)
        assert energy == pytest.approx(total, abs=tolerance)
        np.testing.assert_allclose(forces, wanted['forces'].numpy(), atol=1e-4)


# ---- energy-only CCSD(T) beside PBE with forces


def molecules() -> dict[str, Any]:
    yaml = small_yaml()
    yaml['train'].update(epoch=4, fidelity={'target': 'ccsdt'})
    yaml['data'].update(
        batch_size=8,
        load_trainset_path=[
            entry('molecules/pbe_train.extxyz', 'pbe', ':40'),
            entry('molecules/ccsdt_train.extxyz', 'ccsdt', ':40'),
        ],
        load_validset_path=[
            entry('molecules/pbe_valid.extxyz', 'pbe', ':'),
            entry('molecules/ccsdt_valid.extxyz', 'ccsdt', ':'),
        ],
    )
    return yaml


@pytest.fixture(scope='module')
def molecule_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one run of this file that is a process of its own."""
    folder = tmp_path_factory.mktemp('molecules')
    path = write_yaml(folder / 'input.yaml', molecules())
    result = run('train', path, '-w', folder / 'out')
    # no bar where there is no terminal
    assert (result.returncode, result.stderr) == (0, '')
    best, target, rest, command = result.stdout.splitlines()
    path = os.path.relpath(folder / 'out' / 'checkpoint_best.pth')
    assert best.startswith(f'{path}: epoch ')
    words = r'ccsdt: energy [\d.]+ meV/atom \(MAE, \d+ structures\)'
    assert re.fullmatch(words, target)
    assert rest.startswith('pbe: energy ')
    assert command == f'sevennet-mf deploy {path} -f ccsdt'
    return folder / 'out'


def test_energy_only_labels_train_beside_forces(molecule_run: Path) -> None:
    curve = table(molecule_run / 'lc.csv')
    assert curve['epoch'] == [1, 2, 3, 4]
    for name in ('trainset_pbe', 'trainset_ccsdt'):
        loss = curve[f'{name}_TotalLoss']
        assert loss[-1] < loss[0], name
    assert all(math.isfinite(v) for v in curve['trainset_pbe_Force_RMSE'])
    # what is not there is not zero
    assert all(math.isnan(v) for v in curve['trainset_ccsdt_Force_RMSE'])
    assert all(math.isnan(v) for v in curve['trainset_pbe_Stress_RMSE'])
    assert all(math.isfinite(v) for v in curve['validset_ccsdt_Energy_RMSE'])


def test_what_a_run_leaves(molecule_run: Path) -> None:
    names = {path.name for path in molecule_run.iterdir()}
    pictures = {'learning_curves.png', 'parity_pbe.png', 'parity_ccsdt.png'}
    files = {f'checkpoint_{n}.pth' for n in ('0', 'best', 'resume')}
    assert names == {*files, *pictures, 'lc.csv', 'log.sevenn', 'sevenn_data'}
    for name in pictures:
        assert (molecule_run / name).read_bytes().startswith(b'\x89PNG')
    log = (molecule_run / 'log.sevenn').read_text()
    for name in ('trainset_pbe', 'validset_ccsdt', 'Theta', 'Reference energies'):
        assert name in log


def test_the_best_checkpoint_is_the_targets(molecule_run: Path) -> None:
    curve = table(molecule_run / 'lc.csv')
    loaded = load_model(str(molecule_run / 'checkpoint_best.pth'))
    best = loaded.provenance['best']
    values = curve['validset_ccsdt_TotalLoss']
    assert best['epoch'] == curve['epoch'][int(np.argmin(values))]
    assert best['value'] == pytest.approx(min(values), abs=1e-5)
    assert loaded.provenance['target'] == 'ccsdt'


def test_all_electron_energies_keep_their_digits(molecule_run: Path) -> None:
    """-4000 eV in float32 has a grain of 2e-4 eV; the errors are of residuals."""
    curve = table(molecule_run / 'lc.csv')
    assert curve['validset_ccsdt_Energy_RMSE'][-1] < 1.0  # eV/atom, of -150
    words = ['evaluate', molecule_run / 'checkpoint_best.pth', '-f', 'ccsdt']
    words += ['-o', molecule_run / 'evaluation']
    words.insert(2, MOLECULES / 'ccsdt_valid.extxyz')
    assert main([str(word) for word in words]) == 0
    lines = (molecule_run / 'evaluation' / 'errors.csv').read_text().splitlines()
    row = dict(zip(lines[0].split(','), lines[1].split(','), strict=True))
    rmse = next(float(v) for k, v in row.items() if 'energy_rmse' in k.lower())
    best = load_model(str(molecule_run / 'checkpoint_best.pth')).provenance['best']
    index = curve['epoch'].index(best['epoch'])
    # meV/atom there, eV/atom here
    wanted = 1000 * curve['validset_ccsdt_Energy_RMSE'][index]
    assert rmse == pytest.approx(wanted, rel=1e-3, abs=1e-2)


def test_a_bias_file_is_a_file_of_the_host(molecule_run: Path) -> None:
    best = molecule_run / 'checkpoint_best.pth'
    assert_plain_sevenn_agrees(best, MOLECULES / 'pbe_valid.extxyz', 'pbe', 'ccsdt')


# ---- one fidelity, and three


def test_one_fidelity_is_a_plain_model(tmp_path: Path) -> None:
    yaml = small_yaml()
    for name in ('load_trainset_path', 'load_validset_path'):
        yaml['data'][name] = yaml['data'][name][:1]
    yaml['train']['fidelity'] = {}
    out = train(tmp_path, yaml)
    assert list(table(out / 'lc.csv'))[2].startswith('trainset_pbe_')
    assert (out / 'parity_pbe.png').is_file()
    best, file = out / 'checkpoint_best.pth', INGAN / 'pbe_valid.extxyz'
    assert load_model(str(best)).fidelities == ('pbe',)
    assert_plain_sevenn_agrees(best, file)


def test_three_fidelities(tmp_path: Path) -> None:
    """The third, made up, is r2SCAN plus a number for each element."""
    made_up = {'Ga': 1.0, 'In': -2.0, 'N': 3.0}
    frames = read(INGAN / 'r2scan_pool.extxyz', ':24')
    for atoms in frames:
        shift = sum(made_up[symbol] for symbol in atoms.get_chemical_symbols())
        energy = atoms.get_potential_energy() + shift
        forces = atoms.get_forces()
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    write(tmp_path / 'third.extxyz', frames)
    yaml = small_yaml()
    yaml['model']['fidelity']['encoding'] = 'gain'
    weight = {'third': 3.0}
    yaml['train']['fidelity'] = {'loss_weight': weight, 'sampling': 'balanced'}
    third = {'file': str(tmp_path / 'third.extxyz'), 'fidelity': 'third'}
    yaml['data']['load_trainset_path'].append({**third, 'index': ':16'})
    yaml['data']['load_validset_path'].append({**third, 'index': '16:'})
    out = train(tmp_path, yaml)
    loaded = load_model(str(out / 'checkpoint_best.pth'))
    assert loaded.fidelities == ('pbe', 'r2scan', 'third')
    assert loaded.provenance['target'] == 'third'
    references = loaded.provenance['reference_energies']
    low, high = (references[f] for f in ('r2scan', 'third'))
    for cation in ('Ga', 'In'):  # half of each cell is N: only sums are determined
        offset = sum(high[s]['energy'] - low[s]['energy'] for s in (cation, 'N'))
        assert offset == pytest.approx(made_up[cation] + made_up['N'], abs=0.05)
    assert {f'parity_{n}.png' for n in loaded.fidelities} < {
        path.name for path in out.iterdir()
    }


# ---- what data may look like; each gives the weights of the run with plain files


def plain() -> dict[str, Any]:
    yaml = small_yaml()
    yaml['train']['fidelity'] = {'target': 'pbe'}
    for name in ('train', 'valid'):
        yaml['data'][f'load_{name}set_path'] = [
            entry('ingan/pbe_train.extxyz', 'pbe', ':12'),
            entry('ingan/mixing_r2scan.extxyz', 'r2scan', ':'),
        ]
    return yaml


@pytest.fixture(scope='module')
def plain_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with helpers.registered():
        return train(tmp_path_factory.mktemp('plain'), plain())


def curve_of(folder: Path) -> dict[str, list[float]]:
    return table(folder / 'lc.csv')


def test_fidelity_of_each_structure(plain_run: Path, tmp_path: Path) -> None:
    frames = []
    for item in plain()['data']['load_trainset_path']:
        for atoms in read(item['file'], item['index']):
            atoms.info['level'] = item['fidelity']
            frames.append(atoms)
    write(tmp_path / 'all.extxyz', frames)
    yaml = plain()
    yaml['data'].update(
        fidelity={'key': 'level', 'order': ['pbe', 'r2scan']},
        load_trainset_path=[{'file': str(tmp_path / 'all.extxyz')}],
        load_validset_path=str(tmp_path / 'all.extxyz'),
    )
    out = train(tmp_path, yaml)
    assert_same_numbers(curve_of(out), curve_of(plain_run))


def test_graph_files_of_the_host(plain_run: Path, tmp_path: Path) -> None:
    yaml = plain()
    item = yaml['data']['load_trainset_path'][0]
    write(tmp_path / 'some.extxyz', read(item['file'], item['index']))
    SevenNetGraphDataset(
        cutoff=MODEL['cutoff'],
        root=str(tmp_path),
        files=[str(tmp_path / 'some.extxyz')],
        processed_name='some.pt',
    )
    graphs = {'file': str(tmp_path / 'sevenn_data/some.pt'), 'fidelity': 'pbe'}
    for name in ('train', 'valid'):
        yaml['data'][f'load_{name}set_path'][0] = graphs
    out = train(tmp_path, yaml)
    # the host keeps energies in float32
    assert_same_numbers(curve_of(out), curve_of(plain_run), 1e-3)


def test_labels_under_other_keys(plain_run: Path, tmp_path: Path) -> None:
    """And what ASE would take for labels is not looked at (trap 6)."""
    yaml = plain()
    item = yaml['data']['load_trainset_path'][0]
    frames = [other_keys(atoms) for atoms in read(item['file'], item['index'])]
    write(tmp_path / 'some.extxyz', frames)
    keys = {'energy_key': 'E', 'force_key': 'F', 'stress_key': 'S'}
    file = {'file': str(tmp_path / 'some.extxyz'), 'fidelity': 'pbe', **keys}
    for name in ('train', 'valid'):
        yaml['data'][f'load_{name}set_path'][0] = file
    out = train(tmp_path, yaml)
    assert_same_numbers(curve_of(out), curve_of(plain_run))


def other_keys(atoms: Atoms) -> Atoms:
    atoms.info.update(E=atoms.get_potential_energy(), S=atoms.get_stress())
    atoms.arrays['F'] = atoms.get_forces()
    wrong = {'energy': 0.0, 'forces': np.zeros((len(atoms), 3))}
    atoms.calc = SinglePointCalculator(atoms, **wrong)
    return atoms


def test_labels_that_are_left_out(tmp_path: Path) -> None:
    yaml = plain()
    for name in ('train', 'valid'):
        for item in yaml['data'][f'load_{name}set_path']:
            item['stress_key'] = None
        yaml['data'][f'load_{name}set_path'][1]['force_key'] = None
    curve = curve_of(train(tmp_path, yaml))
    assert all(map(math.isnan, curve['trainset_pbe_Stress_RMSE']))
    assert all(map(math.isnan, curve['trainset_r2scan_Force_RMSE']))
    assert not any(map(math.isnan, curve['trainset_pbe_Force_RMSE']))


def assert_same_numbers(
    curve: dict[str, list[float]], wanted: dict[str, list[float]], rtol: float = 1e-5
) -> None:
    assert curve.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_allclose(
            curve[name], wanted[name], rtol=rtol, atol=2e-6, err_msg=name
        )


# ---- what is processed, and when


@pytest.mark.filterwarnings('ignore:checkpoints of an earlier run')
def test_a_changed_file_is_noticed_and_an_unchanged_one_kept(tmp_path: Path) -> None:
    """Trap 4: the host trains on what the first run in a folder processed."""
    yaml = plain()
    file = tmp_path / 'data.extxyz'
    frames = read(INGAN / 'pbe_train.extxyz', ':16')
    write(file, frames[:8])
    yaml['data']['load_trainset_path'][0] = {'file': str(file), 'fidelity': 'pbe'}
    out = train(tmp_path, yaml)
    processed = processed_in(out)
    train(tmp_path, yaml)
    assert processed_in(out) == processed  # by the times of the files, too
    write(file, frames)
    train(tmp_path, yaml)
    later = processed_in(out)
    assert {name: later[name] for name in processed} == processed
    assert len(later) > len(processed)
    logs = [(out / f'log{n}.sevenn').read_text() for n in ('', '0', '1')]
    counts = [log.count("{'structures': 8,") for log in logs]
    assert counts[0] == counts[1] > counts[2]
    assert "{'structures': 16," in logs[2]


def processed_in(folder: Path) -> dict[str, int]:
    """Time of change of each processed file."""
    files = (folder / 'sevenn_data').rglob('*.bin')
    return {str(path): path.stat().st_mtime_ns for path in files}


def test_a_loaded_model_predicts_as_in_training(plain_run: Path) -> None:
    """What is on disk, with references back in, has the errors of lc.csv."""
    from sevennet_mf.data.dataset import build_datasets

    loaded = load_model(str(plain_run / 'checkpoint_best.pth'))
    datasets = build_datasets(loaded.config, plain_run)
    found = predict(loaded.model, datasets['validset'], progress=False)
    rows = found.fidelity == found.fidelities.index('pbe')
    error = (found.energy - found.label_energy)[rows] / found.n_atoms[rows]
    curve = curve_of(plain_run)['validset_pbe_Energy_RMSE']
    best = loaded.provenance['best']['epoch']
    rmse = float(np.sqrt(np.mean(error**2)))
    assert rmse == pytest.approx(curve[best - 1], rel=1e-4, abs=2e-6)


def test_the_hosts_program_with_the_plugin_registered(tmp_path: Path) -> None:
    """The host's own entry point, with a fidelity in the YAML."""
    code = (
        'import sys, sevennet_mf\n'
        'sevennet_mf.register()\n'
        'from sevenn.main.sevenn import main\n'
        'main()\n'
    )
    path = write_yaml(tmp_path / 'input.yaml', plain())
    command = [sys.executable, '-c', code]
    result = run('train', path, '-w', tmp_path / 'out', command=command)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / 'out' / 'checkpoint_best.pth').is_file()
    loaded = load_model(str(tmp_path / 'out' / 'checkpoint_best.pth'))
    written = loaded.provenance['versions']['sevennet_mf']
    assert written == sevennet_mf.__version__
