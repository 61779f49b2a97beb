"""A process that does not outlive the one that started it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commandline import wait_for_end
from study_helpers import Study

from sevennet_mf import lock
from sevennet_mf.errors import UserError
from sevennet_mf.program import bound
from sevennet_mf.study import status
from sevennet_mf.study.running.worker_process import Worker


def test_who_is_bound_is_told_of_the_end_of_its_parent() -> None:
    inner = [sys.executable, '-S', '-c', 'import time; time.sleep(60)']
    code = (
        'import subprocess\n'
        'from sevennet_mf.program import bound\n'
        f'child = subprocess.Popen(bound({inner!r}))\n'
        'print(child.pid, flush=True)\n'
        'child.wait()\n'
    )
    with subprocess.Popen(
        [sys.executable, '-c', code],
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert Path('/proc', str(child)).exists()
        parent.kill()
    wait_for_end(child)


def test_the_exit_code_is_the_commands() -> None:
    done = subprocess.run(bound([sys.executable, '-S', '-c', 'raise SystemExit(7)']))
    assert done.returncode == 7


def test_a_worker_holds_the_lock_of_its_run(tmp_path: Path) -> None:
    study = Study(tmp_path)
    run = study.add('low/seed1', 'waits')
    worker = Worker(run.folder, {}, study.command)
    try:
        who = f'process {worker.process.pid} on '
        assert lock.holder(run.folder / status.RUN_LOCK).startswith(who)
        with pytest.raises(UserError, match=f'^{who}.* is already working on'):
            Worker(run.folder, {}, study.command)
    finally:
        worker.signal(signal.SIGKILL)
        assert worker.wait() == -signal.SIGKILL
    worker.signal(signal.SIGTERM)  # too late, and no error
    assert worker.failure().startswith('ended by SIGKILL')
    assert status.read(run).state == 'failed'
