"""The results of a study's runs, and results.csv with one line for each."""

from __future__ import annotations

import math
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from sevennet_mf.errors import UserError
from sevennet_mf.evaluate.predictions import QUANTITIES
from sevennet_mf.files import read_json, write_csv
from sevennet_mf.study import status
from sevennet_mf.study.runs import METHODS
from sevennet_mf.study.status import (
    ENDED,
    FAILED_FILE,
    RESULT_FILE,
    RUN_FILE,
    STUDY_FILE,
    State,
)

METRICS: Final[tuple[str, ...]] = ('mae', 'rmse')
UNITS: Final[dict[str, str]] = {name: unit for name, _, unit, _ in QUANTITIES}
ByQuantity = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class RunResult:
    """One run: what it is, and its results if it is done.

    What is not known is None.

    Attributes:
        name: Also its folder below OUT/runs.
        method: '' if it is not known.
        labels: Number of target structures in training.
        message: Why it failed, or why its errors do not count.
        steps: Optimiser steps of each stage.
        parameters: Number of trainable parameters.
        low_labels: Structures of other fidelities in training.
        inferred: Labels of the target in training that were inferred from those.
        test_low_labelled: Test structures with a low-fidelity label in training.
        inferred_test: How many of them may also have an inferred label.
        seconds: Duration of training, including that of the run it builds on.
        errors: By quantity and metric, in meV/atom, meV/Å and kbar, and `n`, the
            number of structures with the label. A quantity without test labels is
            absent.
        needs: Names of the runs that this one builds on.
    """

    name: str
    folder: Path
    row: str
    method: str
    labels: int
    seed: int
    state: State
    message: str = ''
    steps: tuple[int, ...] = ()
    parameters: int | None = None
    low_labels: int | None = None
    inferred: int | None = None
    test_structures: int | None = None
    test_low_labelled: int | None = None
    inferred_test: int | None = None
    best_epoch: int | None = None
    seconds: float | None = None
    errors: ByQuantity = field(default_factory=dict)
    needs: tuple[str, ...] = ()

    def error(self, quantity: str, metric: str) -> float | None:
        """Return an error in the unit in `UNITS`, None if there is none."""
        return self.errors.get(quantity, {}).get(metric)

    @property
    def went_wrong(self) -> bool:
        """Whether it ended without valid errors; `message` says why."""
        return self.state in ENDED and bool(self.state != 'done' or self.message)


# ---- collecting


def collect(out: str) -> list[RunResult]:
    """Return every run of a study, done or not, in the order of its tables.

    Rows that study.yaml no longer has are left out, as are the runs that only they
    needed. States are those of `status`. If an error of a finished run is not a
    finite number, the run has no errors and its message says why.

    Args:
        out: Folder of the study.

    Raises:
        UserError: If there is no run in `out`.
    """
    runs = Path(out) / 'runs'
    names = (RUN_FILE, RESULT_FILE, FAILED_FILE)
    folders = {path.parent for name in names for path in runs.rglob(name)}
    # training folders in a run's folder may have a run.json of their own
    own = [f for f in sorted(folders) if not folders & set(f.parents)]
    if not own:
        raise UserError(
            f'{out} is not the folder of a study: there is no run in {runs}. Give '
            'the folder that the study was started with (-o).'
        )
    found = [_read(folder, folder.relative_to(runs).as_posix()) for folder in own]
    study = read_study(out)
    found = _compared(found, study.get('withdrawn') or ())
    order = row_order((r.row for r in found), study)
    found = _with_states(found)
    return sorted(found, key=lambda r: (order.index(r.row), r.labels, r.seed))


def _compared(found: list[RunResult], withdrawn: Container[str]) -> list[RunResult]:
    """The runs of rows that are still compared, and what these need."""
    gone = [r for r in found if r.row in withdrawn]
    kept = [r for r in found if r.row not in withdrawn]
    needed = {name for r in kept for name in r.needs}
    theirs = {name for r in gone for name in r.needs} - needed
    return [r for r in kept if r.name not in theirs]


def read_study(out: str | Path) -> dict[str, Any]:
    """Return the content of study.json; {} if there is none."""
    return read_json(Path(out) / STUDY_FILE)


def row_order(rows: Iterable[str], study: Mapping[str, Any]) -> list[str]:
    """Return the rows in the order of study.json, then methods, then the rest."""
    there = set(rows)
    wanted = dict.fromkeys([*(study.get('rows') or ()), *METHODS])
    known = [row for row in wanted if row in there]
    return known + sorted(row for row in there if row not in wanted)


def _number(told: Any, named: re.Match[str] | None) -> int:
    """What the files say (0 is a number, too), or else the name."""
    if told is not None:
        return int(told)
    return int(named[1]) if named else 0


