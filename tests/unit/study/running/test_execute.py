"""A whole study of stub runs, from the first call to the last."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from study_helpers import Options, Study

from sevennet_mf import lock
from sevennet_mf.errors import TrainingStopped, UserError
from sevennet_mf.study import status
from sevennet_mf.study.running import execute as module
from sevennet_mf.study.status import Status

LIMIT = 120.0  # s after which something hangs


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path)


def execute(study: Study, parallel: int = 2) -> dict[str, Status]:
    return module.execute(study.runs, Options(parallel), command=study.command)


def wait_for(study: Study, event: str, times: int = 1) -> None:
    end = time.monotonic() + LIMIT
    while study.events().count(event) < times:
        assert time.monotonic() < end, (event, study.events())
        time.sleep(0.02)


def test_dependencies_come_first_and_errors_are_read(study: Study) -> None:
    study.add('delta/n8_seed1', needs=['low/seed1'])
    study.add('low/seed1')
    states = execute(study)
    assert states['delta/n8_seed1'] == Status('done', 1.0, '', 12.34, 80.0)
    assert study.events() == [
        'began low/seed1',
        'ended low/seed1',
        'began delta/n8_seed1',
        'ended delta/n8_seed1',
    ]


def test_a_failure_stops_only_what_needs_it(study: Study) -> None:
    study.add('low/seed1', 'fails')
    study.add('delta/n8_seed1', needs=['low/seed1'])
    study.add('high_only/n8_seed1')
    states = execute(study, parallel=1)
    assert states['low/seed1'] == Status('failed', 0.0, 'no data')
    assert states['delta/n8_seed1'].state == 'blocked'
    assert states['delta/n8_seed1'].message == 'needs low/seed1, which failed'
    assert states['high_only/n8_seed1'].state == 'done'
    assert status.read_all(study.runs) == states  # the files say the same


def test_a_second_call_skips_the_done_and_tries_the_failed_again(
    study: Study,
) -> None:
    study.add('high_only/n8_seed1')
    study.add('low/seed1', 'fails')
    study.add('delta/n8_seed1', needs=['low/seed1'])
    execute(study)
    study.add('low/seed1')  # what was wrong has been put right
    states = execute(study)
    assert {s.state for s in states.values()} == {'done'}
    assert study.events().count('began high_only/n8_seed1') == 1
    assert study.events().count('began low/seed1') == 2
    assert execute(study) == states
    assert len(study.events('began')) == 4


def test_every_change_is_reported(study: Study) -> None:
    study.add('low/seed1', 'fails')
    study.add('delta/n8_seed1', needs=['low/seed1'])
    seen: list[tuple[str, ...]] = []

    def note(states: Mapping[str, Status]) -> None:
        seen.append(tuple(s.state for s in states.values()))

    module.execute(study.runs, Options(), on_change=note, command=study.command)
    assert seen == [
        ('waiting', 'waiting'),
        ('running', 'waiting'),
        ('failed', 'blocked'),
    ]


def test_no_runs_are_no_work() -> None:
    assert module.execute([], Options()) == {}


def interrupt(study: Study, event: str, *numbers: signal.Signals) -> None:
    """Send signals to this process once the event was noted."""

    def send() -> None:
        wait_for(study, event)
        for number in numbers:
            os.kill(os.getpid(), number)

    threading.Thread(target=send).start()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_study_goes_on(study: Study, number: signal.Signals) -> None:
    study.add('high_only/n8_seed1')
    study.add('low/seed1', 'waits')
    study.add('delta/n8_seed1', needs=['low/seed1'])
    interrupt(study, 'began low/seed1', number)
    match = rf'^stopped by {number.name}: . of 3 runs are done; the same command'
    with pytest.raises(TrainingStopped, match=match):
        execute(study, parallel=1)
    assert study.events('stopped') == ['stopped low/seed1']  # once
    assert not study.events('began delta')
    run = study.runs[1]
    assert (run.folder / 'checkpoint').exists()  # it was waited for
    # that the worker calls being stopped a failure counts for nothing
    assert status.read(run) == Status('interrupted', 0.25)
    states = execute(study)
    assert {s.state for s in states.values()} == {'done'}
    assert study.events().count('began high_only/n8_seed1') == 1


# starts a study as a process of its own, which a test may kill
SCRIPT = """
    import sys
    from pathlib import Path
    from study_helpers import Options, Study
    from sevennet_mf.study.running.execute import execute

    study = Study(Path(sys.argv[1]))
    study.add('low/seed1', 'waits')
    execute(study.runs, Options(), command=study.command)
"""


def in_a_process(study: Study) -> subprocess.Popen[str]:
    helpers = Path(__file__).parents[3]
    return subprocess.Popen(
        [sys.executable, '-c', textwrap.dedent(SCRIPT), str(study.folder)],
        env={**os.environ, 'PYTHONPATH': os.pathsep.join([str(helpers), *sys.path])},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_studies_in_a_folder_are_refused(study: Study) -> None:
    run = study.add('low/seed1', 'waits')
    with in_a_process(study) as process:
        wait_for(study, 'began low/seed1')
        match = (
            rf'^process {process.pid} on \S+ is running a study in {study.folder}: '
            'wait for it, or choose another folder with -o$'
        )
        with pytest.raises(UserError, match=match):
            execute(study)
        assert status.read(run).state == 'running'
        process.terminate()
    assert process.returncode
    assert study.events().count('began low/seed1') == 1


def test_a_killed_study_leaves_no_worker_and_goes_on(study: Study) -> None:
    run = study.add('low/seed1', 'waits')
    with in_a_process(study) as process:
        wait_for(study, 'began low/seed1')
        process.kill()
    # waits for the worker, which the kernel told to stop, and goes on
    assert execute(study)['low/seed1'].state == 'done'
    assert study.events() == [
        'began low/seed1',
        'stopped low/seed1',
        'began low/seed1',
        'ended low/seed1',
    ]
    assert lock.holder(run.folder / status.RUN_LOCK) == ''


def test_a_worker_that_stays_is_named(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = study.add('low/seed1')
    monkeypatch.setattr(module, 'PATIENCE', 0.0)
    held = lock.take(run.folder / status.RUN_LOCK)
    assert held is not None
    match = rf'^process {os.getpid()} on \S+ is still working on {run.folder}\. Wait'
    with held, pytest.raises(UserError, match=match):
        execute(study)
    assert study.events() == []
