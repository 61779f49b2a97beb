"""Runs as jobs: a small Slurm of the tests' own, and submitit's local executor."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fake_slurm
import pytest
from study_helpers import Options, Study

from sevennet_mf.errors import TrainingStopped, UserError
from sevennet_mf.study import status
from sevennet_mf.study.running import slurm, slurm_job
from sevennet_mf.study.running.execute import execute
from sevennet_mf.study.running.schedule import Schedule
from sevennet_mf.study.status import Status

LIMIT = 120.0  # s after which something hangs
GIVEN = {'timeout_min': 10, 'partition': 'gpu'}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path / 'study')


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a Slurm that answers at once."""
    folder = tmp_path / 'slurm'
    tools = fake_slurm.install(folder)
    monkeypatch.setenv('PATH', os.pathsep.join([tools, os.environ['PATH']]))
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join(filter(None, sys.path)))
    monkeypatch.setattr(slurm, 'PAUSE', 0.1)
    monkeypatch.setattr(slurm, 'ASK', 0.1)
    monkeypatch.setattr(slurm, 'SETTLE', 1.0)
    return folder


def run(study: Study, **given: Any) -> dict[str, Status]:
    options = Options('auto', 1, {**GIVEN, **given})
    return execute(study.runs, options, command=study.command)


def submitted(cluster: Path) -> list[str]:
    """The scripts given to sbatch, in order."""
    paths = sorted(cluster.glob('submitted*'), key=lambda path: int(path.name[9:]))
    return [path.read_text(encoding='utf-8') for path in paths]


def once(true: Callable[[], Any], then: Callable[[], Any]) -> threading.Thread:
    """Do something in a thread when a condition is met."""

    def wait() -> None:
        end = time.monotonic() + LIMIT
        while not true() and time.monotonic() < end:
            time.sleep(0.05)
        then()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def interrupt_when(true: Callable[[], Any]) -> threading.Thread:
    return once(true, lambda: os.kill(os.getpid(), signal.SIGINT))


def test_jobs_follow_those_they_need(study: Study, cluster: Path) -> None:
    study.add('delta/n8_seed1', needs=['low/seed1'])
    study.add('delta/n8_seed2', needs=['low/seed2'])
    study.add('low/seed1')
    study.add('low/seed2')
    states = run(study)
    assert {s.state for s in states.values()} == {'done'}
    assert states['delta/n8_seed1'].energy_mae == 12.34
    first, *others = submitted(cluster)  # all of them before anything was done
    assert '#SBATCH --array=0-1%2' in first
    assert 'dependency' not in first
    assert '#SBATCH --partition=gpu' in first
    assert '#SBATCH --time=10' in first
    dependencies = {text.split('--dependency=')[1].split('\n')[0] for text in others}
    assert dependencies == {'afterok:1_0', 'afterok:1_1'}
    assert all('#SBATCH --kill-on-invalid-dep=yes' in text for text in others)
    for seed in (1, 2):
        events = study.events()
        low = events.index(f'ended low/seed{seed}')
        assert low < events.index(f'began delta/n8_seed{seed}')


def test_a_failed_job_blocks_what_needs_it(study: Study, cluster: Path) -> None:
    study.add('low/seed1', 'fails')
    study.add('delta/n8_seed1', needs=['low/seed1'])
    study.add('high_only/n8_seed1')
    states = run(study)
    assert states['low/seed1'].message == 'no data'
    assert states['delta/n8_seed1'].message == 'needs low/seed1, which failed'
    assert states['high_only/n8_seed1'].state == 'done'
    study.add('low/seed1')  # put right: only what is not done is submitted again
    states = run(study)
    assert {s.state for s in states.values()} == {'done'}
    assert study.events().count('began high_only/n8_seed1') == 1


def test_watching_is_taken_up_again(study: Study, cluster: Path) -> None:
    """Ctrl-C leaves the jobs; the next call submits none of them twice."""
    study.add('low/seed1', 'meets')  # runs on until another begins
    study.add('delta/n8_seed1', needs=['low/seed1'])
    thread = interrupt_when(lambda: study.events('began low/seed1'))
    match = (
        '^stopped by SIGINT: 0 of 2 runs are done; the same command watches the '
        'others again; `scancel 1 2` ends them.$'
    )
    with pytest.raises(TrainingStopped, match=match):
        run(study)
    thread.join()
    assert not study.events('ended')
    study.add('high_only/n8_seed1')
    states = run(study)
    assert {s.state for s in states.values()} == {'done'}
    assert len(study.events('began')) == 3
    assert len(submitted(cluster)) == 3


