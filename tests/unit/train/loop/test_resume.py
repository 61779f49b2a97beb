"""Interruption and resumption: as if nothing had happened."""

import copy
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sevenn.logger import Logger
from train_helpers import (
    PBE,
    R2SCAN,
    entry,
    fit_of,
    lines,
    resumed,
    same,
    weights,
    yaml_of,
)

from sevennet_mf import keys
from sevennet_mf.checkpoint import file as checkpoint_file
from sevennet_mf.errors import TrainingStopped, UserError
from sevennet_mf.train.loop import run_folder
from sevennet_mf.train.loop.fit import Fit

RESUME = run_folder.RESUME_FILE
SMALL = {'data': {'batch_size': 3}}  # 10 structures: 4 steps an epoch
RUNS = {
    'proportional': yaml_of(**SMALL, epoch=3),
    'balanced': yaml_of(
        **SMALL,
        epoch=3,
        fidelity={'train': {'sampling': 'balanced'}, 'model': {'encoding': 'lora'}},
        scheduler='reducelronplateau',
        scheduler_param={'patience': 0, 'threshold': 1.0},
        model={'train_shift_scale': True},
    ),
    'everything': yaml_of(
        **SMALL,
        epoch=5,
        fidelity={
            'train': {
                'loss': {'energy': 'mae', 'force': 'l2mae'},
                'energy_loss_weight': 3.0,
                'grad_clip': 1.0,
                'ema': {'decay': 0.9},
                'early_stopping': {'patience': 2},
            }
        },
        scheduler='onecyclelr',
        scheduler_param={},
        optim_param={'lr': 0.3},  # too large: it ends early
        model={'train_shift_scale': True},
    ),
}


def before_step(fit: Fit, number: int, act: Callable[[], Any]) -> None:
    """Have `act` called when the number-th step of the run begins, from 1."""
    step, done = fit.trainer.step, []

    def counted(*args: Any, **kwargs: Any) -> Any:
        done.append(1)
        if len(done) == number:
            act()
        return step(*args, **kwargs)

    fit.trainer.step = counted  # type: ignore[method-assign]


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope='module')
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Fit]:
    """Runs that nothing interrupted."""
    found = {}
    for name, sections in RUNS.items():
        found[name] = fit_of(sections, tmp_path_factory.mktemp(name))
        found[name].run()
    return found


def assert_same_run(fit: Fit, wanted: Fit) -> None:
    assert same(weights(fit), weights(wanted))
    assert same(*(f.trainer.evaluated.state_dict() for f in (fit, wanted)))
    ours, theirs = (f.trainer.get_checkpoint_dict() for f in (fit, wanted))
    assert same(ours['model_state_dict'], theirs['model_state_dict'])
    assert str(ours['optimizer_state_dict']) == str(theirs['optimizer_state_dict'])
    assert ours['scheduler_state_dict'] == theirs['scheduler_state_dict']
    text = [Path(f.path(f.state.curve)).read_text() for f in (fit, wanted)]
    assert text[0] == text[1]
    assert fit.state == wanted.state
    paths = [f.path(run_folder.BEST_FILE) for f in (fit, wanted)]
    best = [checkpoint_file.load(path) for path in paths]
    assert best[0]['epoch'] == best[1]['epoch']
    assert same(*(b['model_state_dict'] for b in best))


@pytest.mark.parametrize(
    ('number', 'name'),
    [
        *((n, name) for n in (1, 4, 6, 8) for name in ('proportional', 'balanced')),
        # at the end of an epoch, and within one
        *((n, 'everything') for n in (4, 6)),
    ],
)
def test_sigterm_and_resume(
    tmp_path: Path, whole: dict[str, Fit], number: int, name: str
) -> None:
    """After the step that is under way; then as if nothing had happened."""
    fit = fit_of(RUNS[name], tmp_path)
    before_step(fit, number, terminate)
    with pytest.raises(TrainingStopped, match='SIGTERM') as raised:
        fit.run()
    epoch, step = divmod(number - 1, 4)
    where = f'after step {step + 1} of epoch {epoch + 1}'
    assert where in str(raised.value)
    assert '--resume' in str(raised.value)
    again = resumed(RUNS[name], tmp_path)
    assert (again.state.epoch, again.state.step) == (epoch + 1, step + 1)
    again.run()
    assert_same_run(again, whole[name])


def test_a_run_that_ended_early_stays_ended(whole: dict[str, Fit]) -> None:
    fit = whole['everything']
    best, curve = fit.state.best_epoch, Path(fit.path(fit.state.curve))
    before = curve.read_text()
    assert best is not None
    assert before.count('\n') - 1 == best + 2 < 5
    assert fit.ended == (
        'ended early: no new best checkpoint for 2 epochs, by TotalLoss of r2scan '
        'in validset'
    )
    again = resumed(RUNS['everything'], Path(fit.working_dir))
    assert again.state.waited == 2
    again.run()
    assert again.ended == fit.ended
    assert curve.read_text() == before
    assert same(weights(again), weights(fit))


