"""Labelling in processes, of which any may crash, or by a checkpoint in this one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator, Iterable
from contextlib import suppress
from multiprocessing import Pipe, connection
from pathlib import Path
from typing import Any, Final

from sevennet_mf.errors import UserError
from sevennet_mf.interrupt import StopRequest
from sevennet_mf.label.exchange import Outcome, Task, Teacher
from sevennet_mf.label.labeller import Labeller, folder_of, remove_if_empty
from sevennet_mf.label.worker import READY
from sevennet_mf.program import bound, how_it_ended, last_line, threads

PAUSE: Final[float] = 0.5  # s, at most, until a signal is noticed
LOG: Final[str] = 'worker.log'


def label_here(
    tasks: Iterable[Task], teacher: Teacher, output: Path, stop: StopRequest
) -> Generator[Outcome]:
    """Yield the outcome of each task, one after another in this process.

    It is for a checkpoint: somebody's calculator may end the process.

    Raises:
        UserError: The model cannot be loaded.
    """
    labeller = Labeller(teacher, folder_of(output, 1))
    try:
        for task in tasks:
            if stop:
                return
            yield labeller(task)
    finally:
        labeller.close()


def label_in_processes(
    tasks: Iterable[Task],
    teacher: Teacher,
    output: Path,
    number: int,
    cores: int | None,
    stop: StopRequest,
) -> Generator[Outcome]:
    """Yield outcomes as they come, from a number of processes.

    A process that dies takes its structure with it, which is a failure, and gets a
    successor. When `stop` is set, a single process finishes its structure. Several
    are killed, and what they were at is left for the next call.

    Args:
        cores: Threads of each process; None: as many as it takes.

    Raises:
        UserError: The calculator cannot be made.
    """
    left = iter(tasks)
    workers: list[LabelProcess] = []

    def start(place: int) -> LabelProcess | None:
        task = next(left, None)
        if task is None:
            return None
        worker = LabelProcess(teacher, folder_of(output, place), cores, task)
        workers.append(worker)
        return worker

    try:
        for place in range(1, number + 1):
            start(place)
        while workers and (not stop or (number == 1 and workers[0].is_ready)):
            for worker in _answering(workers):
                outcome = worker.outcome()
                if outcome is None:
                    continue
                if stop and outcome.failed:
                    return  # whatever ended the calculation may be that signal
                yield outcome
                if worker.is_dead:
                    workers.remove(worker)
                    start(worker.place)
                elif not stop and (task := next(left, None)) is not None:
                    worker.give(task)
                else:
                    workers.remove(worker)
                    worker.dismiss()
    finally:
        for worker in workers:
            worker.kill()


def _answering(workers: list[LabelProcess]) -> list[LabelProcess]:
    ready = connection.wait([w.connection for w in workers], timeout=PAUSE)
    return [w for w in workers if w.connection in ready]


class LabelProcess:
    """A process that labels, with a folder and a session of its own.

    Args:
        folder: Named by its place.
        cores: Threads; None: as many as it takes.
        task: The first one.

    Raises:
        UserError: The process cannot be started.
    """

    def __init__(
        self, teacher: Teacher, folder: Path, cores: int | None, task: Task
    ) -> None:
        self.place = int(folder.name)
        self.log = folder / LOG
        self.is_ready = self.is_dead = False
        self.connection, theirs = Pipe()
        command = [sys.executable, '-m', 'sevennet_mf.label.worker']
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with theirs, self.log.open('wb') as log:
                self.process = subprocess.Popen(
                    bound([*command, str(theirs.fileno())]),
                    env={**os.environ, **(threads(cores) if cores else {})},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=[theirs.fileno()],
                )
        except OSError as error:
            raise UserError(
                f'a process cannot be started: {error}. Lower --processes.'
            ) from None
        self._send((teacher, folder))
        self.give(task)

    def give(self, task: Task) -> None:
        """Give it a task; what comes of it is asked for later."""
        self.task = task
        self._send(task)

    def _send(self, what: Any) -> None:
        with suppress(OSError):  # it died: reading from it will tell
            self.connection.send(what)

    def outcome(self) -> Outcome | None:
        """Return what it answers; None if it only says that it is ready.

        Raises:
            UserError: It never became ready.
        """
        try:
            answer = self.connection.recv()
        except (EOFError, OSError):
            return self._died()
        if isinstance(answer, Outcome):
            return answer
        if answer != READY:
            raise UserError(answer)
        self.is_ready = True
        return None

    def _died(self) -> Outcome:
        self.is_dead = True
        self.connection.close()
        how = f'the process {how_it_ended(self.process.wait())}{self._said()}'
        if not self.is_ready:
            raise UserError(
                f'{how}, before it could label anything. See {self.log}.'
            )
        return Outcome(self.task, dict.fromkeys(self.task.names, how), 0.0)

    def _said(self) -> str:
        last = last_line(self.log.read_text(encoding='utf-8', errors='replace'))
        return f': {last}' if last else ''

    def dismiss(self) -> None:
        """Let it end, now that it has nothing to do."""
        self.connection.close()
        self.process.wait()
        if self.log.is_file() and self.log.stat().st_size == 0:
            self.log.unlink()
        remove_if_empty(self.log.parent)

    def kill(self) -> None:
        """End it and all programs that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.connection.close()
        self.process.wait()