def _read(folder: Path, name: str) -> RunResult:
    """One run as described by its files; `_with_states` adds its state."""
    described = read_json(folder / RUN_FILE)
    result = read_json(folder / RESULT_FILE)
    told = {**described, **result}
    # for a run that failed before it could describe itself
    last = name.split('/')[-1]
    labels, seed = re.search(r'n(\d+)', last), re.search(r'seed(\d+)', last)
    errors = result.get('errors') or {}
    message = _not_finite(errors)
    steps = told.get('steps') or ()
    row = str(told.get('row') or name.split('/')[0])
    return RunResult(
        name=name,
        folder=folder,
        row=row,
        method=str(told.get('method') or (row if row in METHODS else '')),
        labels=_number(told.get('labels'), labels),
        seed=_number(told.get('seed'), seed),
        state='waiting',
        message=message,
        steps=tuple(steps) if isinstance(steps, Sequence) else (int(steps),),
        **{
            key: result.get(key)
            for key in (
                'parameters',
                'low_labels',
                'inferred',
                'test_structures',
                'test_low_labelled',
                'inferred_test',
                'best_epoch',
                'seconds',
            )
        },
        errors={} if message else errors,
        needs=tuple(described.get('needs') or ()),
    )


def _not_finite(errors: ByQuantity) -> str:
    for quantity, metrics in errors.items():
        for metric in METRICS:
            if not math.isfinite(metrics.get(metric, 0.0)):
                return f'the {quantity} {metric.upper()} is not a finite number'
    return ''


def _with_states(found: Sequence[RunResult]) -> list[RunResult]:
    """The same runs with their states from `status`."""
    there = {r.name for r in found}
    known = [
        replace(r, needs=tuple(name for name in r.needs if name in there))
        for r in found
    ]
    states = status.read_all(known)
    told = ((r, states[r.name]) for r in found)
    return [
        replace(r, state=now.state, message=now.message or r.message)
        for r, now in told
    ]


# ---- the table of all runs


def write(results: Sequence[RunResult], path: str) -> None:
    """Write results.csv with one line per run.

    Raises:
        UserError: If it cannot be written.
    """
    lines = [_line(r) for r in results]
    table: list[list[Any]] = [list(lines[0])] if lines else []
    for line in lines:
        table.append(['' if cell is None else cell for cell in line.values()])
    write_csv(path, table)


def _line(r: RunResult) -> dict[str, Any]:
    """The cells of a run, by the heads of the columns."""
    line: dict[str, Any] = {
        'row': r.row,
        'method': r.method,
        'labels': r.labels,
        'seed': r.seed,
        'steps': sum(r.steps) or None,
        'steps_by_stage': ' + '.join(map(str, r.steps)),
        'parameters': r.parameters,
        'low_labels': r.low_labels,
        'inferred': r.inferred,
        'test_structures': r.test_structures,
        'test_low_labelled': r.test_low_labelled,
        'inferred_test': r.inferred_test,
    }
    for quantity, unit in UNITS.items():
        for metric in METRICS:
            error = r.error(quantity, metric)
            text = None if error is None else f'{error:.6g}'
            line[f'{quantity}_{metric.upper()} ({unit})'] = text
        line[f'{quantity}_n'] = r.errors.get(quantity, {}).get('n')
    line['best_epoch'] = r.best_epoch
    line['seconds'] = None if r.seconds is None else round(r.seconds, 1)
    return line | {
        'state': r.state,
        'message': r.message,
        'folder': f'runs/{r.name}',
    }


# ---- over seeds


Key = tuple[str, int]  # row, labels


@dataclass(frozen=True)
class OverSeeds:
    """Mean, standard deviation (of a sample: n - 1) and number of seeds.

    Attributes:
        seeds: Ascending.
        values: One for each of `seeds`.
        deviation: Standard deviation; NaN for a single seed.
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


Table = dict[Key, OverSeeds]


def aggregate(results: Iterable[RunResult], quantity: str, metric: str) -> Table:
    """Return the errors of finished runs by (row, labels), over their seeds.

    A run without labels of the target, without this error, or with one that is not
    a finite number, is left out.
    """
    kept: dict[Key, dict[int, float]] = {}
    for r in results:
        value = r.error(quantity, metric)
        if r.state == 'done' and r.labels > 0 and value is not None:
            kept.setdefault((r.row, r.labels), {})[r.seed] = value
    return {
        key: OverSeeds(tuple(sorted(by)), tuple(by[seed] for seed in sorted(by)))
        for key, by in kept.items()
    }


def most_seeds(table: Table) -> int:
    """Return the largest number of seeds of any mean."""
    return max((spread.n for spread in table.values()), default=0)


def rows_of(table: Table) -> list[str]:
    """Return the rows of a table, in its order."""
    return list(dict.fromkeys(row for row, _ in table))


def labels_of(table: Table, row: str | None = None) -> list[int]:
    """Return the numbers of labels in a table (of one row), ascending."""
    return sorted({n for name, n in table if row in (None, name)})
