"""How far a run of a study is, read only from the files in its folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from sevennet_mf import lock
from sevennet_mf.files import read_json, write_json

STUDY_FILE = 'study.json'  # in the folder of a study: what it is
RUN_FILE = 'run.json'  # what the run is
RESULT_FILE = 'result.json'  # written at its end
FAILED_FILE = 'failed.json'  # why its last attempt failed
RUN_LOCK = 'running.lock'  # who works on it

State = Literal['waiting', 'running', 'done', 'failed', 'blocked', 'interrupted']
ENDED: tuple[State, ...] = ('done', 'failed', 'blocked')


class AnyRun(Protocol):
    """What is needed to know about a run to start it and to show it."""

    @property
    def name(self) -> str: ...  # as 'delta/n8_seed1'
    @property
    def folder(self) -> Path: ...  # OUT/runs/NAME
    @property
    def needs(self) -> tuple[str, ...]: ...  # names of runs that must be done
    @property
    def row(self) -> str: ...  # its method or variant, as tables call it
    @property
    def labels(self) -> int: ...
    @property
    def seed(self) -> int: ...


@dataclass(frozen=True)
class Status:
    """State of a run, and its errors on the test set.

    Attributes:
        fraction: Fraction of its epochs that are done, from 0 to 1.
        message: Why it failed, or the job that it has.
        energy_mae: In meV/atom, None if there is none.
        force_mae: In meV/Å, None if there is none.
    """

    state: State
    fraction: float = 0.0
    message: str = ''
    energy_mae: float | None = None
    force_mae: float | None = None

    @property
    def ended(self) -> bool:
        return self.state in ENDED


def study_folder(run: AnyRun) -> Path:
    """Return the folder of the study that a run belongs to."""
    return Path(run.folder).parents[len(Path(run.name).parts)]


def read(run: AnyRun) -> Status:
    """Return how far a run is; `read_all` also knows if a needed run failed."""
    return _read(Path(run.folder))


def nothing_done(folder: Path) -> bool:
    """Return whether a run failed or never started, so that it may be replaced."""
    return _read(folder).state in ('failed', 'waiting')


def _read(folder: Path) -> Status:
    result = read_json(folder / RESULT_FILE)
    if result:
        maes = {q: e.get('mae') for q, e in result.get('errors', {}).items()}
        return Status('done', 1.0, '', maes.get('energy'), maes.get('force'))
    fraction = progress(folder)
    if lock.holder(folder / RUN_LOCK):
        return Status('running', fraction)
    failed = read_json(folder / FAILED_FILE)
    if failed:
        return Status('failed', fraction, str(failed.get('message', '')))
    if fraction or (folder / RUN_LOCK).exists():
        return Status('interrupted', fraction)
    return Status('waiting')


def read_all(runs: Iterable[AnyRun]) -> dict[str, Status]:
    """Return the status of each run by name, blocked if it needs a failed one."""
    runs = list(runs)
    states = {run.name: read(run) for run in runs}
    return block({run.name: run for run in runs}, states)


def block(
    runs: Mapping[str, AnyRun], states: dict[str, Status]
) -> dict[str, Status]:
    """Mark in `states` the runs that need a failed run, and return `states`."""

    def culprit(name: str) -> str:
        if states[name].state == 'failed':
            return name
        return next(filter(None, map(culprit, runs[name].needs)), '')

    for name, status in states.items():
        if status.state in ('waiting', 'interrupted') and (failed := culprit(name)):
            message = f'needs {failed}, which failed'
            states[name] = replace(status, state='blocked', message=message)
    return states


def progress(folder: Path) -> float:
    """Return the fraction of a run's epochs that are done, from its lc.csv files.

    Stages are weighted by their optimiser steps.
    """
    described = read_json(folder / RUN_FILE)
    stages = described.get('stages', [])
    steps = [stage.get('steps') or 0 for stage in stages]
    done = [
        n * min(1.0, _epochs(folder / stage['folder']) / stage['epochs'])
        for n, stage in zip(steps, stages, strict=True)
        if n and stage.get('epochs') and stage.get('folder')
    ]
    return sum(done) / sum(steps) if done else 0.0


def write_failure(folder: Path, message: str, stage: str | None = None) -> None:
    """Write in a run's folder why it failed, and in which stage if that is known."""
    write_json(folder / FAILED_FILE, {'message': message, 'stage': stage})


def forget_failure(folder: Path) -> None:
    """Remove the failure of an earlier attempt."""
    (folder / FAILED_FILE).unlink(missing_ok=True)


def _epochs(folder: Path) -> int:
    """How many lines a stage's newest learning curve has below its head."""
    try:
        curves = [(path.stat().st_mtime, path) for path in folder.glob('lc*.csv')]
        text = max(curves)[1].read_text(encoding='utf-8') if curves else ''
    except OSError:  # moved aside at this moment
        return 0
    return max(0, text.count('\n') - 1)
