"""Medians, ratios and memory of an architecture, as JSON and as a table."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any

import measure
import numpy as np
import sevenn
import torch
from rich.table import Table
from tqdm import tqdm
from variants import AGAIN, FOLDED, HOST, MODALITY, VARIANTS, Case

import sevennet_mf

Json = dict[str, Any]


def head(device: str, threads: int) -> Json:
    """What all numbers of one run have in common."""
    on_gpu = device.startswith('cuda')
    return {
        'device': (
            torch.cuda.get_device_name(device)
            if on_gpu
            else f'CPU ({platform.machine()})'
        ),
        'threads': threads,
        # of one process: what others do beside it counts less. On a GPU it would
        # be the time that this process waits
        'clock': 'wall' if on_gpu else 'cpu',
        'versions': {
            package.__name__: package.__version__
            for package in (torch, sevenn, sevennet_mf)
        },
        'architectures': {},
    }


def compare(
    architecture: str,
    rounds: int,
    batch_size: int,
    device: str,
    threads: int,
    with_memory: bool,
    repeat: Sequence[int] = (1, 1, 1),
    names: Sequence[str] = VARIANTS,
) -> Json:
    """Times of every task of every variant, their ratios, and peak memory."""
    case = Case(architecture, batch_size, device, repeat)
    variants = {name: case.variant(name) for name in names}
    bar = tqdm(
        total=measure.WARM_UP + rounds, desc=architecture, disable=None, leave=False
    )
    with bar:
        jobs = measure.take_turns(case, variants, rounds, bar.update)
    memory: dict[str, int] = {}
    if with_memory:
        for name in names:
            if name in (AGAIN, FOLDED):
                continue
            memory[name] = measure.peak_memory(
                architecture, name, batch_size, device, threads, repeat
            )
    return {
        'structures': batch_size,
        'atoms': case.n_atoms,
        'edges': case.n_edges,
        'rounds': rounds,
        'parameters': {n: v.n_parameters for n, v in variants.items()},
        'peak_memory_bytes': memory,
        'times': [_row(job, jobs) for job in jobs],
    }


def _row(job: measure.Times, jobs: list[measure.Times]) -> Json:
    """Medians of one task of one variant, and ratios to the host's two models."""
    task = measure.TRAIN if job.task == measure.TRAINER else job.task
    row: Json = {'task': job.task, 'variant': job.variant}
    for clock in measure.CLOCKS:
        own = job.by_clock(clock)
        entry: Json = {
            'median_ms': 1000 * float(np.median(own)),
            'rounds_ms': (1000 * own).tolist(),
        }
        for name in (HOST, MODALITY):
            other = next(j for j in jobs if (j.task, j.variant) == (task, name))
            entry[f'over_{name}'] = measure.ratio(own, other.by_clock(clock))
        row[clock] = entry
    return row


def table(architecture: str, result: Json, report: Json) -> Table:
    """One architecture's part of `report` as a table."""
    clock = report['clock']
    shown = Table(
        title=(
            f'{architecture}: {result["structures"]} structures, {result["atoms"]} '
            f'atoms, {result["edges"]} edges\n{report["device"]}, threads: '
            f'{report["threads"]}; {clock} time, rounds: {result["rounds"]}'
        ),
        caption='ratios of medians (95 % interval); memory: peak of training',
    )
    for name in ('', 'variant'):
        shown.add_column(name)
    for name in ('ms', '/ host', '/ modality', 'MB'):
        shown.add_column(name, justify='right')
    previous = ''
    for row in result['times']:
        if previous and row['task'] != previous:
            shown.add_section()
        memory = result['peak_memory_bytes'].get(row['variant'])
        # a host model trains in the host's trainer, one of ours in ours
        is_ours = row['variant'] not in (HOST, MODALITY)
        trained_by = measure.TRAINER if is_ours else measure.TRAIN
        times = row[clock]
        shown.add_row(
            row['task'] if row['task'] != previous else '',
            row['variant'],
            f'{times["median_ms"]:.1f}',
            ratio_text(times['over_host']),
            ratio_text(times['over_modality']),
            f'{memory / 1e6:.0f}' if memory and row['task'] == trained_by else '',
        )
        previous = row['task']
    return shown


def ratio_text(values: Json) -> str:
    """A ratio of measure.ratio() with its interval; 1 of a thing to itself."""
    if values['low'] == values['high'] == 1:
        return '1'
    return f'{values["ratio"]:.3f} ({values["low"]:.3f}-{values["high"]:.3f})'
