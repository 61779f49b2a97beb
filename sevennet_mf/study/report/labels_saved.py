"""How many labels training on the target alone needs for the error of a method.

`high_only` has a learning curve: the mean error over seeds for each number of
labels. A method that reaches some error with N labels is worth as many labels as
`high_only` needs for it. The curve is measured at a few N only and noisy, so:

1. log(mean error) is made to fall, or stay, with N: least squares under that
   condition (isotonic regression, weighted by the number of seeds), which pools
   neighbours that are in the wrong order;
2. between the measured N it is linear in log(error) against log(N); the answer is
   the smallest number of labels at which it is at or below the error;
3. outside the measured N it is not extrapolated: the answer is 'more than' the
   largest or 'fewer than' the smallest, beyond the measured range.

The interval holds the middle 95 % of a bootstrap over the seeds of both curves: for
each point, as many log errors as it has seeds are drawn, mean plus a residual, and
everything is repeated. With the usual three seeds, drawing from these three alone
gives intervals that contain the truth in 80 % of the cases. Therefore residuals are
drawn from all points of a row, assuming the same scatter in log error, and widened
by sqrt(n / (n - 1)) for the mean that was fitted to n of them, and by Student's t
over the normal quantile for how little is known about their size: this contains the
truth in about 95 % (a test computes it). A row with only one seed has no interval.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.stats import norm, t

from sevennet_mf.arrays import Floats
from sevennet_mf.study.report.run_results import OverSeeds, Table, labels_of

REFERENCE: Final[str] = 'high_only'
DRAWS: Final[int] = 2000
SEED: Final[int] = 0
LEVEL: Final[float] = 0.95
FEWER, MORE = 0.0, math.inf  # beyond the measured range
SAME: Final[float] = 1e-9  # in log error


@dataclass(frozen=True)
class Needed:
    """The labels that `high_only` needs for the mean error of `row` with `labels`.

    Attributes:
        error: Mean error in the unit of the tables.
        value: Number of labels; `FEWER` (0) or `MORE` (inf) beyond the measured
            range.
        low: Lower end of the 95 % interval, like `value`; None without interval.
        high: Upper end, likewise.
        smallest: Fewest labels that `high_only` was measured with.
        largest: Most labels that `high_only` was measured with.
        note: Why there is no interval, or ''.
    """

    row: str
    labels: int
    error: float
    value: float
    low: float | None
    high: float | None
    smallest: int
    largest: int
    note: str = ''

    @property
    def measured(self) -> bool:
        """Whether the answer is within the measured range."""
        return FEWER < self.value < MORE

    @property
    def factor(self) -> float | None:
        """Labels saved as a factor, `value` / `labels`; None beyond the range."""
        return self.value / self.labels if self.measured else None

    def words(self, value: float) -> str:
        """Return a number of labels as 'more than 47', 'fewer than 4', or '31'."""
        if value == MORE:
            return f'more than {self.largest}'
        if value == FEWER:
            return f'fewer than {self.smallest}'
        return f'{value:.0f}'

    @property
    def unresolved(self) -> bool:
        """Whether the interval exceeds the measured range on both sides."""
        return self.low == FEWER and self.high == MORE

    @property
    def interval(self) -> str:
        """'24 to 40', 'not resolved', or '' without an interval."""
        if self.low is None or self.high is None:
            return ''
        if self.unresolved:
            return 'not resolved'
        low, high = self.words(self.low), self.words(self.high)
        return low if low == high else f'{low} to {high}'


def labels_saved(table: Table, quantity: str = '') -> list[Needed]:
    """Return the labels saved by each row but `high_only`, at each number of labels.

    Args:
        table: Errors over seeds by (row, labels).
        quantity: Part of the seed of the bootstrap, so that each answer is
            reproducible whatever else is in the study.

    Returns:
        The answers; none if `high_only` was not run, or has no error above zero.
    """
    table = {key: s for key, s in table.items() if min(s.values) > 0}
    counts = labels_of(table, REFERENCE)
    if not counts:
        return []
    curve = _ReferenceCurve([table[REFERENCE, n] for n in counts], counts)
    drawn = curve.falling(_drawn(table, REFERENCE, counts, quantity))
    point = curve.falling(curve.means[None, :])
    found = []
    for (row, labels), spread in table.items():
        if row == REFERENCE:
            continue
        value = curve.labels_for(np.array([math.log(spread.mean)]), point)[0]
        low, high, note = None, None, _why_no_interval(table, row)
        if not note:
            levels = _drawn(table, row, [labels], quantity)[:, 0]
            low, high = _middle(curve.labels_for(levels, drawn))
        found.append(
            Needed(
                row=row,
                labels=labels,
                error=spread.mean,
                value=float(value),
                low=low,
                high=high,
                smallest=counts[0],
                largest=counts[-1],
                note=note,
            )
        )
    return found


class _ReferenceCurve:
    """The learning curve of `high_only`, in log(error) against log(labels)."""

    def __init__(self, points: list[OverSeeds], counts: list[int]) -> None:
        self.x = np.log(np.array(counts, dtype=np.float64))
        self.means = np.log([point.mean for point in points])
        self.weights = np.array([point.n for point in points], dtype=np.float64)

    def falling(self, curves: Floats) -> Floats:
        """Return the nearest curves that never rise, for curves of (n, points)."""
        return np.array([
            isotonic_regression(curve, weights=self.weights, increasing=False).x
            for curve in curves
        ])

    def labels_for(self, levels: Floats, curves: Floats) -> Floats:
        """Return the fewest labels at which each curve is at or below its level.

        Args:
            levels: (n,) log errors.
            curves: (n, points) or (1, points), never rising.

        Returns:
            (n,) numbers of labels.
        """
        curves = np.broadcast_to(curves, (len(levels), len(self.x)))
        # how many points are still above the level; the next is not
        above = (curves > levels[:, None] + SAME).sum(axis=1)
        found = np.full(len(levels), MORE)
        first = above == 0
        too_low = levels > curves[:, 0] + SAME
        found[first] = np.where(too_low[first], FEWER, np.exp(self.x[0]))
        rows = np.flatnonzero((above > 0) & (above < len(self.x)))
        left, right = curves[rows, above[rows] - 1], curves[rows, above[rows]]
        share = np.clip((left - levels[rows]) / (left - right), 0.0, 1.0)
        start, end = self.x[above[rows] - 1], self.x[above[rows]]
        found[rows] = np.exp(start + share * (end - start))
        return found


def _residuals(table: Table, row: str) -> tuple[Floats, int]:
    """Log errors minus their mean over seeds, widened, and degrees of freedom."""
    parts = [np.zeros(0)]
    for (name, _), spread in table.items():
        if name == row and spread.n > 1:
            logs = np.log(spread.values)
            parts.append((logs - logs.mean()) * math.sqrt(spread.n / (spread.n - 1)))
    freedom = sum(len(part) - 1 for part in parts[1:])
    return np.concatenate(parts), freedom


def _drawn(table: Table, row: str, counts: list[int], quantity: str) -> Floats:
    """Return `DRAWS` times what log(mean error) could have been: (DRAWS, counts)."""
    residuals, freedom = _residuals(table, row)
    if not freedom:
        return np.zeros((DRAWS, len(counts)))  # not used: there is no interval
    top = (1.0 + LEVEL) / 2.0
    residuals = residuals * (t.ppf(top, freedom) / norm.ppf(top))
    drawn = []
    for n in counts:
        name = f'{quantity}/{row}/{n}'.encode()
        rng = np.random.default_rng([SEED, zlib.crc32(name)])
        spread = table[row, n]
        scatter = rng.choice(residuals, (DRAWS, spread.n))
        logs = np.log(np.exp(scatter).mean(axis=1))
        # the logarithm of a mean is above the mean of the logarithms
        drawn.append(math.log(spread.mean) + logs - logs.mean())
    return np.stack(drawn, axis=1)


def _why_no_interval(table: Table, row: str) -> str:
    single = [r for r in (REFERENCE, row) if not _residuals(table, r)[1]]
    have = 'have' if len(single) > 1 else 'has'
    why = f'because {" and ".join(single)} {have} only one seed'
    return f'no interval, {why}' if single else ''


def _middle(values: Floats) -> tuple[float, float]:
    """Return the ends of the middle `LEVEL`, each one of the values."""
    ordered = np.sort(values)  # interpolation does not work with infinity
    cut = (1.0 - LEVEL) / 2.0 * (len(values) - 1)
    return float(ordered[math.floor(cut)]), float(ordered[-1 - math.floor(cut)])
