"""How the size of a data set matters: time and memory of reading, opening, loading.

Makes files of N small structures (data_size_input.py says how), and measures each
task of data_size_tasks.py in a process of its own: ours and SevenNet's in turn, in
random order within each round. Every row is written to the JSON file when it is
done, and is not measured again if the command is repeated. With 10^6 structures the
folder needs 8 GB.

    python benchmarks/data_size.py 10000 100000 --folder /tmp/size --json size.json
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any, Final

import sevenn
import torch
from data_size_input import written
from data_size_tasks import TASKS
from rich.console import Console
from rich.table import Table

import sevennet_mf
from sevennet_mf.files import write_whole

HERE: Final = Path(__file__).parent
# tasks that use more than one process if they are given more
PARALLEL: Final = (
    'process',
    'process, cache: false',
    'sevenn graph_build',
    'epoch',
    'epoch, cache: false',
    'sevenn epoch',
)

Json = dict[str, Any]
Row = tuple[str, int]  # a task, and its processes


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('n', type=int, nargs='+', help='numbers of structures')
    add('--folder', type=Path, required=True, help='for the files, which are kept')
    add('--json', type=Path, required=True, help='all numbers; read if it is there')
    add('--processes', type=int, nargs='+', default=[1, 2])
    add('--rounds', type=int, default=3, help='how often each task is measured')
    add(
        '--host_up_to',
        type=int,
        default=100_000,
        help='structures up to which SevenNet is measured, which holds all of them '
        'in memory (about 12 kB each)',
    )
    return parser.parse_args(given)


def rows_of(n: int, options: argparse.Namespace) -> list[Row]:
    """The tasks that are measured with n structures."""
    return [
        (task, processes)
        for task in TASKS
        for processes in (options.processes if task in PARALLEL else [1])
        if n <= options.host_up_to or not task.startswith('sevenn')
    ]


def shuffled(rows: list[Row], number: int) -> list[Row]:
    """Rows in random order, but what is processed before what needs it."""
    order = random.Random(number)
    makes = ('process', 'process, cache: false', 'sevenn graph_build', 'sevenn read')
    first = [row for row in rows if row[0] in makes]
    last = [row for row in rows if row[0] not in makes]
    return order.sample(first, len(first)) + order.sample(last, len(last))


def key_of(n: int, row: Row) -> str:
    return f'{n} {row[0]} {row[1]}'


def run(options: argparse.Namespace) -> Json:
    """Measure what the JSON file does not have yet, and return all of it."""
    options.folder.mkdir(parents=True, exist_ok=True)
    report: Json = {'rows': {}}
    if options.json.exists():
        report = json.loads(options.json.read_text())
    report['versions'] = {
        package.__name__: package.__version__
        for package in (torch, sevenn, sevennet_mf)
    }
    for n in options.n:
        file = written(options.folder / f'{n}.extxyz', n)
        folder = options.folder / str(n)
        folder.mkdir(exist_ok=True)
        for number in range(options.rounds):
            for row in shuffled(rows_of(n, options), number):
                taken = report['rows'].setdefault(key_of(n, row), [])
                if len(taken) > number:
                    continue
                taken.append(_in_a_process(row, file, folder))
                text = json.dumps(report, indent=1)
                write_whole(options.json, lambda s, t=text: s.write(t.encode()))
    return report


def _in_a_process(row: Row, file: Path, folder: Path) -> Json:
    command = [sys.executable, str(HERE / 'data_size_tasks.py'), row[0]]
    command += [str(file), str(folder), str(row[1])]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: Json = json.loads(done.stdout.splitlines()[-1])
    return found


def table(report: Json, n: int, options: argparse.Namespace) -> Table:
    """The medians of what was measured with n structures."""
    shown = Table(
        title=f'{n} structures of 4 and 8 atoms; medians of {options.rounds} rounds',
        caption='memory: of the main process, beyond its interpreter and imports',
    )
    shown.add_column('')
    for name in ('processes', 's', 'structures/s', 'MB', 'bytes each'):
        shown.add_column(name, justify='right')
    for row in rows_of(n, options):
        taken = report['rows'].get(key_of(n, row), [])
        if taken:
            seconds = median(one['seconds'] for one in taken)
            peak = median(one['peak_bytes'] for one in taken)
            shown.add_row(
                row[0],
                str(row[1]),
                f'{seconds:.2f}',
                f'{n / seconds:.0f}',
                f'{peak / 1e6:.0f}',
                f'{peak / n:.0f}',
            )
    return shown


def main(given: list[str] | None = None) -> None:
    options = arguments(given)
    report = run(options)
    for n in options.n:
        Console(width=100).print(table(report, n, options))


if __name__ == '__main__':
    main()
