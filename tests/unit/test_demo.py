"""The demo on a thinned copy of the example: small, but nothing left out."""

import csv
import io
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ase.io import read, write
from rich.console import Console

from sevennet_mf import demo
from sevennet_mf.config import inputs
from sevennet_mf.errors import TrainingStopped, UserError

EXAMPLE = Path(__file__).parents[2] / 'example_inputs' / 'ingan'
SMALL = {'channel': 4, 'lmax': 1, 'num_convolution_layer': 1, 'cutoff': 3.5}


@pytest.fixture
def example(tmp_path: Path) -> Path:
    folder = tmp_path / 'example'
    folder.mkdir()
    for file in EXAMPLE.glob('*.extxyz'):
        write(folder / file.name, read(file, ':')[::5], format='extxyz')
    for job in demo.JOBS:
        sections = yaml.safe_load((EXAMPLE / job.yaml).read_text())
        sections['model'].update(SMALL)
        sections['train'].update(epoch=2, per_epoch=2)
        (folder / job.yaml).write_text(yaml.safe_dump(sections))
    return folder


@pytest.mark.slow
def test_demo_measures_both_models_on_compositions_without_a_label(
    example: Path, tmp_path: Path
) -> None:
    out = tmp_path / 'out'
    table = demo.demo(str(example), str(out), [4])
    with open(out / 'demo.csv') as stream:
        rows = list(csv.DictReader(stream))
    n_test = len(read(example / demo.TEST_FILE, ':'))
    assert [row['trained on'] for row in rows] == [job.title for job in demo.JOBS]
    assert {int(row['structures']) for row in rows} == {n_test}
    errors = [float(row['force MAE (meV/Å)']) for row in rows]
    assert errors[0] != errors[1]
    assert min(errors) > 0
    assert table.row_count == 2
    for name in ('demo.png', 'inspect.png', 'inspect.json'):
        assert (out / name).stat().st_size > 1000
    assert {row['seed'] for row in rows} == {'4'}
    for job in demo.JOBS:
        assert (out / 'seed4' / job.name / 'learning_curves.png').is_file()
        log = (out / 'seed4' / job.name / 'log.sevenn').read_text()
        assert re.search(r'random_seed\s*: 4', log)


def test_several_seeds_are_a_mean_and_their_deviation() -> None:
    def of(energy: float) -> Any:
        errors = {'energy': energy, 'force': 2 * energy}
        row = SimpleNamespace(structures=26, mae=errors, rmse=errors)
        return SimpleNamespace(rows=[row])

    def shown(*energies: float) -> str:
        found = {job: [of(energy) for energy in energies] for job in demo.JOBS}
        stream = io.StringIO()
        Console(width=200, file=stream).print(demo._table(found, 1.0, 'demo'))
        return ' '.join(stream.getvalue().split())

    assert '15.0 ± 1.0 / 15.0 ± 1.0' in shown(14.0, 15.0, 16.0)
    assert 'Mean ± standard deviation of 3 seeds.' in shown(14.0, 15.0, 16.0)
    assert 'numbers vary' in shown(14.0)
    assert '28.0 / 28.0' in shown(14.0)


def test_the_two_trainings_differ_in_their_data_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Same model, same steps: else the comparison would mean little."""
    both = [yaml.safe_load((EXAMPLE / job.yaml).read_text()) for job in demo.JOBS]
    monkeypatch.chdir(EXAMPLE)
    steps = []
    for sections in both:
        trained = inputs.from_sections(sections)[1]
        assert trained['scheduler_param']['total_iters'] == trained['epoch']
        files = [e['file'] for e in sections['data']['load_trainset_path']]
        n = sum(len(read(EXAMPLE / file, ':')) for file in files)
        batches = -(-n // sections['data']['batch_size'])
        steps.append(batches * sections['train']['epoch'])
        sections['model'].pop('fidelity', None)
        for name in ('fidelity', 'epoch', 'per_epoch'):
            del sections['train'][name]
    assert steps[0] == steps[1]
    assert both[0]['model'] == both[1]['model']
    assert both[0]['train'] == both[1]['train']


def test_no_test_composition_has_a_target_label_in_training() -> None:
    tested = read(EXAMPLE / demo.TEST_FILE, ':')
    assert all(0 < atoms.info['x_In'] < 1 for atoms in tested)
    for file in EXAMPLE.glob('r2scan_binaries_*.extxyz'):
        assert {atoms.info['x_In'] for atoms in read(file, ':')} == {0.0, 1.0}


def test_no_example_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='run from the project folder'):
        demo.demo(str(tmp_path), str(tmp_path / 'out'))


def test_a_failed_training_is_named_with_its_reason(
    example: Path, tmp_path: Path
) -> None:
    yaml_file = example / 'r2scan_only.yaml'
    text = yaml_file.read_text().replace('train:', 'train:\n  loss: hubr')
    yaml_file.write_text(text)
    with pytest.raises(TrainingStopped, match=r"r2scan_only\.yaml failed.*'hubr'"):
        demo.demo(str(example), str(tmp_path / 'out'))
