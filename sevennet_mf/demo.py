"""The main use on real data: does PBE data help where r2SCAN labels are missing?

One model is trained on PBE and r2SCAN labels together, another on the same r2SCAN
labels alone with the same number of optimiser steps. Both are then evaluated on
compositions that have no r2SCAN label in training.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import yaml
from rich.table import Table
from tqdm import tqdm

from sevennet_mf.config import inputs
from sevennet_mf.errors import TrainingStopped, UserError
from sevennet_mf.evaluate import parity
from sevennet_mf.evaluate.evaluation import Evaluation, evaluate
from sevennet_mf.evaluate.predictions import QUANTITIES
from sevennet_mf.files import make_folder, write_csv, write_text
from sevennet_mf.program import why_it_failed
from sevennet_mf.train.loop import run_folder

TARGET = 'r2scan'
TEST_FILE = 'r2scan_mixed_test.extxyz'
# in the folder of a training: why it failed, and its messages
FAILURE, MESSAGES = 'failed.json', 'messages.txt'


@dataclass(frozen=True)
class DemoJob:
    """One of the two trainings: its YAML, and its title."""

    name: str
    title: str

    @property
    def yaml(self) -> str:
        return f'{self.name}.yaml'


Seeds = Sequence[int]
Found = dict[DemoJob, list[Evaluation]]  # one for each seed
Running = dict[DemoJob, subprocess.Popen[bytes]]
JOBS = (
    DemoJob('r2scan_only', 'r2SCAN labels alone'),
    DemoJob('multi_fidelity', 'PBE and r2SCAN labels'),
)


def run(args: argparse.Namespace) -> Table:
    """Run `sevennet-mf demo` with the command line's arguments; return the table."""
    return demo(args.example, args.output, args.seeds)


def demo(example: str, output: str, seeds: Seeds = ()) -> Table:
    """Inspect the data, train both models side by side, evaluate; return the table.

    Args:
        example: Folder of the data and YAMLs.
        output: Folder for everything that is written.
        seeds: Of weights and batches, run one after the other; default: that of the
            YAMLs.

    Raises:
        UserError: The example is not found.
        TrainingStopped: A training failed.
    """
    folder, out = Path(example).absolute(), Path(output).absolute()
    if not (folder / TEST_FILE).is_file():
        raise UserError(
            f'no example in {example}: run from the project folder, or give '
            '--example example_inputs/ingan of a copy of the project.'
        )
    make_folder(out, 'Choose another folder with -o.')
    _command(
        folder,
        ['inspect', JOBS[1].yaml, '--json', str(out / 'inspect.json')]
        + ['--plot', str(out / 'inspect.png'), '--strict'],
    )
    started = time.monotonic()
    found: Found = {job: [] for job in JOBS}
    for seed in seeds or (None,):
        place = out if seed is None else out / f'seed{seed}'
        _train(_yamls(folder, place, seed), folder, place)
        for job in JOBS:
            found[job].append(_measured(folder, place / job.name))
    minutes = (time.monotonic() - started) / 60
    _draw(found, str(out / 'demo.png'))
    _write_table(found, seeds, str(out / 'demo.csv'))
    return _table(found, minutes, output)


def _measured(folder: Path, work: Path) -> Evaluation:
    test = [{'file': [str(folder / TEST_FILE)], 'fidelity': TARGET}]
    best = str(work / run_folder.BEST_FILE)
    return evaluate(best, test, str(work / 'mixed'))


def _yamls(folder: Path, place: Path, seed: int | None) -> dict[DemoJob, Path]:
    """The YAMLs of the example, or copies with another seed."""
    given = {job: folder / job.yaml for job in JOBS}
    if seed is None:
        return given
    make_folder(place)
    copies = {job: place / job.yaml for job in JOBS}
    for job, path in given.items():
        sections = inputs.load_yaml(str(path))
        sections['train']['random_seed'] = seed
        write_text(copies[job], yaml.safe_dump(sections))
    return copies


