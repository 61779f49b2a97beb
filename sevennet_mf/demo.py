"""The main job on real data: does PBE data help where r2SCAN labels are lacking?

One model learns PBE and r2SCAN labels together, another the same r2SCAN labels
alone with the same number of optimiser steps. Both are then measured on
compositions that have no r2SCAN label in training.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from rich.table import Table
from tqdm import tqdm

from sevennet_mf import inputs
from sevennet_mf.errors import TrainingStopped, UserError
from sevennet_mf.train import checkpoint, plots
from sevennet_mf.train.evaluate import Evaluation, evaluate
from sevennet_mf.train.predictions import QUANTITIES
from sevennet_mf.train.tables import write_csv

TARGET = 'r2scan'
TEST_FILE = 'r2scan_mixed_test.extxyz'


@dataclass(frozen=True)
class Job:
    """One of the two trainings: its YAML and what it is called."""

    name: str
    title: str

    @property
    def yaml(self) -> str:
        return f'{self.name}.yaml'


Running = dict[Job, tuple[subprocess.Popen[bytes], IO[str]]]
JOBS = (
    Job('r2scan_only', 'r2SCAN labels alone'),
    Job('multi_fidelity', 'PBE and r2SCAN labels'),
)


def run(example: str, output: str) -> Table:
    """Audit, train both models side by side, evaluate; return the table.

    example: folder of the data and YAMLs; output: folder for everything written.
    Raises UserError if the example is not there, TrainingStopped if a training
    fails.
    """
    folder, out = Path(example).absolute(), Path(output).absolute()
    if not (folder / TEST_FILE).is_file():
        raise UserError(
            f'no example in {example}: run from the project folder, or give '
            '--example example_inputs/ingan of a copy of the project.'
        )
    out.mkdir(parents=True, exist_ok=True)
    _command(
        folder,
        ['inspect', JOBS[1].yaml, '--json', str(out / 'inspect.json')]
        + ['--plot', str(out / 'inspect.png'), '--strict'],
    )
    started = time.monotonic()
    _train(folder, out)
    minutes = (time.monotonic() - started) / 60
    test = [{'file': [str(folder / TEST_FILE)], 'fidelity': TARGET}]
    found = {
        job: evaluate(
            str(out / job.name / checkpoint.BEST_FILE),
            test,
            str(out / job.name / 'mixed'),
        )
        for job in JOBS
    }
    _draw(found, str(out / 'demo.png'))
    _write_table(found, str(out / 'demo.csv'))
    return _table(found, minutes, output)


def _environment() -> dict[str, str]:
    cores = len(os.sched_getaffinity(0))
    threads = os.environ.get('OMP_NUM_THREADS') or str(max(1, cores // len(JOBS)))
    return {**os.environ, 'OMP_NUM_THREADS': threads}


def _command(folder: Path, arguments: list[str]) -> None:
    command = [sys.executable, '-m', 'sevennet_mf.cli', *arguments]
    done = subprocess.run(command, cwd=folder, env=_environment())
    if done.returncode:
        raise TrainingStopped(f'sevennet-mf {" ".join(arguments)} failed')


def _train(folder: Path, out: Path) -> None:
    """Train both models at once, each on its share of the cores."""
    with contextlib.ExitStack() as stack:
        running: Running = {}
        for job in JOBS:
            # a file, because a pipe that nobody reads fills up
            errors = stack.enter_context(tempfile.TemporaryFile('w+'))
            process = _start(job, folder, out / job.name, errors)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            running[job] = (process, errors)
        _watch(running, folder, out)


def _start(
    job: Job, folder: Path, work: Path, errors: IO[str]
) -> subprocess.Popen[bytes]:
    command = [sys.executable, '-m', 'sevennet_mf.cli', 'train', job.yaml]
    if (work / checkpoint.RESUME_FILE).is_file():
        command.append('--resume')
    return subprocess.Popen(
        [*command, '-w', str(work)], cwd=folder, env=_environment(), stderr=errors
    )


def _watch(running: Running, folder: Path, out: Path) -> None:
    """A bar with the time left, over the epochs of both trainings."""
    total = {
        job: int(inputs.load_yaml(str(folder / job.yaml))['train']['epoch'])
        for job in running
    }
    with tqdm(total=100, unit='%', desc='training two models', disable=None) as bar:
        while any(process.poll() is None for process, _ in running.values()):
            time.sleep(0.5)
            done = [_epochs(out / job.name) / total[job] for job in running]
            bar.update(int(100 * sum(done) / len(done)) - bar.n)
            _raise_failures(running)
    _raise_failures(running)


def _raise_failures(running: Running) -> None:
    for job, (process, errors) in running.items():
        if process.poll():  # neither running nor done well
            raise TrainingStopped(_failure(job, errors))


def _failure(job: Job, errors: IO[str]) -> str:
    errors.seek(0)
    said = errors.read().strip().splitlines() or ['no message']
    return (
        f'training {job.yaml} failed: {said[-1]} (if the example has changed, '
        'delete the output folder to start anew)'
    )


def _epochs(work: Path) -> int:
    curves = sorted(work.glob('lc*.csv'))
    if not curves:
        return 0
    return max(0, len(curves[-1].read_text().splitlines()) - 1)


def _draw(found: dict[Job, Evaluation], path: str) -> None:
    """Parity of both models on the mixed compositions, side by side."""
    predictions = {job.title: e.predictions for job, e in found.items()}
    plots.compare(predictions, TARGET, path)


def _write_table(found: dict[Job, Evaluation], path: str) -> None:
    shown = [q for q in QUANTITIES if q[0] != 'stress']
    head = ['trained on', 'structures']
    head += [f'{q} {m} ({unit})' for q, _, unit, _ in shown for m in ('MAE', 'RMSE')]
    rows = [
        [job.title, e.rows[0].structures]
        + [
            f'{value[q]:.3f}'
            for q, *_ in shown
            for value in (e.rows[0].mae, e.rows[0].rmse)
        ]
        for job, e in found.items()
    ]
    write_csv(path, [head, *rows])


def _table(found: dict[Job, Evaluation], minutes: float, output: str) -> Table:
    structures = next(iter(found.values())).rows[0].structures
    table = Table(
        title=f'r2SCAN of {structures} mixed In(x)Ga(1-x)N structures that no '
        'r2SCAN label was given for (MAE / RMSE)',
        caption=f'Both trained with the same number of steps, in {minutes:.1f} min '
        f'together. Pictures, tables and checkpoints: {output}/',
    )
    table.add_column('trained on')
    shown = [q for q in QUANTITIES if q[0] != 'stress']
    for quantity, _, unit, _ in shown:
        table.add_column(f'{quantity} ({unit})', justify='right')
    cell = partial('{:.1f} / {:.1f}'.format)
    for job, e in found.items():
        row = e.rows[0]
        table.add_row(job.title, *(cell(row.mae[q], row.rmse[q]) for q, *_ in shown))
    return table
