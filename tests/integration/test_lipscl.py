"""example_inputs/lipscl: from nothing to a study, with a dozen structures."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from types import ModuleType

import ase.io
import numpy as np
import pytest
from paper_helpers import PAPER, ROOT, SMALL, follow, script, train_small

from sevennet_mf.config import inputs

EXAMPLE = ROOT / 'example_inputs' / 'lipscl'


@pytest.fixture(scope='module')
def structures() -> ModuleType:
    return script(EXAMPLE / 'structures.py')


@pytest.fixture(scope='module')
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder after all commands of the README, in small."""
    folder = tmp_path_factory.mktemp('paper')
    assert follow(EXAMPLE, folder, ['Li', 'P', 'S', 'Cl']) == []
    return folder


def test_the_files_are_what_the_readme_says(made: Path) -> None:
    frames = {p.stem: ase.io.read(p, ':') for p in made.glob('lipscl/*.extxyz')}
    numbers = {name: len(frames[name]) for name in frames if '_' in name}
    assert numbers == {
        'pbe_train': 12,
        'r2scan_train': 4,
        'r2scan_all': 12,
        'pbe_valid': 4,
        'r2scan_valid': 2,
        'pbe_test': 2,
        'r2scan_test': 2,
    }
    ids = {
        name: {a.info['structure_id'] for a in frames[name]} for name in numbers
    }
    assert ids['r2scan_train'] < ids['pbe_train'] == ids['r2scan_all']
    assert not ids['pbe_train'] & (ids['pbe_valid'] | ids['pbe_test'])
    trained, tested = (
        {(a.info['order'], a.info['temperature']) for a in frames[name]}
        for name in ('r2scan_train', 'r2scan_test')
    )
    assert not trained & tested
    for atoms in frames['structures']:
        assert atoms.get_chemical_formula() == 'Cl4Li24P4S20'


def test_the_training_yaml_trains(made: Path) -> None:
    assert (train_small(made, 'lipscl.yaml') / 'checkpoint_best.pth').is_file()


def test_both_trainings_differ_in_the_expensive_labels_alone() -> None:
    part, whole = (
        inputs.load_yaml(str(PAPER / f'{name}.yaml'))
        for name in ('lipscl', 'lipscl_all')
    )
    assert part['data']['load_trainset_path'].pop() == {
        'file': 'lipscl/r2scan_train.extxyz',
        'fidelity': 'r2scan',
    }
    assert whole['data']['load_trainset_path'].pop() == {
        'file': 'lipscl/r2scan_all.extxyz',
        'fidelity': 'r2scan',
    }
    assert part == whole


def test_an_interrupted_call_goes_on(
    made: Path, structures: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made / 'again'
    shutil.copytree(made / 'lipscl', folder)
    one = folder / 'trajectories' / 'train_50_300K.extxyz'
    whole = one.read_bytes()
    one.unlink()
    done = []
    real = structures.run

    def noting(run: object, *rest: object) -> object:
        done.append(run)
        return real(run, *rest)

    monkeypatch.setattr(structures, 'run', noting)
    assert structures.main(['-o', str(folder), *SMALL]) == 0
    assert len(done) == 1
    assert one.read_bytes() == whole  # the seed is of the trajectory


@pytest.mark.parametrize('order', [0, 25, 75, 100])
def test_the_order_is_that_of_the_free_sites(
    order: int, structures: ModuleType
) -> None:
    atoms = structures.exchanged(order, 10.0, np.random.default_rng(1))
    ideal = structures.ordered(10.0)
    moved = np.flatnonzero(atoms.numbers != ideal.numbers)
    assert len(moved) == 2 * round(order / 25)
    phosphorus = np.flatnonzero(atoms.symbols == 'P')
    for i in moved:  # none of a PS4 group
        assert atoms.get_distances(i, phosphorus, mic=True).min() > 3.5


def test_the_full_plan_has_the_numbers_of_the_readme(
    structures: ModuleType,
) -> None:
    plan = structures.Plan()
    runs = list(structures.trajectories(plan))
    train = [one for one in runs if one.part == 'train']
    high = [one for one in train if one.high]
    assert plan.train * len(train) + plan.strained * len(plan.orders) == 1000
    assert plan.high * len(high) + plan.high_strained == 100
    assert (plan.valid * len(train), plan.valid * len(high)) == (70, 24)
    assert plan.test * (len(runs) - len(train)) == 120
    assert not set(plan.high_orders) & set(plan.test_orders)
    assert not set(plan.high_temperatures) & set(plan.test_temperatures)
    assert plan.strained > plan.high_strained / 2
    few = dataclasses.replace(plan, strained=6)  # they take a while
    cells = list(structures.strained(few, 10.0, 1))
    assert len(cells) == 30
    assert sum(atoms.info['high'] for atoms in cells) == 16
    assert {a.info['order'] for a in cells if a.info['high']} == {0, 50, 100}
