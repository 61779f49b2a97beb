"""example_inputs/ingan_teacher: from nothing to mixing energies, in small."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import ase.io
import numpy as np
import pytest
import sevenn._keys as KEY
from helpers import build, host_config, model_config, registered, save_checkpoint
from helpers import trained as trained_model
from paper_helpers import PAPER, ROOT, SMALL, follow, script, train_small
from synthetic_study import dump, run

from sevennet_mf import FidelityCalculator
from sevennet_mf.analysis.mixing import mixing_energy, r_squared
from sevennet_mf.config import inputs
from sevennet_mf.errors import UserError

EXAMPLE = ROOT / 'example_inputs' / 'ingan_teacher'
TRAINED = ('ingan_compositions', 'ingan_geometries', 'ingan_all')


@pytest.fixture(scope='module')
def structures() -> ModuleType:
    return script(EXAMPLE / 'structures.py')


@pytest.fixture(scope='module')
def mixing() -> ModuleType:
    return script(PAPER / 'mixing.py')


@pytest.fixture(scope='module')
def followed(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, list[list[str]]]:
    """The folder after the commands of the README, and those that are left."""
    folder = tmp_path_factory.mktemp('paper')
    return folder, follow(EXAMPLE, folder, ['Ga', 'In', 'N'])


@pytest.fixture(scope='module')
def made(followed: tuple[Path, list[list[str]]]) -> Path:
    return followed[0]


def test_the_files_are_what_the_readme_says(made: Path) -> None:
    frames = {p.stem: ase.io.read(p, ':') for p in made.glob('ingan/*.extxyz')}
    assert {name: len(found) for name, found in frames.items()} == {
        'structures': 57,
        'pbe_train': 40,
        'r2scan_geometries': 8,
        'r2scan_compositions': 8,
        'r2scan_all': 40,
        'pbe_valid': 4,
        'pbe_test': 8,
        'r2scan_test': 8,
        'pbe_mixing': 5,
        'r2scan_mixing': 5,
    }
    parts = [name for name in frames if '_' in name]
    ids = {n: {a.info['structure_id'] for a in frames[n]} for n in parts}
    for name in ('r2scan_geometries', 'r2scan_compositions'):
        assert ids[name] < ids['pbe_train'] == ids['r2scan_all']
    assert ids['pbe_test'] == ids['r2scan_test']
    for name in ('pbe_valid', 'pbe_test', 'pbe_mixing'):
        assert not ids['pbe_train'] & ids[name]


def test_the_test_set_has_what_the_labels_do_not(made: Path) -> None:
    def found(name: str, key: str) -> set[Any]:
        frames = ase.io.read(made / 'ingan' / f'{name}.extxyz', ':')
        return {atoms.info[key] for atoms in frames}

    assert found('r2scan_geometries', 'kind') == {'near'}
    assert found('r2scan_test', 'kind') == {'strained', 'md'}
    assert found('r2scan_compositions', 'x') == {0.0, 0.5, 1.0}
    assert found('r2scan_test', 'x') == {0.25, 0.75}
    assert found('r2scan_mixing', 'x') == {0.0, 0.25, 0.5, 0.75, 1.0}
    assert found('r2scan_mixing', 'kind') == {'relaxed'}


def test_the_training_yaml_trains(made: Path) -> None:
    assert (train_small(made, 'ingan_compositions.yaml') / 'lc.csv').is_file()


def test_all_trainings_differ_in_the_expensive_labels_alone() -> None:
    yamls = [inputs.load_yaml(str(PAPER / f'{name}.yaml')) for name in TRAINED]
    files = [yaml['data']['load_trainset_path'].pop() for yaml in yamls]
    assert [f['file'] for f in files] == [
        'ingan/r2scan_compositions.extxyz',
        'ingan/r2scan_geometries.extxyz',
        'ingan/r2scan_all.extxyz',
    ]
    assert {f['fidelity'] for f in files} == {'r2scan'}
    assert yamls[0] == yamls[1] == yamls[2]


def test_the_full_plan_has_the_numbers_of_the_readme(
    structures: ModuleType,
) -> None:
    plan = structures.Plan()
    kinds = dict(plan.kinds)
    crystals = list(structures.crystals(plan))
    assert len({crystal.name for crystal in crystals}) == len(crystals)
    numbers: Counter[str] = Counter()
    for crystal in crystals:
        numbers[crystal.part] += sum(kinds[crystal.part]) or 1
    assert numbers == {'train': 1000, 'valid': 56, 'test': 184, 'mixing': 46}
    tested = {c.eighths for c in crystals if c.part == 'test'}
    assert not tested & set(plan.high_eighths)
    assert plan.high * 10 == numbers['train']


@pytest.mark.parametrize('cell', ['wz16', 'zb32'])
def test_in_fills_planes_of_the_ordered_crystal(
    cell: str, structures: ModuleType
) -> None:
    def planes(number: int) -> int:
        crystal = structures.Crystal('train', cell, 4, number)
        atoms = structures.arranged(crystal, np.random.default_rng(3))
        assert len(atoms) == int(cell[2:])
        indium = atoms.get_scaled_positions()[atoms.symbols == 'In'].round(6)
        assert len(indium) == len(atoms) // 4
        gallium = atoms.get_scaled_positions()[atoms.symbols == 'Ga'].round(6)
        return min(
            len(set(indium[:, axis]) & set(gallium[:, axis])) for axis in range(3)
        )

    assert planes(0) == 0  # no plane has both
    assert planes(1) > 0


def test_an_interrupted_call_goes_on(
    made: Path, structures: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made / 'again'
    shutil.copytree(made / 'ingan', folder)
    # the first of its volume, which is what the springs are tied to
    one = folder / 'crystals' / 'train_zb8_x6_0.extxyz'
    before = [one.read_bytes(), (folder / 'structures.extxyz').read_bytes()]
    one.unlink()
    assert structures.main(['-o', str(folder), *SMALL]) == 0
    assert capsys.readouterr().out.startswith('4 of 13: train_zb8_x6_0\n')
    after = [one.read_bytes(), (folder / 'structures.extxyz').read_bytes()]
    assert after == before  # the seed is of the crystal


# ---- mixing energies


def finished(out: Path, row: str, seed: int, scale: float = 1.0) -> Path:
    """A run that is done, of a model whose mixing energies are `scale` times those
    of any other.
    """
    labels = 0 if row == 'low' else 8
    folder = run(out, row, labels, seed)
    if row == 'low':
        folder = shutil.move(folder, out / 'runs' / row / f'seed{seed}')
    about = json.loads((folder / 'run.json').read_text())
    about.update(name=folder.relative_to(out / 'runs').as_posix())
    about.update(target='r2scan', low='pbe', checkpoint='last')
    about.update(stages=[{'kind': 'train', 'epochs': 1}])
    dump(folder / 'run.json', about)
    (folder / 'train').mkdir()
    path = folder / 'train' / 'checkpoint_1.pth'
    with registered():
        if row == 'multi_fidelity':
            save_checkpoint(path, *trained_model())
        else:
            config = host_config(model_config(names=('r2scan',)))
            config[KEY.SCALE] = float(scale)
            save_checkpoint(path, build(config), config)
    return path


@pytest.fixture(scope='module')
def models(made: Path) -> dict[str, Path]:
    """A checkpoint of several methods, in the folders that the README names."""
    folder = made / 'ingan'
    for seed in (1, 3):
        path = finished(folder / 'reference', 'high_only', seed, seed)
    finished(folder / 'compositions', 'low', 1, 1.0)
    finished(folder / 'compositions', 'delta', 1, 2.5)
    both = finished(folder / 'geometries', 'multi_fidelity', 1)
    return {'high_only': path, 'multi_fidelity': both}


def test_mixing_energies_of_all_models(
    followed: tuple[Path, list[list[str]]],
    models: dict[str, Path],
    mixing: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, (command,) = followed
    assert command[0] == 'mixing.py'
    monkeypatch.chdir(folder)
    assert mixing.main(command[1:]) == 0
    told = json.loads(Path('mixing.json').read_text())['runs']
    found = {(r['study'], r['row'], r['seed']): r for r in told}
    assert len(found) == len(told) == 4

    crystals = ase.io.read('ingan/r2scan_mixing.extxyz', ':')
    ends = ('GaN', 'InN')

    def energies(name: str, fidelity: str | None) -> np.ndarray:
        calculator = FidelityCalculator(models[name], fidelity, 'cpu')
        totals = [calculator.get_potential_energy(atoms) for atoms in crystals]
        curve = mixing_energy(crystals, totals, ends)
        return curve.energy[curve.is_mixed]

    one = energies('high_only', None) / 3.0  # the scale of that seed
    labels = [atoms.get_potential_energy() for atoms in crystals]
    teacher = mixing_energy(crystals, labels, ends)
    known = teacher.energy[teacher.is_mixed]
    for key, factor, others in (
        (('reference', 'high_only', 1), 1.0, 3.0),
        (('reference', 'high_only', 3), 3.0, 1.0),
        (('compositions', 'delta', 1), 3.5, 2.0),  # the low one and the difference
    ):
        own = found[key]
        wanted = r_squared(others * one, factor * one)
        assert own['r2_reference'] == pytest.approx(wanted, rel=1e-3)
        wanted = abs(factor - others) * np.abs(one).mean()
        assert own['mae_reference'] == pytest.approx(wanted, rel=1e-3)
        wanted = r_squared(known, factor * one)
        assert own['r2_teacher'] == pytest.approx(wanted, rel=1e-3)
    own = found['geometries', 'multi_fidelity', 1]
    wanted = r_squared(known, energies('multi_fidelity', 'r2scan'))
    assert own['r2_teacher'] == pytest.approx(wanted, rel=1e-6)
    shown = capsys.readouterr().out
    assert [line for line in shown.splitlines() if 'low labels' in line]
    assert '0.25' in shown


def test_low_labels_of_other_crystals_are_refused(
    made: Path, models: dict[str, Path], mixing: ModuleType
) -> None:
    folder = made / 'ingan'
    words = ['--structures', str(folder / 'r2scan_mixing.extxyz')]
    words += ['--reference', str(folder / 'reference')]
    low = folder / 'reversed.extxyz'
    ase.io.write(low, ase.io.read(folder / 'pbe_mixing.extxyz', '::-1'))
    with pytest.raises(UserError, match=r'reversed.extxyz has other crystals than'):
        mixing.main([str(folder / 'geometries'), *words, '--low', str(low)])
