"""The drift of old fidelities at the end of a run: a table and a picture."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from rich.table import Table

from sevennet_mf import drawing
from sevennet_mf.evaluate.predictions import Predictions
from sevennet_mf.train.loop.drift import MILLI, Values

NUMBER: Final = {'facecolor': 'white', 'edgecolor': 'none', 'pad': 0.8}
HEAD: Final = (
    'fidelity',
    'quantity',
    'unit',
    'before',
    'after',
    'drift',
    'moved',
    'structures',
)


def moved(before: Predictions, after: Predictions) -> dict[str, float]:
    """Return mean absolute changes of predictions, in meV/atom and meV/Å."""
    energy = (after.energy - before.energy) / before.n_atoms
    force = [
        (b - a).reshape(-1) for a, b in zip(before.forces, after.forces, strict=True)
    ]
    return {
        'energy': MILLI * float(np.abs(energy).mean()),
        'force': MILLI * float(np.abs(np.concatenate(force)).mean()),
    }


def rows(report: dict[str, Any], moved: Values) -> list[list[Any]]:
    """Return the lines of drift.csv: mean absolute errors, and prediction changes.

    Quantities without labels are left out.

    Args:
        report: as Drift.as_dict().
        moved: {fidelity: what `moved` returns}.
    """
    lines: list[list[Any]] = [list(HEAD)]
    for name, by_quantity in report.items():
        for quantity, row in by_quantity.items():
            before, after = row['before'], row['after']
            if before is not None and after is not None:
                numbers = [before, after, after - before, moved[name][quantity]]
                count = row.get('structures')  # an older checkpoint has none
                lines.append([name, quantity, row['unit'], *numbers, count or ''])
    return lines


def lines(table: list[list[Any]]) -> list[str]:
    """Return the lines of drift.csv as lines for the log."""
    said = ['Drift of old fidelities on held-out structures (MAE)']
    for name, quantity, unit, *numbers, count in table[1:]:
        before, after, drift, moved = (f'{number:.2f}' for number in numbers)
        of = f' ({count} structures)' if count else ''
        said.append(
            f'{name} {quantity:<7}: {before} -> {after} {unit}, drift {drift}; '
            f'predictions moved by {moved}{of}'
        )
    return said


def render(table: list[list[Any]]) -> Table:
    """Return the lines of drift.csv as a table for the terminal."""
    shown = Table(title='Old fidelities on held-out structures (MAE)')
    for number, column in enumerate(table[0]):
        shown.add_column(column, justify='right' if number > 2 else 'left')
    for name, quantity, unit, *numbers, count in table[1:]:
        cells = [f'{x:.2f}' for x in numbers]
        shown.add_row(name, quantity, unit, *cells, str(count))
    return shown


def draw(report: dict[str, Any], path: str) -> bool:
    """Draw what Drift.as_dict() returns; return whether there is anything to draw.

    There is a panel for each quantity, with bars before and after, and a line at
    the limit.
    """
    quantities = [
        quantity
        for quantity in next(iter(report.values()), {})
        if any(_is_known(by[quantity]) for by in report.values())
    ]
    if not quantities:
        return False
    with drawing.styled():
        width = max(1.6 + len(report), 3.0) * len(quantities)
        figure = drawing.sheet(width, 3.2)
        axes = figure.subplots(1, len(quantities), squeeze=False)[0]
        for ax, quantity in zip(axes, quantities, strict=True):
            rows = {name: by[quantity] for name, by in report.items()}
            _panel(ax, quantity, {k: v for k, v in rows.items() if _is_known(v)})
        # a limit may be in only one panel
        handles: dict[str, Any] = {}
        for ax in axes:
            shown, labels = ax.get_legend_handles_labels()
            handles |= dict(zip(labels, shown, strict=True))
        figure.legend(
            handles.values(), handles.keys(), loc='outside lower center', ncols=3
        )
        drawing.save(figure, path)
    return True


def _panel(ax: Axes, quantity: str, rows: dict[str, Any]) -> None:
    for number, (_, row) in enumerate(rows.items()):
        for side, (when, colour) in enumerate(
            (('before', drawing.SKY), ('after', drawing.BLUE))
        ):
            place = number + 0.4 * side - 0.2
            label = when if number == 0 else None
            bar = ax.bar(place, row[when], 0.36, color=colour, label=label)
            for text in ax.bar_label(bar, fmt='%.2f', fontsize=8, padding=2):
                text.set_bbox(NUMBER)  # a limit may cross it
        if row['max_drift'] is not None:
            limit = row['before'] + row['max_drift']
            label = 'limit' if number == 0 else None
            ends = (number - 0.4, number + 0.4)
            ax.plot(ends, (limit, limit), color=drawing.ORANGE, ls='--', label=label)
    ax.set_xticks(range(len(rows)), [_label(n, row) for n, row in rows.items()])
    ax.set_xlim(-0.6, len(rows) - 0.4)
    unit = next(iter(rows.values()))['unit']
    ax.set_title(f'{quantity.capitalize()} ({unit})')
    ax.set_ylabel('mean absolute error, held out')
    ax.margins(y=0.15)


def _label(name: str, row: dict[str, Any]) -> str:
    count = row.get('structures')
    return f'{name}\n{count} structure{"s" * (count != 1)}' if count else name


def _is_known(row: dict[str, Any]) -> bool:
    return row['before'] is not None and row['after'] is not None
