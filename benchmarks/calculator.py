"""ASE: one fidelity beside SevenNet's calculator, all beside separate calls.

Prints a table; `--json` writes every number.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# at import, before torch is; see train_step.py
warnings.filterwarnings('ignore', category=DeprecationWarning)  # TorchScript's
warnings.filterwarnings('ignore', message='No tensor product accelerator')

HOST, AGAIN, ONE = 'SevenNetCalculator', 'the same, again', 'one fidelity'
SEPARATE, ALL, MIXTURE = 'separate calls', 'all_fidelities', 'mixture'
CELLS = {4: (1, 1, 1), 8: (2, 1, 1), 72: (3, 3, 2), 576: (6, 6, 4)}

Json = dict[str, Any]


def jobs_of(model: str, n_atoms: int, device: str) -> dict[str, Callable[[], Any]]:
    """What is timed, by name: each computes everything there is of wurtzite GaN."""
    from ase.build import bulk
    from sevenn.calculator import SevenNetCalculator

    from sevennet_mf import FidelityCalculator
    from sevennet_mf.model.load import load_model

    atoms = bulk('GaN', 'wurtzite', a=3.19, c=5.19, u=0.377) * CELLS[n_atoms]
    atoms.rattle(0.05, seed=0)
    names = load_model(model).fidelities
    modal = names[-1] if len(names) > 1 else None
    host = SevenNetCalculator(model, modal=modal, device=device)
    ours = {n: FidelityCalculator(model, modal and n, device) for n in names}
    weights = {name: 1 / len(names) for name in names} if modal else None
    mixed = FidelityCalculator(model, weights, device)
    one = ours[names[-1]]
    return {
        HOST: lambda: host.calculate(atoms),
        AGAIN: lambda: host.calculate(atoms),
        ONE: lambda: one.calculate(atoms),
        SEPARATE: lambda: [own.calculate(atoms) for own in ours.values()],
        ALL: lambda: one.all_fidelities(atoms),
        MIXTURE: lambda: mixed.calculate(atoms),
    }


def take_turns(
    jobs: dict[str, Callable[[], Any]], rounds: int, device: str
) -> dict[str, Any]:
    """(n_rounds, n_clocks) seconds by job; each round in another order."""
    import measure
    import numpy as np
    import torch

    times: dict[str, list] = {name: [] for name in jobs}
    order, where = random.Random(0), torch.device(device)
    gc.disable()
    for number in range(-measure.WARM_UP, rounds):
        gc.collect()
        for name in order.sample(list(jobs), len(jobs)):
            start = measure._now(where)
            jobs[name]()
            took = measure._now(where) - start
            if number >= 0:
                times[name].append(took)
    gc.enable()
    return {name: np.array(found) for name, found in times.items()}


def compare(model: str, n_atoms: int, rounds: int, device: str) -> Json:
    """Medians and ratios to the host's calculator and to separate calls."""
    import measure
    import numpy as np

    times = take_turns(jobs_of(model, n_atoms, device), rounds, device)
    rows: Json = {}
    for name, found in times.items():
        rows[name] = {}
        for i, clock in enumerate(measure.CLOCKS):
            rows[name][clock] = {
                'median_ms': 1000 * float(np.median(found[:, i])),
                'rounds_ms': (1000 * found[:, i]).tolist(),
                'over_host': measure.ratio(found[:, i], times[HOST][:, i]),
                'over_separate': measure.ratio(found[:, i], times[SEPARATE][:, i]),
            }
    return {'model': model, 'atoms': n_atoms, 'rounds': rounds, 'times': rows}


def show(result: Json, report: Json) -> Any:
    """The results for one cell as a table."""
    from report import ratio_text
    from rich.table import Table

    shown = Table(
        title=f'{result["model"]}, {result["atoms"]} atoms\n{report["device"]}, '
        f'threads: {report["threads"]}; {report["clock"]} time, rounds: '
        f'{result["rounds"]}',
        caption='ratios of medians (95 % interval)',
    )
    shown.add_column('')
    for name in ('ms', f'/ {HOST}', f'/ {SEPARATE}'):
        shown.add_column(name, justify='right')
    for name, row in result['times'].items():
        times = row[report['clock']]
        ratios = (ratio_text(times['over_host']), ratio_text(times['over_separate']))
        shown.add_row(name, f'{times["median_ms"]:.1f}', *ratios)
    return shown


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)

    import report
    import torch
    from rich.console import Console

    if options.device.startswith('cuda') and not torch.cuda.is_available():
        raise SystemExit('--device cuda: torch finds no GPU here')
    torch.set_num_threads(options.threads)
    result = {**report.head(options.device, options.threads), 'cells': []}
    console = Console(width=92)
    for n_atoms in options.atoms:
        found = compare(options.model, n_atoms, options.rounds, options.device)
        result['cells'].append(found)
        console.print(show(found, result))
    if options.json:
        options.json.write_text(json.dumps(result) + '\n')


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('--model', default='7net-mf-0', help='checkpoint (default: 7net-mf-0)')
    add('--atoms', type=int, nargs='+', choices=CELLS, default=[8, 72])
    add('--rounds', type=int, default=8, help='default: 8')
    add('--device', default='cpu', help='cpu (default) or cuda')
    add('--threads', type=int, default=1, help='threads of torch (default: 1)')
    add('--json', type=Path, metavar='FILE', help='write every number')
    add('--quick', action='store_true', help='4 atoms, two rounds: a trial')
    options = parser.parse_args(arguments)
    if options.quick:
        options.atoms, options.rounds = [4], 2
    if options.rounds < 1:
        parser.error('--rounds must be 1 or more')
    return options


if __name__ == '__main__':
    main()
