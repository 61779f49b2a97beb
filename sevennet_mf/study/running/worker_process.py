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
from sevennet_mf.program import bound, how_it_ended, last_line
from sevennet_mf.study import status

# the worker; the folder of the run is added
COMMAND = (sys.executable, '-m', 'sevennet_mf.study.running.worker')
TRUST = '--trust'  # an option of it
LOG_FILE = 'worker.log'  # of all attempts, in the run's folder


class Worker:
    """A worker that was started; it holds the lock of its run until it ends.

    It has a session of its own: Ctrl-C in the terminal does not reach it.

    Args:
        folder: Folder of the run.
        environment: Variables to add to the environment.
        command: The worker; the folder of the run is added.
        patience: Seconds that another process may still hold the lock.

    Raises:
        UserError: If another process holds the lock for longer.
        OSError: If the worker cannot be started.
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
            raise UserError(f'{who} is already working on {self.folder}')
        # the message of an earlier attempt is outdated
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
        """Send a signal to the worker and to all processes that it started."""
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

        The message is also in failed.json, even if the worker could not write it.
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
            last = last_line(log.read().decode(errors='replace'))
        return f'{how}: {last}' if last else how
