"""Training, validation and test files of the studies, from labelled structures.

    python split.py ingan

Reads `ingan/labels/pbe.extxyz` and `ingan/labels/r2scan.extxyz`, which
`sevennet-mf label` wrote, and writes into `ingan/`:

pbe_train            all training structures at the low level
r2scan_geometries    a tenth of them at the high level, near the minimum
r2scan_compositions  a tenth of them at the high level, of few compositions
r2scan_all           all of them at the high level, for the reference
pbe_valid            for the log; no expensive label is spent on validation
r2scan_test          far from the minimum and of other compositions
r2scan_mixing        relaxed crystals of all compositions, for the mixing energy
pbe_test, pbe_mixing the same at the low level, for comparison
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from sevennet_mf.label.pieces import write_parts

PARTS = {
    'pbe_train': ('pbe', lambda info: info['part'] == 'train'),
    'r2scan_geometries': ('r2scan', lambda info: info['geometries'] == 1),
    'r2scan_compositions': ('r2scan', lambda info: info['compositions'] == 1),
    'r2scan_all': ('r2scan', lambda info: info['part'] == 'train'),
    'pbe_valid': ('pbe', lambda info: info['part'] == 'valid'),
    'pbe_test': ('pbe', lambda info: info['part'] == 'test'),
    'r2scan_test': ('r2scan', lambda info: info['part'] == 'test'),
    'pbe_mixing': ('pbe', lambda info: info['part'] == 'mixing'),
    'r2scan_mixing': ('r2scan', lambda info: info['part'] == 'mixing'),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Write the files of a folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('folder', nargs='?', default='ingan')
    folder = Path(parser.parse_args(argv).folder)
    for path, n in write_parts(folder, PARTS).items():
        print(f'{path}: {n} structures')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
