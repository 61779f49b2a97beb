"""Errors of energies by the kind of cell they were computed in.

    python benchmarks/recipe/by_cell.py CHECKPOINT [--index 1::2]

The k-point meshes of 4- and 8-atom wurtzite cells sample one crystal differently, so
their labels of one material are apart by more than a good potential is off.
"""

import argparse
from pathlib import Path

import numpy as np
from ase.io import read

from sevennet_mf.evaluate.evaluation import evaluate

ROOT = Path(__file__).parents[2]
MIXED = ROOT / 'example_inputs' / 'ingan' / 'r2scan_mixed_test.extxyz'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('checkpoint')
    parser.add_argument('--data', default=str(MIXED), help='with `kind` in info')
    parser.add_argument('--index', default='1::2', help='default: the test half')
    parser.add_argument('--fidelity', default='r2scan')
    parser.add_argument('-o', '--output', default='by_cell')
    args = parser.parse_args()
    entry = {'file': args.data, 'fidelity': args.fidelity, 'index': args.index}
    found = evaluate(args.checkpoint, [entry], args.output, progress=False)
    off = 1000 * (found.predictions.energy - found.predictions.label_energy)
    off = off / found.predictions.n_atoms
    kinds = np.array([a.info['kind'] for a in read(args.data, args.index)])
    print(f'{len(off)} structures, MAE {np.abs(off).mean():.1f} meV/atom')
    left = np.zeros(len(off))
    for kind in sorted(set(kinds)):
        chosen = kinds == kind
        left[chosen] = off[chosen] - np.median(off[chosen])
        print(
            f'{kind}: {chosen.sum()} structures, off by {off[chosen].mean():+.1f} '
            f'on average, MAE about the median {np.abs(left[chosen]).mean():.1f}'
        )
    print(f'with an offset for each kind: MAE {np.abs(left).mean():.1f} meV/atom')


if __name__ == '__main__':
    main()
