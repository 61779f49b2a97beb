"""From a checkpoint and data to errors, CSV files and pictures."""

import argparse
import csv
import os
import shutil
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import published
import pytest
import yaml
from helpers import INGAN, save_checkpoint, sections, trained
from sevenn.calculator import SevenNetCalculator

from sevennet_mf import cli, keys
from sevennet_mf.errors import UserError
from sevennet_mf.evaluate.entries import entries_of_yaml
from sevennet_mf.evaluate.evaluation import evaluate, run

VALID = {'pbe': 'pbe_valid.extxyz', 'r2scan': 'r2scan_valid.extxyz'}


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp('evaluate') / 'checkpoint.pth'
    return str(save_checkpoint(path, *trained()))


@pytest.fixture(scope='module')
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint of one fidelity that calls itself r2scan."""
    model, config = trained(names=('r2scan',))
    config[keys.PROVENANCE] = {'fidelities': ['r2scan']}
    path = tmp_path_factory.mktemp('evaluate') / 'plain.pth'
    return str(save_checkpoint(path, model, config))


def entry(name: str, **more: Any) -> dict[str, Any]:
    file = str(INGAN / VALID.get(name, VALID['pbe']))
    return {'file': file, 'fidelity': name, 'index': ':4', **more}


def lines(folder: Path, name: str) -> list[dict[str, str]]:
    with open(folder / name, encoding='utf-8', newline='') as stream:
        return list(csv.DictReader(stream))


def test_everything_is_written(checkpoint: str, tmp_path: Path) -> None:
    out = tmp_path / 'new' / 'folder'
    found = evaluate(checkpoint, [entry('r2scan'), entry('pbe')], str(out))
    # in the model's order
    assert [row.fidelity for row in found.rows] == ['pbe', 'r2scan']
    assert {p.name for p in out.iterdir()} == {
        'errors.csv',
        'per_structure.csv',
        'parity_pbe.png',
        'parity_r2scan.png',
    }
    assert sorted(found.files) == sorted(str(p) for p in out.iterdir())
    rows = lines(out, 'per_structure.csv')
    assert [row['fidelity'] for row in rows] == ['r2scan'] * 4 + ['pbe'] * 4
    assert len(lines(out, 'errors.csv')) == 2


def test_errors_are_the_calculators(checkpoint: str, tmp_path: Path) -> None:
    (row,) = evaluate(checkpoint, [entry('r2scan')], str(tmp_path)).rows
    host = SevenNetCalculator(checkpoint, modal='r2scan', device='cpu')
    energy, force = [], []
    for atoms in ase.io.read(INGAN / VALID['r2scan'], ':4'):
        label = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = host
        energy.append((atoms.get_potential_energy() - label[0]) / len(atoms))
        force.append((atoms.get_forces() - label[1]).ravel())
    assert row.mae['energy'] == pytest.approx(1e3 * np.abs(energy).mean(), rel=1e-5)
    square = np.square(np.concatenate(force)).mean()
    assert row.rmse['force'] == pytest.approx(1e3 * np.sqrt(square), rel=1e-4)
    assert row.labelled == {'energy': 4, 'force': 4, 'stress': 0}


def test_unknown_fidelity(checkpoint: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'r2scna'.*Did you mean 'r2scan'"):
        evaluate(checkpoint, [entry('r2scna')], str(tmp_path))
    with pytest.raises(UserError, match='its fidelity is not given'):
        evaluate(checkpoint, [{'file': str(INGAN / VALID['pbe'])}], str(tmp_path))


def test_predict_as(checkpoint: str, tmp_path: Path) -> None:
    one = evaluate(checkpoint, [entry('hse')], str(tmp_path), predict_as='pbe')
    assert (one.rows[0].fidelity, one.rows[0].predicted_as) == ('hse', 'pbe')
    two = evaluate(checkpoint, [entry('pbe')], str(tmp_path))
    assert one.rows[0].mae == pytest.approx(two.rows[0].mae)
    with pytest.raises(UserError, match="predict_as.*got 'hse'"):
        evaluate(checkpoint, [entry('pbe')], str(tmp_path), predict_as='hse')


def test_one_fidelity_takes_any_data(plain: str, tmp_path: Path) -> None:
    found = evaluate(plain, [entry('pbe'), entry('hse')], str(tmp_path))
    assert [row.fidelity for row in found.rows] == ['pbe', 'hse']
    assert {row.predicted_as for row in found.rows} == {'r2scan'}
    unnamed = [{'file': str(INGAN / VALID['pbe']), 'index': ':4'}]
    assert evaluate(plain, unnamed, str(tmp_path)).rows[0].fidelity == 'r2scan'
    again = evaluate(plain, [entry('pbe')], str(tmp_path), predict_as='r2scan')
    assert again.rows[0].mae == pytest.approx(found.rows[0].mae)


def with_levels(path: Path, *levels: str) -> list[dict[str, Any]]:
    atoms = ase.io.read(INGAN / VALID['pbe'], f':{len(levels)}')
    for one, level in zip(atoms, levels, strict=True):
        one.info['level'] = level
    ase.io.write(path, atoms)
    return [{'file': str(path)}]


def test_fidelity_by_structure(checkpoint: str, plain: str, tmp_path: Path) -> None:
    out = str(tmp_path / 'out')
    data = with_levels(tmp_path / 'a.xyz', 'r2scan', 'pbe', 'pbe')
    found = evaluate(checkpoint, data, out, key='level')
    assert {row.fidelity: row.structures for row in found.rows} == {
        'pbe': 2,
        'r2scan': 1,
    }
    data = with_levels(tmp_path / 'a.xyz', 'pbe', 'hse')
    assert len(evaluate(plain, data, out, key='level').rows) == 2
    with pytest.raises(UserError, match="no fidelity 'hse'"):
        evaluate(checkpoint, data, out, key='level')


def written_yaml(path: Path, **data: Any) -> str:
    parts = sections()
    parts['data'].update(data)
    path.write_text(yaml.safe_dump(parts, sort_keys=False))
    return str(path)


def test_yaml(checkpoint: str, tmp_path: Path) -> None:
    path = written_yaml(
        tmp_path / 'input.yaml',
        load_validset_path=[entry('pbe')],
        load_testset_path=[entry('r2scan', force_key=None)],
    )
    out = str(tmp_path / 'out')
    found = evaluate(checkpoint, path, out)
    assert {row.fidelity: row.structures for row in found.rows} == {
        'pbe': 4,
        'r2scan': 4,
    }
    assert found.rows[1].labelled['force'] == 0
    assert len(evaluate(checkpoint, path, out, sets=['testset']).rows) == 1
    with pytest.raises(UserError, match="no set 'valid'.*Did you mean 'validset'"):
        evaluate(checkpoint, path, out, sets=['valid'])


def test_yaml_without_a_validation_set(tmp_path: Path) -> None:
    path = written_yaml(tmp_path / 'input.yaml')
    with pytest.raises(UserError, match="no data other than the .*'trainset'"):
        entries_of_yaml(path)
    entries, key, order = entries_of_yaml(path, ['trainset'])
    assert [e['fidelity'] for e in entries] == ['pbe', 'r2scan']
    assert (key, order) == (None, ['pbe', 'r2scan'])


def test_yaml_of_the_host(tmp_path: Path) -> None:
    path = tmp_path / 'host.yaml'
    file = str(INGAN / VALID['pbe'])
    data = {
        'load_trainset_path': ['gone.extxyz'],
        'load_validset_path': [file],
        'load_pbe_validset_path': [
            {
                'data_modality': 'pbe',
                'file_list': [{'file': file, 'index': '0'}, file],
            }
        ],
    }
    parts = {'model': {}, 'train': {}, 'data': data}
    path.write_text(yaml.safe_dump(parts, sort_keys=False))
    entries, key, order = entries_of_yaml(str(path))
    assert entries == [
        {'file': [file]},
        {'file': [file], 'index': '0', 'fidelity': 'pbe'},
        {'file': [file], 'fidelity': 'pbe'},
    ]
    assert (key, order) == (None, [])


def test_files_by_pattern_and_their_errors(checkpoint: str, tmp_path: Path) -> None:
    for name in ('pool_a', 'pool_b'):
        shutil.copy(INGAN / VALID['r2scan'], tmp_path / f'{name}.extxyz')
    out = str(tmp_path / 'out')
    data = {'file': str(tmp_path / '*.extxyz'), 'fidelity': 'r2scan', 'index': ':2'}
    assert evaluate(checkpoint, [data], out).rows[0].structures == 4
    words = r"no such file.*Did you mean 'pool_[ab]\.ext"
    with pytest.raises(UserError, match=words):
        evaluate(checkpoint, [{**data, 'file': str(tmp_path / 'pool.extxyz')}], out)
    with pytest.raises(UserError, match="fidelty is not a known key.*'fidelity'"):
        evaluate(checkpoint, [{'file': data['file'], 'fidelty': 'pbe'}], out)


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write anywhere')
def test_folder_without_permission(checkpoint: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match='cannot be written'):
        evaluate(checkpoint, [entry('pbe')], str(tmp_path / 'out'))


def test_folder_that_is_a_file(checkpoint: str, tmp_path: Path) -> None:
    (tmp_path / 'out').touch()
    with pytest.raises(UserError, match='out cannot be written'):
        evaluate(checkpoint, [entry('pbe')], str(tmp_path / 'out'))


def arguments(checkpoint: str, *data: str, **changes: Any) -> argparse.Namespace:
    names = ('fidelity', 'predict_as', 'key', 'set')
    values: dict[str, Any] = dict.fromkeys(names)
    values |= {'batch_size': 8, 'device': 'cpu', 'output': 'out', **changes}
    return argparse.Namespace(checkpoint=checkpoint, data=list(data), **values)


def test_command_line(
    checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = str(INGAN / VALID['r2scan'])
    table = run(arguments(checkpoint, file, fidelity='r2scan', force_key='none'))
    assert table.row_count == 1
    (row,) = lines(tmp_path / 'out', 'errors.csv')
    assert (row['energy_labelled'], row['force_labelled']) == ('13', '0')
    path = written_yaml(tmp_path / 'i.yaml', load_validset_path=[entry('pbe')])
    assert run(arguments(checkpoint, path, set='validset')).row_count == 1
    with pytest.raises(UserError, match=r"give it without \['fidelity'\]"):
        run(arguments(checkpoint, path, fidelity='pbe'))
    with pytest.raises(UserError, match='give it without other files'):
        run(arguments(checkpoint, path, file))
    with pytest.raises(UserError, match='--set validset selects a set of a YAML'):
        run(arguments(checkpoint, file, set='validset'))


def test_files_of_another_form(
    checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MACE's heads are fidelities; units are those that the command line says."""
    monkeypatch.chdir(tmp_path)
    frames = published.crystals(3)
    heads = ['pbe', 'r2scan', 'pbe']
    file = str(published.mace(tmp_path / 'a.xyz', frames, {'N': -3.1}, heads))
    run(arguments(checkpoint, file, format='mace'))
    rows = lines(tmp_path / 'out', 'errors.csv')
    assert [(r['fidelity'], r['structures']) for r in rows] == [
        ('pbe', '2'),
        ('r2scan', '1'),
    ]
    found = []
    for name, unit in (('eV', 1.0), ('Hartree', published.HARTREE)):
        for atoms in frames:
            atoms.info.clear()
            atoms.calc.results.pop('free_energy', None)
            for label in ('energy', 'forces'):
                atoms.calc.results[label] = atoms.calc.results[label] / unit
        file = str(tmp_path / f'{name}.extxyz')
        ase.io.write(file, frames)
        said = {'energy_unit': name, 'force_unit': f'{name}/Å', 'stress_key': 'none'}
        run(arguments(checkpoint, file, fidelity='pbe', **said))
        (row,) = lines(tmp_path / 'out', 'errors.csv')
        found.append([float(v) for k, v in row.items() if 'MAE' in k and v])
    assert len(found[0]) == 2
    assert found[0] == pytest.approx(found[1], rel=1e-4)
    assert row['stress_labelled'] == '0'


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['gone.extxyz'], 'sevennet-mf: no such file: gone.extxyz.'),
        (['FILE', '--energy_unit', 'evv'], ': --energy_unit: must be a unit of ene'),
        (['FILE', '--weight_key', 'w'], "--weight_key: must be `none`, got 'w'"),
        (['FILE'], 'or write `--weight_key none` to ignore all of them.'),
        (['FILE', '--energy_key', 'E'], 'Correct --energy_key, or remove the str'),
        (['FILE', '--weight_key', 'none'], ''),
    ],
)
def test_errors_name_the_options_of_the_command_line(
    words: list[str],
    message: str,
    checkpoint: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    atoms = ase.io.read(INGAN / VALID['r2scan'], 0)
    atoms.info.update(config_weight=0.5, REF_energy=atoms.get_potential_energy())
    atoms.set_array('REF_forces', atoms.get_forces())
    atoms.calc = None
    path = tmp_path / 'weighted.extxyz'
    ase.io.write(path, atoms)
    words = [str(path) if word == 'FILE' else word for word in words]
    line = ['evaluate', checkpoint, *words, '-f', 'r2scan', '--format', 'mace']
    code = cli.main([*line, '--device', 'cpu', '-o', str(tmp_path / 'out')])
    assert code == (cli.BAD_INPUT if message else cli.DONE)
    said = ' '.join(capsys.readouterr().err.split())
    assert message in said
    assert 'entry' not in said
