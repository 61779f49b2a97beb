"""One run of each method from its folder to its result, and how runs fail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.io import read
from commandline import RESUME_FILE, finish, snapshot, wait_until
from helpers import registered
from study_inputs import TEST, input_yaml, write_study

from sevennet_mf import cli, keys
from sevennet_mf.calculators.delta import DeltaCalculator
from sevennet_mf.model.load import load_model
from sevennet_mf.study import status
from sevennet_mf.study.plan.folders import plan
from sevennet_mf.study.plan.study_yaml import read_study
from sevennet_mf.study.running import measure, train_process, worker
from sevennet_mf.study.runs import Run

METHODS = ['high_only', 'transfer', 'delta', 'multi_fidelity', 'host_modality']
# of SevenNet's own training: what it does without a word, and when it reads the
# graphs that it has written
pytestmark = [
    pytest.mark.filterwarnings('ignore:.*sevennet_mf do not have this limit'),
    pytest.mark.filterwarnings('ignore:.*[Ww]eights.only'),
]


def plan_in(folder: Path, **study: Any) -> dict[str, Run]:
    path = write_study(folder, **study)
    return {run.name: run for run in plan(read_study(path), folder / 'study')}


def read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def in_this_process(signals: Any, command: Sequence[str]) -> int:
    """A training without a process of its own: imports would take most of it."""
    return cli.main(command[3:])


@pytest.fixture(scope='module')
def _quick() -> Iterator[None]:
    with registered(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_process.Signals, 'run', in_this_process)
        yield


@pytest.fixture(scope='module')
def done(tmp_path_factory: pytest.TempPathFactory, _quick: None) -> dict[str, Run]:
    """A run of every method, all done."""
    runs = plan_in(tmp_path_factory.mktemp('study'), methods=METHODS, steps=5)
    for run in runs.values():
        worker.work(str(run.folder))
    return runs


def result_of(run: Run) -> dict[str, Any]:
    return read_json(run.folder / 'result.json')


@pytest.mark.parametrize('method', METHODS)
def test_every_method_has_a_result(method: str, done: dict[str, Run]) -> None:
    run = done[f'{method}/n4_seed1']
    result = result_of(run)
    described = read_json(run.folder / 'run.json')
    for name in ('name', 'row', 'method', 'labels', 'seed', 'steps', 'low_labels'):
        assert result[name] == described[name]
    assert result['folder'] == str(run.folder)
    assert result['test_structures'] == len(read(TEST['file'], ':'))
    assert result['seconds'] > 0
    assert result['best_epoch'] >= 1
    # r2SCAN has no stress
    assert set(result['errors']) == {'energy', 'force'}
    for errors in result['errors'].values():
        assert errors['n'] == 5
        assert 0 < errors['mae'] <= errors['rmse'] < 1e5


@pytest.mark.parametrize('method', METHODS)
def test_predictions_are_those_of_the_errors(
    method: str, done: dict[str, Run]
) -> None:
    run = done[f'{method}/n4_seed1']
    errors = result_of(run)['errors']
    with np.load(run.folder / 'test' / 'predictions.npz') as arrays:
        assert set(arrays) == {
            'energy_label',
            'energy_predicted',
            'force_label',
            'force_predicted',
            'n_atoms',
        }
        assert arrays['force_label'].size == 3 * arrays['n_atoms'].sum()
        for name in ('energy', 'force'):
            difference = arrays[f'{name}_predicted'] - arrays[f'{name}_label']
            mae = 1000 * np.abs(difference).mean()
            assert mae == pytest.approx(errors[name]['mae'])
    assert (run.folder / 'test' / 'per_structure.csv').is_file()


def test_steps_are_equal(done: dict[str, Run]) -> None:
    steps = {name: sum(result_of(run)['steps']) for name, run in done.items()}
    assert steps.pop('low/seed1') == 2
    assert set(steps.values()) == {5}  # one pass of SevenNet's own


def test_the_low_model_is_measured_on_nothing(done: dict[str, Run]) -> None:
    result = result_of(done['low/seed1'])
    assert result['errors'] == {}
    assert (result['labels'], result['method']) == (0, 'low')


def test_models_are_those_that_are_compared(done: dict[str, Run]) -> None:
    number = {r.method: result_of(r)['parameters'] for r in done.values()}
    assert number['transfer'] == number['high_only'] == number['low']
    assert number['delta'] == 2 * number['high_only']
    # the paper's biases
    assert number['multi_fidelity'] == number['host_modality'] > number['high_only']


def test_differences_are_to_labels_or_to_the_low_model(done: dict[str, Run]) -> None:
    run = done['delta/n4_seed1']
    assert result_of(run)['differences'] == {
        'train': {'paired': 0, 'predicted': 4},
        'valid': {'paired': 0, 'predicted': 4},
    }
    data = run.out / 'data'
    high = read(data / 'valid_r2scan.extxyz', ':')
    model = DeltaCalculator(*_models(done)).low
    found = read(run.folder / 'differences' / 'valid.extxyz', ':')
    for a, b in zip(high, found, strict=True):
        # also of the three with a PBE label: what is tested is the sum of two models
        other = a.copy()
        other.calc = model
        energy = a.get_potential_energy() - other.get_potential_energy()
        forces = a.get_forces() - other.get_forces()
        assert b.get_potential_energy() == pytest.approx(energy, abs=1e-4)
        np.testing.assert_allclose(b.get_forces(), forces, atol=1e-5)
        assert 'stress' not in b.calc.results


def _models(done: dict[str, Run]) -> list[str]:
    return [
        str(done[name].folder / 'train' / 'checkpoint_best.pth')
        for name in ('low/seed1', 'delta/n4_seed1')
    ]


def test_delta_is_measured_as_its_calculator_predicts(done: dict[str, Run]) -> None:
    run = done['delta/n4_seed1']
    calculator = DeltaCalculator(*_models(done), device='cpu')
    with np.load(run.folder / 'test' / 'predictions.npz') as arrays:
        wanted, label = arrays['force_predicted'], arrays['energy_label']
        energy_error = arrays['energy_predicted'] - label
    forces, errors = [], []
    for atoms in read(TEST['file'], ':'):
        total = atoms.calc.results['free_energy']
        calculator.calculate(atoms)
        forces.append(calculator.results['forces'].reshape(-1))
        errors.append((calculator.results['energy'] - total) / len(atoms))
    np.testing.assert_allclose(np.concatenate(forces), wanted, atol=1e-4)
    np.testing.assert_allclose(errors, energy_error, atol=2e-5)


def test_transfer_starts_from_the_low_model(done: dict[str, Run]) -> None:
    # 2 steps of a learning rate of 0.01 do not lead far away
    low, transfer, alone = (
        load_model(str(done[name].folder / 'train' / 'checkpoint_best.pth')).model
        for name in ('low/seed1', 'transfer/n4_seed1', 'high_only/n4_seed1')
    )

    def distance(a: Any, b: Any) -> float:
        weights = [m.state_dict() for m in (a, b)]
        return sum(
            float((weights[0][name] - weights[1][name]).abs().max())
            for name, _ in a.named_parameters()
            if 'rescale' not in name
        )

    assert distance(transfer, low) < distance(transfer, alone)


def test_graphs_are_made_once_for_all_runs(done: dict[str, Run]) -> None:
    shared = next(iter(done.values())).out / 'data' / 'sevenn_data'
    for method in ('high_only', 'multi_fidelity'):
        link = done[f'{method}/n4_seed1'].folder / 'train' / 'sevenn_data'
        assert link.resolve() == shared.resolve()
    # SevenNet's own would take up whatever is there
    own = done['host_modality/n4_seed1'].folder / 'train' / 'sevenn_data'
    assert not own.is_symlink()


def test_what_is_done_is_not_done_again(
    done: dict[str, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = done['high_only/n4_seed1']
    monkeypatch.delattr(worker, 'train')
    before = snapshot(run.folder)
    assert worker.main([str(run.folder)]) == 0
    assert snapshot(run.folder) == before
    # a result that was lost is measured again, without training
    (run.folder / 'result.json').unlink()
    assert worker.main([str(run.folder)]) == 0
    again = result_of(run)
    assert again == json.loads(before['result.json'])


# ---- failures


@pytest.mark.usefixtures('_quick')
def test_a_failure_is_one_line_with_its_stage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run,) = plan_in(tmp_path).values()
    (tmp_path / 'study' / 'data' / 'labels_r2scan_seed1.extxyz').unlink()
    assert worker.main([str(run.folder)]) == 1
    failed = read_json(run.folder / 'failed.json')
    assert failed['stage'] == 'train'
    assert failed['message'].startswith('data.load_trainset_path[0]: no such file')
    assert not (run.folder / 'result.json').exists()
    assert failed['message'] in capsys.readouterr().err
    # what is tried again is no longer what failed
    (run.folder / 'result.json').write_text('{"errors": {}}')
    assert worker.main([str(run.folder)]) == 0
    assert not (run.folder / 'failed.json').exists()


@pytest.mark.parametrize(('text', 'state'), [('', 'failed'), ('{"a": 1}', 'done')])
def test_a_result_that_cannot_be_read_is_none(
    tmp_path: Path, text: str, state: str
) -> None:
    (run,) = plan_in(tmp_path, methods=['host_modality']).values()
    (run.folder / 'result.json').write_text(text)
    assert worker.main([str(run.folder)]) == (state == 'failed')
    assert status.read(run).state == state
    if state == 'failed':  # two steps are none of its passes
        failed = read_json(run.folder / 'failed.json')
        assert 'Raise study.steps' in failed['message']
        assert not (run.folder / 'train').exists()


def test_an_error_that_is_no_number_is_a_failure(
    done: dict[str, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = done['high_only/n4_seed1']
    before = (run.folder / 'result.json').read_text()
    (run.folder / 'result.json').unlink()
    bad = {'energy': {'mae': float('nan'), 'rmse': 1.0, 'n': 5}}
    with monkeypatch.context() as patch:
        patch.setattr(measure, 'write_test', lambda *_: bad)
        assert worker.main([str(run.folder)]) == 1
    failed = read_json(run.folder / 'failed.json')
    assert failed['stage'] == 'test'
    assert failed['message'].startswith('the energy MAE on the test set is not a fi')
    assert status.read(run).state == 'failed'
    assert worker.main([str(run.folder)]) == 0  # it is tried again
    assert (run.folder / 'result.json').read_text() == before


def test_inferred_labels_are_counted(done: dict[str, Run]) -> None:
    run = done['multi_fidelity/n4_seed1']
    assert result_of(run)['inferred'] == 0  # one structure has both labels
    assert result_of(run)['inferred_test'] == 0
    run.content['test_low_labelled'] = 3
    noted = {keys.PROVENANCE: {'inferred_labels': {'inferred': 12, 'refused': 1}}}
    try:
        found = measure.inferred_labels({'config': noted}, run)
    finally:
        run.content['test_low_labelled'] = 0
    assert found == {'inferred': 12, 'inferred_test': 3}


@pytest.mark.usefixtures('_quick')
def test_what_sevennet_cannot_is_said_in_its_words(tmp_path: Path) -> None:
    sections = input_yaml()
    for load in ('load_trainset_path', 'load_validset_path'):
        sections['data'][load][1]['force_key'] = None  # energies only
    runs = plan_in(tmp_path, sections=sections, methods=['host_modality'], steps=5)
    (run,) = runs.values()
    assert worker.main([str(run.folder)]) == 1
    assert 'Unlabeled E or F' in read_json(run.folder / 'failed.json')['message']


def test_a_folder_that_is_no_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert worker.main([str(tmp_path)]) == 1
    assert 'is not a run of a study' in capsys.readouterr().err


def test_a_signal_reaches_the_training_which_goes_on_later(tmp_path: Path) -> None:
    sections = input_yaml()
    sections['train']['epoch'] = 400
    (run,) = plan_in(tmp_path, sections=sections, steps=2000).values()
    process = subprocess.Popen(
        [sys.executable, '-m', 'sevennet_mf.study.running.worker', str(run.folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
    )
    resumable = run.folder / 'train' / RESUME_FILE
    curve = run.folder / 'train' / 'lc.csv'
    wait_until(lambda: curve.is_file() and resumable.is_file(), process)
    process.send_signal(signal.SIGTERM)
    ended = finish(process)
    assert ended.returncode == 128 + signal.SIGTERM
    assert 'Resume with the same command' in ended.stderr
    assert not (run.folder / 'failed.json').exists()
    command: list[str] = []

    def note(signals: Any, given: Sequence[str]) -> int:
        command.extend(given)
        return 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_process.Signals, 'run', note)
        assert worker.main(['--trust', str(run.folder)]) == 1
    assert command[-4:-2] == ['--trust', '--resume']