def test_a_job_that_the_queue_missed_once_is_not_given_up_later(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.add('a/seed1')
    schedule = Schedule(study.runs)
    submitter: Any = SimpleNamespace(cluster='slurm', log=lambda job: f'{job}.log')
    watch = slurm.Watch(schedule, submitter)
    watch.jobs['a/seed1'] = '1'

    def look(now: float, queue: dict[str, str] | None) -> bool:
        clock = SimpleNamespace(monotonic=lambda: now)
        monkeypatch.setattr(slurm, 'time', clock)
        monkeypatch.setattr(watch, '_ask', lambda: queue)
        watch.look()
        return schedule.states['a/seed1'].ended

    assert not look(0.0, {})
    assert not look(1.0, {'1': 'RUNNING'})
    assert not look(1000.0, {})  # its result may not be seen yet
    assert not look(1000.5, None)  # no answer says nothing
    assert look(1001.0 + slurm.SETTLE, {})


def test_a_cancelled_job_can_be_gone_on_from(study: Study, cluster: Path) -> None:
    low = study.add('low/seed1', 'waits')
    thread = once(
        lambda: study.events('began low/seed1'),
        lambda: fake_slurm.scancel(cluster, '1'),
    )
    status = run(study)['low/seed1']
    thread.join()
    assert status.state == 'failed'
    assert status.message.startswith('job 1 ended without a result: cancelled, or')
    assert 'slurm/1_0_log.err' in status.message
    assert study.events('stopped') == ['stopped low/seed1']
    assert (low.folder / 'checkpoint').exists()
    assert run(study)['low/seed1'].state == 'done'


def test_without_accounts_of_the_queue_nothing_is_submitted_twice(
    study: Study, cluster: Path
) -> None:
    low = study.add('low/seed1')
    (low.folder / 'slurm.json').write_text('{"job": "7"}', encoding='utf-8')
    (cluster / 'bin' / 'squeue').write_text('#!/bin/sh\nexit 1\n', encoding='utf-8')
    with pytest.raises(UserError, match='^squeue does not answer'):
        run(study)
    assert not submitted(cluster)


def test_what_sbatch_says_is_passed_on(study: Study, cluster: Path) -> None:
    study.add('low/seed1')
    match = '^sbatch refused: .*invalid partition specified: closed$'
    with pytest.raises(UserError, match=match):
        run(study, partition='closed')


@pytest.mark.parametrize(
    ('given', 'match'),
    [
        ({'timeout_mn': 10}, r"^run.slurm must .*'timeout_mn'. Did you mean 'timeo"),
        ({'partition': 'gpu'}, '^run.slurm needs timeout_min: the minutes a job'),
        ({'timeout_min': 'long'}, '^run.slurm cannot be used: .*timeout_min'),
        ({'cluster': 'slrm'}, "^run.slurm.cluster must .* Did you mean 'slurm'"),
        ({'timeout_min': 9, 'dependency': 'afterok:1'}, "got 'dependency'"),
    ],
)
def test_options_that_cannot_be_used(
    study: Study, cluster: Path, given: dict[str, Any], match: str
) -> None:
    study.add('low/seed1')
    with pytest.raises(UserError, match=match):
        execute(study.runs, Options('auto', 1, given), command=study.command)
    assert not submitted(cluster)


def test_no_slurm_and_no_submitit_are_told(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.add('low/seed1')
    monkeypatch.setenv('PATH', '')
    with pytest.raises(UserError, match=r'^run.slurm: there is no Slurm here'):
        run(study)
    monkeypatch.setitem(sys.modules, 'submitit', None)
    with pytest.raises(UserError, match=r'pip install "sevennet_mf\[slurm\]"$'):
        run(study)


def test_the_same_without_a_cluster(
    study: Study, cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.add('low/seed1')
    study.add('delta/n8_seed1', needs=['low/seed1'])
    study.add('high_only/n8_seed1', 'fails')
    states = run(study, cluster='local')
    assert [s.state for s in states.values()] == ['done', 'done', 'failed']
    assert not submitted(cluster)
    events = study.events()
    assert events.index('ended low/seed1') < events.index('began delta/n8_seed1')


def test_what_cannot_be_resumed_is_not_put_into_the_queue_again(
    study: Study,
) -> None:
    host = study.add('host_modality/seed1', 'waits')
    described = json.loads((host.folder / 'run.json').read_text())
    described['stages'][0]['host'] = True
    (host.folder / 'run.json').write_text(json.dumps(described))
    job = slurm_job.Job(str(host.folder), 1, study.command)

    class Ended(Exception):
        """As submitit raises for what has nothing to put into the queue."""

    def out_of_time(number: int, frame: Any) -> None:
        assert job.checkpoint() is None
        raise Ended

    before = {n: signal.getsignal(n) for n in (signal.SIGUSR2, signal.SIGTERM)}
    signal.signal(signal.SIGUSR2, out_of_time)
    thread = once(
        lambda: study.events('began host_modality/seed1'),
        lambda: os.kill(os.getpid(), signal.SIGUSR2),
    )
    try:
        with pytest.raises(Ended):
            job()
        thread.join()
        job.worker.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    message = status.read(host).message
    assert message.endswith('Raise run.slurm.timeout_min.')


def test_a_job_out_of_time_is_put_into_the_queue_again(study: Study) -> None:
    """What submitit calls before the limit: the worker stops, the job stays."""
    low = study.add('low/seed1', 'waits')
    job = slurm_job.Job(str(low.folder), 1, study.command)
    again = []

    def out_of_time(number: int, frame: Any) -> None:
        again.append(job.checkpoint())

    before = {n: signal.getsignal(n) for n in (signal.SIGUSR2, signal.SIGTERM)}
    signal.signal(signal.SIGUSR2, out_of_time)
    thread = once(
        lambda: study.events('began low/seed1'),
        lambda: os.kill(os.getpid(), signal.SIGUSR2),
    )
    try:
        with pytest.raises(RuntimeError, match='^it was stopped$'):
            job()
        thread.join()
        assert (low.folder / 'checkpoint').exists()
        assert not (low.folder / 'failed.json').exists()
        again[0].result()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert (low.folder / 'result.json').exists()
