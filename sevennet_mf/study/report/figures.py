"""Pictures of a study: learning curves, the labels that methods save, and parity."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final
from zipfile import BadZipFile

import numpy as np
from matplotlib.axes import Axes

from sevennet_mf import drawing
from sevennet_mf.arrays import Floats
from sevennet_mf.evaluate.parity import HEIGHT, WIDTH, parity_panel
from sevennet_mf.study.report.axes import (
    Look,
    count_axis,
    dodge,
    error_axis,
    hollow_point,
    legend,
    panels,
    plain_ticks,
    save_both,
)
from sevennet_mf.study.report.labels_saved import REFERENCE, Needed
from sevennet_mf.study.report.run_results import UNITS, Table, labels_of, most_seeds

TITLES: Final[dict[str, str]] = {
    'energy': 'Energy',
    'force': 'Force component',
}
Pair = tuple[Floats, Floats]  # label, prediction


# ---- learning curves


def learning_curves(
    tables: Mapping[str, Table], metric: str, shown: Mapping[str, Look], path: str
) -> None:
    """Draw error against labels, a panel per quantity, as `path`.svg and .png.

    Line: mean over seeds; bars: standard deviation; faint: each seed; hollow: mean
    over fewer seeds than others have.

    Args:
        tables: Errors over seeds, by quantity.
        metric: Name of the errors, for the axes.
        shown: Look of each row that is drawn.

    Raises:
        UserError: If a file cannot be written.
    """
    with drawing.styled():
        figure, axes = panels(len(tables))
        for ax, (quantity, table) in zip(axes, tables.items(), strict=True):
            # before points are drawn, so that they do not set limits of their own
            low, high = _limits(table)
            ax.set_ylim(low, high)
            count_axis(ax.xaxis, labels_of(table))
            error_axis(ax.yaxis, low, high)
            for row, look in shown.items():
                _one_curve(ax, table, row, look, dodge(row, shown))
            ax.set_title(TITLES[quantity])
            ax.set_xlabel('structures with target labels in training')
            ax.set_ylabel(f'test {metric.upper()} ({UNITS[quantity]})')
        fewer = any(s.n < most_seeds(t) for t in tables.values() for s in t.values())
        hollow = [hollow_point('fewer seeds')] if fewer else []
        legend(figure, tables.values(), shown, *hollow)
        save_both(figure, path)


def _one_curve(
    ax: Axes, table: Table, row: str, look: Look, factor: float
) -> None:
    counts = labels_of(table, row)
    if not counts:
        return
    spreads = [table[row, n] for n in counts]
    x = np.array(counts) * factor
    means = np.array([s.mean for s in spreads])
    deviations = np.nan_to_num([s.deviation for s in spreads])
    # a logarithmic axis has no place for zero
    below = np.minimum(deviations, 0.9 * means)
    ax.errorbar(
        x,
        means,
        yerr=(below, deviations),
        color=look.colour,
        marker=look.marker,
        linestyle=look.line,
        linewidth=1.5,
        markersize=5,
        markeredgecolor='white',
        markeredgewidth=0.5,
        elinewidth=1.1,
        capsize=2.5,
        zorder=3,
    )
    for place, spread in zip(x, spreads, strict=True):
        if spread.n < most_seeds(table):
            _fewer(ax, place, spread.mean, look)
        ax.plot(
            [place] * spread.n,
            spread.values,
            color=look.colour,
            marker=look.marker,
            linestyle='none',
            markersize=3,
            markeredgewidth=0,
            alpha=0.35,
            zorder=2,
        )


def _fewer(ax: Axes, place: float, mean: float, look: Look) -> None:
    """Mark the mean of fewer seeds."""
    ax.plot(
        place,
        mean,
        color=look.colour,
        marker=look.marker,
        linestyle='none',
        markersize=5,
        markerfacecolor='white',
        zorder=4,
    )


def _limits(table: Table) -> tuple[float, float]:
    values = [v for s in table.values() for v in s.values if v > 0] or [1.0]
    bars = [s for s in table.values() if s.n > 1]
    tops = [s.mean + s.deviation for s in bars]
    # bars that reach down to zero are cut: the points set the limit
    ends = [s.mean - s.deviation for s in bars if s.deviation < 0.7 * s.mean]
    return min([*values, *ends]) / 1.25, max([*values, *tops]) * 1.15


# ---- labels saved


def labels_needed(
    answers: Mapping[str, Sequence[Needed]], shown: Mapping[str, Look], path: str
) -> None:
    """Draw the labels that `high_only` needs against those of a row.

    Written as `path`.svg and .png. Bars: 95 % interval; hollow, at the edge: beyond
    the measured range.

    Args:
        answers: By quantity, at least one each.
        shown: Look of each row.

    Raises:
        UserError: If a file cannot be written.
    """
    rows = {row: look for row, look in shown.items() if row != REFERENCE}
    with drawing.styled():
        figure, axes = panels(len(answers))
        for ax, (quantity, needed) in zip(axes, answers.items(), strict=True):
            _needed_panel(ax, needed, rows)
            ax.set_title(f'{TITLES[quantity]} (line: no labels saved)')
        hollow = hollow_point('beyond the measured range')
        there = [{(n.row, n.labels): n for n in found} for found in answers.values()]
        legend(figure, there, rows, hollow)
        save_both(figure, path)


def _needed_panel(
    ax: Axes, needed: Sequence[Needed], rows: Mapping[str, Look]
) -> None:
    smallest, largest = needed[0].smallest, needed[0].largest
    low, high = smallest / 1.3, largest * 1.45
    counts = sorted({n.labels for n in needed})
    ends = (min([*counts, smallest]) / 1.3, max([*counts, largest]) * 1.3)
    ax.plot(ends, ends, color=drawing.GREY, linewidth=0.9, zorder=1)
    _words(ax, 'more', (0.02, largest * 1.04), f'more than {largest}')
    _words(ax, 'fewer', (0.98, smallest / 1.04), f'fewer than {smallest}')
    for edges in ((low / 1.15, smallest), (largest, high * 1.15)):
        ax.axhspan(*edges, color='#f0f0f0', zorder=0, linewidth=0)
    for row, look in rows.items():
        own = sorted((n for n in needed if n.row == row), key=lambda n: n.labels)
        place = partial(_place, low=low, high=high)
        x = [n.labels * dodge(row, rows) for n in own]
        y = [n.value if n.measured else np.nan for n in own]
        ax.plot(x, y, color=look.colour, linestyle=look.line, linewidth=1.2)
        for at, n in zip(x, own, strict=True):
            if n.low is not None and n.high is not None:
                ends = (place(n.low), place(n.high))
                ax.plot((at, at), ends, color=look.colour, linewidth=1.1)
            ax.plot(
                at,
                place(n.value),
                color=look.colour,
                marker=look.marker,
                markersize=6,
                markerfacecolor=look.colour if n.measured else 'white',
                zorder=3,
            )
    count_axis(ax.xaxis, counts)
    ax.set_ylim(low / 1.15, high * 1.15)
    plain_ticks(ax.yaxis, _between(smallest, largest))
    ax.set_xlabel('structures with target labels in training')
    ax.set_ylabel(f'labels that {REFERENCE} needs')


def _words(ax: Axes, which: str, place: tuple[float, float], text: str) -> None:
    """Write into the band beyond the measured range."""
    ax.text(
        *place,
        text,
        transform=ax.get_yaxis_transform(),
        ha='left' if which == 'more' else 'right',
        va='bottom' if which == 'more' else 'top',
        fontsize=8,
        color='#555555',
    )


def _place(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def _between(smallest: int, largest: int) -> list[float]:
    """The measured range and its doublings."""
    count = int(math.log2(largest / smallest / 1.2)) if largest > smallest else 0
    inner = [float(smallest * 2**k) for k in range(max(count, 0) + 1)]
    return [*inner, float(largest)] if largest > inner[-1] else inner


# ---- parity


def parity(
    runs: Mapping[str, Path], shown: Mapping[str, Look], folder: Path
) -> dict[str, str]:
    """Draw prediction against label of one run per row, with the same axes.

    Args:
        runs: predictions.npz by row; files that cannot be read are left out.
        shown: Look of each row.
        folder: Where `parity_<row>.png` is written.

    Returns:
        The files by row.

    Raises:
        UserError: If a file cannot be written.
    """
    data = {row: pairs for row, path in runs.items() if (pairs := _pairs(path))}
    limits = {
        q: _same([p[q] for p in data.values() if q in p])
        for q in TITLES
        if any(q in p for p in data.values())
    }
    found = {}
    for row, pairs in data.items():
        there = [q for q in limits if q in pairs]
        if not there:
            continue
        with drawing.styled():
            figure = drawing.sheet(WIDTH * len(there), HEIGHT)
            axes = figure.subplots(1, len(there), squeeze=False)[0]
            for ax, quantity in zip(axes, there, strict=True):
                label, predicted = pairs[quantity]
                colour, ends = shown[row].colour, limits[quantity]
                parity_panel(ax, quantity, label, predicted, colour, ends)
            found[row] = str(folder / f'parity_{row}.png')
            drawing.save(figure, found[row])
    return found


def _pairs(path: Path) -> dict[str, Pair]:
    """(label, prediction) by quantity, where both are finite numbers."""
    try:
        # opened here: numpy does not close a file that is not one of its own
        with path.open('rb') as stream, np.load(stream) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, BadZipFile):
        return {}
    pairs = {}
    for quantity in TITLES:
        label = arrays.get(f'{quantity}_label', np.zeros(0))
        predicted = arrays.get(f'{quantity}_predicted', np.zeros(0))
        if label.size and label.shape == predicted.shape:
            known = np.isfinite(label) & np.isfinite(predicted)
            if known.any():
                pairs[quantity] = (label[known], predicted[known])
    return pairs


def _same(pairs: Sequence[Pair]) -> tuple[float, float]:
    """Limits that hold all points, but for those of a model that went wrong."""
    labels = np.concatenate([label for label, _ in pairs])
    both = np.concatenate([part for pair in pairs for part in pair])
    span = float(np.ptp(labels)) or 1.0
    low = max(float(both.min()), float(labels.min()) - 0.5 * span)
    high = min(float(both.max()), float(labels.max()) + 0.5 * span)
    margin = 0.05 * (high - low) or 1.0
    return low - margin, high + margin
