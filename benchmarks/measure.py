"""Times and memory of one step, and ratios of times taken in turn."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import sevenn._keys as KEY
import torch
from variants import DEPLOYABLE, Case, Variant

TRAIN, TRAINER = 'training step', "trainer's step"
INFERENCE, DEPLOYED = 'inference', 'deployed'
TASKS = (TRAIN, TRAINER, INFERENCE, DEPLOYED)
CLOCKS: dict[str, Callable[[], float]] = {
    'cpu': time.process_time,
    'wall': time.perf_counter,
}
# TorchScript, which e3nn compiles, settles within the first calls
WARM_UP = 3
RESAMPLED = 2000


def _now(device: torch.device) -> np.ndarray:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    return np.array([clock() for clock in CLOCKS.values()])


def training_step(variant: Variant, case: Case) -> np.ndarray:
    """Time one turn of the loop in the host's own Trainer, by clock."""
    took = np.zeros(len(CLOCKS))
    assert variant.trainer is not None

    # the loop asks for the next batch as soon as its step is done, so that what
    # the host does once per epoch does not count
    def one() -> Iterator[Any]:
        batch = case.batch()
        start = _now(case.device)
        yield batch
        took[:] = _now(case.device) - start

    variant.trainer.run_one_epoch(one(), is_train=True)
    return took


def trainer_step(variant: Variant, case: Case) -> np.ndarray:
    """Time FidelityTrainer.step(): what training with sevennet_mf costs."""
    assert variant.own_trainer is not None
    variant.model.train()
    batch = case.batch()
    start = _now(case.device)
    variant.own_trainer.step(batch)
    return _now(case.device) - start


def inference(variant: Variant, case: Case) -> np.ndarray:
    """Time energies, forces and stresses of the batch."""
    variant.model.eval()
    batch = case.batch()
    start = _now(case.device)
    variant.model(batch)
    return _now(case.device) - start


def deployed(variant: Variant, case: Case) -> np.ndarray:
    """Time the energy and its gradient, as a pair style of LAMMPS asks for them."""
    model = variant.deployed
    graph = case.graph()
    edges = graph[KEY.EDGE_VEC]
    start = _now(case.device)
    with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
        energy = model(graph)[KEY.PRED_TOTAL_ENERGY]
        torch.autograd.grad(energy.sum(), [edges])
    return _now(case.device) - start


RUN = {
    TRAIN: training_step,
    TRAINER: trainer_step,
    INFERENCE: inference,
    DEPLOYED: deployed,
}


def tasks_of(variant: Variant) -> list[str]:
    """Those of TASKS that a variant can do."""
    able = {
        TRAIN: variant.trainer is not None,
        TRAINER: variant.own_trainer is not None,
        INFERENCE: True,
        DEPLOYED: variant.name in DEPLOYABLE,
    }
    return [task for task in TASKS if able[task]]


@dataclass
class Times:
    """The times of one task of one variant, round by round."""

    task: str
    variant: str
    seconds: list[np.ndarray] = field(default_factory=list)  # (n_clocks,) each

    def by_clock(self, clock: str) -> np.ndarray:
        """(n_rounds,) seconds."""
        return np.array(self.seconds)[:, list(CLOCKS).index(clock)]


def take_turns(
    case: Case, variants: dict[str, Variant], rounds: int, tick: Callable[[], None]
) -> list[Times]:
    """Run every task of every variant once per round, each round in another order.

    What else the machine does then falls on all alike. `tick` is called after
    each round, the first ones not counted.
    """
    jobs = [
        Times(task, name)
        for task in TASKS
        for name, variant in variants.items()
        if task in tasks_of(variant)
    ]
    order = random.Random(0)
    collecting = gc.isenabled()
    try:
        for number in range(-WARM_UP, rounds):
            gc.collect()
            gc.disable()
            for job in order.sample(jobs, len(jobs)):
                took = RUN[job.task](variants[job.variant], case)
                if number >= 0:
                    job.seconds.append(took)
            tick()
    finally:
        if collecting:
            gc.enable()
    return jobs


def ratio(above: np.ndarray, below: np.ndarray) -> dict[str, float]:
    """The ratio of medians and its 95 % interval, by drawing rounds again.

    above, below: (n_rounds,), taken in the same rounds.
    """
    draws = np.random.default_rng(0).integers(
        len(above), size=(RESAMPLED, len(above))
    )
    drawn = np.median(above[draws], axis=1) / np.median(below[draws], axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return {
        'ratio': float(np.median(above) / np.median(below)),
        'low': float(low),
        'high': float(high),
    }


def resident(which: str, process: int | str = 'self') -> int:
    """VmRSS (now) or VmHWM (largest so far) of a process, bytes.

    getrusage() would not do: its maximum survives exec(), so that a child starts
    with that of its parent.
    """
    path = Path(f'/proc/{process}/status')
    for line in path.read_text().splitlines():
        if line.startswith(f'{which}:'):
            return int(line.split()[1]) * 1024
    raise OSError(f'{path} has no {which}')


def _peak(
    architecture: str,
    name: str,
    size: int,
    device: str,
    threads: int,
    repeat: Sequence[int],
) -> int:
    torch.set_num_threads(threads)
    case = Case(architecture, size, device, repeat)
    before = resident('VmRSS')
    variant = case.variant(name)
    step = trainer_step if variant.own_trainer else training_step
    for _ in range(WARM_UP):
        step(variant, case)
    if device.startswith('cuda'):
        return int(torch.cuda.max_memory_allocated(device))
    return resident('VmHWM') - before


def peak_memory(
    architecture: str,
    name: str,
    size: int,
    device: str,
    threads: int,
    repeat: Sequence[int] = (1, 1, 1),
) -> int:
    """Bytes that a model and a few of its training steps take at the most.

    In a process of its own. On a CPU: resident memory beyond that before the model
    was built; on a GPU: the most that torch had allocated.
    """
    context = get_context('forkserver')
    context.set_forkserver_preload(['sevenn.train.trainer', 'sevennet_mf.train.run'])
    with ProcessPoolExecutor(1, context) as pool:
        arguments = architecture, name, size, device, threads, repeat
        return pool.submit(_peak, *arguments).result()
