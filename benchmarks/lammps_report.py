"""MD steps timed in turn, as JSON and as a table."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import lammps_cases as cases
import measure
import numpy as np
from lammps_process import CLOCKS, MdProcess
from rich.table import Table
from tqdm import tqdm

Json = dict[str, Any]


def compare(
    files: cases.Files,
    n_atoms: int,
    programs: Sequence[str],
    rounds: int,
    steps: int,
    warm_up: int,
) -> Json:
    """Let each program make `steps` steps per round, each round in another order."""
    times: dict[str, list[np.ndarray]] = {name: [] for name in programs}
    running: dict[str, MdProcess] = {}
    order = random.Random(0)
    bar = tqdm(
        total=len(programs) * (rounds + 1),
        desc=f'{n_atoms} atoms',
        disable=None,
        leave=False,
    )
    try:
        with bar:
            for name in programs:
                running[name] = cases.start(name, files, n_atoms)
                running[name].steps(warm_up, first=True)
                bar.update()
            for _ in range(rounds):
                for name in order.sample(programs, len(programs)):
                    times[name].append(running[name].steps(steps))
                    bar.update()
        memory = {name: one.peak_memory() for name, one in running.items()}
    finally:
        for one in running.values():
            one.close()
    return {
        'atoms': n_atoms,
        'edges': files.n_edges(n_atoms),
        'rounds': rounds,
        'steps': steps,
        'programs': [_row(name, times, memory[name]) for name in programs],
    }


def _row(name: str, times: dict[str, list[np.ndarray]], memory: list[int]) -> Json:
    row: Json = {'program': name, 'peak_memory_bytes': memory}
    for i, clock in enumerate(CLOCKS):
        by_name = {other: np.array(taken)[:, i] for other, taken in times.items()}
        row[clock] = {
            'median_s': float(np.median(by_name[name])),
            'rounds_s': by_name[name].tolist(),
        }
        own = by_name[name]
        if cases.HOST in times:
            row[clock]['over_host'] = measure.ratio(own, by_name[cases.HOST])
        half = cases.TWICE.get(name)
        if half in times:
            row[clock]['speed_up'] = measure.ratio(by_name[half], own)
    return row


def table(result: Json, report: Json) -> Table:
    """One size of cell as a table."""
    shown = Table(
        title=(
            f'{report["model"]}: {result["atoms"]} atoms of GaN, {result["edges"]} '
            f'edges\n{report["device"]}, one thread per rank; '
            f'{result["rounds"]} rounds of {result["steps"]} MD steps'
        ),
        caption=_caption(result),
    )
    shown.add_column('program')
    for name in ('s/step', '/ host', 'CPU s/step', 'MB'):
        shown.add_column(name, justify='right')
    for row in result['programs']:
        shown.add_row(
            row['program'],
            f'{row["wall"]["median_s"]:.3g}',
            interval(row['wall'].get('over_host')),
            f'{row["cpu"]["median_s"]:.3g}',
            ' + '.join(f'{n / 1e6:.0f}' for n in row['peak_memory_bytes']),
        )
    return shown


def _caption(result: Json) -> str:
    text = 'ratios of medians (95 % interval); CPU of all ranks; peak of each rank'
    for row in result['programs']:
        if 'speed_up' in row['wall']:
            speed_up = interval(row['wall']['speed_up'])
            what = row['program'].rpartition(', ')[2]
            text += f'\n{what} are {speed_up} times as fast as 1'
    return text


def interval(values: Json | None) -> str:
    """A ratio with its interval, as text."""
    if values is None:
        return ''
    if values['low'] == values['high'] == 1:
        return '1'
    return f'{values["ratio"]:.3f} ({values["low"]:.3f}-{values["high"]:.3f})'
