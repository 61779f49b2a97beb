"""The errors of a study's runs over seeds: mean and spread."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sevennet_mf.study.report.results import Result

Key = tuple[str, int]  # row, labels


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


def aggregate(results: Iterable[Result], quantity: str, metric: str) -> Table:
    """Return the errors of all done runs by (row, labels), over their seeds.

    A run without labels of the target, without this error, or with one that is not
    a finite number, is left out.
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


def most_seeds(table: Table) -> int:
    """Return the number of seeds of the means that have the most of them."""
    return max((spread.n for spread in table.values()), default=0)


def rows_of(table: Table) -> list[str]:
    """Return the rows of a table, in its order."""
    return list(dict.fromkeys(row for row, _ in table))


def labels_of(table: Table, row: str | None = None) -> list[int]:
    """Return the numbers of labels in a table (of one row), ascending."""
    return sorted({n for name, n in table if row in (None, name)})
