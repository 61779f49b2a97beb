"""Does it pay to choose what is labelled? Farthest-point against random choice.

Out of 47 In(x)Ga(1-x)N structures with r2SCAN labels, N are given to a training
together with 164 PBE labels; 13 others, which no r2SCAN label is given for, are the
test. `sevennet-mf select` sees the PBE versions of the 47 only, through a model that
was trained on the 164 PBE labels. Every training is an ordinary run of
`sevennet-mf train`; what is done is not done again, what was interrupted is resumed.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

import numpy as np
import yaml

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / 'tests' / 'data' / 'ingan'
BASE = ROOT / 'example_inputs' / 'ingan' / 'multi_fidelity.yaml'
RANDOM, FARTHEST, MAX = 'random', 'farthest', 'farthest_max'
PER_EPOCH = 50  # optimiser steps of what the schedule counts as an epoch
ERRORS = {
    'energy (meV/atom)': 'energy_MAE (meV/atom)',
    'force (meV/Å)': 'force_MAE (meV/Å)',
}


@dataclass(frozen=True)
class Run:
    """A training with n r2SCAN labels: `pool` are their numbers among the 47."""

    method: str
    n: int
    seed: int
    pool: tuple[int, ...]

    @property
    def name(self) -> str:
        return f'{self.method}/n{self.n}_seed{self.seed}'


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    out = options.output.resolve()
    out.mkdir(parents=True, exist_ok=True)
    pool = _write_pool(out)
    order = {RANDOM: None} | {
        method: _chosen(method, max(options.labels), out, options)
        for method in options.methods
        if method != RANDOM
    }
    runs = [
        Run(method, n, seed, _picked(order[method], seed, n, len(pool)))
        for seed in options.seeds
        for n in options.labels
        for method in options.methods
    ]
    with ThreadPoolExecutor(options.jobs) as workers:
        done = {
            run: workers.submit(_train_and_measure, run, pool, out, options)
            for run in runs
        }
        errors = {run: future.result() for run, future in done.items()}
    _write_tables(errors, out, options)


# ---- what is chosen


def _write_pool(out: Path) -> list:
    """The 47 at r2SCAN; writes their PBE versions in the same order."""
    from ase.io import read, write

    pool = read(DATA / 'r2scan_pool.extxyz', ':')
    low = {a.info['sid']: a for a in read(DATA / 'pbe_train.extxyz', ':')}
    write(out / 'pool_pbe.extxyz', [low[a.info['sid']] for a in pool])
    return pool


def _chosen(
    method: str, n: int, out: Path, options: argparse.Namespace
) -> list[int]:
    """The structures that `sevennet-mf select` takes, in its order."""
    checkpoint = options.model
    if checkpoint is None:
        sections = _sections(options, {'pbe': DATA / 'pbe_train.extxyz'}, seed=1)
        _train(sections, out / 'pbe_model', options)
        checkpoint = str(_last_checkpoint(out / 'pbe_model', options))
    folder = out / f'selected_{method}'
    asked, said = f'{checkpoint} {options.fidelity}\n', out / f'{folder.name}_by.txt'
    is_done = (folder / 'coverage.png').is_file()
    if is_done and not (said.is_file() and said.read_text('utf-8') == asked):
        raise SystemExit(f'{folder} is of another model: choose another --output')
    said.write_text(asked, encoding='utf-8')
    if not is_done:
        distance = 'max' if method == MAX else 'mean'
        command = ['select', checkpoint, str(out / 'pool_pbe.extxyz'), '-n', str(n)]
        command += ['--distance', distance, '-o', str(folder)]
        if options.fidelity:
            command += ['--fidelity', options.fidelity]
        run_command(command, out, out / f'selected_{method}.txt')
    with open(folder / 'selected.csv', newline='', encoding='utf-8') as stream:
        order = [int(row['frame']) for row in csv.DictReader(stream)]
    if len(order) < n:
        raise SystemExit(f'{folder} is of fewer labels: choose another --output')
    return order


def _picked(
    order: list[int] | None, seed: int, n: int, total: int
) -> tuple[int, ...]:
    """The first n of the order; at random the 8 hold the 4, as when choosing."""
    if order is None:
        order = np.random.default_rng(seed).permutation(total).tolist()
    return tuple(order[:n])


# ---- training and measuring


def _sections(
    options: argparse.Namespace, train: dict[str, Path], seed: int
) -> dict:
    """The example's YAML with these training files, steps and seed."""
    sections: dict = yaml.safe_load(BASE.read_text(encoding='utf-8'))
    epochs = max(1, options.steps // PER_EPOCH)
    sections['train'].update(
        random_seed=seed, epoch=epochs, per_epoch=epochs, best_metric='TotalLoss'
    )
    if len(train) == 1:  # nothing of what several fidelities need
        sections['train']['fidelity'] = {}
        sections['model']['fidelity'] = {}
    steps = min(PER_EPOCH, options.steps)
    sections['train']['fidelity']['steps_per_epoch'] = steps
    data = sections['data']
    data['fidelity'] = {**data['fidelity'], 'order': list(train)}
    data['fidelity'].pop('about', None)
    data['load_trainset_path'] = [
        {'file': str(file), 'fidelity': name} for name, file in train.items()
    ]
    # the last checkpoint is measured, so no r2SCAN label is spent on validation
    data['load_validset_path'] = [
        {'file': str(DATA / 'pbe_valid.extxyz'), 'fidelity': 'pbe'}
    ]
    if options.quick:
        sections['model'].update(channel=4, lmax=1, num_convolution_layer=1)
    return sections


def _last_checkpoint(folder: Path, options: argparse.Namespace) -> Path:
    return folder / f'checkpoint_{max(1, options.steps // PER_EPOCH)}.pth'


def _train(sections: dict, folder: Path, options: argparse.Namespace) -> None:
    """Train unless it is done; go on if it was interrupted."""
    folder.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(sections, sort_keys=False)
    file = folder / 'input.yaml'
    if file.is_file() and file.read_text(encoding='utf-8') != text:
        raise SystemExit(f'{folder} is of other options: choose another --output')
    file.write_text(text, encoding='utf-8')
    if _last_checkpoint(folder, options).is_file():
        return
    command = ['train', 'input.yaml', '-w', '.']
    if (folder / 'checkpoint_resume.pth').is_file():
        command.append('--resume')
    print(f'{folder.parent.name}/{folder.name}: training', flush=True)
    run_command(command, folder, folder / 'train.txt')


def _train_and_measure(
    run: Run, pool: list, out: Path, options: argparse.Namespace
) -> dict[str, float]:
    from ase.io import write

    folder = out / run.name
    folder.mkdir(parents=True, exist_ok=True)
    labels = folder / 'r2scan.extxyz'
    if not labels.is_file():
        write(labels, [pool[i] for i in run.pool])
    files = {'pbe': DATA / 'pbe_train.extxyz', 'r2scan': labels}
    _train(_sections(options, files, run.seed), folder, options)
    table = folder / 'test' / 'errors.csv'
    if not table.is_file():
        checkpoint = str(_last_checkpoint(folder, options))
        test = str(DATA / 'r2scan_valid.extxyz')
        command = ['evaluate', checkpoint, test, '-f', 'r2scan', '-o', 'test']
        run_command(command, folder, folder / 'test.txt')
    with open(table, newline='', encoding='utf-8') as stream:
        (row,) = csv.DictReader(stream)
    return {name: float(row[column]) for name, column in ERRORS.items()}


def run_command(command: Sequence[str], folder: Path, log: Path) -> None:
    """Run `sevennet-mf` on one core, with what it says in a file."""
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    whole = [sys.executable, '-m', 'sevennet_mf.cli', *command]
    with open(log, 'w', encoding='utf-8') as stream:
        done = subprocess.run(
            whole, cwd=folder, env=environment, stdout=stream, stderr=stream
        )
    if done.returncode:
        said = log.read_text(encoding='utf-8').strip().splitlines() or ['']
        raise SystemExit(f'{" ".join(command)}: {said[-1]} (all of it: {log})')


# ---- the tables


def _write_tables(
    errors: dict[Run, dict[str, float]], out: Path, options: argparse.Namespace
) -> None:
    from sevennet_mf.files import write_csv

    head = ['method', 'labels', 'seed', *ERRORS, 'structures']
    lines = [
        [r.method, r.n, r.seed, *e.values(), ' '.join(map(str, r.pool))]
        for r, e in errors.items()
    ]
    write_csv(str(out / 'label_choice.csv'), [head, *lines])
    columns = [f'{method}, {name}' for name in ERRORS for method in options.methods]
    text = [f'| r2SCAN labels | {" | ".join(columns)} |']
    text += ['|---' * (len(columns) + 1) + '|']
    for n in options.labels:
        cells = [
            _cell([
                e[name] for r, e in errors.items() if (r.method, r.n) == (method, n)
            ])
            for name in ERRORS
            for method in options.methods
        ]
        text.append(f'| {n} | {" | ".join(cells)} |')
    seeds = ', '.join(map(str, options.seeds))
    text += ['', f'MAE: mean, median (range) over the seeds {seeds}.']
    (out / 'label_choice.md').write_text('\n'.join(text) + '\n', encoding='utf-8')
    print('\n'.join(text))


def _cell(values: list[float]) -> str:
    low, high = min(values), max(values)
    return f'{mean(values):.1f}, {median(values):.1f} ({low:.1f} to {high:.1f})'


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    methods = [RANDOM, FARTHEST, MAX]
    add('-o', '--output', type=Path, default=Path('label_choice'), help='folder')
    add('--labels', type=int, nargs='+', default=[4, 8, 12, 16], metavar='N')
    add('--seeds', type=int, nargs='+', default=[1, 2, 3], metavar='SEED')
    add('--methods', nargs='+', choices=methods, default=[RANDOM, FARTHEST])
    add('--steps', type=int, default=1500, help='of each training (default: 1500)')
    add('--model', help='checkpoint that select uses; default: one trained on PBE')
    add('--fidelity', help='of --model, if it has several')
    add('--jobs', type=int, default=1, help='trainings at a time, one core each')
    add('--quick', action='store_true', help='small model, few steps: a trial')
    options = parser.parse_args(arguments)
    if options.quick:
        options.labels, options.seeds, options.steps = [4, 8], [1], 10
    if max(options.labels) > 47 or min(options.labels) < 1:
        parser.error('--labels: there are 47')
    return options


if __name__ == '__main__':
    main()
