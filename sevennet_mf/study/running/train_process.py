"""`sevennet-mf train` as a process of a run, and the handling of signals."""

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
from sevennet_mf.program import bound, why_it_failed
from sevennet_mf.study.runs import Run
from sevennet_mf.train.loop.run_folder import RESUME_FILE

FAILURE: Final[str] = 'train_failed.json'  # in the folder of a run
COMMAND: Final[list[str]] = [sys.executable, '-m', 'sevennet_mf.cli', 'train']

Stage = dict[str, Any]


class Interrupted(BaseException):
    """SIGTERM or Ctrl-C was received; the progress is on disk."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class StageFailed(Exception):
    """A stage ended with an error, described in one line.

    Attributes:
        stage: Kind of the stage.
    """

    def __init__(self, stage: str, message: str) -> None:
        super().__init__(message)
        self.stage = stage


def is_trained(run: Run, stage: Stage) -> bool:
    """Return whether the last epoch of a training stage was reached."""
    last = f'checkpoint_{stage["epochs"]}.pth'
    return (run.folder / stage['folder'] / last).is_file()


def train(run: Run, stage: Stage, signals: Signals) -> None:
    """Start or resume `sevennet-mf train`.

    Raises:
        StageFailed: If it fails.
        Interrupted: After a signal.
    """
    work_dir = run.folder / stage['folder']
    command = [*COMMAND, str(run.folder / stage['yaml']), '-w', str(work_dir)]
    if unpickle.is_trusting():
        command.append('--trust')
    if stage['host']:
        # it cannot resume, and would use processed data wherever they come from
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
    """Let all runs of a study use one folder of processed structures."""
    from sevennet_mf.data.dataset import FOLDER
    from sevennet_mf.study.running.differences import graph_folder

    shared = graph_folder(run.out)
    for folder in (shared, work_dir):
        make_folder(folder)
    link = work_dir / FOLDER
    if not link.exists():
        with suppress(OSError):  # a file system without links: its own folder
            link.symlink_to(os.path.relpath(shared, work_dir))


class Signals:
    """Passes SIGTERM and Ctrl-C on to the running command, and remembers them."""

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
        """Run a command to its end; return its exit code.

        Raises:
            Interrupted: After a signal.
        """
        # close_fds: it inherits the lock that marks this folder as in use
        self.child = subprocess.Popen(
            bound(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # its output is in its files
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
