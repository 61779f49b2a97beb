"""`sevennet-mf train` as a process of a run, and signals that come meanwhile."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, Final

from sevennet_mf.checkpoint import unpickle
from sevennet_mf.files import make_folder
from sevennet_mf.program import why_it_failed
from sevennet_mf.study.runs import Run
from sevennet_mf.study.work.worker_process import bound
from sevennet_mf.train.loop.run_folder import RESUME_FILE

FAILURE: Final[str] = 'train_failed.json'  # in the folder of a run
COMMAND: Final[list[str]] = [sys.executable, '-m', 'sevennet_mf.cli', 'train']

Stage = dict[str, Any]


class Interrupted(BaseException):
    """SIGTERM or Ctrl-C came; what was reached is on disk."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class StageFailed(Exception):
    """A stage ended with an error: its kind, and one line that says why."""

    def __init__(self, stage: str, message: str) -> None:
        super().__init__(message)
        self.stage = stage


def is_trained(run: Run, stage: Stage) -> bool:
    """Whether the last epoch of a training stage was reached."""
    last = f'checkpoint_{stage["epochs"]}.pth'
    return (run.folder / stage['folder'] / last).is_file()


def train(run: Run, stage: Stage, signals: Signals) -> None:
    """Start `sevennet-mf train`, or have it go on. Raises StageFailed."""
    work_dir = run.folder / stage['folder']
    command = [*COMMAND, str(run.folder / stage['yaml']), '-w', str(work_dir)]
    if unpickle.is_trusting():
        command.append('--trust')
    if stage['host']:
        # it cannot resume, and takes up processed data whatever they are of
        shutil.rmtree(work_dir, ignore_errors=True)
    else:
        _share_graphs(run, work_dir)
        if (work_dir / RESUME_FILE).is_file():
            command.append('--resume')
    failure = run.folder / FAILURE
    failure.unlink(missing_ok=True)
    code = signals.run([*command, '--failure', str(failure)])
    if code:
        raise StageFailed(stage['kind'], why_it_failed(code, failure))
    if not is_trained(run, stage):
        raise StageFailed(stage['kind'], 'training ended before its last epoch')


def _share_graphs(run: Run, work_dir: Path) -> None:
    """All runs of a study find processed structures in one folder."""
    from sevennet_mf.data.dataset import FOLDER
    from sevennet_mf.study.work.differences import graph_folder

    shared = graph_folder(run.out)
    for folder in (shared, work_dir):
        make_folder(folder)
    link = work_dir / FOLDER
    if not link.exists():
        with suppress(OSError):  # a file system without links: a folder of its own
            link.symlink_to(os.path.relpath(shared, work_dir))


class Signals:
    """Passes SIGTERM and Ctrl-C on to what runs, and remembers them."""

    NUMBERS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.child: subprocess.Popen[bytes] | None = None
        self.came = 0

    def __enter__(self) -> Signals:
        self.before = {n: signal.signal(n, self._handle) for n in self.NUMBERS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.came = number
        if self.child is None:
            raise Interrupted(number)
        # not Ctrl-C: a second one ends a training at once
        self.child.send_signal(signal.SIGTERM)

    def run(self, command: Sequence[str]) -> int:
        """Run a command to its end; return its exit code. Raises Interrupted."""
        # close_fds: it inherits the lock that says somebody works in this folder
        self.child = subprocess.Popen(
            bound(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # what came out stands in its files
            close_fds=False,
        )
        try:
            if self.came:  # before there was a child to tell
                self.child.send_signal(signal.SIGTERM)
            code = self.child.wait()
        finally:
            self.child = None
        if self.came:
            raise Interrupted(self.came)
        return code
