"""How pictures look and are written, without pyplot and its open figures."""

from __future__ import annotations

import io
from contextlib import AbstractContextManager
from typing import Any, Final

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from sevennet_mf.files import ELSEWHERE, write_whole

# Okabe and Ito's palette, which colour-blind readers can tell apart, without its
# yellow, which is too light for lines
BLUE: Final[str] = '#0072B2'
ORANGE: Final[str] = '#D55E00'
SKY: Final[str] = '#56B4E9'
BLACK: Final[str] = '#000000'
COLOURS: Final[tuple[str, ...]] = (
    BLUE,
    ORANGE,
    '#009E73',
    '#CC79A7',
    SKY,
    '#E69F00',
    BLACK,
)
# of what belongs to no fidelity and no method: from lines to points
DARK, GREY, LIGHT = '#444444', '#888888', '#b8b8b8'
# for readers who cannot rely on colours
LINES: Final[tuple[Any, ...]] = ('-', '--', ':', '-.', (0, (5, 1, 1, 1, 1, 1)))
DPI: Final[int] = 150
STYLE: Final[Any] = {
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
MARGIN: Final[float] = 0.08  # inches around a panel: labels touch otherwise


def styled() -> AbstractContextManager[None]:
    """Return a context in which panels get the style of all the others."""
    return rc_context(STYLE)


def sheet(width: float, height: float, margin: float = MARGIN) -> Figure:
    """Return an empty figure of a size in inches, laid out when it is drawn."""
    layout = ConstrainedLayoutEngine(w_pad=margin, h_pad=margin)
    return Figure(figsize=(width, height), dpi=DPI, layout=layout)


def save(figure: Figure, path: str, remedy: str = ELSEWHERE) -> None:
    """Write a figure as SVG or PNG, by the ending of `path`, whole or not at all.

    Raises:
        UserError: It cannot be written; the message ends with `remedy`.
    """
    drawn = io.BytesIO()
    if path.endswith('.svg'):
        # the same numbers give the same file
        with rc_context({'svg.hashsalt': 'sevennet_mf'}):
            FigureCanvasSVG(figure).print_svg(drawn, metadata={'Date': None})
    else:  # savefig() would draw everything twice
        FigureCanvasAgg(figure).print_png(drawn)
    write_whole(path, lambda stream: stream.write(drawn.getvalue()), remedy)


def blank(axes: Axes, text: str) -> None:
    """Write into a panel why nothing is drawn in it."""
    axes.text(0.5, 0.5, text, ha='center', va='center', transform=axes.transAxes)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color('0.8')
