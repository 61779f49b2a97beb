"""A worker: the process that does one run, its log, and how it ended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from sevennet_mf import lock
from sevennet_mf.errors import UserError
from sevennet_mf.files import read_json
from sevennet_mf.program import how_it_ended
from sevennet_mf.study import status

# what does a run; the run's folder is added
COMMAND = (sys.executable, '-m', 'sevennet_mf.study.work.worker')
TRUST = '--trust'  # an option of it
LOG_FILE = 'worker.log'  # of all tries, in the run's folder

# Runs the command in its place, and has the kernel send SIGTERM to it when the
# process that started it dies, be it by `kill -9`: nobody is left who would stop
# the worker. prctl(PR_SET_PDEATHSIG) outlasts exec; a function for Popen to call
# between fork and exec would not be safe beside the threads of a live table.
_LAUNCH = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, int(signal.SIGTERM), 0, 0, 0)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""


def bound(command: Sequence[str]) -> list[str]:
    """Return the command so that it gets SIGTERM when who starts it is no more.

    For this process to start, from the thread that waits for it.
    """
    start = [sys.executable, '-I', '-S', '-c', _LAUNCH, str(os.getpid())]
    return [*start, *command]


def threads(number: int) -> dict[str, str]:
    """Return the environment variables that set a worker's threads."""
    return {'OMP_NUM_THREADS': str(number), 'MKL_NUM_THREADS': str(number)}


class Worker:
    """A worker that was started; it holds the lock of its run until it ends.

    It is in a session of its own: Ctrl-C in the terminal does not reach it.
    patience: s that another process may still hold the lock.  Raises UserError if
    it holds it longer, OSError if the worker cannot be started.
    """

    def __init__(
        self,
        folder: Path,
        environment: dict[str, str],
        command: Sequence[str],
        patience: float = lock.PATIENCE,
    ) -> None:
        self.folder = Path(folder)
        self.log = self.folder / LOG_FILE
        held = lock.take(self.folder / status.RUN_LOCK, patience)
        if held is None:
            who = lock.holder(self.folder / status.RUN_LOCK) or 'another process'
            raise UserError(f'{who} already works on {self.folder}')
        # what an earlier try said is no longer true
        status.forget_failure(self.folder)
        with held, self.log.open('ab') as log:
            self.log_start = log.tell()
            self.process = subprocess.Popen(
                bound([*command, str(self.folder)]),
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[held.fileno()],
            )
            lock.sign(held, self.process.pid)

    def ended(self) -> bool:
        return self.process.poll() is not None

    def signal(self, number: int) -> None:
        """Send a signal to the worker and to all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def wait(self) -> int:
        """Wait for the end; return the exit code."""
        self.wait_for_end()
        return self.process.wait()

    def wait_for_end(self) -> None:
        """Wait, also within a signal handler that interrupts `wait`."""
        # Popen.wait holds a lock: a handler that waits for it too would hang
        with suppress(ChildProcessError):
            os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)

    def failure(self) -> str:
        """Return what went wrong with a worker that has ended; '' if nothing.

        The message is in failed.json as well, also if the worker could not.
        """
        if read_json(self.folder / status.RESULT_FILE):
            return ''
        said = read_json(self.folder / status.FAILED_FILE)
        if not said:
            said = {'message': self._cause(), 'stage': None}
            status.write_failure(self.folder, said['message'])
        return str(said.get('message', ''))

    def _cause(self) -> str:
        code = self.process.returncode
        how = how_it_ended(code) if code else 'ended without a result'
        with self.log.open('rb') as log:
            log.seek(self.log_start)
            text = log.read().decode(errors='replace').strip()
        last = f': {text.splitlines()[-1]}' if text else ''
        return f'{how}{last}'
