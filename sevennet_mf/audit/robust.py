"""Statistics that a few wrong labels do not change."""

from __future__ import annotations

from typing import Final

import numpy as np

from sevennet_mf.arrays import Floats, Ints

FEWEST: Final[int] = 4  # structures beyond one for each composition
SMALLEST: Final[float] = 1e-4  # eV/atom (eV/Å, eV/Å^3): less says nothing


def weighted_median(values: Floats, weights: Floats) -> float:
    """Return the value with half of the weight below it."""
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, 0.5 * total[-1])])


def slope(x: Floats, y: Floats) -> tuple[float, float]:
    """Fit y = s x, from the median.

    Args:
        x: (n,), centred at zero.
        y: (n,), centred at zero.

    Returns:
        s, and the share of y that it does not explain (0 to 1).
    """
    use = np.abs(x) > SMALLEST
    if use.sum() < FEWEST:
        return float('nan'), 1.0
    x, y = x[use], y[use]
    s = weighted_median(y / x, np.abs(x))
    left = np.median(np.abs(y - s * x)) / max(np.median(np.abs(y)), 1e-12)
    return s, float(min(left, 1.0))


def grouped(values: Ints) -> dict[int, Ints]:
    """Return {value: its positions in `values`}."""
    order = np.argsort(values, kind='stable')
    known, first = np.unique(values[order], return_index=True)
    parts = np.split(order, first[1:])
    return {int(v): part for v, part in zip(known, parts, strict=bool(len(known)))}


def centred(values: Floats, groups: Ints) -> Floats:
    """Return values minus the median of their group, NaN for groups of one."""
    result = np.full(len(values), np.nan)
    for rows in grouped(groups).values():
        if len(rows) > 1:
            result[rows] = values[rows] - np.median(values[rows])
    return result


def scatter(values: Floats) -> float:
    """Return a standard deviation that outliers do not change."""
    return float(1.4826 * np.median(np.abs(values - np.median(values))))
