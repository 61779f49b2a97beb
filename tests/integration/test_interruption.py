"""An interrupted run ends like one that nobody interrupted (point 9)."""

from __future__ import annotations

import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import (
    RESUME_FILE,
    assert_same_run,
    content_of,
    finish,
    progress_of,
    small_yaml,
    snapshot,
    start,
    table,
    wait_in_epoch,
    wait_until,
    waiting,
    write_yaml,
)
from helpers import registered, train_here

from sevennet_mf.cli import main

pytestmark = pytest.mark.slow


def sections() -> dict[str, Any]:
    """A run with every kind of state: momenta, a plateau, draws, drawn twice."""
    yaml = small_yaml()
    yaml['model']['fidelity'] = {'encoding': 'lora', 'rank': 2}
    yaml['train'].update(
        epoch=3,
        scheduler='reducelronplateau',
        scheduler_param={'patience': 0},
        fidelity={
            'target': 'r2scan',
            'sampling': {'pbe': 3, 'r2scan': 1},
            'loss_weight': {'r2scan': 2.0},
            'checkpoint_every': 2,
        },
    )
    return yaml


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """input.yaml, and in `whole` the run that nobody interrupted."""
    path = tmp_path_factory.mktemp('interruption')
    write_yaml(path / 'input.yaml', sections())
    train_here('input.yaml', '-w', 'whole', cwd=path)
    return path


@pytest.mark.parametrize(
    'signals',
    [[signal.SIGKILL], [signal.SIGINT, signal.SIGTERM]],
    ids=lambda signals: '-'.join(number.name for number in signals),
)
def test_ends_like_the_uninterrupted_run(
    folder: Path, signals: list[signal.Signals]
) -> None:
    name = '-'.join(number.name for number in signals)
    words = ['input.yaml', '-w', name]
    for i, number in enumerate(signals):
        resume = ['--resume'] if i else []
        command = [*waiting(i + 2), 'train']
        process = start(*words, *resume, command=command, cwd=folder)
        wait_in_epoch(process, folder / name, i + 2)
        process.send_signal(number)
        stopped = finish(process)
        epoch, step = progress_of(folder / name)
        assert (epoch, step > 0) == (i + 2, True)
        assert len(table(folder / name / 'lc.csv')['epoch']) == i + 1
        if number == signal.SIGKILL:
            assert stopped.returncode == -signal.SIGKILL
            continue
        assert stopped.returncode == 1
        said = f'stopped by {number.name} after step {step} of epoch {epoch}'
        assert stopped.stderr.count('\n') == 1
        assert said in stopped.stderr
        assert '--resume' in stopped.stderr
        logs = (folder / name).glob('log*.sevenn')
        assert any(said in log.read_text() for log in logs)
    train_here(*words, '--resume', cwd=folder)
    assert_same_run(folder / name, folder / 'whole')


def test_resuming_a_finished_run_changes_nothing(folder: Path) -> None:
    before = snapshot(folder / 'whole')
    words = ['train', str(folder / 'input.yaml'), '-w', str(folder / 'whole')]
    with registered():
        assert main([*words, '--resume']) == 0
    after = snapshot(folder / 'whole')
    kept = [name for name in before if name.endswith(('.pth', '.csv'))]
    assert {f'checkpoint_{n}.pth' for n in ('best', 'resume')} < set(kept)
    assert {name: after[name] for name in kept} == {n: before[n] for n in kept}


def test_a_larger_epoch_goes_on_where_the_run_ended(folder: Path) -> None:
    """Training for 2 epochs, then to 3, is training for 3."""
    yaml = sections()
    yaml['train']['epoch'] = 2
    write_yaml(folder / 'two.yaml', yaml)
    for name, *more in (['two.yaml'], ['input.yaml', '--resume']):
        train_here(name, '-w', 'longer', *more, cwd=folder)
    assert_same_run(folder / 'longer', folder / 'whole')


@pytest.mark.filterwarnings('ignore:checkpoints of an earlier run')
def test_it_may_continue_from_a_checkpoint_of_its_own_folder(
    folder: Path, tmp_path: Path
) -> None:
    """A new run sets that aside, and its resumption finds it there."""
    yaml = sections()
    yaml['train'].update({
        'continue': {'checkpoint': 'out/checkpoint_best.pth'},
        'scheduler': 'exponentiallr',
        'scheduler_param': {'gamma': 0.9},
    })
    yaml['train']['fidelity']['target'] = 'hse'
    for kind in ('train', 'valid'):
        (data,) = yaml['data'][f'load_{kind}set_path'][1:]
        yaml['data'][f'load_{kind}set_path'] = [{**data, 'fidelity': 'hse'}]
    yaml['train']['fidelity'].update(sampling='balanced', loss_weight={})
    file = write_yaml(tmp_path / 'input.yaml', yaml)
    for name in ('whole', 'stopped'):
        out = tmp_path / name / 'out'
        out.mkdir(parents=True)
        shutil.copy(folder / 'whole' / 'checkpoint_best.pth', out)
    words = [file, '-w', 'out']
    train_here(*words, cwd=tmp_path / 'whole')
    command = [*waiting(2), 'train']
    process = start(*words, command=command, cwd=tmp_path / 'stopped')
    wait_in_epoch(process, tmp_path / 'stopped' / 'out', 2)
    process.send_signal(signal.SIGINT)
    assert finish(process).returncode == 1
    train_here(*words, '--resume', cwd=tmp_path / 'stopped')
    assert_same_run(tmp_path / 'stopped' / 'out', tmp_path / 'whole' / 'out')


def test_resuming_with_another_yaml_names_what_changed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    yaml = sections()
    yaml['data']['batch_size'] = 2
    other = write_yaml(folder / 'other.yaml', yaml)
    before = content_of(folder / 'whole')[1]
    with registered():
        code = main(['train', other, '-w', str(folder / 'whole'), '--resume'])
    error = capsys.readouterr().err
    assert code == 2
    assert 'batch_size was 4 and is now 2' in error
    assert content_of(folder / 'whole')[1] == before


def test_there_must_be_something_to_resume(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ['train', str(folder / 'input.yaml'), '-w', str(folder / 'no')]
    with registered():
        code = main([*words, '--resume'])
    error = capsys.readouterr().err
    assert code == 2
    assert f'no such file: {folder / "no" / RESUME_FILE}' in error


def test_ctrl_c_before_the_first_step_says_so(folder: Path) -> None:
    process = start('train', 'input.yaml', '-w', 'early', cwd=folder)
    wait_until((folder / 'early').is_dir, process)
    process.send_signal(signal.SIGINT)
    stopped = finish(process)
    assert stopped.returncode == 1
    # the latter where a library swallowed the interruption of its import
    assert re.fullmatch(
        r'sevennet-mf: (interrupted|stopped by SIGINT after step 0 of .*)\n',
        stopped.stderr,
    )


def test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    yaml = sections()
    yaml['train']['optim_param'] = {'lr': 1.0e18}
    path = write_yaml(tmp_path / 'input.yaml', yaml)
    with registered():
        assert main(['train', path, '-w', str(tmp_path / 'out')]) == 1
    error = capsys.readouterr().err
    assert re.search(r'the loss is NaN or infinite at step \d+ of epoch 1', error)
    assert re.search(r'in a batch of .*(pbe_train|r2scan_pool).extxyz:\d+', error)
    assert error.count('\n') == 1
    content, curve = content_of(tmp_path / 'out')
    weights = content['model_state_dict'].values()
    assert all(bool(torch.isfinite(weight).all()) for weight in weights)
    assert len(curve.splitlines()) == 1
