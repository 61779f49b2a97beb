"""Errors per fidelity, kept by the host's own metric classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sevenn._keys as KEY
import torch
import torch.distributed as dist
from sevenn.error_recorder import (
    AverageNumber,
    ErrorMetric,
    ErrorRecorder,
    get_err_type,
)
from sevenn.train.loss import LossDefinition

from sevennet_mf import keys
from sevennet_mf.config.criteria import Criterion
from sevennet_mf.errors import unknown
from sevennet_mf.train.loop.loss import (
    LABELS,
    FidelityLoss,
    per_structure,
)

THETA_ENERGY = 'Theta_Energy'  # eV/atom, what theta_T adds to the energy
TOTAL_LOSS = 'TotalLoss'


class StructureLoss(ErrorMetric):
    """The unweighted mean of one label's criterion over labelled structures."""

    def __init__(self, label: str, name: str, criterion: Criterion) -> None:
        super().__init__(name=name, ref_key='', pred_key='')
        self.label = label
        self.criterion = criterion

    def update(self, output: Any) -> None:
        values, known = per_structure(self.label, output, self.criterion)
        self.value.update(values[known])


class TotalLoss(ErrorMetric):
    """Sum of the labels' losses times their lambdas.

    Labels that no structure has are left out, so that data with energies only have
    a total; the host's would be NaN.
    """

    def __init__(self, parts: list[tuple[StructureLoss, float]]) -> None:
        super().__init__(name=TOTAL_LOSS, ref_key='', pred_key='')
        self.parts = parts

    def update(self, output: Any) -> None:
        for part, _ in self.parts:
            part.update(output)

    def ddp_reduce(self, device: torch.device) -> None:
        for part, _ in self.parts:
            part.ddp_reduce(device)

    def reset(self) -> None:
        for part, _ in self.parts:
            part.reset()

    def get(self) -> float:
        values = [(p.get(), factor) for p, factor in self.parts if p.value._count]
        return sum(v * factor for v, factor in values) if values else float('nan')


class ThetaEnergy(ErrorMetric):
    """Mean of |E_f - E_common| / n_atoms, the effect of theta_T, in eV/atom."""

    def __init__(self) -> None:
        super().__init__(name=THETA_ENERGY, ref_key='', pred_key='', unit='eV/atom')

    def update(self, output: torch.Tensor) -> None:
        self.value.update(output.abs())


def make_metrics(
    config: dict[str, Any],
    losses: Sequence[tuple[LossDefinition, float]],
    n_fidelities: int,
) -> list[ErrorMetric]:
    """Return the metrics of `train.error_record`, and the size of theta_T's part.

    Args:
        config: the host's.
        losses: of the run, with their factors.
    """
    terms = [(term, w) for term, w in losses if isinstance(term, FidelityLoss)]
    metrics: list[ErrorMetric] = []
    for kind, metric in config[KEY.ERROR_RECORD]:
        label = kind.split('_')[0].removeprefix('Total').lower()
        if label == 'stress' and not config[KEY.IS_TRAIN_STRESS]:
            continue
        if kind == TOTAL_LOSS:
            parts = [
                (_structure_loss(term, term.name), factor) for term, factor in terms
            ]
            metrics.append(TotalLoss(parts))
        elif metric == 'Loss':
            metrics += [
                _structure_loss(term, f'{term.name}_Loss')
                for term, _ in terms
                if term.label == label
            ]
        else:
            arguments = get_err_type(kind)
            arguments['name'] = f'{kind}_{metric}'
            metrics.append(ErrorRecorder.METRIC_DICT[metric](**arguments))
    return [*metrics, ThetaEnergy()] if n_fidelities > 1 else metrics


def _structure_loss(term: FidelityLoss, name: str) -> StructureLoss:
    assert term.criterion is not None
    return StructureLoss(term.label, name, term.criterion)


