"""The cost of fidelity sites: times and memory beside the plain host, in one run.

Prints a table for each architecture; `--json` writes every number.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Sequence
from pathlib import Path

# at import: the processes that measure memory import this file, too
warnings.filterwarnings('ignore', category=DeprecationWarning)  # TorchScript's
warnings.filterwarnings('ignore', message='No tensor product accelerator')

ROUNDS = {'small': 40, '7net-0': 8}
# variants.VARIANTS, which are late; the ratios are to the first and the third
NAMES = ('host', 'host, again', 'modality', 'bias', 'gain', 'lora', 'fused')
NAMES = (*NAMES, 'folded')
QUICK_ROUNDS = 2


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)

    # late, so that a wrong option is refused at once
    import report
    import torch
    from rich.console import Console

    on_gpu = options.device.startswith('cuda')
    if on_gpu and not torch.cuda.is_available():
        raise SystemExit('--device cuda: torch finds no GPU here')
    torch.set_num_threads(options.threads)
    result = report.head(options.device, options.threads)
    console = Console(width=92)
    for architecture in options.models:
        found = report.compare(
            architecture,
            options.rounds or ROUNDS[architecture],
            options.batch,
            options.device,
            options.threads,
            not options.no_memory,
            options.repeat,
            options.variants,
        )
        result['architectures'][architecture] = found
        console.print(report.table(architecture, found, result))
    if options.json:
        options.json.write_text(json.dumps(result) + '\n')


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('--models', nargs='+', choices=ROUNDS, default=list(ROUNDS))
    add('--rounds', type=int, help=f'default: {ROUNDS}')
    add('--batch', type=int, default=4, help='structures in the batch (default: 4)')
    add(
        '--repeat',
        nargs=3,
        type=int,
        default=[1, 1, 1],
        metavar='N',
        help='cells along each vector: 3 3 1 makes 72 atoms of 8',
    )
    add('--variants', nargs='+', choices=NAMES, default=list(NAMES))
    add('--device', default='cpu', help='cpu (default) or cuda')
    add('--threads', type=int, default=1, help='threads of torch (default: 1)')
    add('--no-memory', action='store_true', help='leave out the peak memory')
    add('--json', type=Path, metavar='FILE', help='write every number')
    add('--quick', action='store_true', help='small model, two rounds: a trial')
    options = parser.parse_args(arguments)
    if options.quick:
        options.models, options.rounds = ['small'], options.rounds or QUICK_ROUNDS
    if options.rounds is not None and options.rounds < 1:
        parser.error('--rounds must be 1 or more')
    if options.batch < 1 or min(options.repeat) < 1:
        parser.error('--batch and --repeat must be 1 or more')
    options.variants = [n for n in NAMES if n in (*NAMES[:3:2], *options.variants)]
    return options


if __name__ == '__main__':
    main()
