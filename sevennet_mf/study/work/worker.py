"""The process that does one run: its stages in order, then the measurement.

    python -m sevennet_mf.study.work.worker [--trust] RUN_FOLDER

What is done is skipped and what was interrupted goes on. At the end stands
result.json, or failed.json and exit code 1.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from sevennet_mf.checkpoint import unpickle
from sevennet_mf.errors import HostError, TrainingStopped, UserError
from sevennet_mf.files import read_json
from sevennet_mf.study.runs import Run, read_run
from sevennet_mf.study.status import RESULT_FILE, forget_failure, write_failure
from sevennet_mf.study.work import stages
from sevennet_mf.study.work.training import Interrupted, Signals, StageFailed
from sevennet_mf.study.work.worker_process import TRUST


def work(folder: str) -> None:
    """Do the run of a folder, as far as it is not done.

    Raises StageFailed, and Interrupted after a signal, which is passed on to the
    training so that it can be resumed.
    """
    run = read_run(folder)
    forget_failure(run.folder)
    if read_json(run.folder / RESULT_FILE):
        return
    if reason := run.content.get('cannot'):
        raise StageFailed('plan', reason)
    with Signals() as signals:
        for stage in run.stages:
            with _named(stage['kind']), _timed(run, stage['kind']):
                stages.do(run, stage, signals)
        with _named('test'):
            _measure(run)


def _measure(run: Run) -> None:
    from sevennet_mf.study.work.measure import write_result

    notes = stages.notes_of(run)
    seconds = sum(notes.pop('seconds', {}).values())
    write_result(run, stages.device_of(run), seconds, notes)


@contextmanager
def _timed(run: Run, stage: str) -> Iterator[None]:
    """Add the seconds within to those of earlier tries of the stage."""
    started = time.monotonic()
    try:
        yield
    finally:
        seconds = dict(stages.notes_of(run).get('seconds') or {})
        spent = time.monotonic() - started
        seconds[stage] = seconds.get(stage, 0.0) + round(spent, 1)
        with suppress(UserError):  # a full disk: the stage has said so
            stages.note(run, seconds=seconds)


@contextmanager
def _named(stage: str) -> Iterator[None]:
    """Errors within are those of a stage."""
    try:
        yield
    except StageFailed:
        raise
    except Exception as error:
        text = ' '.join(str(error).split())
        if not isinstance(error, (UserError, HostError, TrainingStopped)):
            text = f'{type(error).__name__}: {text}'
        raise StageFailed(stage, text) from error


def main(argv: Sequence[str]) -> int:
    """Do one run; return 0, 1 if it failed, 128 + n after signal n."""
    *options, folder = argv
    try:
        with unpickle.trusting(TRUST in options):
            work(folder)
    except Interrupted as stop:
        sys.stderr.write(f'stopped by {stop}\n')
        return 128 + stop.number
    except (StageFailed, UserError) as error:
        stage = error.stage if isinstance(error, StageFailed) else None
        if stage is None or not isinstance(error.__cause__, UserError):
            _show(error)
        sys.stderr.write(f'{error}\n')
        if Path(folder).is_dir():
            write_failure(Path(folder), str(error), stage)
        return 1
    return 0


def _show(error: BaseException) -> None:
    """The traceback of what nobody expected, for the log."""
    import traceback

    if error.__cause__ is not None:
        traceback.print_exception(error.__cause__)


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
