"""Structures with labels at two levels, for `many_body.py`.

A system is two lists of pairs: those that a difference may be fitted to, in random
order, and those that it is tested on.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from sevennet_mf.label.calculators import made, results_of
from sevennet_mf.train.continuing.perturb import changed

Pairs = list[tuple[Atoms, Atoms]]

ROOT = Path(__file__).resolve().parents[1]
CHGNET = str(ROOT / 'example_inputs' / 'label' / 'chgnet_levels.py')
OURS = 'sevennet_mf:FidelityCalculator'
# calculators of the low and of the high level, with their keywords
TEACHERS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    '7net-mf-0': [
        (OURS, {'checkpoint': '7net-mf-0', 'fidelity': name, 'device': 'cpu'})
        for name in ('PBE', 'R2SCAN')
    ],
    'chgnet': [(f'{CHGNET}:pbe', {}), (f'{CHGNET}:r2scan', {})],
}
# K, of the trajectories that are fitted to and tested on, and their site orders
FITTED, TESTED = (300, 600, 900, 1200), (450, 750, 1050)
ORDERS = (0, 25)


def ingan() -> tuple[Pairs, Pairs]:
    """DFT: 47 crystals of any composition, tested on 13 others."""
    folder = ROOT / 'tests' / 'data' / 'ingan'
    low = _by_name(
        [*_read(folder / 'pbe_train.extxyz'), *_read(folder / 'pbe_valid.extxyz')],
        'sid',
    )
    pool, test = (
        _mixed([(low[a.info['sid']], a) for a in _read(folder / f'{name}.extxyz')])
        for name in ('r2scan_pool', 'r2scan_valid')
    )
    return pool, test


def molecules() -> tuple[Pairs, Pairs]:
    """CCSD(T) energies of six molecules, tested on two others."""
    folder = ROOT / 'example_inputs' / 'molecules'
    names = 'pbe_train', 'pbe_valid'
    low = [a for name in names for a in _read(folder / f'{name}.extxyz')]
    parts = [
        [(_same(a, low), a) for a in _read(folder / f'{name}.extxyz')]
        for name in ('ccsdt_train', 'ccsdt_test')
    ]
    return _mixed(parts[0]), parts[1]


def ingan_teacher(folder: Path, high: str) -> tuple[Pairs, Pairs]:
    """The study of that name and its test set."""
    return _mixed(of_teacher(folder, 'train', high)), _mixed(
        of_teacher(folder, 'test', 'test')
    )


def of_teacher(folder: Path, low: str, high: str) -> Pairs:
    """Return the pairs of two files, in their order.

    Args:
        folder: Written by `example_inputs/ingan_teacher/split.py`.
        low: 'train' or 'test'.
        high: 'compositions', 'geometries', 'all' or 'test'.
    """
    below = _by_name(_read(folder / f'pbe_{low}.extxyz'), 'structure_id')
    above = _read(folder / f'r2scan_{high}.extxyz')
    return [(below[a.info['structure_id']], a) for a in above]


def lipscl(
    folder: Path, teacher: str, fitted: int, tested: int
) -> tuple[Pairs, Pairs]:
    """Snapshots, strained by up to 1 % and rattled by 0.03 Å; tested on other runs.

    Args:
        folder: Written by `example_inputs/lipscl/structures.py`; trajectories that
            are not there yet are left out.
        fitted, tested: How many are labelled, at most 100 and 60.
    """
    rng = np.random.default_rng(0)
    levels = [made(*calculator) for calculator in TEACHERS[teacher]]
    parts = []
    for kelvin, all_of_them, n in ((FITTED, 100, fitted), (TESTED, 60, tested)):
        runs = [(order, t) for order in ORDERS for t in kelvin]
        frames = [a for order, t in runs for a in _frames(folder, order, t)]
        if len(frames) < all_of_them:
            sys.exit(f'{folder}: {len(frames)} structures of {all_of_them}')
        chosen = rng.choice(len(frames), all_of_them, replace=False)
        snapshots = [changed(frames[i], 0.03, 0.01, rng) for i in chosen]
        low, high = (
            [_labelled(atoms, level) for atoms in snapshots[:n]] for level in levels
        )
        parts.append(list(zip(low, high, strict=True)))
    return parts[0], parts[1]


def _frames(folder: Path, order: int, kelvin: int) -> list[Atoms]:
    path = folder / 'trajectories' / f'train_{order}_{kelvin}K.extxyz'
    return _read(path) if path.is_file() else []


def _labelled(atoms: Atoms, calculator: Any) -> Atoms:
    copy = atoms.copy()
    found = results_of(calculator, copy)
    values = {name: found[name] for name in ('energy', 'forces', 'stress')}
    copy.calc = SinglePointCalculator(copy, **values)
    return copy


def _read(path: Path) -> list[Atoms]:
    return list(ase.io.iread(path, ':'))


def _by_name(atoms: list[Atoms], key: str) -> dict[str, Atoms]:
    return {a.info[key]: a for a in atoms}


def _same(atoms: Atoms, others: list[Atoms]) -> Atoms:
    """The one of `others` that is the same structure, atom by atom."""
    for other in others:
        if np.array_equal(atoms.numbers, other.numbers) and np.allclose(
            atoms.positions, other.positions, rtol=0.0, atol=1e-3
        ):
            return other
    raise AssertionError('a structure without its pair')


def _mixed(pairs: Pairs) -> Pairs:
    order = np.random.default_rng(0).permutation(len(pairs))
    return [pairs[i] for i in order]
