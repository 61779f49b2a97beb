"""Parity plots of a study: prediction against label on the test set, row by row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from zipfile import BadZipFile

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from sevennet_mf.arrays import Floats
from sevennet_mf.evaluate.plots import MAX_POINTS, RC, save
from sevennet_mf.evaluate.predictions import QUANTITIES
from sevennet_mf.study.report.drawing import Look

# what predictions.npz holds, in the unit of the axes
TITLES: Final[dict[str, str]] = {
    'energy': '(E − Σ atomic references) / N',
    'force': 'Force component',
}
Pair = tuple[Floats, Floats]  # label, prediction


def parity(
    runs: Mapping[str, Path], shown: Mapping[str, Look], folder: Path
) -> dict[str, str]:
    """Draw prediction against label of one run per row; return the files by row.

    runs: predictions.npz by row; files that cannot be read are left out. All rows
    have the same axes. Writes `parity_<row>.png`; UserError if it cannot.
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
        with rc_context(RC):
            size = (3.0 * len(there), 3.2)
            layout = ConstrainedLayoutEngine(w_pad=0.08)
            figure = Figure(figsize=size, layout=layout)
            axes = figure.subplots(1, len(there), squeeze=False)[0]
            for ax, quantity in zip(axes, there, strict=True):
                colour = shown[row].colour
                _parity(ax, quantity, *pairs[quantity], limits[quantity], colour)
            found[row] = str(folder / f'parity_{row}.png')
            save(figure, found[row])
    return found


def _pairs(path: Path) -> dict[str, Pair]:
    """(label, prediction) by quantity, as far as both are finite numbers."""
    try:
        # opened here: numpy does not close a file that turns out to be none
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


def _parity(
    ax: Axes,
    quantity: str,
    label: Floats,
    predicted: Floats,
    limits: tuple[float, float],
    colour: str,
) -> None:
    _, unit, table_unit, factor = next(q for q in QUANTITIES if q[0] == quantity)
    step = math.ceil(label.size / MAX_POINTS)
    few = label.size <= 300
    ax.plot(limits, limits, color='#888888', linewidth=0.9, zorder=1)
    ax.scatter(
        label[::step],
        predicted[::step],
        s=16 if few else 6,
        color=colour,
        alpha=0.75 if few else 0.4,
        linewidths=0,
        zorder=2,
    )
    ax.set(xlim=limits, ylim=limits, aspect='equal', title=TITLES[quantity])
    outside = int(((predicted < limits[0]) | (predicted > limits[1])).sum())
    text = f'MAE {factor * np.abs(predicted - label).mean():.1f} {table_unit}'
    if outside:
        text += f'\n{outside} of {label.size} outside'
    ax.text(0.03, 0.98, text, transform=ax.transAxes, va='top', fontsize=8)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(4))
    ax.set_xlabel(f'label ({unit})')
    ax.set_ylabel(f'prediction ({unit})')
