"""Parity plots: prediction against label, fidelity by fidelity."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from sevennet_mf import drawing
from sevennet_mf.arrays import Floats
from sevennet_mf.drawing import COLOURS
from sevennet_mf.evaluate.predictions import QUANTITIES, Predictions
from sevennet_mf.model.load import UNNAMED

MAX_POINTS: Final[int] = 50_000  # drawn in one panel; errors include every one
WIDTH, HEIGHT = 3.5, 3.6  # inches, of a panel
TITLES: Final[dict[str, str]] = {
    'energy': '(E − Σ atomic references) / N',
    'force': 'Force component',
    'stress': 'Stress component',
}


def parity(
    predictions: Predictions,
    fidelities: Sequence[str],
    path_prefix: str,
    only: str | None = None,
    where: str = '',
) -> list[str]:
    """Draw prediction against label for each fidelity; return the paths.

    Writes `<path_prefix>parity_<fidelity>.png` with a panel each for energy
    (eV/atom, minus the model's atomic reference energies), force (eV/Å) and stress
    (kbar), if there are labels.

    Args:
        fidelities: those to draw, in the order of their colours.
        only: draw this one alone.
        where: the data set, for the title.

    Raises:
        UserError: A file cannot be written.
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
        colour = COLOURS[number % len(COLOURS)]
        with drawing.styled():
            figure = drawing.sheet(WIDTH * len(panels), HEIGHT + 0.2)
            axes = figure.subplots(1, len(panels), squeeze=False)[0]
            for ax, panel in zip(axes, panels, strict=True):
                parity_panel(ax, panel[0], *panel[-2:], colour)
            count = f'{len(rows)} structures' + (f' of {where}' if where else '')
            figure.suptitle(f'{title}: {count}', fontsize=11)
            paths.append(f'{path_prefix}parity_{name}.png')
            drawing.save(figure, paths[-1])
    return paths


def compare(
    models: Mapping[str, Predictions], fidelity: str, path: str
) -> None:
    """Draw parity of several models on the same data, a row each, on one scale.

    Args:
        models: their predictions by title.

    Raises:
        UserError: `path` cannot be written.
    """
    shown = [q for q in QUANTITIES if _has_labels(models.values(), fidelity, q[0])]
    with drawing.styled():
        figure = drawing.sheet(WIDTH * len(shown), HEIGHT * len(models))
        axes = figure.subplots(len(models), len(shown), squeeze=False)
        for column, quantity in enumerate(shown):
            for row, (title, predictions) in enumerate(models.items()):
                pair = predictions.compared(quantity[0], predictions.rows(fidelity))
                ax = axes[row, column]
                parity_panel(ax, quantity[0], *pair, COLOURS[row])
                ax.set_title(f'{title}\n{ax.get_title()}')
            _same_limits(axes[:, column])
        drawing.save(figure, path)


def _has_labels(models: Iterable[Predictions], fidelity: str, quantity: str) -> bool:
    return any(m.compared(quantity, m.rows(fidelity))[0].size for m in models)


def _same_limits(axes: Iterable[Axes]) -> None:
    axes = list(axes)
    low = min(ax.get_xlim()[0] for ax in axes)
    high = max(ax.get_xlim()[1] for ax in axes)
    for ax in axes:
        ax.set(xlim=(low, high), ylim=(low, high))
        ax.lines[0].set_data((low, high), (low, high))  # the identity


def parity_panel(
    ax: Axes,
    quantity: str,
    label: Floats,
    predicted: Floats,
    colour: str,
    limits: tuple[float, float] | None = None,
) -> None:
    """Draw prediction against label in a panel, with the errors written in it.

    Args:
        quantity: the name of one of QUANTITIES.
        label: (n,) as `Predictions.compared` returns it.
        predicted: (n,) as `Predictions.compared` returns it.
        limits: of both axes; default: those of the finite numbers.
    """
    _, unit, table_unit, factor = next(q for q in QUANTITIES if q[0] == quantity)
    low, high = limits or _limits(label, predicted)
    step = math.ceil(label.size / MAX_POINTS)
    few = label.size <= 300
    ax.plot((low, high), (low, high), color=drawing.GREY, linewidth=0.9, zorder=1)
    ax.scatter(
        label[::step],
        predicted[::step],
        s=18 if few else 7,
        color=colour,
        alpha=0.75 if few else 0.4,
        linewidths=0,
        zorder=2,
    )
    ax.set(xlim=(low, high), ylim=(low, high), aspect='equal')
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(5))
    ax.set_title(TITLES[quantity])
    ax.set_xlabel(f'label ({unit})')
    ax.set_ylabel(f'prediction ({unit})')
    outside = int(((predicted < low) | (predicted > high)).sum()) if limits else 0
    _write_errors(ax, (predicted - label) * factor, table_unit, outside)


def _limits(label: Floats, predicted: Floats) -> tuple[float, float]:
    both = np.concatenate([label, predicted])
    both = both[np.isfinite(both)]  # a model may have diverged
    low, high = float(both.min()), float(both.max())
    margin = 0.05 * (high - low) or 0.05 * max(abs(high), 1.0)
    return low - margin, high + margin


def _write_errors(
    ax: Axes, difference: Floats, unit: str, outside: int
) -> None:
    mae = float(np.abs(difference).mean())
    rmse = float(np.sqrt(np.square(difference).mean()))
    text = f'MAE {_three_digits(mae)} {unit}\nRMSE {_three_digits(rmse)} {unit}'
    if outside:
        text += f'\n{outside} of {difference.size} outside'
    # in the corner away from the points: below the diagonal if most are above it
    above = np.median(difference) > 0
    ax.text(
        0.97 if above else 0.04,
        0.04 if above else 0.97,
        text,
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
