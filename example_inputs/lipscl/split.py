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
from collections.abc import Sequence
from pathlib import Path

from sevennet_mf.label.pieces import write_parts

PARTS = {
    'pbe_train': ('pbe', lambda info: info['part'] == 'train'),
    'r2scan_train': (
        'r2scan',
        lambda info: info['part'] == 'train' and info['high'] == 1,
    ),
    'r2scan_all': ('r2scan', lambda info: info['part'] == 'train'),
    'pbe_valid': ('pbe', lambda info: info['part'] == 'valid'),
    'r2scan_valid': (
        'r2scan',
        lambda info: info['part'] == 'valid' and info['high'] == 1,
    ),
    'pbe_test': ('pbe', lambda info: info['part'] == 'test'),
    'r2scan_test': ('r2scan', lambda info: info['part'] == 'test'),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Write the files of a folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('folder', nargs='?', default='lipscl')
    folder = Path(parser.parse_args(argv).folder)
    for path, n in write_parts(folder, PARTS).items():
        print(f'{path}: {n} structures')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
