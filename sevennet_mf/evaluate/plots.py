"""Learning curves and parity plots as PNG, without pyplot and its open figures."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Final

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from sevennet_mf.errors import UserError
from sevennet_mf.evaluate.predictions import QUANTITIES, Predictions
from sevennet_mf.files import write_whole
from sevennet_mf.model.load import UNNAMED

# Okabe and Ito's palette, which colour-blind readers can tell apart; its yellow is
# left out, too light for lines
COLOURS: Final[tuple[str, ...]] = (
    '#0072B2',
    '#D55E00',
    '#009E73',
    '#CC79A7',
    '#56B4E9',
    '#E69F00',
    '#000000',
)
STYLES: Final[tuple[Any, ...]] = ('--', '-', ':', '-.', (0, (5, 1, 1, 1, 1, 1)))
DPI: Final[int] = 150
RC: Final[Any] = {
    'font.size': 9,
    'axes.titlesize': 10,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.grid': True,
    'grid.color': '#dddddd',
    'grid.linewidth': 0.6,
    'axes.axisbelow': True,
    'legend.frameon': False,
}
MAX_POINTS: Final[int] = 50_000  # drawn in one panel; errors count every one

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
class _Curve:
    set_name: str
    fidelity: str
    metric: str
    values: np.ndarray[Any, Any]


def save(figure: Figure, path: str) -> None:
    """Write a figure as PNG, whole or not at all; UserError if it cannot be."""
    canvas = FigureCanvasAgg(figure)  # whatever the backend of the program is
    figure.set_dpi(DPI)

    def write(stream: IO[bytes]) -> None:
        canvas.print_png(stream)  # savefig() would draw everything twice

    write_whole(path, write)


# ---- parity


def parity(
    predictions: Predictions,
    fidelities: Sequence[str],
    path_prefix: str,
    only: str | None = None,
    where: str = '',
) -> list[str]:
    """Draw prediction against label for each fidelity; return the paths.

    fidelities: those to draw, and the order of their colours; only: draw this one;
    where: the data set, for the title.
    Writes `<path_prefix>parity_<fidelity>.png` with a panel each for energy
    (eV/atom, less the model's atomic reference energies), force (eV/Å) and stress
    (kbar), as far as there are labels. Raises UserError if a file cannot be written.
    """
    paths = []
    for number, name in enumerate(fidelities):
        rows = predictions.rows(name)
        if only not in (None, name) or len(rows) == 0:
            continue
        compared = [(*q, *predictions.compared(q[0], rows)) for q in QUANTITIES]
        panels = [panel for panel in compared if panel[-1].size]
        if not panels:
            continue
        target = predictions.predicted_as[predictions.fidelities.index(name)]
        title = name
        if target not in (name, UNNAMED):
            title += f', predicted as {target}'
        with rc_context(RC):
            figure = Figure(figsize=(3.5 * len(panels), 3.8), layout='constrained')
            axes = figure.subplots(1, len(panels), squeeze=False)[0]
            for ax, panel in zip(axes, panels, strict=True):
                _parity_panel(ax, *panel, colour=COLOURS[number % len(COLOURS)])
            count = f'{len(rows)} structures' + (f' of {where}' if where else '')
            figure.suptitle(f'{title}: {count}', fontsize=11)
            paths.append(f'{path_prefix}parity_{name}.png')
            save(figure, paths[-1])
    return paths


def compare(
    models: Mapping[str, Predictions], fidelity: str, path: str
) -> None:
    """Draw parity of several models on the same data, a row each, on one scale.

    models: their predictions by title. Raises UserError if `path` cannot be written.
    """
    shown = [q for q in QUANTITIES if _has_labels(models.values(), fidelity, q[0])]
    with rc_context(RC):
        size = (3.5 * len(shown), 3.6 * len(models))
        figure = Figure(figsize=size, layout='constrained')
        axes = figure.subplots(len(models), len(shown), squeeze=False)
        for column, quantity in enumerate(shown):
            for row, (title, predictions) in enumerate(models.items()):
                pair = predictions.compared(quantity[0], predictions.rows(fidelity))
                ax = axes[row, column]
                _parity_panel(ax, *quantity, *pair, colour=COLOURS[row])
                ax.set_title(f'{title}\n{ax.get_title()}')
            _same_limits(axes[:, column])
        save(figure, path)


def _has_labels(models: Iterable[Predictions], fidelity: str, quantity: str) -> bool:
    return any(m.compared(quantity, m.rows(fidelity))[0].size for m in models)


def _same_limits(axes: Iterable[Axes]) -> None:
    axes = list(axes)
    low = min(ax.get_xlim()[0] for ax in axes)
    high = max(ax.get_xlim()[1] for ax in axes)
    for ax in axes:
        ax.set(xlim=(low, high), ylim=(low, high))
        ax.lines[0].set_data((low, high), (low, high))  # the identity


def _parity_panel(
    ax: Axes,
    quantity: str,
    unit: str,
    table_unit: str,
    factor: float,
    label: np.ndarray[Any, Any],
    predicted: np.ndarray[Any, Any],
    colour: str,
) -> None:
    both = np.concatenate([label, predicted])
    both = both[np.isfinite(both)]  # a model may have gone wrong
    low, high = float(both.min()), float(both.max())
    margin = 0.05 * (high - low) or 0.05 * max(abs(high), 1.0)
    limits = (low - margin, high + margin)
    step = math.ceil(label.size / MAX_POINTS)
    few = label.size <= 300
    ax.plot(limits, limits, color='#888888', linewidth=0.9, zorder=1)
    ax.scatter(
        label[::step],
        predicted[::step],
        s=18 if few else 7,
        color=colour,
        alpha=0.75 if few else 0.4,
        linewidths=0,
        zorder=2,
    )
    ax.set(xlim=limits, ylim=limits, aspect='equal')
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(5))
    what = {
        'energy': '(E − Σ atomic references) / N',
        'force': 'Force component',
        'stress': 'Stress component',
    }[quantity]
    ax.set_title(what)
    ax.set_xlabel(f'label ({unit})')
    ax.set_ylabel(f'prediction ({unit})')
    _write_errors(ax, (predicted - label) * factor, table_unit)


def _write_errors(ax: Axes, difference: np.ndarray[Any, Any], unit: str) -> None:
    mae = float(np.abs(difference).mean())
    rmse = float(np.sqrt(np.square(difference).mean()))
    # in the corner away from the points: below the diagonal if most are above it
    above = np.median(difference) > 0
    ax.text(
        0.97 if above else 0.04,
        0.04 if above else 0.97,
        f'MAE {_three_digits(mae)} {unit}\nRMSE {_three_digits(rmse)} {unit}',
        transform=ax.transAxes,
        horizontalalignment='right' if above else 'left',
        verticalalignment='bottom' if above else 'top',
        fontsize=8,
        bbox={'facecolor': 'white', 'edgecolor': 'none', 'alpha': 0.8, 'pad': 1.5},
    )


def _three_digits(value: float) -> str:
    if value == 0 or not math.isfinite(value):
        return f'{value:g}'
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f'{value:.{digits}f}'


# ---- learning curves


def learning_curves(csv_path: str, png_path: str) -> bool:
    """Draw the metrics in lc.csv against the epoch; return whether there are any.

    csv_path: columns epoch, lr and '<set>_<fidelity>_<metric>', in the host's units;
    columns of any other name are ignored. One colour per fidelity, one line style
    per set. Raises UserError if a file cannot be read or written.
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
    with rc_context(RC):
        figure = Figure(
            figsize=(3.5 * columns + 0.2, 2.7 * lines + 0.6), layout='constrained'
        )
        axes = figure.subplots(lines, columns, squeeze=False).reshape(-1)
        for ax, panel in zip(axes, panels, strict=False):
            _curve_panel(ax, epochs, *panel, colour=colour, style=style)
        for ax in axes[len(panels) :]:
            ax.set_axis_off()
        _legend(figure, drawn, colour, style)
        save(figure, png_path)
    return True


def _legend(
    figure: Figure,
    drawn: Sequence[_Curve],
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
        Line2D([], [], color='#444444', linestyle=line, label=s)
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
    curves: Sequence[_Curve],
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
            # so few points would make no line, or one that is hard to see
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


def _drawable(curve: _Curve) -> np.ndarray[Any, Any]:
    """Which values a logarithmic axis can show."""
    return np.isfinite(curve.values) & (curve.values > 0)


def _read_curves(path: str) -> tuple[np.ndarray[Any, Any], list[_Curve]]:
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
            # both a set and a fidelity may hold '_': sets mostly end with 'set'
            found = re.fullmatch(rf'(.*?set|[^_]+)_(.+)_{metric}', name)
            if found:
                curves.append(_Curve(found[1], found[2], metric, table[:, j]))
                break
    return epochs, curves


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float('nan')
