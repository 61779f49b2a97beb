"""A pretrained model gets a level of theory: how good, and what does it forget?

7net-0 is trained on N of the 29 r2SCAN labels of GaN and InN, by several methods in
the same number of steps and structures. It is measured at r2SCAN on mixed
compositions that have no r2SCAN label, and at its own level of theory against what
it predicted before: on In(x)Ga(1-x)N and on 26 other structures of all its elements.
`--system molecules`: 7net-mf-0, N of the 101 CCSD(T) energies of six molecules,
measured on two others. `scratch` is a small model without a checkpoint, trained on
all PBE labels and the new ones, as its own YAML says. `untrained` is `sevennet-mf
extend`: what training has to beat. What is done is not done again.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml
from ase.io import write
from pretrained_measure import aligned, measure
from pretrained_systems import SYSTEMS, System

EPOCHS = 10  # of the schedule: the learning rate falls linearly to a hundredth
REPLAY, SELF, SCRATCH, UNTRAINED = 'replay', 'self', 'scratch', 'untrained'
# of a method: its changes to `train.fidelity` and `model.fidelity`, or None for
# SevenNet's own fine-tuning
METHODS: dict[str, tuple[dict[str, Any], dict[str, Any]] | None] = {
    'naive': None,
    'naive_unaligned': None,
    'fidelity_only_bias': ({'update': 'fidelity_only'}, {'encoding': 'bias'}),
    'fidelity_only_gain': ({'update': 'fidelity_only'}, {'encoding': 'gain'}),
    'fidelity_only_lora': ({'update': 'fidelity_only'}, {'encoding': 'lora'}),
    # not trained on it, but labels are inferred
    'fidelity_only_replay': (
        {'update': 'fidelity_only', 'replay': REPLAY},
        {'encoding': 'lora'},
    ),
    'all_alone': ({}, {}),
    'all_replay': ({'replay': REPLAY}, {}),
    'all_self_labels': ({'replay': SELF}, {}),
    SCRATCH: ({}, {}),
    UNTRAINED: ({}, {}),
}
COLUMNS = {
    'energy': 'energy (meV/atom)',
    'force': 'force (meV/Å)',
    'drift_energy': 'PBE energy, growth (meV/atom)',
    'drift_force': 'PBE force, growth (meV/Å)',
    'moved': 'PBE energy, moved (meV/atom)',
    'elsewhere': 'moved elsewhere (meV/atom)',
}


@dataclass(frozen=True)
class Run:
    """A training with n labels of the new level; the seed decides which."""

    method: str
    n: int
    seed: int

    @property
    def name(self) -> str:
        return f'{self.method}/n{self.n}_seed{self.seed}'


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    out = options.output.resolve() / options.system
    out.mkdir(parents=True, exist_ok=True)
    runs = [
        Run(method, n, seed)
        for n in options.labels
        for seed in options.seeds
        for method in options.methods
    ]
    if not options.report_only:
        with ThreadPoolExecutor(options.jobs) as workers:
            futures = [workers.submit(_train, run, out, options) for run in runs]
            for future in futures:
                future.result()
    done = [run for run in runs if (out / run.name / 'spent.json').is_file()]
    rows = [_measured(run, out, options) for run in done]
    _write_tables(rows, out, options)


# ---- training


def _train(run: Run, out: Path, options: argparse.Namespace) -> None:
    folder, asked = out / run.name, _asked(options)
    spent = folder / 'spent.json'
    if spent.is_file():
        before = json.loads(spent.read_text(encoding='utf-8'))
        if not asked.items() <= before.items():
            raise SystemExit(f'{spent} is not of {asked}: choose another --output')
        return
    folder.mkdir(parents=True, exist_ok=True)
    system = SYSTEMS[options.system]
    labels = system.labels(run.n, run.seed)
    ours = METHODS[run.method] is not None
    if run.method == 'naive':
        labels = aligned(labels, system)
    write(folder / 'labels.extxyz', labels)
    program = 'sevennet_mf.cli' if ours else 'sevenn.main.sevenn'
    command = [sys.executable, '-m', program, 'train', 'input.yaml']
    if run.method == UNTRAINED:
        command[3:] = _extend(system)
    else:
        text = yaml.safe_dump(_sections(run, system, options))
        (folder / 'input.yaml').write_text(text, encoding='utf-8')
    print(f'{run.name}: training', file=sys.stderr, flush=True)
    seconds = run_in(folder, command)
    spent.write_text(json.dumps({'seconds': seconds, **asked}), encoding='utf-8')


def run_in(folder: Path, command: Sequence[str]) -> float:
    """Run a command on one core, what it says in output.txt; return seconds."""
    start = time.perf_counter()
    with open(folder / 'output.txt', 'w', encoding='utf-8') as stream:
        subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, 'OMP_NUM_THREADS': '1'},
            stdout=stream,
            stderr=stream,
            check=True,
        )
    return round(time.perf_counter() - start, 1)


def _extend(system: System) -> list[str]:
    """Arguments of `sevennet-mf extend`, which writes what is measured."""
    command = ['extend', system.checkpoint, 'labels.extxyz', '-f', system.new]
    known = ['--known_as', system.known_as] if system.known_as else []
    start = ['--start_from', system.old]
    return [*command, *known, *start, '-o', 'checkpoint_1.pth', '--device', 'cpu']


def _asked(options: argparse.Namespace) -> dict[str, Any]:
    names = ('steps', 'batch', 'lr', 'scratch_steps')
    return {name: getattr(options, name) for name in names}


def _sections(
    run: Run, system: System, options: argparse.Namespace
) -> dict[str, Any]:
    if run.method == SCRATCH:
        return system.scratch_sections(
            'labels.extxyz', run.seed, options.scratch_steps
        )
    if METHODS[run.method] is None:
        return _host(run, system, options)
    return _ours(run, system, options)


def _common(options: argparse.Namespace, epochs: int) -> dict[str, Any]:
    return {
        'random_seed': 1,
        'epoch': epochs,
        'per_epoch': epochs,
        'loss': 'huber',
        'loss_param': {'delta': 0.01},
        'force_loss_weight': 1.0,
        'is_train_stress': False,
        'optimizer': 'adam',
        'optim_param': {'lr': options.lr},
        'scheduler': 'linearlr',
        'scheduler_param': {
            'start_factor': 1.0,
            'end_factor': 0.01,
            'total_iters': epochs,
        },
        'error_record': [['Energy', 'MAE'], ['Force', 'MAE'], ['TotalLoss', 'None']],
        'best_metric': 'TotalLoss',
    }


def _ours(run: Run, system: System, options: argparse.Namespace) -> dict[str, Any]:
    """The last checkpoint is measured, so no label is spent on validation."""
    method = METHODS[run.method]
    assert method is not None
    fidelity, model = method
    train = _common(options, EPOCHS)
    train['random_seed'] = run.seed
    train['continue'] = {'checkpoint': system.checkpoint}
    train['fidelity'] = {
        'target': system.new,
        'steps_per_epoch': max(1, options.steps // EPOCHS),
        **fidelity,
    }
    if system.known_as:
        train['fidelity']['known_as'] = system.known_as
    if 'replay' in fidelity:
        blocks = {REPLAY: system.replay_block, SELF: system.self_label_block}
        train['fidelity']['replay'] = blocks[fidelity['replay']]
    data = {
        'batch_size': options.batch,
        'load_trainset_path': [system.entry('labels.extxyz')],
    }
    return {'model': {'fidelity': model}, 'train': train, 'data': data}


def _host(run: Run, system: System, options: argparse.Namespace) -> dict[str, Any]:
    """SevenNet's fine-tuning: the architecture has to be written down."""
    from sevennet_mf.config import inherit
    from sevennet_mf.config.blocks import TrainFidelity

    steps = math.ceil(run.n / options.batch)
    epochs = max(1, options.steps // steps)
    block = {'checkpoint': system.checkpoint}
    for name in ('reset_optimizer', 'reset_scheduler', 'reset_epoch'):
        block[name] = True
    train = {**_common(options, epochs), 'random_seed': run.seed}
    train |= {'continue': block, 'best_metric': 'TotalLoss'}
    found = inherit.read(train, TrainFidelity())
    assert found is not None
    model = inherit.fill_model({'chemical_species': system.elements()}, found)
    data = {
        'batch_size': options.batch,
        'load_trainset_path': ['labels.extxyz'],
        'shift': 'per_atom_energy_mean',
    }
    return {'model': model, 'train': train, 'data': data}


# ---- measuring


def _measured(run: Run, out: Path, options: argparse.Namespace) -> dict[str, Any]:
    folder = out / run.name
    kept = folder / f'measured_{options.split}.json'
    if not kept.is_file():
        (path,) = [
            path
            for path in folder.glob('checkpoint_*.pth')
            if path.stem.split('_')[1] not in ('0', 'best', 'resume')
        ]
        system = SYSTEMS[options.system]
        forgiven = system.labels(run.n, run.seed) if run.method == 'naive' else []
        row = measure(
            str(path),
            system,
            options.split,
            several=METHODS[run.method] is not None,
            forgiven=forgiven,
            is_universal=run.method != SCRATCH,
        )
        kept.write_text(json.dumps(row), encoding='utf-8')
    spent = json.loads((folder / 'spent.json').read_text(encoding='utf-8'))
    row = json.loads(kept.read_text(encoding='utf-8'))
    row |= {'seconds': spent['seconds']}
    return {'method': run.method, 'labels': run.n, 'seed': run.seed, **row}


# ---- the tables


def _write_tables(
    rows: list[dict[str, Any]], out: Path, options: argparse.Namespace
) -> None:
    stem = out / f'pretrained_{options.split}'
    with open(f'{stem}.csv', 'w', newline='', encoding='utf-8') as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    head = ['method', 'labels', 'seeds', *COLUMNS.values()]
    text = [f'| {" | ".join(head)} |', '|---' * len(head) + '|']
    for method in options.methods:
        for n in options.labels:
            found = [r for r in rows if (r['method'], r['labels']) == (method, n)]
            if found:
                cells = [cell([row[name] for row in found]) for name in COLUMNS]
                cells = [f'`{method}`', str(n), str(len(found)), *cells]
                text.append(f'| {" | ".join(cells)} |')
    text += ['', f'{options.system}, MAE, {options.split} half; ']
    text[-1] += 'mean ± deviation over seeds; '
    text[-1] += f'{options.steps} steps of {options.batch}, lr {options.lr}; '
    text[-1] += '`scratch`: as its YAML says.'
    Path(f'{stem}.md').write_text('\n'.join(text) + '\n', encoding='utf-8')
    print('\n'.join(text))


def cell(values: list[Any]) -> str:
    if None in values:
        return '–'
    if len(values) < 2:
        return f'{values[0]:.1f}'
    return f'{mean(values):.1f} ± {stdev(values):.1f}'


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    known = list(METHODS)
    add('--system', choices=list(SYSTEMS), default='ingan', help='what data')
    add('-o', '--output', type=Path, default=Path('pretrained'), help='folder')
    add('--methods', nargs='+', choices=known, metavar='METHOD')
    add('--labels', type=int, nargs='+', default=[4, 8, 16, 28], metavar='N')
    add('--seeds', type=int, nargs='+', default=[1, 2, 3], metavar='SEED')
    add('--split', choices=['valid', 'test'], default='test', help='what to measure')
    add('--steps', type=int, default=300, help='of the optimiser (default: 300)')
    add('--scratch_steps', type=int, help='of `scratch`; default: of its YAML')
    add('--batch', type=int, default=2, help='structures a step (default: 2)')
    add('--lr', type=float, default=1e-3, help='learning rate at the start')
    add('--report_only', action='store_true', help='on what is done so far')
    add('--jobs', type=int, default=1, help='trainings at a time, one core each')
    options = parser.parse_args(arguments)
    system = SYSTEMS[options.system]
    if not all(2 <= n <= system.n_labels() for n in options.labels):
        parser.error(f'--labels: at least 2, and there are {system.n_labels()}')
    # SevenNet's fine-tuning knows neither several fidelities nor missing forces
    ours = [name for name in known if METHODS[name] or system.known_as]
    options.methods = options.methods or ours
    if not set(options.methods) <= set(ours):
        parser.error(f'--methods: {options.system} has {", ".join(ours)}')
    return options


if __name__ == '__main__':
    main()