def test_sigterm_while_evaluating(tmp_path: Path, whole: dict[str, Fit]) -> None:
    fit = fit_of(RUNS['proportional'], tmp_path)
    evaluate = fit.trainer.evaluate

    def interrupted(*args: Any) -> None:
        terminate()
        evaluate(*args)

    fit.trainer.evaluate = interrupted  # type: ignore[method-assign]
    with pytest.raises(TrainingStopped, match='after step 0 of epoch 2'):
        fit.run()
    again = resumed(RUNS['proportional'], tmp_path)
    again.run()
    assert_same_run(again, whole['proportional'])


@pytest.mark.parametrize('number', [3, 7, 9])
def test_kill_and_resume(
    tmp_path: Path, whole: dict[str, Fit], number: int
) -> None:
    """Nothing is written when it ends: the last regular checkpoint has to do."""
    sections = copy.deepcopy(RUNS['balanced'])
    sections['train']['fidelity']['checkpoint_every'] = 2
    fit = fit_of(sections, tmp_path)

    def kill() -> None:
        raise MemoryError

    before_step(fit, number, kill)
    with pytest.raises(MemoryError):
        fit.run()
    again = resumed(sections, tmp_path)
    done = 4 * (again.state.epoch - 1) + again.state.step
    assert number - 3 <= done < number
    again.run()
    assert_same_run(again, whole['balanced'])


def test_resuming_puts_random_numbers_back(tmp_path: Path) -> None:
    fit = fit_of(RUNS['proportional'], tmp_path)
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(11)
    fit.write_resumable(in_epoch=False)
    wanted = random.random(), np.random.random(), torch.rand(1).item()
    resumed(RUNS['proportional'], tmp_path)
    assert (random.random(), np.random.random(), torch.rand(1).item()) == wanted


def test_more_epochs_are_no_change(tmp_path: Path, whole: dict[str, Fit]) -> None:
    short = copy.deepcopy(RUNS['proportional'])
    short['train'].update(epoch=1)
    fit_of(short, tmp_path).run()
    longer = copy.deepcopy(RUNS['proportional'])
    longer['train'].update(per_epoch=1, fidelity={'checkpoint_every': 7})
    longer['data']['fidelity'] = {'about': {'pbe': {'code': 'another'}}}
    again = resumed(longer, tmp_path)
    again.run()
    assert same(weights(again), weights(whole['proportional']))
    assert len(lines(again)) == 3


def test_a_schedule_that_keeps_its_numbers_says_so(tmp_path: Path) -> None:
    """The log has just named those of the longer run, which are not used."""

    def sections(epoch: int) -> dict[str, Any]:
        by_step = {'train': {'schedule_by': 'step'}}
        how = {'scheduler': 'linearlr', 'scheduler_param': {}}
        return yaml_of(**SMALL, epoch=epoch, fidelity=by_step, **how)

    fit_of(sections(2), tmp_path).write_resumable(in_epoch=False)
    for epoch, said in ((2, False), (3, True)):
        with Logger().switch_file(str(tmp_path / f'log{epoch}')):
            resumed(sections(epoch), tmp_path)
        line = 'Schedule: linearlr keeps total_iters: 8, as the run began with'
        assert (line in (tmp_path / f'log{epoch}').read_text()) is said


@pytest.mark.parametrize(
    ('scheduler', 'given', 'kept'),
    [
        ('linearlr', {}, 'linearlr keeps total_iters: 2'),
        ('linearlr', {'total_iters': 2}, ''),  # by the word of the user
        ('exponentiallr', {}, 'exponentiallr keeps gamma: '),
        ('steplr', {'gamma': 0.5}, 'steplr keeps step_size: '),
    ],
)
def test_a_schedule_by_epoch_that_keeps_its_numbers_says_so(
    scheduler: str, given: dict[str, Any], kept: str, tmp_path: Path
) -> None:
    """What a YAML leaves out is as the run began; `epoch` may be raised."""

    def sections(epoch: int) -> dict[str, Any]:
        how = {'scheduler': scheduler, 'scheduler_param': given}
        return yaml_of(**SMALL, epoch=epoch, **how)

    fit_of(sections(2), tmp_path).write_resumable(in_epoch=False)
    began = run_folder.began_with(str(tmp_path))
    path = str(tmp_path / run_folder.RESUME_FILE)
    for epoch in (2, 9):
        log = tmp_path / f'log{epoch}'
        with Logger().switch_file(str(log)):
            fit = fit_of(sections(epoch), tmp_path, began=began)
            fit.resume(run_folder.load_training_state(path))
        said = log.read_text()
        assert said.count(' keeps ') == bool(kept and epoch == 9)
    if kept:
        assert f'Schedule: {kept}' in said
        assert 'as the run began with' in said


