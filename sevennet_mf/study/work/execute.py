"""The runs of a study, done on this machine or on a cluster."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from sevennet_mf import lock
from sevennet_mf.errors import UserError
from sevennet_mf.study.plan.study_yaml import RunOptions
from sevennet_mf.study.status import RUN_LOCK, AnyRun, Status, study_folder
from sevennet_mf.study.work import local, slurm
from sevennet_mf.study.work.schedule import OnChange, Schedule
from sevennet_mf.study.work.worker_process import COMMAND

STUDY_LOCK = 'study.lock'  # in the folder of a study
# s that the workers of a killed study have for writing what can be gone on from
PATIENCE = 60.0


def execute(
    runs: Sequence[AnyRun],
    options: RunOptions,
    *,
    on_change: OnChange | None = None,
    command: Sequence[str] = COMMAND,
) -> dict[str, Status]:
    """Do all runs that are not done; return the final status of each by name.

    What failed in an earlier call is tried again, what was interrupted goes on. A
    run that fails does not stop the others; what needs it ends as `blocked`.
    on_change: called with the status of every run whenever one has changed.
    Raises UserError if another call works in the same folder, TrainingStopped
    when SIGTERM or Ctrl-C ended it; the same call goes on then.
    """
    if not runs:
        return {}
    with locked(study_folder(runs[0])):
        return work(runs, options, on_change=on_change, command=command)


def locked(folder: Path) -> AbstractContextManager[None]:
    """Keep other calls out of the folder of a study; UserError if one is there."""
    told = f'runs a study in {folder}: wait for it, or choose another folder with -o'
    return lock.held(folder / STUDY_LOCK, told)


def work(
    runs: Sequence[AnyRun],
    options: RunOptions,
    *,
    on_change: OnChange | None = None,
    command: Sequence[str] = COMMAND,
) -> dict[str, Status]:
    """`execute` for who holds the lock."""
    if options.slurm is None:
        wait_for_others([run.folder for run in runs], PATIENCE)
    schedule = Schedule(runs, on_change)
    if not schedule.over:
        how = local.work if options.slurm is None else slurm.work
        how(schedule, options, command)
    return schedule.states


def wait_for_others(folders: list[Path], patience: float) -> None:
    """Wait until nobody works in `folders`, as what a killed study left does.

    patience: seconds.  Raises UserError, naming the process, when it is over.
    """
    end = time.monotonic() + patience
    for folder in folders:
        while who := lock.holder(folder / RUN_LOCK):
            if time.monotonic() > end:
                raise UserError(
                    f'{who} still works on {folder}. Wait for it, or end it.'
                )
            time.sleep(0.1)
