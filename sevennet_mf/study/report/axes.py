"""How a row looks in all pictures of a study, and logarithmic axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from sevennet_mf import drawing
from sevennet_mf.drawing import BLACK, COLOURS, LINES
from sevennet_mf.study.report.labels_saved import REFERENCE

MARKERS: Final[tuple[str, ...]] = ('o', 's', '^', 'D', 'v', 'P', 'X')
# plain numbers on a logarithmic axis: the first of these that gives enough
STEPS: Final[tuple[tuple[float, ...], ...]] = (
    (1.0,),
    (1.0, 3.0),
    (1.0, 2.0, 5.0),
    (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0),
)
ENOUGH: Final[int] = 4
MOST: Final[int] = 6  # ticks, equally spaced, within less than a factor of three


@dataclass(frozen=True)
class Look:
    """How a row is drawn in all pictures."""

    colour: str
    marker: str
    line: Any  # for matplotlib: a new one after each round of colours


def looks(rows: Sequence[str]) -> dict[str, Look]:
    """Return the look of each row: black for `high_only`, else by order."""
    others = [row for row in rows if row != REFERENCE]
    colours = [c for c in COLOURS if c != BLACK]
    found = {REFERENCE: Look(BLACK, MARKERS[0], '-')}
    for i, row in enumerate(others):
        line = LINES[i // len(colours) % len(LINES)]
        marker = MARKERS[(i + 1) % len(MARKERS)]
        found[row] = Look(colours[i % len(colours)], marker, line)
    return found


def panels(count: int) -> tuple[Figure, list[Axes]]:
    figure = drawing.sheet(4.4 * count, 4.0)
    axes = figure.subplots(1, count, squeeze=False)[0]
    for ax in axes:
        ax.set_xscale('log')
        ax.set_yscale('log')
    return figure, list(axes)


def dodge(row: str, shown: Mapping[str, Look]) -> float:
    """Return a factor for the labels, so that error bars are drawn side by side."""
    place = list(shown).index(row) - (len(shown) - 1) / 2
    return float(1.03**place) if len(shown) < 8 else float(1.015**place)


def count_axis(axis: Axis, counts: Sequence[int]) -> None:
    """Set ticks at the counts themselves, except for those too close to the next."""
    kept: list[int] = []
    for n in sorted(counts, reverse=True):
        if not kept or math.log(kept[-1] / n) > 0.12:
            kept.append(n)
    low, high = min(counts), max(counts)
    axis.axes.set_xlim(low / 1.3, high * 1.3)
    plain_ticks(axis, [float(n) for n in sorted(kept)])


def error_axis(axis: Axis, low: float, high: float) -> None:
    """Set ticks at a few round numbers between two limits."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in STEPS:
        ticks = [s * 10.0**d for d in decades for s in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) >= ENOUGH:
            break
    else:
        found = MaxNLocator(MOST, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        ticks = [float(tick) for tick in found if low <= tick <= high]
    plain_ticks(axis, ticks)


def plain_ticks(axis: Axis, ticks: Sequence[float]) -> None:
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:.6g}'))


def hollow_point(text: str) -> Line2D:
    """Return a legend entry for hollow points."""
    return Line2D(
        [],
        [],
        color=drawing.DARK,
        marker='o',
        markerfacecolor='white',
        linestyle='none',
        markersize=6,
        label=text,
    )


def legend(
    figure: Figure,
    tables: Iterable[Iterable[tuple[str, int]]],
    shown: Mapping[str, Look],
    *more: Line2D,
) -> None:
    there = {row for table in tables for row, _ in table}
    handles = [
        Line2D(
            [],
            [],
            color=look.colour,
            marker=look.marker,
            linestyle=look.line,
            markersize=5,
            label=row,
        )
        for row, look in shown.items()
        if row in there
    ]
    handles += more
    figure.legend(
        handles=handles,
        loc='outside upper center',
        ncols=min(len(handles), 5 if len(figure.axes) > 1 else 2),
        handlelength=2.4,
    )


def save_both(figure: Figure, path: str) -> None:
    """Write a figure as `path`.svg and .png.

    Raises:
        UserError: If a file cannot be written.
    """
    for end in ('png', 'svg'):
        drawing.save(figure, f'{path}.{end}')