def _environment() -> dict[str, str]:
    cores = len(os.sched_getaffinity(0))
    threads = os.environ.get('OMP_NUM_THREADS') or str(max(1, cores // len(JOBS)))
    return {**os.environ, 'OMP_NUM_THREADS': threads}


def _command(folder: Path, arguments: list[str]) -> None:
    command = [sys.executable, '-m', 'sevennet_mf.cli', *arguments]
    done = subprocess.run(command, cwd=folder, env=_environment())
    if done.returncode:
        raise TrainingStopped(f'sevennet-mf {" ".join(arguments)} failed')


def _train(yamls: Mapping[DemoJob, Path], folder: Path, out: Path) -> None:
    """Train both models at once, each on its share of the cores."""
    with contextlib.ExitStack() as stack:
        running: Running = {}
        for job in JOBS:
            process = _start(yamls[job], folder, out / job.name)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            running[job] = process
        _watch(running, yamls, out)


def _start(file: Path, folder: Path, work: Path) -> subprocess.Popen[bytes]:
    """Start a training, whose messages go to files in its folder."""
    make_folder(work)
    (work / FAILURE).unlink(missing_ok=True)
    command = [sys.executable, '-m', 'sevennet_mf.cli', 'train', str(file)]
    command += ['--failure', str(work / FAILURE)]
    if (work / run_folder.RESUME_FILE).is_file():
        command.append('--resume')
    with (work / MESSAGES).open('wb') as messages:
        return subprocess.Popen(
            [*command, '-w', str(work)],
            cwd=folder,
            env=_environment(),
            stdout=subprocess.DEVNULL,  # the demo has its own output
            stderr=messages,
        )


def _watch(running: Running, yamls: Mapping[DemoJob, Path], out: Path) -> None:
    """Show a bar with the time left, over the epochs of both trainings."""
    total = {
        job: int(inputs.load_yaml(str(yamls[job]))['train']['epoch'])
        for job in running
    }
    with tqdm(total=100, unit='%', desc='training two models', disable=None) as bar:
        while any(process.poll() is None for process in running.values()):
            time.sleep(0.5)
            done = [_epochs(out / job.name) / total[job] for job in running]
            bar.update(int(100 * sum(done) / len(done)) - bar.n)
            _raise_failures(running, out)
    _raise_failures(running, out)


def _raise_failures(running: Running, out: Path) -> None:
    for job, process in running.items():
        if code := process.poll():  # neither running nor successful
            why = why_it_failed(code, out / job.name / FAILURE)
            raise TrainingStopped(
                f'training {job.yaml} failed: {why} (if the example has changed, '
                'delete the output folder to start again)'
            )


def _epochs(work: Path) -> int:
    curves = sorted(work.glob('lc*.csv'))
    if not curves:
        return 0
    return max(0, len(curves[-1].read_text().splitlines()) - 1)


def _draw(found: Found, path: str) -> None:
    """Parity of both models on the mixed compositions, side by side; one seed."""
    predictions = {job.title: own[0].predictions for job, own in found.items()}
    parity.compare(predictions, TARGET, path)


def _write_table(found: Found, seeds: Seeds, path: str) -> None:
    shown = [q for q in QUANTITIES if q[0] != 'stress']
    head = ['trained on', 'seed', 'structures']
    head += [f'{q} {m} ({unit})' for q, _, unit, _ in shown for m in ('MAE', 'RMSE')]
    rows = [
        [job.title, seed, e.rows[0].structures]
        + [
            f'{value[q]:.3f}'
            for q, *_ in shown
            for value in (e.rows[0].mae, e.rows[0].rmse)
        ]
        for job, own in found.items()
        for seed, e in zip(seeds or ('',), own, strict=True)
    ]
    write_csv(path, [head, *rows])


def _table(found: Found, minutes: float, output: str) -> Table:
    first, *more = next(iter(found.values()))
    structures = first.rows[0].structures
    spread = f'Mean ± standard deviation of {1 + len(more)} seeds. ' if more else (
        'One seed: numbers vary with the seed and the machine '
        '(--seeds 1 2 3). '
    )
    table = Table(
        title=f'r2SCAN of {structures} mixed In(x)Ga(1-x)N structures without an '
        'r2SCAN label in training (MAE / RMSE)',
        caption=f'{spread}Both trained with the same number of steps, in '
        f'{minutes:.1f} min together. Pictures, tables and checkpoints: {output}/',
    )
    table.add_column('trained on')
    shown = [q for q in QUANTITIES if q[0] != 'stress']
    for quantity, _, unit, _ in shown:
        table.add_column(f'{quantity} ({unit})', justify='right')
    for job, own in found.items():
        rows = [e.rows[0] for e in own]
        table.add_row(
            job.title,
            *(
                f'{_spread([r.mae[q] for r in rows])} / '
                f'{_spread([r.rmse[q] for r in rows])}'
                for q, *_ in shown
            ),
        )
    return table


def _spread(values: Sequence[float]) -> str:
    """The value, or mean and standard deviation of several."""
    if len(values) == 1:
        return f'{values[0]:.1f}'
    return f'{mean(values):.1f} ± {stdev(values):.1f}'
