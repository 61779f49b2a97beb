"""How far training takes the old fidelities of a pretrained model."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import sevenn._keys as KEY
from rich.table import Table

from sevennet_mf import keys
from sevennet_mf.data.dataset import FidelityDataset
from sevennet_mf.errors import UserError
from sevennet_mf.evaluate.predictions import Predictions
from sevennet_mf.evaluate.tables import errors
from sevennet_mf.train.continuing.start import Start

# quantity -> (metric of lc.csv, its unit, unit shown and in `max_drift`)
MEASURED: Final[dict[str, tuple[str, str]]] = {
    'energy': ('Energy_MAE', 'meV/atom'),
    'force': ('Force_MAE', 'meV/Å'),
}
MILLI: Final[float] = 1000.0
Values = dict[str, dict[str, float]]  # {fidelity: {quantity: milli}}


@dataclass
class Drift:
    """Errors of old fidelities on structures that are not trained on.

    before: mean absolute errors of the checkpoint, by fidelity and quantity, in
    meV/atom and meV/Å; NaN without such labels. limits: by quantity, the growth
    that the best checkpoint may have; structures: labelled ones, by fidelity and
    quantity; now: the errors of the last epoch.
    """

    before: Values
    limits: dict[str, float]
    structures: dict[str, dict[str, int]] = field(default_factory=dict)
    smallest: tuple[float, int] = (math.inf, 0)  # growth over limit, epoch
    now: Values = field(default_factory=dict)

    def update(self, metrics: dict[str, dict[str, float]], epoch: int) -> bool:
        """Take the metrics of the set `drift`; return whether the limits hold."""
        self.now = {
            name: {
                quantity: MILLI * metrics[name][metric]
                for quantity, (metric, _) in MEASURED.items()
            }
            for name in self.before
        }
        worst = self.worst()
        if worst < self.smallest[0]:
            self.smallest = (worst, epoch)
        return worst <= 1.0

    def growth(self) -> Values:
        """How much the errors have grown, in the units of `before`."""
        return {
            name: {q: self.now[name][q] - before for q, before in values.items()}
            for name, values in self.before.items()
        }

    def worst(self) -> float:
        """The largest growth in units of its limit; 0 without limits."""
        parts = [
            value / self.limits[quantity]
            for values in self.growth().values()
            for quantity, value in values.items()
            if quantity in self.limits and not math.isnan(value)
        ]
        return max(parts, default=0.0)

    def as_dict(self) -> dict[str, Any]:
        """Plain builtins for the provenance of a checkpoint."""
        return {
            name: {
                quantity: {
                    'before': _known(self.before[name][quantity]),
                    'after': _known(self.now[name][quantity]),
                    'unit': unit,
                    'max_drift': self.limits.get(quantity),
                    'structures': self.structures.get(name, {}).get(quantity),
                }
                for quantity, (_, unit) in MEASURED.items()
            }
            for name in self.before
        }

    def advice(self) -> str:
        """What to say if no checkpoint held the limits."""
        limits = ', '.join(
            f'{q} {limit:g} {MEASURED[q][1]}' for q, limit in self.limits.items()
        )
        worst, epoch = self.smallest
        return (
            f'no epoch held train.fidelity.max_drift ({limits}), so there is no '
            f'best checkpoint; epoch {epoch} came closest, {worst:.3g} times the '
            'limit. Replay more structures, lower the learning rate, raise '
            'max_drift, or take update: fidelity_only, which does not drift at all.'
        )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def of_checkpoint(
    config: dict[str, Any], start: Start, dataset: FidelityDataset
) -> Drift:
    """Measure a checkpoint as it was on the set `drift`; limits are the YAML's.

    Raises UserError for a limit of what the set has no labels of.
    """
    before: Values = {}
    structures = {}
    for index in sorted(set(dataset.fidelity_index.tolist())):
        name = dataset.fidelities[index]
        own = dataset.subset(dataset.rows_of(name))
        (row,) = errors(start.predict(config, own, start.old_name(name)))
        before[name] = {quantity: row.mae[quantity] for quantity in MEASURED}
        structures[name] = {q: row.labelled[q] for q in MEASURED}
    given = config[keys.FIDELITY_TRAIN]['max_drift'] or {}
    limits = {q: v for q, v in given.items() if v is not None}
    for quantity in limits:
        if all(math.isnan(values[quantity]) for values in before.values()):
            raise UserError(
                f'train.fidelity.max_drift.{quantity}: {limits[quantity]:g} cannot '
                f'be held: no structure of {list(before)} that is held out has '
                f'{quantity} labels. Take it out, or replay structures that have '
                'them.'
            )
    return Drift(before, limits, structures)


def with_metrics(config: dict[str, Any]) -> None:
    """Add the metrics that drift is measured by to `train.error_record`."""
    wanted = [['Energy', 'MAE'], ['Force', 'MAE']]
    record = config[KEY.ERROR_RECORD]
    config[KEY.ERROR_RECORD] = [*record, *(m for m in wanted if m not in record)]


def moved(before: Predictions, after: Predictions) -> dict[str, float]:
    """Mean absolute change of predictions by quantity, meV/atom and meV/Å."""
    energy = (after.energy - before.energy) / before.n_atoms
    force = [
        (b - a).reshape(-1) for a, b in zip(before.forces, after.forces, strict=True)
    ]
    return {
        'energy': MILLI * float(np.abs(energy).mean()),
        'force': MILLI * float(np.abs(np.concatenate(force)).mean()),
    }


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


def rows(report: dict[str, Any], moved: Values) -> list[list[Any]]:
    """The lines of drift.csv: mean absolute errors, and how predictions moved.

    report: as Drift.as_dict(); quantities without labels are left out.
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
    """What the log says of the lines of drift.csv."""
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
    """The lines of drift.csv as a table for the terminal."""
    shown = Table(title='Old fidelities on held-out structures (MAE)')
    for number, column in enumerate(table[0]):
        shown.add_column(column, justify='right' if number > 2 else 'left')
    for name, quantity, unit, *numbers, count in table[1:]:
        cells = [f'{x:.2f}' for x in numbers]
        shown.add_row(name, quantity, unit, *cells, str(count))
    return shown
