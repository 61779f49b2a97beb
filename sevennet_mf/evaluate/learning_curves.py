"""The learning curves of a training as one picture, from its lc.csv."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from sevennet_mf import drawing
from sevennet_mf.drawing import COLOURS, LINES
from sevennet_mf.errors import UserError

# of data sets: training comes first, and stays in the background
STYLES: Final[tuple[Any, ...]] = (LINES[1], LINES[0], *LINES[2:])

# title, unit, and the metrics of lc.csv with the factor to that unit; the first
# metric that a file has is drawn. The host's RMSE of forces and stress is that of
# the length of the vector: parity plots, and all our tables, have components.
PANELS: Final[tuple[tuple[str, str, dict[str, float]], ...]] = (
    ('Energy', 'meV/atom', {'Energy_RMSE': 1000.0, 'Energy_MAE': 1000.0}),
    (
        'Force component',
        'meV/Å',
        {
            'Force_ComponentRMSE': 1000.0,
            'Force_RMSE': 1000.0 / math.sqrt(3),
            'Force_MAE': 1000.0,
        },
    ),
    (
        'Stress component',
        'kbar',
        {
            'Stress_ComponentRMSE': 1.0,
            'Stress_RMSE': 1.0 / math.sqrt(6),
            'Stress_MAE': 1.0,
        },
    ),
    ('Total loss', '', {'TotalLoss': 1.0}),
    ('Mean |energy from θ|', 'meV/atom', {'Theta_Energy': 1000.0}),
)


@dataclass(frozen=True, eq=False)
class _Metric:
    set_name: str
    fidelity: str
    metric: str
    values: np.ndarray[Any, Any]


def learning_curves(csv_path: str, png_path: str) -> bool:
    """Draw the metrics in lc.csv against the epoch; return whether there are any.

    There is one colour per fidelity, and one line style per set.

    Args:
        csv_path: has the columns epoch, lr and '<set>_<fidelity>_<metric>', in the
            host's units; columns with any other name are ignored.

    Raises:
        UserError: A file cannot be read or written.
    """
    epochs, curves = _read_curves(csv_path)
    panels = []
    for title, unit, metrics in PANELS:
        for metric, factor in metrics.items():
            own = [c for c in curves if c.metric == metric and _drawable(c).any()]
            if own:
                kind = f' {metric[-4:].strip("_")}' if len(metrics) > 1 else ''
                panels.append((title + kind, unit, factor, own))
                break
    if not panels:
        return False
    drawn = [curve for panel in panels for curve in panel[3]]
    fidelities = list(dict.fromkeys(c.fidelity for c in curves))
    sets = list(dict.fromkeys(c.set_name for c in curves))
    colour = {f: COLOURS[i % len(COLOURS)] for i, f in enumerate(fidelities)}
    style = {s: STYLES[i % len(STYLES)] for i, s in enumerate(sets)}
    columns = min(3, len(panels))
    lines = math.ceil(len(panels) / columns)
    with drawing.styled():
        figure = drawing.sheet(3.5 * columns + 0.2, 2.7 * lines + 0.6)
        axes = figure.subplots(lines, columns, squeeze=False).reshape(-1)
        for ax, panel in zip(axes, panels, strict=False):
            _curve_panel(ax, epochs, *panel, colour=colour, style=style)
        for ax in axes[len(panels) :]:
            ax.set_axis_off()
        _legend(figure, drawn, colour, style)
        drawing.save(figure, png_path)
    return True


def _legend(
    figure: Figure,
    drawn: Sequence[_Metric],
    colour: dict[str, str],
    style: dict[str, Any],
) -> None:
    fidelities, sets = {c.fidelity for c in drawn}, {c.set_name for c in drawn}
    handles = [
        Line2D([], [], color=c, linewidth=3, label=f)
        for f, c in colour.items()
        if f in fidelities
    ]
    handles += [
        Line2D([], [], color=drawing.DARK, linestyle=line, label=s)
        for s, line in style.items()
        if s in sets
    ]
    figure.legend(
        handles=handles,
        loc='outside upper center',
        ncols=min(len(handles), 6),
        handlelength=2.8,
    )


def _curve_panel(
    ax: Axes,
    epochs: np.ndarray[Any, Any],
    title: str,
    unit: str,
    factor: float,
    curves: Sequence[_Metric],
    colour: dict[str, str],
    style: dict[str, Any],
) -> None:
    shown = []
    for curve in curves:
        is_training = curve.set_name.startswith('train')
        values = np.where(_drawable(curve), curve.values * factor, np.nan)
        shown.append(values)
        ax.plot(
            epochs,
            values,
            color=colour[curve.fidelity],
            linestyle=style[curve.set_name],
            linewidth=0.9 if is_training else 1.4,
            alpha=0.75 if is_training else 1.0,
            # so few points give no line, or one that is hard to see
            marker='o' if len(epochs) <= 12 else None,
            markersize=4,
            markerfacecolor='white' if is_training else None,
        )
    ax.set_yscale('log')
    low, high = np.nanmin(shown), np.nanmax(shown)
    # plain numbers, a few of them: 10, 20, 50 rather than 2 x 10^1
    steps = (1.0,) if high / low > 300 else (1.0, 2.0, 5.0)
    ax.yaxis.set_major_locator(LogLocator(subs=steps))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set(title=title, xlabel='epoch', ylabel=unit)
    ax.set_ylim(low / 1.3, high * 1.3)
    first, last = np.nanmin(epochs), np.nanmax(epochs)
    ax.set_xlim(first - 0.5 - 0.02 * last, last + 0.5 + 0.02 * last)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))


def _drawable(curve: _Metric) -> np.ndarray[Any, Any]:
    """Which values a logarithmic axis can show."""
    return np.isfinite(curve.values) & (curve.values > 0)


def _read_curves(path: str) -> tuple[np.ndarray[Any, Any], list[_Metric]]:
    try:
        with open(path, encoding='utf-8', newline='') as stream:
            rows = [row for row in csv.reader(stream) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f'{path} cannot be read: {error}.') from None
    if not rows:
        raise UserError(f'{path} is empty: there is no curve to draw.')
    names = [name.strip() for name in rows[0]]
    table = np.full((len(rows) - 1, len(names)), np.nan)
    for i, line in enumerate(rows[1:]):  # the last may be cut short by a kill
        for j, text in enumerate(line[: len(names)]):
            table[i, j] = _number(text)
    epochs = np.arange(1, len(table) + 1, dtype=np.float64)
    if 'epoch' in names:
        epochs = table[:, names.index('epoch')]
    curves = []
    for j, name in enumerate(names):
        for metric in (m for _, _, metrics in PANELS for m in metrics):
            # both a set and a fidelity may contain '_': sets mostly end with 'set'
            found = re.fullmatch(rf'(.*?set|[^_]+)_(.+)_{metric}', name)
            if found:
                curves.append(_Metric(found[1], found[2], metric, table[:, j]))
                break
    return epochs, curves


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float('nan')
