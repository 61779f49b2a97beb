"""Workers side by side: how many, on what, and how they end."""

import json
import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from study_helpers import Options, Study

from sevennet_mf.study.running import local
from sevennet_mf.study.running.schedule import Schedule
from sevennet_mf.study.status import Status


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path)


def work(study: Study, parallel: int = 2, threads: int = 1) -> dict[str, Status]:
    schedule = Schedule(study.runs)
    local.work(schedule, Options(parallel, threads), study.command)
    return schedule.states


def most_at_once(events: list[str]) -> int:
    now, most = 0, 0
    for event in events:
        now += 1 if event.startswith('began') else -1
        most = max(most, now)
    return most


@pytest.mark.parametrize('parallel', [1, 2, 3])
def test_as_many_as_allowed_run_side_by_side(study: Study, parallel: int) -> None:
    # each ends only when another has begun, except where one comes alone
    for seed in range(1, 6):
        study.add(f'a/seed{seed}', 'meets' if parallel > 1 else 'ends')
    states = work(study, parallel)
    assert {s.state for s in states.values()} == {'done'}
    assert min(2, parallel) <= most_at_once(study.events()) <= parallel


def test_a_worker_gets_its_threads_and_a_log(study: Study) -> None:
    run = study.add('a/seed1')
    work(study, threads=3)
    assert 'hello from a/seed1\n' in (run.folder / 'worker.log').read_text()
    found = json.loads((run.folder / 'environment.json').read_text())
    assert found['OMP_NUM_THREADS'] == found['MKL_NUM_THREADS'] == '3'


@pytest.mark.parametrize(
    ('does', 'message'),
    [
        ('fails', 'no data'),
        ('crashes', 'ended with exit code 3: what a pity'),
        ('dies', r'ended by SIGKILL \(out of memory\?\)'),
        ('forgets', 'ended without a result: hello from a/seed1'),
    ],
)
def test_however_a_worker_ends_it_is_said(
    study: Study, does: str, message: str
) -> None:
    run = study.add('a/seed1', does)
    for _ in range(2):  # an earlier try changes nothing
        status = work(study)['a/seed1']
        assert status.state == 'failed'
        said = json.loads((run.folder / 'failed.json').read_text())
        assert said['message'] == status.message
        assert re.match(message, status.message), status.message


def test_a_program_that_is_not_there_is_a_failure(study: Study) -> None:
    study.add('a/seed1')
    study.command = ('/no/such/program', '')
    assert work(study)['a/seed1'].state == 'failed'


def test_who_insists_kills(study: Study, tmp_path: Path) -> None:
    """A second Ctrl-C does not wait for a worker that does not stop."""
    script = tmp_path / 'deaf.py'
    script.write_text(
        'import signal, sys, time, pathlib\n'
        'signal.signal(signal.SIGTERM, signal.SIG_IGN)\n'
        'pathlib.Path(sys.argv[1], "pid").touch()\n'
        'time.sleep(60)\n',
        encoding='utf-8',
    )
    run = study.add('a/seed1')
    study.command = (study.command[0], str(script))
    schedule = Schedule(study.runs)

    def insist() -> None:
        while not (run.folder / 'pid').exists():
            time.sleep(0.02)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)

    thread = threading.Thread(target=insist)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        local.work(schedule, Options(), study.command)
    thread.join()


def test_the_cores_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, 'gpus', list)
    monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: set(range(8)))
    for threads, number in ((1, 8), (3, 2), (16, 1)):
        found = local.places(Options('auto', threads))
        assert len(found) == number
        assert {p['OMP_NUM_THREADS'] for p in found} == {str(threads)}
        assert 'CUDA_VISIBLE_DEVICES' not in found[0]
    assert len(local.places(Options(5, 4))) == 5


@pytest.mark.parametrize(('device', 'number'), [('cpu', 1), ('cuda', 2), (None, 2)])
def test_runs_on_cores_need_no_gpu(
    study: Study,
    monkeypatch: pytest.MonkeyPatch,
    device: str | None,
    number: int,
) -> None:
    monkeypatch.setattr(local, 'gpus', lambda: ['0', '1'])
    monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: {0})
    run = study.add('a/seed1')
    if device:
        described = json.loads((run.folder / 'run.json').read_text())
        described['device'] = device
        (run.folder / 'run.json').write_text(json.dumps(described))
    found = local.places(Options('auto'), local.uses_gpus(Schedule(study.runs)))
    assert len(found) == number
    assert ('CUDA_VISIBLE_DEVICES' in found[0]) == (device != 'cpu')


@pytest.mark.parametrize(
    ('chosen', 'names'),
    [('', ['0', '1']), ('3,5', ['3', '5']), ('GPU-a,GPU-b', ['GPU-a', 'GPU-b'])],
)
def test_each_run_gets_a_gpu(
    monkeypatch: pytest.MonkeyPatch, chosen: str, names: list[str]
) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', chosen)
    found = local.places(Options('auto'))
    assert [p['CUDA_VISIBLE_DEVICES'] for p in found] == names
    # more than there are share them
    found = local.places(Options(3))
    assert [p['CUDA_VISIBLE_DEVICES'] for p in found] == [*names, names[0]]
