"""`sevennet-mf label` as a whole: files, failures, resuming, processes."""

from __future__ import annotations

import csv
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import ase.io
import pytest
import sevenn._keys as KEY
from ase.build import bulk
from helpers import INGAN, build, model_config, save_checkpoint
from label_helpers import ODD, cells, odd, write_cells

from sevennet_mf import cli
from sevennet_mf.data.reading.read import read_entry
from sevennet_mf.errors import TrainingStopped, UserError
from sevennet_mf.label import command
from sevennet_mf.label.command import label
from sevennet_mf.label.exchange import Outcome, Task
from sevennet_mf.label.labeller import Labeller
from sevennet_mf.label.structures import survey
from sevennet_mf.label.teacher import teacher_of


def lengths(path: Path) -> list[float]:
    """Of the cells in a labelled file; the energy of each is minus that."""
    frames = ase.io.read(path, ':')
    for frame in frames:
        assert frame.get_potential_energy() == -frame.cell[0, 0]
    return [float(frame.cell[0, 0]) for frame in frames]


def failures(path: Path) -> list[list[str]]:
    with path.open(encoding='utf-8') as stream:
        return list(csv.reader(stream))


@pytest.fixture
def pool(tmp_path: Path) -> str:
    """Cells of which one makes a calculator with a fault fail."""
    return write_cells(tmp_path / 'pool.extxyz', 5.0, 6.0, 11.0, 7.0, 8.0)


# ---- what is written


def test_labels_go_straight_into_a_training(tmp_path: Path) -> None:
    """All fidelities of a checkpoint pair, with the labels that ASE gives."""
    config = model_config()
    path = str(save_checkpoint(tmp_path / 'model.pth', build(config), config))
    data = str(INGAN / 'r2scan_valid.extxyz')
    line = ['label', data, '--with', path, '-o', str(tmp_path / 'out')]
    assert cli.main(line) == cli.DONE
    both = {}
    for name in ('pbe', 'r2scan'):
        file = str(tmp_path / 'out' / f'{name}.extxyz')
        both[name] = list(
            read_entry({'file': [file], 'fidelity': name}, None, [name], 4.0)
        )
        by_key = read_entry({'file': [file]}, 'fidelity', [name], 4.0)
        assert {one.fidelity for one in by_key} == {name}
        assert all(s.forces is not None for s in both[name])
        assert all(s.stress is not None for s in both[name])
    ids = [
        [s.atoms.info['structure_id'] for s in both[name]]  # type: ignore[union-attr]
        for name in both
    ]
    assert ids[0] == ids[1]
    assert len(ids[0]) == len(ase.io.read(data, ':'))


def test_keys_are_kept_where_asked(tmp_path: Path) -> None:
    atoms = cells(5.0)[0]
    atoms.info.update(temperature=300, note='x')
    atoms.set_initial_magnetic_moments([1.0, -1.0])
    ase.io.write(tmp_path / 'a.extxyz', atoms)
    path = str(tmp_path / 'a.extxyz')
    label([path], odd(), tmp_path / 'out', keep=['temperature'])
    found = ase.io.read(tmp_path / 'out' / 'low.extxyz')
    assert set(found.info) == {'temperature', 'structure_id', 'source', 'fidelity'}
    assert list(found.get_initial_magnetic_moments()) == [1.0, -1.0]


