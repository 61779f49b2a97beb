"""Errors of energies by the kind of cell they were computed in.

    python benchmarks/recipe/by_cell.py CHECKPOINT [--index 1::2]
    python benchmarks/recipe/by_cell.py FOLDER

The k-point meshes of 4- and 8-atom wurtzite cells sample one crystal differently, so
their labels of one material are apart by more than a good potential is off. With the
folder of a study, its saved predictions are read, and each method has a line: errors
as they are, and with the median error of each kind of cell taken off.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read
from rich.console import Console
from rich.table import Table

from sevennet_mf.arrays import Floats
from sevennet_mf.errors import UserError
from sevennet_mf.evaluate.evaluation import evaluate
from sevennet_mf.study.report.run_results import OverSeeds, collect
from sevennet_mf.study.report.words import spread
from sevennet_mf.study.running.measure import TEST_FOLDER

ROOT = Path(__file__).parents[2]
MIXED = ROOT / 'example_inputs' / 'ingan' / 'r2scan_mixed_test.extxyz'


def about_median(off: Floats, kinds: Sequence[str]) -> Floats:
    """Return errors without the median error of their kind."""
    left = np.array(off)
    for kind in set(kinds):
        chosen = np.array([k == kind for k in kinds])
        left[chosen] -= np.median(off[chosen])
    return left


# ---- a checkpoint


def of_checkpoint(args: argparse.Namespace) -> None:
    entry = {'file': args.data, 'fidelity': args.fidelity, 'index': args.index}
    found = evaluate(args.checkpoint, [entry], args.output, progress=False)
    off = 1000 * (found.predictions.energy - found.predictions.label_energy)
    off = off / found.predictions.n_atoms
    kinds = [str(a.info[args.by]) for a in read(args.data, args.index)]
    left = about_median(off, kinds)
    print(f'{len(off)} structures, MAE {np.abs(off).mean():.1f} meV/atom')
    for kind in sorted(set(kinds)):
        chosen = np.array([k == kind for k in kinds])
        print(
            f'{kind}: {chosen.sum()} structures, off by {off[chosen].mean():+.1f} '
            f'on average, MAE about the median {np.abs(left[chosen]).mean():.1f}'
        )
    print(f'with an offset for each kind: MAE {np.abs(left).mean():.1f} meV/atom')


# ---- a study


def of_study(folder: str, key: str) -> Table:
    """Return the errors of all finished runs, over seeds."""
    plain: dict[tuple[str, int], dict[int, float]] = {}
    without: dict[tuple[str, int], dict[int, float]] = {}
    for run in collect(folder):
        if run.state == 'done' and run.labels:
            off, kinds = saved(run.folder / TEST_FOLDER, key)
            left = about_median(off, kinds)
            row = run.row, run.labels
            plain.setdefault(row, {})[run.seed] = float(np.abs(off).mean())
            without.setdefault(row, {})[run.seed] = float(np.abs(left).mean())
    if not plain:
        raise UserError(f'no run of {folder} is done.')
    table = Table('method', 'labels', 'seeds', 'energy, MAE', f'about each {key}')
    for (row, labels), values in plain.items():
        cells = [spread(over_seeds(v)) for v in (values, without[row, labels])]
        table.add_row(row, str(labels), str(len(values)), *cells)
    return table


def over_seeds(values: dict[int, float]) -> OverSeeds:
    return OverSeeds(tuple(values), tuple(values.values()))


def saved(folder: Path, key: str) -> tuple[Floats, list[str]]:
    """Return the errors (n,) in meV/atom and the kinds of a run's test set."""
    with open(folder / 'per_structure.csv', encoding='utf-8', newline='') as stream:
        lines = list(csv.DictReader(stream))
    off = np.array([float(line['energy_error (meV/atom)']) for line in lines])
    return off, [kind_of(line['source'], key) for line in lines]


def kind_of(source: str, key: str) -> str:
    """Return what the info of a structure says, or of the one that it is from.

    Args:
        source: `file:frame`; a study copies its test set, and notes where from.
    """
    path, _, frame = source.rpartition(':')
    info = frames(path)[int(frame)].info
    if key in info:
        return str(info[key])
    if 'source' in info:
        return kind_of(info['source'], key)
    raise UserError(f'{source} has no {key!r} in its info. Give another --by.')


@cache
def frames(path: str) -> list[Atoms]:
    found: list[Atoms] = read(path, ':')
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Print the errors."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('checkpoint', help='or the folder of a study')
    parser.add_argument('--by', default='kind', help='key of info; default: kind')
    parser.add_argument('--data', default=str(MIXED), help='with that key in info')
    parser.add_argument('--index', default='1::2', help='default: the test half')
    parser.add_argument('--fidelity', default='r2scan')
    parser.add_argument('-o', '--output', default='by_cell')
    args = parser.parse_args(argv)
    if Path(args.checkpoint).is_dir():
        table = of_study(args.checkpoint, args.by)
        table.caption = 'meV/atom'
        Console(width=100).print(table)
    else:
        of_checkpoint(args)


if __name__ == '__main__':
    main()
