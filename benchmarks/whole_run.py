"""A whole short run of `sevenn train` and of `sevennet-mf train`: time and memory.

The same model, structures and steps, one after the other, each round in another
order. Prints a table; `--json` writes every number.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

warnings.filterwarnings('ignore', category=DeprecationWarning)  # TorchScript's
warnings.filterwarnings('ignore', message='No tensor product accelerator')

ROUNDS = {'small': 10, '7net-0': 5}
QUICK_ROUNDS = 1
HOST, AGAIN, OURS = 'host', 'host, again', 'ours'
MODULES = {HOST: 'sevenn.main.sevenn', AGAIN: 'sevenn.main.sevenn'}
MODULES[OURS] = 'sevennet_mf.cli'
FIRST = 'checkpoint_0.pth'  # both write it just before their first step
PAUSE = 0.01  # s between two looks at a run
MEASURED = ('cpu', 'wall', 'cpu_to_first_step', 'wall_to_first_step')
Json = dict[str, Any]
TRAIN: Json = {
    'device': 'cpu',
    'random_seed': 1,
    'optimizer': 'adam',
    'optim_param': {'lr': 1e-4},
    'scheduler': 'exponentiallr',
    'scheduler_param': {'gamma': 0.99},
    'loss': 'huber',
    'loss_param': {'delta': 0.01},
    'is_train_stress': True,
    'force_loss_weight': 0.1,
    'stress_loss_weight': 0.01,
    'per_epoch': 1000,
    'error_record': [
        ['Energy', 'RMSE'],
        ['Force', 'RMSE'],
        ['Stress', 'RMSE'],
        ['TotalLoss', 'None'],
    ],
}


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)

    # late, so that a wrong option is refused at once
    import report
    from rich.console import Console
    from tqdm import tqdm

    head = report.head('cpu', options.threads)
    del head['architectures']
    rounds = options.rounds or ROUNDS[options.model]
    with tempfile.TemporaryDirectory() as name:
        yamls = _prepare(Path(name), options)
        bar = tqdm(total=rounds * len(MODULES), disable=None, leave=False)
        with bar:
            runs = _take_turns(yamls, rounds, options.threads, bar.update)
    result: Json = {**head, 'model': options.model, 'rounds': rounds}
    result |= {'structures': options.structures, 'epochs': options.epochs}
    result['programs'] = [_row(name, runs) for name in MODULES]
    Console(width=100).print(_table(result))
    if options.json:
        options.json.write_text(json.dumps(result) + '\n')


def _prepare(folder: Path, options: argparse.Namespace) -> dict[str, Path]:
    """Write structures and a YAML for each program; return the YAMLs."""
    import ase.io
    import yaml
    from variants import INGAN, model_section

    files = {}
    for kind, n in (('train', options.structures), ('valid', 4)):
        files[kind] = str(folder / f'{kind}.extxyz')
        frames = ase.io.read(INGAN / f'pbe_{kind}.extxyz', ':')
        # of all compositions: few of the first lack an element
        chosen = [frames[i * len(frames) // n] for i in range(n)]
        ase.io.write(files[kind], chosen)
    found = {}
    for name in MODULES:
        sets: dict[str, Any] = {kind: [file] for kind, file in files.items()}
        if name == OURS:  # of one fidelity: a plain model
            sets = {k: [{'file': f, 'fidelity': 'pbe'}] for k, f in files.items()}
        sections = {
            'model': model_section(options.model),
            'train': {**TRAIN, 'epoch': options.epochs},
            'data': {
                'batch_size': 4,
                'load_trainset_path': sets['train'],
                'load_validset_path': sets['valid'],
            },
        }
        found[name] = folder / f'{name}.yaml'
        # by way of JSON: plain builtins
        found[name].write_text(yaml.safe_dump(json.loads(json.dumps(sections))))
    return found


def _take_turns(
    yamls: dict[str, Path], rounds: int, threads: int, tick: Callable[[], object]
) -> dict[str, list[dict[str, float]]]:
    """Run every program once per round, each round in another order."""
    order, names = random.Random(0), list(MODULES)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in order.sample(names, len(names)):
            # of its own: the host would go on with the graphs of an earlier run
            with tempfile.TemporaryDirectory(dir=yamls[name].parent) as folder:
                found = _run(MODULES[name], yamls[name], Path(folder), threads)
            runs[name].append(found)
            tick()
    return runs


def _run(module: str, yaml: Path, folder: Path, threads: int) -> dict[str, float]:
    """Train; return seconds by MEASURED, and the peak memory in bytes."""
    from lammps_process import cpu_seconds
    from measure import resident

    said, first = folder / 'said', folder / FIRST
    found: dict[str, float] = {}
    with said.open('w') as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, '-m', module, 'train', str(yaml), '-w', str(folder)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, 'OMP_NUM_THREADS': str(threads)},
        )
        while True:
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            with suppress(OSError):  # it may be at its end
                found['peak_memory'] = resident('VmHWM', process.pid)
                if 'wall_to_first_step' not in found and first.exists():
                    found['cpu_to_first_step'] = cpu_seconds(process.pid)
                    found['wall_to_first_step'] = time.perf_counter() - started
            time.sleep(PAUSE)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or 'wall_to_first_step' not in found:
        raise SystemExit(f'{module} failed:\n{said.read_text()[-2000:]}')
    found['wall'] = time.perf_counter() - started
    return {**found, 'cpu': usage.ru_utime + usage.ru_stime}



def _row(name: str, runs: dict[str, list[dict[str, float]]]) -> Json:
    """Medians of one program, and ratios to the host's."""
    import measure
    import numpy as np

    row: Json = {'program': name}
    for key in MEASURED:
        own, host = (np.array([r[key] for r in runs[n]]) for n in (name, HOST))
        row[key] = {
            'median_s': float(np.median(own)),
            'rounds_s': own.tolist(),
            'over_host': measure.ratio(own, host),
        }
    peaks = [run['peak_memory'] for run in runs[name]]
    row['peak_memory_bytes'] = int(np.median(peaks))
    return row


