"""Coverage as one picture: what there is, what is labelled, what was chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from ase.data import chemical_symbols
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from sevennet_mf import drawing
from sevennet_mf.arrays import Floats, Ints
from sevennet_mf.drawing import BLUE, LIGHT, ORANGE
from sevennet_mf.select.features import NodeFeatures

PANELS: Final[int] = 5  # elements; the curve is beside them
COLUMNS: Final[int] = 3
NUMBERED: Final[int] = 30  # choices beyond which their numbers only cover the points


@dataclass(frozen=True, eq=False)
class Map:
    """One element in two dimensions: the principal components of structures' means.

    Attributes:
        pool: (2,) position of each structure of the pool, by its index.
        labelled: (2,) position of each labelled structure, by its index.
        share: (2,) fraction of the variance along each axis, from 0 to 1.
    """

    pool: dict[int, Floats]
    labelled: dict[int, Floats]
    share: Floats


def principal(z: int, pool: NodeFeatures, labelled: NodeFeatures | None) -> Map:
    """Return the map of an element.

    Args:
        z: Atomic number of an element that `pool` contains.
    """
    rows, means = pool.means(z)
    known, own = _labelled_means(z, labelled, means.shape[1])
    both = np.concatenate([means, own])
    centre = both.mean(axis=0)
    covariance = np.cov(both.T, bias=True) if len(both) > 1 else None
    if covariance is None:
        axes, share = np.eye(means.shape[1])[:, :2], np.zeros(2)
    else:
        values, vectors = np.linalg.eigh(np.atleast_2d(covariance))
        axes = vectors[:, ::-1][:, :2]
        # which way an axis points is arbitrary: always the same way
        axes = axes * np.where(axes.sum(axis=0) < 0, -1.0, 1.0)
        largest = np.maximum(values[::-1][:2], 0.0)
        share = largest / max(float(values.clip(0.0).sum()), 1e-300)
    flat = (both - centre) @ axes
    if flat.shape[1] < 2:  # a model of one feature
        flat = np.pad(flat, ((0, 0), (0, 1)))
        share = np.append(share, 0.0)
    return Map(
        dict(zip(rows.tolist(), flat[: len(rows)], strict=True)),
        dict(zip(known.tolist(), flat[len(rows) :], strict=True)),
        share,
    )


def _labelled_means(
    z: int, labelled: NodeFeatures | None, width: int
) -> tuple[Ints, Floats]:
    if labelled is None or z not in labelled.values:
        return np.zeros(0, np.int64), np.zeros((0, width))
    return labelled.means(z)


def draw(
    path: str,
    pool: NodeFeatures,
    labelled: NodeFeatures | None,
    chosen: Sequence[int],
    left: Floats,
) -> None:
    """Write the picture as PNG.

    Args:
        chosen: Indices of structures of the pool, in the order of choosing.
        left: (choices + 1, 2) distances, as in `farthest.Chosen`.

    Raises:
        UserError: If `path` cannot be written.
    """
    count = {z: len(np.unique(owner)) for z, owner in pool.owner.items()}
    elements = sorted(count, key=lambda z: (-count[z], z))
    panels = min(len(elements), PANELS) + 1
    columns = min(panels, 2 if panels == 4 else COLUMNS)
    rows = -(-panels // columns)
    with drawing.styled():
        figure = drawing.sheet(4.6 * columns, 4.1 * rows + 0.7, margin=0.1)
        figure.suptitle(_title(elements), x=0.02, ha='left')
        for k, z in enumerate(elements[:PANELS]):
            axes = figure.add_subplot(rows, columns, k + 1)
            _panel(axes, chemical_symbols[z], principal(z, pool, labelled), chosen)
        _legend(figure, labelled is not None, len(chosen))
        _curve(figure.add_subplot(rows, columns, panels), left, labelled is not None)
        drawing.save(figure, path)


def _title(elements: Sequence[int]) -> str:
    title = 'Node features, mean over the atoms of an element in each structure'
    if len(elements) > PANELS:
        others = ', '.join(chemical_symbols[z] for z in elements[PANELS:][:12])
        more = ', …' if len(elements) > PANELS + 12 else ''
        title += f'; not shown: {others}{more}'
    return title


def _panel(axes: Axes, symbol: str, found: Map, chosen: Sequence[int]) -> None:
    axes.set_title(f'{symbol}: {len(found.pool)} structures', loc='left')
    ranks = {i: k for k, i in enumerate(chosen, 1) if i in found.pool}
    rest = [p for i, p in found.pool.items() if i not in ranks]
    _dots(axes, rest, color=LIGHT, s=18, linewidths=0)
    squares = list(found.labelled.values())
    _dots(axes, squares, facecolors='none', edgecolors=BLUE, s=26, marker='s')
    picked = [found.pool[i] for i in ranks]
    _dots(axes, picked, color=ORANGE, s=34, edgecolors='white', linewidths=0.6)
    if len(chosen) <= NUMBERED:
        _numbers(axes, {k: found.pool[i] for i, k in ranks.items()})
    first, second = (100.0 * share for share in found.share)
    axes.set_xlabel(f'first component ({first:.0f} % of the variance)')
    axes.set_ylabel(f'second ({second:.0f} %)')
    axes.margins(0.1)


def _dots(axes: Axes, points: Sequence[Floats], **style: Any) -> None:
    if points:
        x, y = np.array(points).T
        axes.scatter(x, y, **style)


def _numbers(axes: Axes, places: Mapping[int, Floats]) -> None:
    """The order of choosing, each number away from the middle of the picture."""
    if not places:  # no structure that was chosen has the element
        return
    middle = np.mean(list(places.values()), axis=0)
    for rank, place in places.items():
        right, above = place >= middle
        axes.annotate(
            str(rank),
            (float(place[0]), float(place[1])),
            xytext=(4 if right else -4, 4 if above else -4),
            textcoords='offset points',
            ha='left' if right else 'right',
            va='bottom' if above else 'top',
            fontsize=8,
            color=ORANGE,
            fontweight='bold',
            path_effects=[withStroke(linewidth=2, foreground='white')],
        )


def _legend(figure: Figure, with_labelled: bool, chosen: int) -> None:
    styles = [(LIGHT, 'o', LIGHT, 'not chosen')]
    if with_labelled:
        styles.append((BLUE, 's', 'none', 'labelled'))
    order = ', in this order' if chosen <= NUMBERED else ''
    styles.append((ORANGE, 'o', ORANGE, f'chosen{order}'))
    handles = [
        Line2D([], [], color=c, marker=m, mfc=face, linestyle='', label=label)
        for c, m, face, label in styles
    ]
    figure.legend(handles=handles, loc='outside lower left', ncols=3)


def _curve(axes: Axes, left: Floats, with_labelled: bool) -> None:
    """What is left uncovered after each choice."""
    axes.set_title('Distance of remaining structures', loc='left')
    start = 0 if with_labelled else 1  # to nothing there is no distance
    steps = np.arange(start, len(left))
    for column, (name, style) in enumerate((('largest', '-'), ('mean', '--'))):
        axes.plot(
            steps,
            left[start:, column],
            style,
            color=ORANGE if column == 0 else drawing.DARK,
            marker='.' if len(steps) <= NUMBERED else None,
            label=name,
        )
    axes.set_xlabel('structures chosen')
    axes.set_ylabel('distance (in spreads of the element)')
    axes.set_ylim(bottom=0.0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc='upper right')
