"""A pretrained model gets a level of theory: how good, and what does it forget?

7net-0 is trained on N of the 29 r2SCAN labels of GaN and InN, by several methods in
the same number of steps and structures. It is measured at r2SCAN on mixed
compositions that have no r2SCAN label, and at its own level of theory against what
it predicted before: on In(x)Ga(1-x)N and on 26 other structures of all its elements.
What is done is not done again.
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
from functools import cache
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import yaml
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

INGAN = Path(__file__).resolve().parents[1] / 'example_inputs' / 'ingan'
CHECKPOINT = '7net-0'
OLD, NEW = 'pbe', 'r2scan'
EPOCHS = 10  # of the schedule: the learning rate falls linearly to a hundredth
REPLAY = {'file': str(INGAN / 'pbe_train.extxyz')}
# of a method: its changes to `train.fidelity` and `model.fidelity`, or None for
# SevenNet's own fine-tuning
METHODS: dict[str, tuple[dict[str, Any], dict[str, Any]] | None] = {
    'naive': None,
    'naive_unaligned': None,
    'fidelity_only_bias': ({'update': 'fidelity_only'}, {'encoding': 'bias'}),
    'fidelity_only_gain': ({'update': 'fidelity_only'}, {'encoding': 'gain'}),
    'fidelity_only_lora': ({'update': 'fidelity_only'}, {'encoding': 'lora'}),
    'all_alone': ({}, {}),
    'all_replay': ({'replay': REPLAY}, {}),
    'all_self_labels': ({'replay': {'self_label': {'per_structure': 10}}}, {}),
}
COLUMNS = {
    'energy': 'r2SCAN energy (meV/atom)',
    'force': 'r2SCAN force (meV/Å)',
    'drift_energy': 'PBE energy, growth (meV/atom)',
    'drift_force': 'PBE force, growth (meV/Å)',
    'moved': 'PBE energy, moved (meV/atom)',
    'elsewhere': 'moved elsewhere (meV/atom)',
}


@dataclass(frozen=True)
class Run:
    """A training with n r2SCAN labels; the seed decides which."""

    method: str
    n: int
    seed: int

    @property
    def name(self) -> str:
        return f'{self.method}/n{self.n}_seed{self.seed}'


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    out = options.output.resolve()
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


def _labels(run: Run) -> list[Atoms]:
    """n r2SCAN labels of GaN and InN, both among them; the first 4 are in the 8."""
    binaries = [
        *read(INGAN / 'r2scan_binaries_train.extxyz', ':'),
        *read(INGAN / 'r2scan_binaries_valid.extxyz', ':'),
    ]
    order = np.random.default_rng(run.seed).permutation(len(binaries))
    names = [binaries[i].get_chemical_formula(empirical=True) for i in order]
    first = [names.index('GaN'), names.index('InN')]
    order = [*order[first], *np.delete(order, first)]
    return [binaries[i] for i in order[: run.n]]


def _train(run: Run, out: Path, options: argparse.Namespace) -> None:
    folder = out / run.name
    if (folder / 'spent.json').is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    labels = _labels(run)
    ours = METHODS[run.method] is not None
    if run.method == 'naive':
        labels = _aligned(labels)
    write(folder / 'labels.extxyz', [_plain(atoms) for atoms in labels])
    sections = _ours(run, options) if ours else _host(run, options)
    (folder / 'input.yaml').write_text(yaml.safe_dump(sections), encoding='utf-8')
    command = [sys.executable, '-m', 'sevennet_mf.cli', 'train', 'input.yaml']
    if not ours:
        command = [sys.executable, '-m', 'sevenn.main.sevenn', 'train', 'input.yaml']
    print(f'{run.name}: training', file=sys.stderr, flush=True)
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
    spent = {'seconds': round(time.perf_counter() - start, 1)}
    (folder / 'spent.json').write_text(json.dumps(spent), encoding='utf-8')


def _plain(atoms: Atoms) -> Atoms:
    copy = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    copy.calc = SinglePointCalculator(
        copy, energy=atoms.get_potential_energy(), forces=atoms.get_forces()
    )
    return copy


def _aligned(labels: list[Atoms]) -> list[Atoms]:
    """The labels on the energies per element of the checkpoint."""
    offsets = _offsets(labels)
    moved = []
    for atoms in labels:
        energy = atoms.get_potential_energy() - offsets[atoms.numbers].sum()
        copy = atoms.copy()
        copy.calc = SinglePointCalculator(
            copy, energy=energy, forces=atoms.get_forces()
        )
        moved.append(copy)
    return moved


def _offsets(labels: Sequence[Atoms]) -> np.ndarray:
    """What labels differ by from the checkpoint by element, (119,) eV."""
    from sevennet_mf.data.references import Labels, fit_to_model

    counts = np.stack([np.bincount(a.numbers, minlength=119) for a in labels])
    calculator = _checkpoint()
    found = fit_to_model(
        NEW,
        Labels(
            counts,
            np.array([atoms.get_potential_energy() for atoms in labels]),
            model_energy=np.array(
                [_energy(calculator, atoms) for atoms in labels], np.float64
            ),
        ),
        np.zeros(119),
        ['Ga', 'In', 'N'],
    )
    return found.energies[0]


@cache
def _checkpoint(path: str = CHECKPOINT, fidelity: str | None = None) -> Any:
    from sevennet_mf import FidelityCalculator

    return FidelityCalculator(path, fidelity)


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


def _ours(run: Run, options: argparse.Namespace) -> dict[str, Any]:
    """The last checkpoint is measured, so no label is spent on validation."""
    method = METHODS[run.method]
    assert method is not None
    train = _common(options, EPOCHS)
    train['random_seed'] = run.seed
    train['continue'] = {'checkpoint': CHECKPOINT}
    train['fidelity'] = {
        'known_as': OLD,
        'target': NEW,
        'steps_per_epoch': max(1, options.steps // EPOCHS),
        **method[0],
    }
    data = {
        'batch_size': options.batch,
        'load_trainset_path': [{'file': 'labels.extxyz', 'fidelity': NEW}],
    }
    return {'model': {'fidelity': method[1]}, 'train': train, 'data': data}


def _host(run: Run, options: argparse.Namespace) -> dict[str, Any]:
    """SevenNet's fine-tuning: the architecture has to be written down."""
    from sevennet_mf import inherit
    from sevennet_mf.config import TrainFidelity

    steps = math.ceil(run.n / options.batch)
    epochs = max(1, options.steps // steps)
    block = {'checkpoint': CHECKPOINT}
    for name in ('reset_optimizer', 'reset_scheduler', 'reset_epoch'):
        block[name] = True
    train = {**_common(options, epochs), 'random_seed': run.seed}
    train |= {'continue': block, 'best_metric': 'TotalLoss'}
    found = inherit.read(train, TrainFidelity())
    assert found is not None
    model = inherit.fill_model({'chemical_species': ['Ga', 'In', 'N']}, found)
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
        row = _measure(run, str(path), options.split)
        kept.write_text(json.dumps(row), encoding='utf-8')
    spent = json.loads((folder / 'spent.json').read_text(encoding='utf-8'))
    row = json.loads(kept.read_text(encoding='utf-8'))
    return {'method': run.method, 'labels': run.n, 'seed': run.seed, **row, **spent}


def _measure(run: Run, path: str, split: str) -> dict[str, float]:
    several = METHODS[run.method] is not None
    new = _checkpoint(path, NEW if several else None)
    old = _checkpoint(path, OLD) if several else new
    start = slice(0 if split == 'valid' else 1, None, 2)
    mixed = read(INGAN / 'r2scan_mixed_test.extxyz', ':')[start]
    # a model without references of its own for r2SCAN is forgiven those
    shift = _offsets(_labels(run)) if run.method == 'naive' else np.zeros(119)
    energy, force = _errors(new, mixed, shift)
    known, offsets, before, energies, elsewhere = _baseline()
    after = _errors(old, known, offsets)
    return {
        'energy': energy,
        'force': force,
        'drift_energy': after[0] - before[0],
        'drift_force': after[1] - before[1],
        'moved': _moved(old, known, energies),
        'elsewhere': _moved(old, _probes(), elsewhere),
    }


@cache
def _baseline() -> tuple[list[Atoms], np.ndarray, tuple[float, float], Any, Any]:
    """What the checkpoint is at its own level: labels, errors, energies."""
    known = read(INGAN / 'pbe_valid.extxyz', ':')
    offsets = _offsets(known)
    before = _errors(_checkpoint(), known, offsets)
    energies = [_energy(_checkpoint(), atoms) for atoms in known]
    return known, offsets, before, energies, [
        _energy(_checkpoint(), atoms) for atoms in _probes()
    ]


@cache
def _probes() -> list[Atoms]:
    """Structures of all elements that the checkpoint knows."""
    from sevennet_mf.deploy.probe import probes
    from sevennet_mf.train.load import load_model

    return probes(sorted(load_model(CHECKPOINT).type_map), 5.0)


def _energy(calculator: Any, atoms: Atoms) -> float:
    return float(calculator.get_potential_energy(atoms.copy()))


def _errors(
    calculator: Any, labelled: Sequence[Atoms], offsets: np.ndarray
) -> tuple[float, float]:
    """MAE in meV/atom and meV/Å; offsets: what to take off labels, (119,) eV."""
    energy, force = [], []
    for atoms in labelled:
        found = atoms.copy()
        found.calc = calculator
        wanted = atoms.get_potential_energy() - offsets[atoms.numbers].sum()
        energy.append(abs(found.get_potential_energy() - wanted) / len(atoms))
        force.append(np.abs(found.get_forces() - atoms.get_forces()).ravel())
    return 1e3 * mean(energy), 1e3 * float(np.concatenate(force).mean())


def _moved(
    calculator: Any, structures: Sequence[Atoms], before: Sequence[float]
) -> float:
    """How far energies are from the checkpoint's, meV/atom."""
    gaps = [
        abs(_energy(calculator, atoms) - energy) / len(atoms)
        for atoms, energy in zip(structures, before, strict=True)
    ]
    return 1e3 * mean(gaps)


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
                cells = [_cell([row[name] for row in found]) for name in COLUMNS]
                cells = [f'`{method}`', str(n), str(len(found)), *cells]
                text.append(f'| {" | ".join(cells)} |')
    text += ['', f'MAE, {options.split} half; mean ± deviation over seeds; ']
    text[-1] += f'{options.steps} steps of {options.batch}, lr {options.lr}.'
    Path(f'{stem}.md').write_text('\n'.join(text) + '\n', encoding='utf-8')
    print('\n'.join(text))


def _cell(values: list[float]) -> str:
    if len(values) < 2:
        return f'{values[0]:.1f}'
    return f'{mean(values):.1f} ± {stdev(values):.1f}'


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    known = list(METHODS)
    add('-o', '--output', type=Path, default=Path('pretrained'), help='folder')
    add('--methods', nargs='+', choices=known, default=known, metavar='METHOD')
    add('--labels', type=int, nargs='+', default=[4, 8, 16, 28], metavar='N')
    add('--seeds', type=int, nargs='+', default=[1, 2, 3], metavar='SEED')
    add('--split', choices=['valid', 'test'], default='test', help='what to measure')
    add('--steps', type=int, default=300, help='of the optimiser (default: 300)')
    add('--batch', type=int, default=2, help='structures a step (default: 2)')
    add('--lr', type=float, default=1e-3, help='learning rate at the start')
    add('--report_only', action='store_true', help='on what is done so far')
    add('--jobs', type=int, default=1, help='trainings at a time, one core each')
    options = parser.parse_args(arguments)
    if not all(2 <= n <= 29 for n in options.labels):
        parser.error('--labels: there are 29, of two compositions')
    return options


if __name__ == '__main__':
    main()
