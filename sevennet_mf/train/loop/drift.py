"""How far training moves old fidelities of a checkpoint, and how far it may."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

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

    Attributes:
        before: mean absolute errors of the checkpoint, by fidelity and quantity, in
            meV/atom and meV/Å; NaN without such labels.
        limits: by quantity, the growth that the best checkpoint may have, in the
            same units.
        structures: number of labelled ones, by fidelity and quantity.
        smallest: the smallest growth so far, in units of its limit, and its epoch.
        now: the errors of the last epoch, as `before`.
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
        """Return plain builtins for the provenance of a checkpoint."""
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
        """Return what to say if no checkpoint stayed within the limits."""
        limits = ', '.join(
            f'{q} {limit:g} {MEASURED[q][1]}' for q, limit in self.limits.items()
        )
        worst, epoch = self.smallest
        return (
            f'no epoch stayed within train.fidelity.max_drift ({limits}), so there '
            f'is no best checkpoint; epoch {epoch} came closest, with {worst:.3g} '
            'times the limit. Replay more structures, lower the learning rate, '
            'raise max_drift, or use update: fidelity_only, which causes no drift.'
        )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def with_metrics(record: list[list[str]]) -> list[list[str]]:
    """Return `train.error_record` with the metrics that measure drift."""
    wanted = [['Energy', 'MAE'], ['Force', 'MAE']]
    return [*record, *(m for m in wanted if m not in record)]