def _table(result: Json) -> Any:
    from report import ratio_text
    from rich.table import Table

    shown = Table(
        title=(
            f'{result["model"]}: {result["structures"]} structures, '
            f'{result["epochs"]} epochs\n{result["device"]}, threads: '
            f'{result["threads"]}; rounds: {result["rounds"]}'
        ),
        caption='ratios of medians (95 % interval), of CPU time; s: seconds',
    )
    shown.add_column('')
    for head in ('CPU s', '/ host', 'wall s', 'to first step', '/ host', 'MB'):
        shown.add_column(head, justify='right')
    for row in result['programs']:
        start = row['cpu_to_first_step']
        shown.add_row(
            row['program'],
            f'{row["cpu"]["median_s"]:.1f}',
            ratio_text(row['cpu']['over_host']),
            f'{row["wall"]["median_s"]:.1f}',
            f'{start["median_s"]:.1f}',
            ratio_text(start['over_host']),
            f'{row["peak_memory_bytes"] / 1e6:.0f}',
        )
    return shown


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('--model', choices=ROUNDS, default='7net-0', help='default: 7net-0')
    add('--structures', type=int, default=16, help='to train on (default: 16)')
    add('--epochs', type=int, default=3, help='default: 3')
    add('--rounds', type=int, help=f'runs of each (default: {ROUNDS})')
    add('--threads', type=int, default=1, help='threads of torch (default: 1)')
    add('--json', type=Path, metavar='FILE', help='write every number')
    add('--quick', action='store_true', help='small model, one round: a trial')
    options = parser.parse_args(arguments)
    if options.quick:
        options.model, options.rounds = 'small', options.rounds or QUICK_ROUNDS
    for name in ('structures', 'epochs', 'rounds', 'threads'):
        value = getattr(options, name)
        if value is not None and value < 1:
            parser.error(f'--{name} must be 1 or more')
    return options


if __name__ == '__main__':
    main()
