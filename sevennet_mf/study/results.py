"""What the runs of a study gave: a line each, and mean and spread over seeds."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from sevennet_mf.errors import UserError
from sevennet_mf.study import status
from sevennet_mf.study.config import METHODS
from sevennet_mf.study.status import FAILED_FILE, RESULT_FILE, RUN_FILE, State
from sevennet_mf.train.predictions import QUANTITIES
from sevennet_mf.train.tables import write_csv

METRICS: Final[tuple[str, ...]] = ('mae', 'rmse')
UNITS: Final[dict[str, str]] = {name: unit for name, _, unit, _ in QUANTITIES}
Errors = Mapping[str, Mapping[str, float]]
Key = tuple[str, int]  # row, labels


@dataclass(frozen=True)
class Result:
    """One run: what it is, and what it gave if it is done.

    folder: below OUT/runs. steps: optimiser steps by stage. errors: by quantity and
    metric, meV/atom, meV/Å and kbar; a quantity without test labels is absent. What
    is not known is None. needs: names of the runs that this one builds on.
    """

    name: str
    row: str
    labels: int
    seed: int
    state: State
    message: str
    folder: str
    steps: tuple[int, ...] = ()
    parameters: int | None = None
    low_labels: int | None = None
    test_structures: int | None = None
    test_low_labelled: int | None = None
    best_epoch: int | None = None
    seconds: float | None = None
    errors: Errors = field(default_factory=dict)
    needs: tuple[str, ...] = ()

    def error(self, quantity: str, metric: str) -> float | None:
        """Return an error in the unit of `UNITS`, None if there is none."""
        return self.errors.get(quantity, {}).get(metric)


@dataclass(frozen=True)
class Spread:
    """Mean, standard deviation (of a sample: n - 1) and number of seeds.

    values: one for each of `seeds`, ascending; deviation: NaN of a single one.
    """

    seeds: tuple[int, ...]
    values: tuple[float, ...]

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))

    @property
    def deviation(self) -> float:
        return float(np.std(self.values, ddof=1)) if self.n > 1 else math.nan


Table = dict[Key, Spread]


# ---- collecting


def collect(out: str) -> list[Result]:
    """Return every run of a study, done or not, in the order of its tables.

    A run that cannot be read, or whose error is not a finite number, counts as
    failed and says so. Raises UserError if there is no run in `out`.
    """
    runs = Path(out) / 'runs'
    names = (RUN_FILE, RESULT_FILE, FAILED_FILE)
    folders = {path.parent for name in names for path in runs.rglob(name)}
    # the training folders in a run's folder may have a run.json of their own
    own = [f for f in sorted(folders) if not folders & set(f.parents)]
    if not own:
        raise UserError(
            f'{out} is not the folder of a study: there is no run in {runs}. Name '
            'the folder that the study was started with (-o).'
        )
    found = [_read(folder, folder.relative_to(runs).as_posix()) for folder in own]
    order = row_order((r.row for r in found), status.read_json(study_file(out)))
    found = _with_states(found, runs)
    return sorted(found, key=lambda r: (order.index(r.row), r.labels, r.seed))


def study_file(out: str) -> Path:
    """Return where a study says what it is."""
    return Path(out) / 'study.json'


def row_order(rows: Iterable[str], study: Mapping[str, Any]) -> list[str]:
    """Return the rows of tables: as study.json has them, then the rest."""
    there = set(rows)
    wanted = dict.fromkeys(study.get('rows') or study.get('methods') or METHODS)
    known = [row for row in wanted if row in there]
    return known + sorted(row for row in there if row not in wanted)


def _read(folder: Path, name: str) -> Result:
    """One run; its state is what its own result says, not what it waits for."""
    described = status.read_json(folder / RUN_FILE)
    result = status.read_json(folder / RESULT_FILE)
    told = {**described, **result}
    # a run that failed before it could say what it is
    labels = re.search(r'n(\d+)', name.split('/')[-1])
    seed = re.search(r'seed(\d+)', name)
    errors = result.get('errors') or {}
    state: State = 'done' if result else 'waiting'
    message = _not_finite(errors)
    if (folder / RESULT_FILE).exists() and not result:
        message = f'{RESULT_FILE} cannot be read'
    steps = told.get('steps') or ()
    return Result(
        name=name,
        row=str(told.get('row') or name.split('/')[0]),
        labels=int(told.get('labels') or (labels[1] if labels else 0)),
        seed=int(told.get('seed') or (seed[1] if seed else 0)),
        state='failed' if message else state,
        message=message,
        folder=name,
        steps=tuple(steps) if isinstance(steps, Sequence) else (int(steps),),
        **{
            key: result.get(key)
            for key in (
                'parameters',
                'low_labels',
                'test_structures',
                'test_low_labelled',
                'best_epoch',
                'seconds',
            )
        },
        errors={} if message else errors,
        needs=tuple(described.get('needs') or ()),
    )


def _not_finite(errors: Errors) -> str:
    for quantity, metrics in errors.items():
        for metric in METRICS:
            if not math.isfinite(metrics.get(metric, 0.0)):
                return f'the {quantity} {metric.upper()} is not a finite number'
    return ''


@dataclass(frozen=True)
class _Known:
    """A run as `status` asks for it."""

    name: str
    folder: Path
    needs: tuple[str, ...]
    row: str
    labels: int
    seed: int


def _with_states(found: Sequence[Result], runs: Path) -> list[Result]:
    """What has no result waits, runs, failed or is blocked: `status` knows."""
    there = {r.name for r in found}
    known = [
        _Known(
            name=r.name,
            folder=runs / r.folder,
            needs=tuple(name for name in r.needs if name in there),
            row=r.row,
            labels=r.labels,
            seed=r.seed,
        )
        for r in found
    ]
    states = status.read_all(known)
    return [
        replace(r, state=states[r.name].state, message=states[r.name].message)
        if r.state == 'waiting'
        else r
        for r in found
    ]


# ---- the table of all runs


def write(results: Sequence[Result], path: str) -> None:
    """Write results.csv, a line per run, whole; UserError if it cannot be."""
    head = ['row', 'labels', 'seed', 'steps', 'parameters', 'low_labels']
    head += ['test_structures']
    pairs = [(quantity, metric) for quantity in UNITS for metric in METRICS]
    head += [f'{q}_{metric.upper()} ({UNITS[q]})' for q, metric in pairs]
    head += ['best_epoch', 'seconds', 'state', 'message', 'folder']
    table: list[list[Any]] = [head]
    for r in results:
        errors = [r.error(*pair) for pair in pairs]
        line: list[Any] = [r.row, r.labels, r.seed, sum(r.steps) or None]
        line += [r.parameters, r.low_labels, r.test_structures]
        line += [None if e is None else f'{e:.6g}' for e in errors]
        line += [r.best_epoch, None if r.seconds is None else round(r.seconds, 1)]
        line += [r.state, r.message, f'runs/{r.folder}']
        table.append(['' if cell is None else cell for cell in line])
    write_csv(path, table)


# ---- over seeds


def aggregate(results: Iterable[Result], quantity: str, metric: str) -> Table:
    """Return the errors of all done runs by (row, labels), over their seeds.

    A run without labels of the target, or without this error, is left out.
    """
    kept: dict[Key, dict[int, float]] = {}
    for r in results:
        value = r.error(quantity, metric)
        if r.state == 'done' and r.labels > 0 and value is not None:
            kept.setdefault((r.row, r.labels), {})[r.seed] = value
    return {
        key: Spread(tuple(sorted(by)), tuple(by[seed] for seed in sorted(by)))
        for key, by in kept.items()
    }


def rows_of(table: Table) -> list[str]:
    """Return the rows of a table, in its order."""
    return list(dict.fromkeys(row for row, _ in table))


def labels_of(table: Table, row: str | None = None) -> list[int]:
    """Return the numbers of labels in a table (of one row), ascending."""
    return sorted({n for name, n in table if row in (None, name)})
