"""A peer on the same data: a two-headed MACE from scratch, tested where ours is.

One head learns 164 PBE labels of In(x)Ga(1-x)N, the other 24 of the 29 r2SCAN labels
of GaN and InN, drawn anew for every seed; the r2SCAN head is measured on mixed
compositions. Run it with the Python of an environment of its own:

    python -m venv mace && mace/bin/pip install torch==2.13.0 mace-torch
    mace/bin/python benchmarks/peer_mace.py

A training that is done is not done again; one that was interrupted starts anew,
because MACE would repeat an epoch when it goes on.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

DATA = Path(__file__).resolve().parents[1] / 'example_inputs' / 'ingan'
PBE, R2SCAN = 'pbe', 'r2scan'  # MACE picks its checkpoint by the last head alone
NAME = 'peer'
BATCH = 4
DECAY = 0.01  # learning rate at the end over that at the start, in `huber`
# what differs from MACE's defaults; {gamma} is the decay of an epoch
SETTINGS = {
    'defaults': [],
    # as MACE's own README trains: energies weigh more in the last quarter
    'two_stage': ['--ema', '--swa'],
    # loss and decaying learning rate as in our recipe, and the stress of PBE
    'huber': ['--loss', 'universal', '--huber_delta', '0.01']
    + ['--energy_weight', '1', '--forces_weight', '1', '--ema']
    + ['--scheduler', 'ExponentialLR', '--lr_scheduler_gamma', '{gamma:.6f}'],
}
MODEL = ['--num_channels', '16', '--max_L', '2', '--max_ell', '2']
MODEL += ['--num_interactions', '3', '--correlation', '3', '--r_max', '4.0']
SMALL = ['--num_channels', '4', '--max_L', '1', '--max_ell', '1']
SMALL += ['--num_interactions', '2', '--correlation', '2', '--r_max', '4.0']
COLUMNS = ['energy (meV/atom)', 'force (meV/Å)']


@dataclass(frozen=True)
class Run:
    """A training: one seed decides the r2SCAN labels and the model."""

    setting: str
    seed: int
    folder: Path


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    versions = {name: _version(name) for name in ('mace-torch', 'torch')}
    runs = [
        Run(setting, seed, options.output.resolve() / f'{setting}_seed{seed}')
        for seed in options.seeds
        for setting in options.settings
    ]
    rows = []
    for run in runs:
        spent = _train(run, options)
        for checkpoint, epoch in _checkpoints(run).items():
            errors = _measure(run, epoch, options.split)
            rows.append({
                'setting': run.setting,
                'seed': run.seed,
                'checkpoint': checkpoint,
                'epoch': epoch,
                **dict(zip(COLUMNS, errors, strict=True)),
                **spent,
                'split': options.split,
                **versions,
            })
        _write_tables(rows, options)
    print(_table(rows, options))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        how = f'{Path(sys.argv[0]).name} --help says how to make its environment'
        raise SystemExit(f'{package} is not installed; {how}') from None


# ---- files


def _write_inputs(run: Run, labels: int) -> int:
    """Write the training and validation files; return how many are trained on."""
    from ase.io import read

    binaries = read(DATA / 'r2scan_binaries_train.extxyz', ':')
    rng = np.random.default_rng(run.seed)
    while True:
        chosen = [binaries[i] for i in rng.permutation(len(binaries))[:labels]]
        if len({a.get_chemical_formula(empirical=True) for a in chosen}) == 2:
            break
    pbe = read(DATA / 'pbe_train.extxyz', ':')
    _write(run.folder / f'{PBE}_train.extxyz', pbe)
    _write(run.folder / f'{R2SCAN}_train.extxyz', chosen)
    for head, name in ((PBE, 'pbe_valid'), (R2SCAN, 'r2scan_binaries_valid')):
        valid = read(DATA / f'{name}.extxyz', ':')
        _write(run.folder / f'{head}_valid.extxyz', valid)
    return len(pbe) + len(chosen)


def _write(file: Path, structures: list[Any]) -> None:
    """Labels by the names that MACE looks for: ASE keeps 'energy' to itself."""
    from ase import Atoms
    from ase.io import write

    plain = []
    for a in structures:
        b = Atoms(a.numbers, a.positions, cell=a.cell, pbc=a.pbc)
        b.info['REF_energy'] = a.get_potential_energy()  # eV
        b.arrays['REF_forces'] = a.get_forces()  # eV/Å
        if 'stress' in a.calc.results:
            b.info['REF_stress'] = a.get_stress(voigt=False)  # eV/Å^3, ASE's sign
        plain.append(b)
    write(file, plain)


# ---- training


def _train(run: Run, options: argparse.Namespace) -> dict[str, float]:
    """Train unless it is done; return steps, and seconds of wall and CPU."""
    done = run.folder / 'done.json'
    asked = [options.steps, options.labels, options.quick]
    if done.is_file():
        told = json.loads(done.read_text(encoding='utf-8'))
        if told.pop('asked') != asked:
            raise SystemExit(f'{run.folder} is of other options: choose another -o')
        return told
    shutil.rmtree(run.folder, ignore_errors=True)
    run.folder.mkdir(parents=True)
    command = _command(run, options)
    (run.folder / 'command.json').write_text(json.dumps(command), encoding='utf-8')
    print(f'{run.folder.name}: training', file=sys.stderr, flush=True)
    start, cpu = time.perf_counter(), _cpu_of_children()
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    log = run.folder / 'train.txt'
    with open(log, 'w', encoding='utf-8') as stream:
        ended = subprocess.run(
            command, cwd=run.folder, env=environment, stdout=stream, stderr=stream
        )
    if ended.returncode:
        said = log.read_text(encoding='utf-8').strip().splitlines() or ['']
        raise SystemExit(f'{run.folder.name}: {said[-1]} (all of it: {log})')
    spent = {
        'steps': sum(line['mode'] == 'opt' for line in _metrics(run)),
        'wall_s': round(time.perf_counter() - start, 1),
        'cpu_s': round(_cpu_of_children() - cpu, 1),
    }
    _remove_other_checkpoints(run)
    done.write_text(json.dumps({'asked': asked, **spent}), encoding='utf-8')
    return spent


def _command(run: Run, options: argparse.Namespace) -> list[str]:
    structures = _write_inputs(run, options.labels)
    # MACE leaves out the last batch of an epoch if it is not full
    epochs = math.ceil(options.steps / (structures // BATCH))
    gamma = DECAY ** (1 / epochs)
    heads = {
        head: {
            'train_file': f'{head}_train.extxyz',
            'valid_file': f'{head}_valid.extxyz',
            'E0s': 'average',  # least squares over the head's own labels
        }
        for head in (PBE, R2SCAN)
    }
    command = [sys.executable, '-m', 'mace.cli.run_train', '--name', NAME]
    command += ['--seed', str(run.seed), '--heads', str(heads)]
    command += ['--device', 'cpu', '--default_dtype', 'float32', '--plot', 'False']
    command += ['--lr', '0.01', '--batch_size', str(BATCH)]
    command += ['--max_num_epochs', str(epochs), '--save_all_checkpoints']
    command += SMALL if options.quick else MODEL
    return command + [o.format(gamma=gamma) for o in SETTINGS[run.setting]]


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _metrics(run: Run) -> list[dict[str, Any]]:
    (file,) = (run.folder / 'results').glob('*_train.txt')
    return [json.loads(line) for line in file.read_text().splitlines()]


# ---- measuring


def _checkpoints(run: Run) -> dict[str, int]:
    """Epoch of the last checkpoint, and of the one that MACE itself would keep.

    That is the one of the lowest loss on the validation labels of the last head;
    with two stages, in the second one.
    """
    losses = {
        line['epoch']: line['loss']
        for line in _metrics(run)
        if line['mode'] == 'eval' and line.get('head') == R2SCAN
    }
    losses.pop(None, None)  # before the training
    last = max(losses)
    second_stage = min(max(1, (last + 1) // 4 * 3), last)  # as MACE counts
    first = second_stage if '--swa' in SETTINGS[run.setting] else 0
    best = min(range(first, last + 1), key=lambda epoch: losses[epoch])
    return {'last': last, 'best': best}


def _file_of(run: Run, epoch: int) -> Path:
    found = [
        *(run.folder / 'checkpoints').glob(f'*_epoch-{epoch}.pt'),
        *(run.folder / 'checkpoints').glob(f'*_epoch-{epoch}_swa.pt'),
    ]
    assert len(found) == 1, found
    return found[0]


def _remove_other_checkpoints(run: Run) -> None:
    kept = {_file_of(run, epoch) for epoch in _checkpoints(run).values()}
    for file in (run.folder / 'checkpoints').glob('*.pt'):
        if file not in kept:
            file.unlink()


def _measure(run: Run, epoch: int, split: str) -> tuple[float, float]:
    """MAE of the r2SCAN head: energy in meV/atom, force components in meV/Å."""
    import torch
    from ase.io import read
    from mace.calculators import MACECalculator

    models = [*run.folder.glob('*_stagetwo.model'), run.folder / f'{NAME}.model']
    model = torch.load(models[0], map_location='cpu', weights_only=False)
    state = torch.load(_file_of(run, epoch), map_location='cpu', weights_only=False)
    model.load_state_dict(state['model'])
    calculator = MACECalculator(
        models=[model], device='cpu', default_dtype='float32', head=R2SCAN
    )
    step = slice(0 if split == 'valid' else 1, None, 2)
    energies, forces = [], []
    for atoms in read(DATA / 'r2scan_mixed_test.extxyz', ':')[step]:
        energy, force = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = calculator
        energies.append(abs(atoms.get_potential_energy() - energy) / len(atoms))
        forces.append(np.abs(atoms.get_forces() - force).ravel())
    return 1e3 * mean(energies), 1e3 * float(np.concatenate(forces).mean())


# ---- the tables


def _write_tables(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """After every run, so that what is measured is not lost."""
    stem = options.output / f'peer_mace_{options.split}'
    with open(f'{stem}.csv', 'w', newline='', encoding='utf-8') as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    text = _table(rows, options)
    Path(f'{stem}.md').write_text(text + '\n', encoding='utf-8')


def _table(rows: list[dict[str, Any]], options: argparse.Namespace) -> str:
    head = ['MACE', 'checkpoint', *COLUMNS, 'CPU minutes of a training']
    text = [f'| {" | ".join(head)} |', '|---' * len(head) + '|']
    for setting in options.settings:
        for checkpoint in ('last', 'best'):
            found = [
                row
                for row in rows
                if (row['setting'], row['checkpoint']) == (setting, checkpoint)
            ]
            if not found:
                continue
            cells = [_cell([row[name] for row in found]) for name in COLUMNS]
            minutes = mean(row['cpu_s'] for row in found) / 60
            cells = [setting, checkpoint, *cells, f'{minutes:.1f}']
            text.append(f'| {" | ".join(cells)} |')
    first = rows[0]
    text += [
        '',
        f'MAE at r2SCAN on the {options.split} half of the mixed compositions: mean '
        f'(of each seed: {", ".join(map(str, options.seeds))}); {first["steps"]} '
        f'steps of {BATCH}; '
        f'mace-torch {first["mace-torch"]}, torch {first["torch"]}.',
    ]
    return '\n'.join(text)


def _cell(values: list[float]) -> str:
    return f'{mean(values):.1f} ({", ".join(f"{value:.1f}" for value in values)})'


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('-o', '--output', type=Path, default=Path('peer_mace'), help='folder')
    add('--seeds', type=int, nargs='+', default=[1, 2, 3], metavar='SEED')
    known = list(SETTINGS)
    add('--settings', nargs='+', choices=known, default=known, help='of MACE')
    add('--split', choices=['valid', 'test'], default='test', help='what to measure')
    add('--labels', type=int, default=24, help='of r2SCAN (default: 24 of 29)')
    add('--steps', type=int, default=3000, help='of the optimiser (default: 3000)')
    add('--quick', action='store_true', help='small model, few steps: a trial')
    options = parser.parse_args(arguments)
    if not 2 <= options.labels <= 29:
        parser.error('--labels: there are 29, of two compositions')
    if options.quick:
        options.seeds, options.steps = options.seeds[:1], BATCH
    return options


if __name__ == '__main__':
    main()
