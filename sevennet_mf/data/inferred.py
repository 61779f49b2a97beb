"""Labels of the target where there are only those of the base.

In many materials two levels of theory differ by little more than a pair potential.
Where the paired labels bear that out, the difference they give is added to the
labels of the base, and the target is trained on these as well. Where they do not, or
for a structure too unlike the paired ones, nothing is added.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np

from sevennet_mf.data.estimator import Floats, Ints
from sevennet_mf.data.structures import FidelityDataset, FidelityGraph, pair_index
from sevennet_mf.data.two_body import Edges, edges_of
from sevennet_mf.data.two_body_fit import Errors, Fit, fit
from sevennet_mf.data.two_body_system import Difference

FEWEST: Final[int] = 4  # paired structures
MOST: Final[int] = 2000  # paired structures that are fitted to; more add little
# of the error that reference energies alone leave: a label that is off by more
# teaches less than it spoils
WORTHWHILE: Final[float] = 0.5


@dataclass(frozen=True)
class Inferred:
    """What came of it. paired, inferred, refused: structures; errors: left out."""

    base: str
    target: str
    paired: int
    inferred: int = 0
    refused: int = 0
    cutoff: float | None = None
    errors: Errors | None = None
    reason: str = ''

    def lines(self) -> list[str]:
        """Return what a log says of it."""
        name = f'{self.target} labels inferred from {self.base}'
        if self.reason:
            return [f'No {name}: {self.reason}.']
        assert self.errors is not None
        e = self.errors
        said = [
            f'{self.inferred} {name}, {self.refused} structures left out as too '
            f'unlike the {self.paired} paired ones.',
            f'Left out of the fit, energies are off by {1000 * e.energy:.1f} '
            f'meV/atom (reference energies alone: {1000 * e.base_energy:.1f}).',
        ]
        if not math.isnan(e.force):
            said.append(
                f'Forces: {1000 * e.force:.1f} meV/Å (no difference: '
                f'{1000 * e.base_force:.1f}).'
            )
        return said

    def as_dict(self) -> dict[str, Any]:
        """Return plain builtins, for provenance; None for what is not known."""
        said = asdict(self)
        if self.errors is not None:
            errors = asdict(self.errors).items()
            said['errors'] = {k: None if math.isnan(v) else v for k, v in errors}
        return said


def infer_labels(
    train: FidelityDataset, base: str, target: str, always: bool = False
) -> tuple[FidelityDataset, Inferred]:
    """Return the training set with inferred labels of the target, and a report.

    Each structure of the base without a label of the target gets one, if the
    difference fitted to the paired structures predicts those that are left out of
    the fit well enough, and it is not too unlike them. always: whatever the former
    says. The set is returned as it is where nothing comes of it.
    """
    high, low = train.rows_of(target), train.rows_of(base)
    pair = pair_index(train, base, target)
    known = pair >= 0
    paired = int(known.sum())
    if paired < FEWEST:
        reason = f'{paired} structures carry both labels, {FEWEST} are needed'
        return train, Inferred(base, target, paired, reason=reason)
    found = _fit(train, high[known], low[pair[known]])
    report = Inferred(
        base, target, paired, cutoff=found.model.basis.cutoff, errors=found.errors
    )
    if not always and not _worthwhile(found.errors):
        return train, replace(report, reason=_why_not(found.errors))
    rest = low[~np.isin(train.fingerprint[low], train.fingerprint[high])]
    rows, gap = _predicted(train, rest, found)
    report = replace(report, inferred=len(rows), refused=len(rest) - len(rows))
    if not len(rows):
        return train, report
    energy = train.energy[rows] + gap
    return train.with_inferred(rows, target, energy, found.model), report


def _fit(train: FidelityDataset, high: Ints, low: Ints) -> Fit:
    if len(high) > MOST:
        chosen = np.random.default_rng(0).choice(len(high), MOST, replace=False)
        high, low = high[chosen], low[chosen]
    labels, reach = [], 0.0
    for h, b in zip(high, low, strict=True):
        above, below = train[int(h)], train[int(b)]
        edges = edges_of(below)
        forces = None
        if train.has['force'][h] and train.has['force'][b]:
            forces = _forces(above) - _forces(below)
        gap = float(train.energy[h] - train.energy[b])
        labels.append(Difference(edges, gap, forces))
        reach = max(reach, np.linalg.norm(edges.vector, axis=1).max(initial=0.0))
    elements = np.flatnonzero(train.composition.sum(axis=0))
    return fit(labels, elements.tolist(), math.ceil(10 * reach) / 10)


def _forces(graph: FidelityGraph) -> Floats:
    import sevenn._keys as KEY

    forces: Floats = graph[KEY.FORCE].numpy().astype(np.float64)
    return forces


def _worthwhile(errors: Errors) -> bool:
    good = errors.energy <= WORTHWHILE * errors.base_energy  # NaN: not known to be
    return good and not errors.force > errors.base_force


def _why_not(errors: Errors) -> str:
    if math.isnan(errors.energy):
        return 'too few structures carry both labels to leave one out and predict it'
    return (
        'structures left out of a two-body fit are off by '
        f'{1000 * errors.energy:.1f} meV/atom, with reference energies alone by '
        f'{1000 * errors.base_energy:.1f}'
    )


def _predicted(
    train: FidelityDataset, rows: Ints, found: Fit
) -> tuple[Ints, Floats]:
    """The rows that are near enough to paired ones, and their differences in eV."""
    limit = max(WORTHWHILE * found.errors.base_energy, found.errors.energy)
    kept, gaps = [], []
    for row in rows:
        edges: Edges = edges_of(train[int(row)])
        if found.std(edges) <= limit:
            kept.append(row)
            gaps.append(found.model.energy(edges))
    return np.array(kept, np.int64), np.array(gaps, np.float64)
