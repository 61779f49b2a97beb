"""What a GPU makes of this package, in one go of at most 8 minutes.

Tests, accelerators, CUDA graphs, torch.compile, training, LAMMPS and ASE, each in a
process of its own and for a limited time; what fails is said, and the rest goes on.
Exit status: 0 if all parts ran, 1 if one failed, 77 where there is no GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpu_parts import (
    FAILED,
    GRACE,
    LEFT_OUT,
    OVERTIME,
    ROOT,
    Json,
    Part,
    parts_of,
    run,
)

NO_GPU = 77  # as automake's tests say that they were skipped
MINUTES = 8.0
SHORTEST = 10.0  # s; less is no use to any part


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    parts = parts_of(options.device, options.smoke)
    names = [part.name for part in parts]
    unknown = [name for name in options.parts or () if name not in names]
    if unknown:
        raise SystemExit(f'--parts: {unknown[0]!r} is none of {names}')
    parts = [part for part in parts if part.name in (options.parts or names)]
    if options.dry_run:
        for part in parts:
            print(f'{part.name} ({part.limit:.0f} s): {part.what}')
        print(f'in all at most {options.minutes:g} minutes')
        return

    import torch

    if options.device == 'cuda' and not torch.cuda.is_available():
        print('torch finds no GPU here: nothing was run', file=sys.stderr)
        raise SystemExit(NO_GPU)
    report = run_all(parts, options)
    failed = [p for p in report['parts'] if p['outcome'] in (FAILED, OVERTIME)]
    raise SystemExit(bool(failed))


def run_all(parts: list[Part], options: argparse.Namespace) -> Json:
    """Run the parts one after the other; print and write what they found."""
    import report as reports
    from rich.console import Console

    found = {**reports.head(options.device, 1), 'minutes': options.minutes}
    del found['architectures']
    found['parts'] = []
    console = Console(width=120)
    end = time.monotonic() + 60 * options.minutes - 2 * GRACE
    environment = _environment()
    with tempfile.TemporaryDirectory() as folder:
        for part in parts:
            row, printed = _one(part, end, Path(folder), environment, options.device)
            row = {'part': part.name, 'limit': part.limit, **row}
            found['parts'].append({**row, 'command': part.command})
            if row['outcome'] != LEFT_OUT:
                print(printed, end='', flush=True)
            print(f'{part.name}: {row["outcome"]}: {row["note"]}', flush=True)
            # after each: whatever ends this program, so much is kept
            options.json.write_text(json.dumps(found) + '\n')
    console.print(table(found))
    print(f'every number: {options.json}')
    return found


def _one(
    part: Part, end: float, folder: Path, environment: dict[str, str], device: str
) -> tuple[Json, str]:
    seconds = min(part.limit, end - time.monotonic())
    row: Json = {'outcome': LEFT_OUT, 'seconds': 0.0, 'result': None}
    if part.needs_gpu and device == 'cpu':
        return {**row, 'note': 'it needs a GPU'}, ''
    if seconds < SHORTEST:
        return {**row, 'outcome': OVERTIME, 'note': 'no time was left'}, ''
    return run(part, seconds, folder, environment)


def _environment() -> dict[str, str]:
    """This tree's package, one thread, and one place for compiled pair styles."""
    from sevennet_mf.lammps.plugin_path import CACHE_VARIABLE

    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    # where the tests keep theirs
    kept = os.environ.get(CACHE_VARIABLE) or str(ROOT / '.pytest_cache' / 'plugin')
    more = {'PYTHONPATH': path, CACHE_VARIABLE: kept, 'OMP_NUM_THREADS': '1'}
    return {**os.environ, **more}


def table(report: Json) -> Any:
    """What became of each part."""
    from rich.table import Table

    versions = ', '.join(f'{k} {v}' for k, v in report['versions'].items())
    shown = Table(title=f'{report["device"]}; {versions}')
    shown.add_column('part')
    shown.add_column('')
    shown.add_column('s', justify='right')
    shown.add_column('')
    for row in report['parts']:
        seconds = f'{row["seconds"]:.0f}'
        shown.add_row(row['part'], row['outcome'], seconds, row['note'])
    return shown


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('--dry_run', action='store_true', help='list the parts, and run none')
    add('--parts', nargs='+', metavar='PART', help='these alone')
    add('--device', choices=('cuda', 'cpu'), default='cuda', help='default: cuda')
    add('--smoke', action='store_true', help='the smallest of everything: a trial')
    add('--minutes', type=float, default=MINUTES, help='in all (default: 8)')
    add(
        '--json',
        type=Path,
        default=Path('gpu.json'),
        metavar='FILE',
        help='every number (default: gpu.json)',
    )
    options = parser.parse_args(arguments)
    if not options.minutes > 0:
        parser.error('--minutes must be above 0')
    return options


if __name__ == '__main__':
    main()
