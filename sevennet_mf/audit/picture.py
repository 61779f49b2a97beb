"""The audit as one picture: what the labels look like, fidelity by fidelity."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from sevennet_mf import drawing
from sevennet_mf.drawing import COLOURS, LINES

if TYPE_CHECKING:
    from sevennet_mf.audit.summary import Audit

# other greys than colours: those stand for fidelities
LABELS: Final = {
    'energy': ('0.3', ''),
    'force': ('0.5', '//'),
    'stress': ('0.7', '..'),
}
WRITTEN: Final[int] = 24  # elements beyond which numbers are no longer legible
TOO_MANY: Final[int] = 45  # elements beyond which their symbols turn


def write(audit: Audit, path: str) -> None:
    """Write the panels as one PNG.

    Raises:
        UserError: `path` cannot be written.
    """
    with drawing.styled():
        figure = _drawn(audit)
        drawing.save(figure, path, 'Name another with --plot.')


def _drawn(audit: Audit) -> Figure:
    rows = max(len(audit.sets), 1)
    figure = drawing.sheet(11.0, 8.4 + 0.32 * rows, margin=0.12)
    figure.suptitle(f'Data of {os.path.basename(audit.file)}', x=0.02, ha='left')
    pairs = audit.histograms['difference']['counts']
    heights = [3.4, 3.4, 0.9 + 0.32 * rows]
    grid = figure.add_gridspec(3, 2, height_ratios=heights)
    _steps(
        figure.add_subplot(grid[0, 0]),
        audit.histograms['energy'],
        'Energies',
        'energy minus reference energies (eV/atom)',
        'no reference energies: no training data',
        {name: k for k, name in enumerate(audit.fidelities)},
    )
    _steps(
        figure.add_subplot(grid[0, 1]),
        _scaled(audit.histograms['difference'], 1000.0),
        'Differences between fidelities',
        'paired difference minus reference energies (meV/atom)',
        'no structure has labels at two fidelities',
        # pairs must not look like the fidelities, whose colours come first
        {name: k for k, name in enumerate(pairs, 2)},
    )
    _forces(figure.add_subplot(grid[1, 0]), audit)
    _labels(figure.add_subplot(grid[1, 1]), audit)
    _elements(figure.add_subplot(grid[2, :]), audit)
    return figure


def _first(counts: dict[str, Any]) -> list[tuple[str, Any]]:
    """As many as the eye and the legend take; the JSON has all."""
    return list(counts.items())[: len(COLOURS)]


def _scaled(histogram: dict[str, Any], factor: float) -> dict[str, Any]:
    return {**histogram, 'edges': [factor * e for e in histogram['edges']]}


def _steps(
    axes: Axes,
    histogram: dict[str, Any],
    title: str,
    label: str,
    none: str,
    places: dict[str, int],
) -> None:
    axes.set_title(title, loc='left')
    if not histogram['counts']:
        drawing.blank(axes, none)
        return
    edges = np.array(histogram['edges'])
    for name, counts in _first(histogram['counts']):
        k = places[name]
        share = 100.0 * np.array(counts) / max(sum(counts), 1)
        _line(axes, share, edges, k, f'{name} ({sum(counts)})')
    axes.set_xlabel(label)
    axes.set_ylabel('structures (%)')
    axes.set_ylim(bottom=0.0)
    axes.margins(x=0.02)
    _legend(axes)


def _line(axes: Axes, share: Any, edges: Any, k: int, label: str) -> None:
    colour, style = COLOURS[k % len(COLOURS)], LINES[k % len(LINES)]
    axes.stairs(share, edges, fill=True, color=colour, alpha=0.15)
    axes.stairs(
        share, edges, color=colour, linestyle=style, linewidth=1.8, label=label
    )


def _legend(axes: Axes) -> None:
    lines = len(axes.get_legend_handles_labels()[0])
    # room above the curves for as many lines of text
    axes.set_ylim(top=axes.get_ylim()[1] / (0.97 - 0.08 * lines))
    axes.legend(loc='upper right', borderaxespad=0.2)


def _forces(axes: Axes, audit: Audit) -> None:
    axes.set_title('Forces', loc='left')
    histogram = audit.histograms['force']
    if not histogram['counts']:
        drawing.blank(axes, 'no structure has forces')
        return
    edges = np.array(histogram['edges'])
    for name, counts in _first(histogram['counts']):
        share = 100.0 * np.array(counts) / sum(counts)
        k = audit.fidelities.index(name)
        _line(axes, share, edges, k, f'{name} ({sum(counts)} atoms)')
    used = np.flatnonzero(np.sum(list(histogram['counts'].values()), axis=0))
    axes.set_xscale('log')
    last = min(used[-1] + 2, len(edges) - 1)
    axes.set_xlim(edges[max(used[0] - 1, 0)], edges[last])
    axes.set_xlabel('|F| (eV/Å)')
    axes.set_ylabel('atoms (%)')
    axes.set_ylim(bottom=0.0)
    _legend(axes)


def _labels(axes: Axes, audit: Audit) -> None:
    """How many structures carry which label, by set and fidelity."""
    axes.set_title('Labels', loc='left')
    if not audit.sets:
        drawing.blank(axes, 'no structure could be read')
        return
    place = np.arange(len(audit.sets))[::-1]
    for k, (label, (grey, hatch)) in enumerate(LABELS.items()):
        counts = [part.labels[label] for part in audit.sets]
        axes.barh(
            place + 0.26 * (1 - k),
            counts,
            height=0.24,
            color=grey,
            edgecolor='white',
            hatch=hatch,
            label=label,
        )
        for y, count in zip(place + 0.26 * (1 - k), counts, strict=True):
            axes.text(count, y, f' {count}', va='center', fontsize=8)
    names = [f'{s.fidelity}\n{s.set}' for s in audit.sets]
    axes.set_yticks(place, names)
    axes.set_xlabel('structures')
    largest = max(part.structures for part in audit.sets)
    axes.set_xlim(0.0, 1.12 * largest)
    axes.legend(
        ncols=3,
        loc='lower right',
        bbox_to_anchor=(1, 1),
        borderaxespad=0.2,
        columnspacing=1.0,
        handlelength=1.4,
    )
    axes.grid(axis='y', visible=False)


def _elements(axes: Axes, audit: Audit) -> None:
    axes.set_title('Structures with each element', loc='left')
    symbols = list(dict.fromkeys(e for part in audit.sets for e in part.elements))
    if not symbols:
        drawing.blank(axes, 'no structure could be read')
        return
    counts = np.array([
        [part.elements.get(e, {'structures': 0})['structures'] for e in symbols]
        for part in audit.sets
    ])
    largest = int(counts.max())
    shown = np.ma.masked_equal(counts, 0)
    # light throughout, for the numbers that are written on it
    norm = LogNorm(0.5, 30.0 * max(largest, 2))
    image = axes.imshow(shown, cmap='Blues', norm=norm, aspect='auto')
    if len(symbols) <= WRITTEN:
        for (row, column), count in np.ndenumerate(counts):
            axes.text(
                column,
                row,
                str(count),
                ha='center',
                va='center',
                color='black' if count else '0.6',
            )
    else:
        axes.figure.colorbar(image, ax=axes, label='structures', pad=0.01)
    axes.set_xticks(range(len(symbols)), symbols)
    if len(symbols) > TOO_MANY:
        axes.tick_params(axis='x', rotation=90, labelsize=6)
    axes.set_yticks(
        range(len(audit.sets)), [f'{s.fidelity}, {s.set}' for s in audit.sets]
    )
    axes.set_xticks(np.arange(len(symbols) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(audit.sets) + 1) - 0.5, minor=True)
    axes.grid(visible=False)
    axes.grid(which='minor', color='white', linewidth=1.5)
    axes.tick_params(which='both', length=0)
    axes.spines[:].set_visible(False)
