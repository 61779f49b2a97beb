"""Seconds of an MD step: LAMMPS with our pair styles, with the host's, and ASE.

Prints a table for each size of cell; `--json` writes every number.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

warnings.filterwarnings('ignore', category=DeprecationWarning)  # TorchScript's
warnings.filterwarnings('ignore', message='No tensor product accelerator')

MODELS = ('7net-mf-0', 'small')
ROUNDS = {72: 10, 576: 4}
STEPS = {72: 2, 576: 1}  # in a round
WARM_UP = {72: 4, 576: 1}
QUICK_ROUNDS = 2


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)

    # late, so that a wrong option is refused at once
    import lammps_cases as cases
    import lammps_largest
    import lammps_report
    import report
    import torch
    from rich.console import Console

    from sevennet_mf.errors import UserError

    if options.device == 'cuda' and not torch.cuda.is_available():
        raise SystemExit('--device cuda: torch finds no GPU here')
    torch.set_num_threads(1)
    console = Console(width=100)
    result = {**report.head(options.device, 1), 'model': options.model, 'cells': {}}
    del result['architectures'], result['clock']
    with tempfile.TemporaryDirectory() as name:
        try:
            files = cases.prepare(Path(name), options.model, options.device)
        except UserError as error:
            raise SystemExit(str(error)) from None
        if options.largest:
            memory = 1e9 * options.memory or lammps_largest.available_memory()
            found = lammps_largest.search(files, memory)
            result['largest'] = found
            console.print(lammps_largest.table(found, options.model))
        for n_atoms in [] if options.largest else options.atoms:
            found = lammps_report.compare(
                files,
                n_atoms,
                cases.of_size(n_atoms),
                options.rounds or ROUNDS[n_atoms],
                STEPS[n_atoms],
                WARM_UP[n_atoms],
            )
            result['cells'][str(n_atoms)] = found
            console.print(lammps_report.table(found, result))
    if options.json:
        options.json.write_text(json.dumps(result) + '\n')


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('--model', choices=MODELS, default=MODELS[0], help='default: 7net-mf-0')
    add('--atoms', nargs='+', type=int, choices=ROUNDS, default=list(ROUNDS))
    add('--rounds', type=int, help=f'default: {ROUNDS}')
    add('--device', choices=('cpu', 'cuda'), default='cpu', help='default: cpu')
    add('--largest', action='store_true', help='instead: how many atoms run')
    add(
        '--memory',
        type=float,
        default=0.0,
        metavar='GB',
        help='what a run of --largest may use (default: what is free, less 2)',
    )
    add('--json', type=Path, metavar='FILE', help='write every number')
    add('--quick', action='store_true', help='small model, 72 atoms: a trial')
    options = parser.parse_args(arguments)
    if options.quick:
        options.model, options.atoms = 'small', [72]
        options.rounds = options.rounds or QUICK_ROUNDS
    if options.rounds is not None and options.rounds < 1:
        parser.error('--rounds must be 1 or more')
    if options.memory < 0:
        parser.error('--memory must be a number of GB')
    return options


if __name__ == '__main__':
    main()