def test_a_finished_run_has_nothing_to_resume(
    tmp_path: Path, whole: dict[str, Fit]
) -> None:
    fit_of(RUNS['proportional'], tmp_path).run()
    again = resumed(RUNS['proportional'], tmp_path)
    again.run()
    assert_same_run(again, whole['proportional'])


CHANGES = {
    'batch_size': {'data': {'batch_size': 2}},
    'random_seed': {'random_seed': 7},
    'train.fidelity.loss_weight': {
        'fidelity': {'train': {'loss_weight': {'pbe': 2.0}}}
    },
    'model.fidelity.encoding': {'fidelity': {'model': {'encoding': 'gain'}}},
    'optim_param': {'optim_param': {'lr': 0.5}},
    'data.load_trainset_path': {'train': [PBE, {**R2SCAN, 'index': ':3'}]},
    'the content of validset': {
        'valid': [entry('mixing_r2scan', 'r2scan', ':3')]
    },
}


@pytest.fixture(scope='module')
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('stopped')
    fit = fit_of(RUNS['proportional'], folder)
    before_step(fit, 2, terminate)
    with pytest.raises(TrainingStopped):
        fit.run()
    return folder


@pytest.mark.parametrize('name', list(CHANGES))
def test_a_changed_input_is_not_resumed(stopped: Path, name: str) -> None:
    change: dict[str, Any] = {**SMALL, 'epoch': 3, **CHANGES[name]}
    with pytest.raises(UserError, match=f'^--resume: {name} ') as raised:
        resumed(yaml_of(**change), stopped)
    assert 'Undo the change' in str(raised.value)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize('weight', [0.0, 1.0])
def test_a_run_with_a_removed_key_goes_on(
    stopped: Path, weight: float, recwarn: pytest.WarningsRecorder
) -> None:
    content = run_folder.load_training_state(str(stopped / RESUME))
    key = 'train.fidelity.paired_weight'
    content['config'][keys.FIDELITY_TRAIN]['paired_weight'] = weight
    content[keys.TRAINING_STATE]['must_stay'][key] = weight
    fit_of(RUNS['proportional'], stopped).resume(content)
    said = [line for line in (str(w.message) for w in recwarn) if key in line]
    if weight:
        (line,) = said
        assert line.startswith(f'--resume: {key} was 1.0 in this run, but ')
    else:
        assert not said


def test_changed_references_are_not_resumed(stopped: Path) -> None:
    content = run_folder.load_training_state(str(stopped / RESUME))
    content[keys.TRAINING_STATE]['references'] += 1e-2
    fit = fit_of(RUNS['proportional'], stopped)
    with pytest.raises(UserError, match='--resume: the reference energies'):
        fit.resume(content)


def test_references_of_another_device_are_resumed(stopped: Path) -> None:
    """Those fitted to a checkpoint's predictions are as exact as float32 is."""
    content = run_folder.load_training_state(str(stopped / RESUME))
    saved = content[keys.TRAINING_STATE]['references']
    saved += 1e-5
    fit = fit_of(RUNS['proportional'], stopped)
    data = fit.sets['trainset'].dataset
    before = data.residual.copy()
    fit.resume(content)
    assert torch.equal(fit.trainer.references, saved)
    # what is trained on, and what a checkpoint adds to it, are of the same ones
    moved = before - data.residual
    np.testing.assert_allclose(moved, 1e-5 * data.n_atoms, rtol=1e-3)


def test_resume_needs_a_curve(stopped: Path, tmp_path: Path) -> None:
    content = run_folder.load_training_state(str(stopped / RESUME))
    fit = fit_of(RUNS['proportional'], tmp_path)
    fit.resume(content)
    with pytest.raises(UserError, match=r'lc\.csv is missing'):
        fit.run()


# --------------------------------------------------------------- several processes


def test_two_processes_resume_where_they_stopped(
    two_processes: SimpleNamespace,
) -> None:
    first, second = (result['run'] for result in two_processes.results)
    for run in (first, second):
        assert 'step 2 of epoch 1' in run['message']
        assert run['position'] == (1, 2)
        assert same(run['resumed'], run['whole'])
        assert same(*run['average'])
        assert not same(run['average'][0], run['whole'])
        assert run['norms'][0] == run['norms'][1] > 0
        (epoch, why), again = run['ended']
        assert again == (epoch, why)
        assert epoch < 5
        assert 'no new best checkpoint for 1 epoch,' in why
    assert same(first['whole'], second['whole'])  # the ranks stay together
    assert same(first['average'][0], second['average'][0])
    assert first['norms'] == second['norms']
    assert first['ended'] == second['ended']


def test_processes_resume_with_everyones_metrics(
    two_processes: SimpleNamespace,
) -> None:
    """The sums of all ranks, not those of the one that writes."""
    folder = two_processes.folder / 'rank0'
    whole, parts = (
        np.genfromtxt(folder / name / 'lc.csv', delimiter=',', names=True)
        for name in ('whole', 'parts')
    )
    for name in whole.dtype.names:
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-4, err_msg=name)
