"""Errors per fidelity: as numbers, as a table for the terminal, and as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from sevennet_mf import keys
from sevennet_mf.evaluate.predictions import QUANTITIES, Predictions
from sevennet_mf.model.load import UNNAMED


@dataclass(frozen=True)
class FidelityErrors:
    """Errors of one fidelity.

    Attributes:
        fidelity: Of the labels.
        predicted_as: Of the model.
        structures: How many there are.
        labelled: How many of them have a label, by quantity: `'energy'`, `'force'`,
            `'stress'`.
        mae: Mean absolute error by quantity, over components: meV/atom, meV/Å, kbar;
            NaN where nothing is labelled.
        rmse: Root mean square error, likewise.
    """

    fidelity: str
    predicted_as: str
    structures: int
    labelled: dict[str, int]
    mae: dict[str, float]
    rmse: dict[str, float]


def errors(
    predictions: Predictions, fidelities: Sequence[str] | None = None
) -> list[FidelityErrors]:
    """Return the errors of each of `fidelities` that has structures, in this order.

    Missing labels are left out.

    Args:
        fidelities: default: all there are.
    """
    found = []
    for name in predictions.fidelities if fidelities is None else fidelities:
        rows = predictions.rows(name)
        if len(rows) == 0:
            continue
        labelled = predictions.labelled(rows)
        mae, rmse = {}, {}
        for quantity, _, _, factor in QUANTITIES:
            label, predicted = predictions.compared(quantity, rows)
            mae[quantity], rmse[quantity] = mae_rmse(predicted - label, factor)
        index = predictions.fidelities.index(name)
        found.append(
            FidelityErrors(
                fidelity=name,
                predicted_as=predictions.predicted_as[index],
                structures=len(rows),
                labelled={q: int(mask.sum()) for q, mask in labelled.items()},
                mae=mae,
                rmse=rmse,
            )
        )
    return found


def mae_rmse(difference: np.ndarray, factor: float = 1.0) -> tuple[float, float]:
    """Return (MAE, RMSE) times `factor`; NaN if there are no numbers."""
    if difference.size == 0:
        return float('nan'), float('nan')
    mae = float(np.abs(difference).mean()) * factor
    return mae, float(np.sqrt(np.square(difference).mean())) * factor


def render(rows: Sequence[FidelityErrors]) -> Table:
    """Return the errors as a table for the terminal, without empty columns."""
    shown = [q for q in QUANTITIES if any(row.labelled[q[0]] for row in rows)]
    table = Table(title='Errors (MAE / RMSE)')
    table.add_column('fidelity')
    table.add_column('structures', justify='right')
    for quantity, _, unit, _ in shown:
        table.add_column(f'{quantity}\n{unit}', justify='right')
    for row in rows:
        name = row.fidelity
        if row.predicted_as not in (name, UNNAMED):
            name += f'\nas {row.predicted_as}'
        cells = []
        for quantity, *_ in shown:
            cell = '–'
            if row.labelled[quantity]:
                cell = f'{row.mae[quantity]:.2f} / {row.rmse[quantity]:.2f}'
                if row.labelled[quantity] < row.structures:
                    cell += f'\n({row.labelled[quantity]} labelled)'
            cells.append(cell)
        table.add_row(name, str(row.structures), *cells)
    return table


def error_table(rows: Sequence[FidelityErrors]) -> list[list[Any]]:
    """Return the lines of errors.csv."""
    head = ['fidelity', 'predicted_as', 'structures']
    for quantity, _, unit, _ in QUANTITIES:
        head += [f'{quantity}_labelled']
        head += [f'{quantity}_{metric} ({unit})' for metric in ('MAE', 'RMSE')]
    table: list[list[Any]] = [head]
    for row in rows:
        line: list[Any] = [row.fidelity, row.predicted_as, row.structures]
        for quantity, *_ in QUANTITIES:
            numbers = (row.mae[quantity], row.rmse[quantity])
            line += [row.labelled[quantity], *(_cell(x, 6) for x in numbers)]
        table.append(line)
    return table


def structure_table(predictions: Predictions) -> list[list[Any]]:
    """Return the lines of per_structure.csv; cells without a label are empty."""
    p = predictions
    axes = ('xx', 'yy', 'zz', 'xy', 'yz', 'zx')
    head = ['source', 'fidelity', 'predicted_as', 'n_atoms', 'energy_label (eV)']
    head += ['energy (eV)', 'energy_error (meV/atom)', 'force_RMSE (meV/Å)']
    head += [f'stress_label_{axis} (kbar)' for axis in axes]
    head += [f'stress_{axis} (kbar)' for axis in axes]
    table: list[list[Any]] = [head]
    for i, source in enumerate(p.sources):
        label, energy = p.compared('energy', np.array([i]))
        force_label, force = p.compared('force', np.array([i]))
        error = (energy - label)[0] * 1000.0 if label.size else np.nan
        name, target = p.fidelities[p.fidelity[i]], p.predicted_as[p.fidelity[i]]
        stress = [*p.label_stress[i], *p.stress[i]]
        force_rmse = mae_rmse(force - force_label, 1000.0)[1]
        table.append(
            [source, name, target, int(p.n_atoms[i])]
            # all-electron energies have ten digits before the last that counts
            + [_cell(x, 15) for x in (p.label_energy[i], p.energy[i])]
            + [_cell(x, 6) for x in (error, force_rmse)]
            + [_cell(x * keys.KBAR, 6) for x in stress]
        )
    return table


def _cell(value: float, digits: int) -> str:
    return f'{value:.{digits}g}' if np.isfinite(value) else ''
