"""Doing the runs of a study on this machine or on a cluster."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from sevennet_mf import lock
from sevennet_mf.errors import UserError
from sevennet_mf.study.plan.study_yaml import RunOptions
from sevennet_mf.study.running import local, slurm
from sevennet_mf.study.running.schedule import OnChange, Schedule
from sevennet_mf.study.running.worker_process import COMMAND
from sevennet_mf.study.status import RUN_LOCK, AnyRun, Status, study_folder

STUDY_LOCK = 'study.lock'  # in the folder of a study
# s for the workers of a killed study to write what they can resume from
PATIENCE = 60.0


def execute(
    runs: Sequence[AnyRun],
    options: RunOptions,
    *,
    on_change: OnChange | None = None,
    command: Sequence[str] = COMMAND,
) -> dict[str, Status]:
    """Do all runs that are not done.

    Runs that failed in an earlier call are tried again, and interrupted ones are
    resumed. A run that fails does not stop the others; those that need it end as
    `blocked`.

    Args:
        on_change: Called with the status of every run whenever one has changed.
        command: The worker; the folder of the run is added.

    Returns:
        The final status of each run, by name.

    Raises:
        UserError: If another call works in the same folder.
        TrainingStopped: When SIGTERM or Ctrl-C ended it; the same call resumes it.
    """
    if not runs:
        return {}
    with locked(study_folder(runs[0])):
        return work(runs, options, on_change=on_change, command=command)


def locked(folder: Path) -> AbstractContextManager[None]:
    """Lock the folder of a study for other calls.

    Raises:
        UserError: If another call holds the lock.
    """
    told = (
        f'is running a study in {folder}: wait for it, or choose another folder '
        'with -o'
    )
    return lock.held(folder / STUDY_LOCK, told)


def work(
    runs: Sequence[AnyRun],
    options: RunOptions,
    *,
    on_change: OnChange | None = None,
    command: Sequence[str] = COMMAND,
) -> dict[str, Status]:
    """Do what `execute` does, for a caller that holds the lock."""
    if options.slurm is None:
        wait_for_others([run.folder for run in runs], PATIENCE)
    schedule = Schedule(runs, on_change)
    if not schedule.over:
        how = local.work if options.slurm is None else slurm.work
        how(schedule, options, command)
    return schedule.states


def wait_for_others(folders: list[Path], patience: float) -> None:
    """Wait until no process works in `folders`, such as one of a killed study.

    Args:
        patience: Time limit in seconds.

    Raises:
        UserError: Names the process that still works after the time limit.
    """
    end = time.monotonic() + patience
    for folder in folders:
        while who := lock.holder(folder / RUN_LOCK):
            if time.monotonic() > end:
                raise UserError(
                    f'{who} is still working on {folder}. Wait for it, or end it.'
                )
            time.sleep(0.1)
