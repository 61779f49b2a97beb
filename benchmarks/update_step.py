"""What `update: fidelity_only` costs beside `update: all`: time, memory, weights.

Both train a pretrained model with an added fidelity on the same batch of
In(x)Ga(1-x)N, a step of each in turn.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import torch
from measure import WARM_UP, ratio, resident
from sevenn.model_build import build_E3_equivariant_model
from variants import INGAN

import sevennet_mf
from sevennet_mf.config import inputs
from sevennet_mf.distributed import Process
from sevennet_mf.train.continuing.extension import make_start
from sevennet_mf.train.loop.trainer import FidelityTrainer
from sevennet_mf.train.prepare import prepare_data, prepare_fit

ALL = ('all', 'bias')
VARIANTS = (ALL, *(('fidelity_only', e) for e in ('bias', 'gain', 'lora')))


class Case:
    """One way to update, ready for a step."""

    def __init__(self, checkpoint: str, update: str, encoding: str, n: int) -> None:
        sevennet_mf.register()
        sections = {
            'model': {'fidelity': {'encoding': encoding}},
            'train': {
                'device': 'cpu',
                'optim_param': {'lr': 1e-5},
                'continue': {'checkpoint': checkpoint},
                'fidelity': {'known_as': 'pbe', 'update': update},
            },
            'data': {
                'batch_size': n,
                'load_trainset_path': [{
                    'file': str(INGAN / 'r2scan_binaries_train.extxyz'),
                    'fidelity': 'r2scan',
                    'index': f':{n}',
                }],
            },
        }
        asked = inputs.read(sections)
        with tempfile.TemporaryDirectory() as folder:
            start = make_start(asked)
            settled = prepare_data(asked, folder, Process(), start)
            built = build_E3_equivariant_model(settled.config)
            fit = prepare_fit(settled, built, folder, Process(), start)
            assert start is not None
            start.load_into(fit.trainer, 1)
            self.batch = next(iter(fit.sets['trainset'].loader)).clone()
            self.trainer: FidelityTrainer = fit.trainer

    def step(self) -> float:
        batch = self.batch.clone()
        start = time.process_time()
        self.trainer.step(batch)
        return time.process_time() - start

    @property
    def n_trained(self) -> int:
        groups = self.trainer.optimizer.param_groups
        return sum(p.numel() for group in groups for p in group['params'])


def _peak(checkpoint: str, update: str, encoding: str, n: int) -> float:
    """Memory that a process needs for some steps, in MB."""
    torch.set_num_threads(1)
    case = Case(checkpoint, update, encoding, n)
    for _ in range(3):
        case.step()
    return resident('VmHWM') / 2**20


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--checkpoint', default='7net-0')
    parser.add_argument('--batch', type=int, default=4, help='structures of a step')
    parser.add_argument('--rounds', type=int, default=15, help='steps of each')
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    given = options.checkpoint, options.batch
    with ProcessPoolExecutor(
        1, mp_context=get_context('spawn'), max_tasks_per_child=1
    ) as alone:
        peaks = {
            v: alone.submit(_peak, given[0], *v, given[1]).result() for v in VARIANTS
        }
    cases = {v: Case(given[0], *v, given[1]) for v in VARIANTS}
    seconds: dict[tuple[str, str], list[float]] = {v: [] for v in VARIANTS}
    for number in range(-WARM_UP, options.rounds):
        for variant, case in cases.items():
            took = case.step()
            if number >= 0:
                seconds[variant].append(took)
    print('| update | encoding | trained weights | CPU s a step | ratio | MB |')
    print('|---|---|---|---|---|---|')
    for variant in VARIANTS:
        own = np.array(seconds[variant])
        found = ratio(own, np.array(seconds[ALL]))
        low, high = found['low'], found['high']
        cells = [*variant, cases[variant].n_trained, f'{np.median(own):.3f}']
        cells += [f'{found["ratio"]:.3f} ({low:.3f} to {high:.3f})']
        cells += [f'{peaks[variant]:.0f}']
        print(f'| {" | ".join(map(str, cells))} |')


if __name__ == '__main__':
    main()
