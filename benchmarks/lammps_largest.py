"""How many atoms run: cells of GaN, doubled until each program fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lammps_cases as cases
from lammps_process import Failed
from rich.table import Table
from tqdm import tqdm

Json = dict[str, Any]
PROGRAMS = (cases.OURS, cases.HOST)
STACK = 8 * 2**20  # bytes, what Linux gives a program by default
MARGIN = 2e9  # bytes of memory left to everything else
DOUBLINGS = 12


def available_memory() -> float:
    """Return bytes that a program may take without harm to the others."""
    for line in Path('/proc/meminfo').read_text().splitlines():
        if line.startswith('MemAvailable:'):
            return int(line.split()[1]) * 1024 - MARGIN
    raise OSError('/proc/meminfo has no MemAvailable')


def search(files: cases.Files, memory: float, doublings: int = DOUBLINGS) -> Json:
    """Run one step of cells of 72, 144, ... atoms until the first that fails.

    memory: bytes of addresses that a program may have, its libraries included.
    """
    found = {name: _attempts(name, files, memory, doublings) for name in PROGRAMS}
    return {'memory_bytes': memory, 'stack_bytes': STACK, 'programs': found}


def _attempts(
    name: str, files: cases.Files, memory: float, doublings: int
) -> list[Json]:
    attempts: list[Json] = []
    for k in tqdm(
        range(doublings + 1), desc=f'largest, {name}', disable=None, leave=False
    ):
        n_atoms = cases.SMALLEST * 2**k
        attempt: Json = {'atoms': n_atoms, 'edges': files.n_edges(n_atoms)}
        attempts.append(attempt)
        one = cases.start(name, files, n_atoms, stack=STACK, memory=int(memory))
        try:
            one.steps(1, first=True)
            attempt['peak_memory_bytes'] = one.peak_memory()
        except Failed as failure:
            attempt['failure'] = str(failure)
            break
        finally:
            one.close()
    return attempts


def table(result: Json, model: str) -> Table:
    """The largest cell that ran and the smallest that did not, by program."""
    shown = Table(
        title=(
            f'{model}: the largest cell of GaN\nmemory '
            f'{result["memory_bytes"] / 1e9:.1f} GB, stack '
            f'{result["stack_bytes"] / 2**20:.0f} MiB'
        )
    )
    for name in ('program', 'atoms', 'edges', 'MB', 'what became of it'):
        right = name in ('atoms', 'edges', 'MB')
        shown.add_column(name, justify='right' if right else 'left')
    for name, attempts in result['programs'].items():
        for attempt in attempts[-2:]:
            memory = sum(attempt.get('peak_memory_bytes', []))
            shown.add_row(
                name,
                f'{attempt["atoms"]}',
                f'{attempt["edges"]}',
                f'{memory / 1e6:.0f}' if memory else '',
                attempt.get('failure', 'runs'),
            )
        shown.add_section()
    return shown