def view(output: Any, fidelity: int) -> dict[str, torch.Tensor] | None:
    """Return the part of a batch that has one fidelity, or None if it is empty.

    Structures that only fill up the batch are left out.
    """
    chosen = (output[keys.FIDELITY_INDEX] == fidelity) & (
        output[keys.SAMPLE_WEIGHT] > 0
    )
    if not chosen.any():
        return None
    owner = output[KEY.BATCH]
    atoms = chosen[owner]
    renumber = torch.cumsum(chosen, 0) - 1
    part = {
        KEY.NUM_ATOMS: output[KEY.NUM_ATOMS][chosen],
        KEY.BATCH: renumber[owner[atoms]],
    }
    for label, _, ref_key, pred_key in LABELS:
        rows = atoms if label == 'force' else chosen
        part[ref_key] = output[ref_key][rows]
        part[pred_key] = output[pred_key].detach()[rows]
    return part


class SetRecorder:
    """The errors of one data set, by fidelity.

    update() takes what the model returns for a batch; values() returns
    {fidelity: {metric: value}} in the host's units.
    """

    def __init__(
        self, metrics: dict[str, list[ErrorMetric]], indices: dict[str, int]
    ) -> None:
        self.metrics = metrics
        self.indices = indices

    @torch.no_grad()
    def update(self, output: Any) -> None:
        for fidelity, metrics in self.metrics.items():
            part = view(output, self.indices[fidelity])
            for metric in metrics if part is not None else ():
                if not isinstance(metric, ThetaEnergy):
                    metric.update(part)

    def update_theta(self, batch: Any, energy: torch.Tensor) -> None:
        """Record theta_T's part of the energy.

        Args:
            energy: (n_graphs,) eV/atom.
        """
        real = batch[keys.SAMPLE_WEIGHT] > 0
        for fidelity, metrics in self.metrics.items():
            own = real & (batch[keys.FIDELITY_INDEX] == self.indices[fidelity])
            for metric in metrics:
                if isinstance(metric, ThetaEnergy):
                    metric.update(energy[own])

    def reduce(self, device: torch.device) -> None:
        """Sum over the processes."""
        for metric in self._all():
            metric.ddp_reduce(device)

    def reset(self) -> None:
        for metric in self._all():
            metric.reset()

    def values(self) -> dict[str, dict[str, float]]:
        return {
            fidelity: {m.name: float(m.get()) for m in metrics}
            for fidelity, metrics in self.metrics.items()
        }

    def _all(self) -> list[ErrorMetric]:
        return [m for metrics in self.metrics.values() for m in metrics]

    def _numbers(self) -> list[AverageNumber]:
        parts: list[ErrorMetric] = []
        for metric in self._all():
            if isinstance(metric, TotalLoss):
                parts += [part for part, _ in metric.parts]
            else:
                parts.append(metric)
        return [part.value for part in parts]

    def state(self, joint: torch.device | None = None) -> list[tuple[float, int]]:
        """Return sums and counts so far, for a checkpoint within an epoch.

        Args:
            joint: the device on which to sum them over all processes, for the file
                that one of them writes; None: those of this process.
        """
        own = [(n._sum, n._count) for n in self._numbers()]
        if joint is None:
            return own
        numbers = torch.tensor(own, dtype=torch.float64)
        numbers = sum_over_processes(numbers.to(joint))
        return [(total, int(count)) for total, count in numbers.tolist()]

    def load(self, state: list[tuple[float, int]]) -> None:
        for number, (total, count) in zip(self._numbers(), state, strict=True):
            number._sum, number._count = total, count


def check_best_metric(config: dict[str, Any], metrics: list[ErrorMetric]) -> str:
    """Return the metric that selects the best checkpoint.

    Raises:
        UserError: It is not recorded.
    """
    name = config[KEY.BEST_METRIC]
    known = [metric.name for metric in metrics if metric.name != THETA_ENERGY]
    if name not in known:
        remedy = 'train.error_record lists the metrics that are recorded.'
        raise unknown('train.best_metric', name, known, remedy)
    return name


def sum_over_processes(values: torch.Tensor) -> torch.Tensor:
    """Return the sum of a small tensor over all processes."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(values)
    return values