def test_failures_are_listed_skipped_and_tried_again_when_asked(
    pool: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / 'log'
    arguments = f'{{fault: raise, log: {log}}}'
    line = ['label', pool, '--with', f'{ODD}:make', '-f', 'low', '-o']
    line += [str(tmp_path / 'out'), '--arguments', arguments]
    assert cli.main(line) == cli.FAILED
    assert '1 failed at low' in capsys.readouterr().out
    out = tmp_path / 'out'
    assert lengths(out / 'low.extxyz') == [5.0, 6.0, 7.0, 8.0]
    [_, (_, source, error)] = failures(out / 'low_failed.csv')
    assert (source, error) == (f'{pool}:2', 'RuntimeError: no such pseudopotential')
    assert len(log.read_text().splitlines()) == 5
    assert cli.main(line) == cli.FAILED  # and nothing is computed
    assert len(log.read_text().splitlines()) == 5
    assert cli.main([*line, '--retry']) == cli.FAILED
    assert len(log.read_text().splitlines()) == 6
    assert len(failures(out / 'low_failed.csv')) == 2


def test_another_call_adds_structures_and_fidelities(tmp_path: Path) -> None:
    one = write_cells(tmp_path / 'one.extxyz', 5.0, 6.0)
    two = write_cells(tmp_path / 'two.extxyz', 7.0, 6.0)
    out = tmp_path / 'out'
    label([one], odd(), out)
    [low] = label([two], odd(), out)
    assert low.labelled == 3
    assert lengths(out / 'low.extxyz') == [5.0, 7.0, 6.0]
    # the labels of one fidelity are structures to another
    label([str(out / 'low.extxyz')], odd('high'), out)
    assert lengths(out / 'high.extxyz') == [5.0, 7.0, 6.0]
    ids = [
        [a.info['structure_id'] for a in ase.io.read(out / f'{name}.extxyz', ':')]
        for name in ('low', 'high')
    ]
    assert ids[0] == ids[1]


def test_an_input_is_not_written(tmp_path: Path) -> None:
    path = write_cells(tmp_path / 'low.extxyz', 5.0)
    with pytest.raises(UserError, match='is an input and would be written'):
        label([path], odd(), tmp_path)


def test_copies_are_labelled_once_and_said(tmp_path: Path) -> None:
    path = write_cells(tmp_path / 'a.extxyz', 5.0, 5.0)
    with pytest.warns(UserWarning, match='copies of other structures: 1;'):
        [found] = label([path], odd(), tmp_path / 'out')
    assert found.labelled == 1


def test_doubtful_labels_of_a_checkpoint_are_said(tmp_path: Path) -> None:
    """As of Yb at R2SCAN in 7net-mf-0, which no label there contained."""
    config = model_config()
    config[KEY.SHIFT] = {'pbe': -3.0, 'r2scan': 0.0}
    path = str(save_checkpoint(tmp_path / 'model.pth', build(config), config))
    ase.io.write(tmp_path / 'a.extxyz', bulk('GaN', 'zincblende', 4.5))
    with pytest.warns(UserWarning, match='reference energy is 0 at r2scan') as said:
        label([str(tmp_path / 'a.extxyz')], teacher_of(path), tmp_path / 'out')
    assert len(said) == 2  # of the elements that there are


@pytest.mark.parametrize('option', ['processes', 'threads'])
def test_numbers_must_be_positive(option: str, pool: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {option: 0}
    with pytest.raises(UserError, match=f'--{option} must be 1 or more, got 0'):
        label([pool], odd(), tmp_path / 'out', **options)


def test_a_file_that_changes_meanwhile_is_said(
    pool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changing(*args: Any) -> Any:
        found = survey(*args)
        write_cells(Path(pool), 5.0, 6.0)
        return found

    monkeypatch.setattr(command, 'survey', changing)
    with pytest.raises(UserError, match='pool.extxyz changed while being read'):
        label([pool], odd(), tmp_path / 'out')
    assert lengths(tmp_path / 'out' / 'low.extxyz') == [5.0, 6.0]


# ---- interrupted


@pytest.mark.parametrize(('fault', 'done'), [('stop', 3), ('stopped', 2)])
def test_a_signal_ends_it_after_the_structure_and_it_goes_on(
    fault: str, done: int, pool: str, tmp_path: Path
) -> None:
    """A program that Ctrl-C ended is no failure."""
    out, log = tmp_path / 'out', tmp_path / 'log'
    teacher = odd(fault=fault, log=str(log))
    with pytest.raises(TrainingStopped, match=f'SIGINT: {done} of 5 structures'):
        label([pool], teacher, out)
    assert lengths(out / 'low.extxyz') == [5.0, 6.0, 11.0][:done]
    assert not (out / 'low_failed.csv').exists()
    write_cells(Path(pool), 5.0, 6.0, 7.0, 8.0)
    label([pool], teacher, out)
    assert [row.split()[0] for row in log.read_text().splitlines()] == [
        *('5.0', '6.0', '11.0', '7.0', '8.0'),
    ]


def test_a_signal_ends_a_checkpoint_after_the_structure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Labeller.__call__

    def interrupted(self: Labeller, task: Task) -> Outcome:
        os.kill(os.getpid(), signal.SIGTERM)
        return real(self, task)

    config = model_config()
    path = str(save_checkpoint(tmp_path / 'model.pth', build(config), config))
    data = str(INGAN / 'r2scan_valid.extxyz')
    monkeypatch.setattr(Labeller, '__call__', interrupted)
    with pytest.raises(TrainingStopped, match='SIGTERM: 1 of'):
        label([data], teacher_of(path, ['pbe']), tmp_path / 'out')


# ---- processes


def test_a_file_of_the_current_folder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name is relative, and the calculator works in a folder of its own."""
    pool = write_cells(tmp_path / 'pool.extxyz', 5.0, 11.0, 6.0)
    shutil.copy(ODD, tmp_path / 'own.py')
    monkeypatch.chdir(tmp_path)
    teacher = teacher_of('own.py:make', ['low'], {'fault': 'raise'})
    [found] = label([pool], teacher, 'out')
    assert (found.labelled, found.failed) == (2, 1)  # made anew after the failure


@pytest.mark.parametrize(
    ('fault', 'how'),
    [('exit', 'ended with exit code 3'), ('crash', 'ended by SIGSEGV')],
)
def test_a_calculator_that_ends_its_process_is_a_failure(
    fault: str, how: str, pool: str, tmp_path: Path
) -> None:
    """With one process as with several."""
    out = tmp_path / 'out'
    [found] = label([pool], odd(fault=fault), out)
    assert (found.labelled, found.failed) == (4, 1)
    assert lengths(out / 'low.extxyz') == [5.0, 6.0, 7.0, 8.0]
    [_, (_, source, error)] = failures(out / 'low_failed.csv')
    assert source == f'{pool}:2'
    assert error.startswith(f'the process {how}')


def test_processes_have_folders_of_their_own_and_survive_crashes(
    tmp_path: Path,
) -> None:
    pool = write_cells(tmp_path / 'pool.extxyz', 5.0, 6.0, 11.0, 12.0, 13.0, 7.0)
    log, out = tmp_path / 'log', tmp_path / 'out'
    teacher = odd(fault='crash', log=str(log))
    [found] = label([pool], teacher, out, processes=2)
    assert lengths(out / 'low.extxyz') == [5.0, 6.0, 7.0]
    rows = failures(out / 'low_failed.csv')[1:]
    assert {row[1] for row in rows} == {f'{pool}:{frame}' for frame in (2, 3, 4)}
    assert all(row[2].startswith('the process ended by SIGSEGV') for row in rows)
    assert (found.labelled, found.failed, found.path) == (
        *(3, 3),
        str(out / 'low.extxyz'),
    )
    rows = [line.split() for line in log.read_text().splitlines()]
    assert {row[2] for row in rows} == {
        str((out / 'work' / place).resolve()) for place in '12'
    }
    assert len({row[1] for row in rows}) >= 3  # those that died had successors
    assert str(os.getpid()) not in {row[1] for row in rows}


def test_processes_that_cannot_begin(pool: str, tmp_path: Path) -> None:
    teacher = odd(wrong=1)
    with pytest.raises(UserError, match='the calculator cannot be made'):
        label([pool], teacher, tmp_path / 'out', processes=2)
