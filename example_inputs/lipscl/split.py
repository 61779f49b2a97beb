"""Training, validation and test files of a study, from labelled structures.

    python split.py lipscl

Reads `lipscl/labels/pbe.extxyz` and `lipscl/labels/r2scan.extxyz`, which
`sevennet-mf label` wrote, and writes into `lipscl/`:

pbe_train     all training structures at the low level
r2scan_train  those of them that get an expensive label, about a tenth
r2scan_all    all of them at the high level, for the reference
pbe_valid, r2scan_valid, r2scan_test, and pbe_test for comparison
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import ase.io
from ase import Atoms

from sevennet_mf.data import extxyz
from sevennet_mf.errors import UserError

FILES: dict[str, tuple[str, Callable[[Atoms], bool]]] = {
    'pbe_train': ('pbe', lambda a: a.info['part'] == 'train'),
    'r2scan_train': (
        'r2scan',
        lambda a: a.info['part'] == 'train' and a.info['high'] == 1,
    ),
    'r2scan_all': ('r2scan', lambda a: a.info['part'] == 'train'),
    'pbe_valid': ('pbe', lambda a: a.info['part'] == 'valid'),
    'r2scan_valid': (
        'r2scan',
        lambda a: a.info['part'] == 'valid' and a.info['high'] == 1,
    ),
    'pbe_test': ('pbe', lambda a: a.info['part'] == 'test'),
    'r2scan_test': ('r2scan', lambda a: a.info['part'] == 'test'),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Write the files of a folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('folder', nargs='?', default='lipscl')
    folder = Path(parser.parse_args(argv).folder)
    labels = {}
    for level in ('pbe', 'r2scan'):
        path = folder / 'labels' / f'{level}.extxyz'
        if not path.is_file():
            raise UserError(f'no such file: {path}. Label the structures first.')
        labels[level] = ase.io.read(path, ':')
    for name, (level, belongs) in FILES.items():
        chosen = [atoms for atoms in labels[level] if belongs(atoms)]
        extxyz.write(folder / f'{name}.extxyz', chosen)
        print(f'{folder}/{name}.extxyz: {len(chosen)} structures')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
