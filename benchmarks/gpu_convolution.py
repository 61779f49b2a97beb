"""One convolution with each encoding, eager, recorded and compiled, beside e3nn's.

A part of gpu.py; prints a table, and writes a JSON after each encoding.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gpu_forms as forms
import torch
from calculator import take_turns
from gpu_forms import E3NN, EAGER, Answer, Form, TrainedCase
from measure import CLOCKS, ratio
from report import ratio_text
from rich.console import Console
from rich.table import Table
from variants import ENCODINGS, Case

Json = dict[str, Any]
MODELS = ('7net-0', 'small')
RAN, FAILS, DIFFERS = 'ran', 'fails', 'differs'
# float32 sums in another order; the forces of an untrained model are small
TOLERANCE = {'energy': 1e-5, 'forces': 1e-4, 'gradient': 1e-3}
UNITS = {'energy': 'eV/atom', 'forces': 'of the largest', 'gradient': 'of its norm'}


def off(found: Answer, wanted: Answer, n_atoms: int) -> dict[str, float]:
    """How far an answer is from another, in UNITS."""
    apart = [float((a - b).abs().max()) for a, b in zip(found, wanted, strict=True)]
    largest = [float(value.abs().max()) for value in wanted]
    apart = [apart[0] / n_atoms] + [
        a / b for a, b in zip(apart[1:], largest[1:], strict=True)
    ]
    return dict(zip(TOLERANCE, apart, strict=False))


def compare(
    case: Case, checkpoint: Path, options: argparse.Namespace, clock: str
) -> list[Json]:
    """A row for each task and mode, the first of each task e3nn's, eager."""
    first = Form(case, checkpoint, E3NN)
    own = first
    if options.convolution != E3NN:
        own = Form(case, checkpoint, options.convolution)
    rows: list[Json] = []
    for task in forms.TASKS:
        base = first.task(task, EAGER, options.backend)
        jobs, made = {(E3NN, EAGER): base}, [_row(E3NN, EAGER, task)]
        for mode in options.modes:
            if (options.convolution, mode) in jobs:
                continue
            row = _row(options.convolution, mode, task)
            made.append(row)
            try:
                job = own.task(task, mode, options.backend)
                row['off'] = _check(first, own, base, job, case.n_atoms)
            except Exception as error:  # whatever becomes of it is what we ask
                row.update(outcome=FAILS, note=one_line(error))
                continue
            if any(not row['off'][k] <= TOLERANCE[k] for k in row['off']):
                row['outcome'] = DIFFERS
            jobs[options.convolution, mode] = job
        times = take_turns(jobs, options.rounds, options.device)
        for row in made:
            taken = times.get((row['convolution'], row['mode']))
            if taken is not None:
                at = list(CLOCKS).index(clock)
                seconds = taken[:, at]
                row['rounds_ms'] = (1000 * seconds).tolist()
                row['median_ms'] = 1000 * float(torch.tensor(seconds).median())
                row['over_e3nn'] = ratio(seconds, times[E3NN, EAGER][:, at])
        rows += made
    return rows


def _row(convolution: str, mode: str, task: str) -> Json:
    names = {'task': task, 'convolution': convolution, 'mode': mode}
    return {**names, 'outcome': RAN, 'off': {}, 'note': ''}


def _check(
    first: Form, own: Form, base: forms.Task, job: forms.Task, n_atoms: int
) -> dict[str, float]:
    """The largest difference, also after the atoms have moved."""
    found: list[dict[str, float]] = []
    for seed in range(2):
        wanted = tuple(t.clone() for t in base())
        found.append(off(job(), wanted, n_atoms))
        for form in {id(first): first, id(own): own}.values():
            form.move(seed)
    return {name: max(one[name] for one in found) for name in found[0]}


def one_line(error: BaseException) -> str:
    """An error as one line that is not too long."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f'{type(error).__name__}: {lines[0] if lines else "no word"}'[:200]


def table(rows: list[Json], report: Json) -> Table:
    shown = Table(
        title=f'{report["convolution"]}, {report["model"]}: '
        f'{report["atoms"]} atoms, {report["edges"]} edges',
        caption='ratios of medians (95 % interval); off: from e3nn, eager; '
        + ', '.join(f'{name} {unit}' for name, unit in UNITS.items()),
    )
    for name in ('encoding', 'task', 'convolution', 'mode'):
        shown.add_column(name)
    for name in ('ms', f'/ {E3NN}', 'off'):
        shown.add_column(name, justify='right')
    for row in rows:
        worst = ' '.join(f'{value:.0e}' for value in row['off'].values())
        if row['outcome'] == DIFFERS:
            worst = f'DIFFERS {worst}'
        shown.add_row(
            *(row[name] for name in ('encoding', 'task', 'convolution', 'mode')),
            f'{row["median_ms"]:.2f}' if 'median_ms' in row else row['outcome'],
            ratio_text(row['over_e3nn']) if 'over_e3nn' in row else '',
            worst or row['note'],
        )
    return shown


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    warnings.filterwarnings('ignore', category=DeprecationWarning)  # TorchScript's
    warnings.filterwarnings('ignore', message='No tensor product accelerator')
    torch.set_num_threads(1)
    report: Json = {'convolution': options.convolution, 'rows': []}
    report['left_out'] = forms.absent(options.convolution)
    if report['left_out']:
        options.json.write_text(json.dumps(report) + '\n')
        return
    clock = 'wall' if options.device.startswith('cuda') else 'cpu'
    case = TrainedCase(options.model, options.batch, options.device)
    report.update(
        model=options.model, atoms=case.n_atoms, edges=case.n_edges, clock=clock
    )
    with tempfile.TemporaryDirectory() as folder:
        for encoding in options.encodings:
            checkpoint = Path(folder) / f'{encoding}.pth'
            torch.save(case.checkpoint(encoding), checkpoint)
            for row in compare(case, checkpoint, options, clock):
                report['rows'].append({'encoding': encoding, **row})
            options.json.write_text(json.dumps(report) + '\n')
    Console(width=120).print(table(report['rows'], report))
    wrong = [
        row
        for row in report['rows']
        if row['outcome'] == DIFFERS
        or (row['outcome'] == FAILS and row['mode'] == EAGER)
    ]
    for row in wrong:
        names = [row[name] for name in ('encoding', 'task', 'mode', 'outcome')]
        apart = ', '.join(f'{k} {v:.1e}' for k, v in row['off'].items())
        print(f'{": ".join(names)}: {row["note"] or apart}')
    raise SystemExit(bool(wrong))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('convolution', choices=forms.CONVOLUTIONS)
    add('--modes', nargs='+', choices=forms.MODES, default=[EAGER])
    add('--encodings', nargs='+', choices=ENCODINGS, default=list(ENCODINGS))
    add('--device', default='cpu', help='cpu (default) or cuda')
    add('--rounds', type=int, default=10, help='default: 10')
    add('--batch', type=int, default=16, help='structures (default: 16)')
    add('--backend', default='inductor', help="torch.compile's (default: inductor)")
    add('--model', choices=MODELS, default=MODELS[0], help='default: 7net-0')
    add('--json', type=Path, metavar='FILE', required=True, help='every number')
    options = parser.parse_args(arguments)
    if options.rounds < 1 or options.batch < 2:
        parser.error('--rounds must be 1 or more, --batch 2 or more')
    return options


if __name__ == '__main__':
    main()
