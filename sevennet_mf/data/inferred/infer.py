"""Labels of the target for structures that have only those of lower fidelities.

In many materials two levels of theory differ by little more than a pair potential.
Where the paired labels confirm this, the fitted difference is added to the labels of
the lower level, and the target is trained on the results as well. Where they do not,
or for a structure too different from the paired ones, nothing is added. The fidelity
next below the target is used first, the others for the remaining structures.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
import sevenn._keys as KEY
from tqdm import tqdm

from sevennet_mf.arrays import Floats, Ints
from sevennet_mf.data.dataset import pair_index
from sevennet_mf.data.inferred.two_body import TwoBody, edges_of
from sevennet_mf.data.inferred.two_body_fit import LeftOutErrors, TwoBodyFit, fit
from sevennet_mf.data.inferred.two_body_system import Difference
from sevennet_mf.data.structures import FidelityDataset, FidelityGraph

FEWEST: Final[int] = 4  # paired structures
MOST: Final[int] = 1000  # paired structures that are fitted to; more add little
# of the error that reference energies alone leave: a label that is off by more
# teaches less than it spoils
WORTHWHILE: Final[float] = 0.5
# eV/atom: networks that were trained on few labels are off by about as much
CEILING: Final[float] = 0.02
# the same for forces, of their root mean square; and in eV/Å, where they are small,
# near the energy minimum
FORCE_CEILING: Final[float] = 0.125
FORCE_FLOOR: Final[float] = 0.02


@dataclass(frozen=True)
class Report:
    """The result of an inference.

    Attributes:
        paired, inferred, refused: numbers of structures.
        errors: of structures left out of the fit.
        digest: hash of which structures are inferred, to detect a change when a run
            is resumed; their labels follow from those of the files.
    """

    base: str
    target: str
    paired: int
    inferred: int = 0
    refused: int = 0
    cutoff: float | None = None
    errors: LeftOutErrors | None = None
    reason: str = ''
    digest: str = ''

    def lines(self) -> list[str]:
        """Return the lines for the log."""
        name = f'{self.target} labels inferred from {self.base}'
        if self.reason:
            return [f'No {name}: {self.reason}.']
        said = [
            f'{self.inferred} {name}; {self.refused} structures left out as too '
            f'different from the {self.paired} paired ones.'
        ]
        e = self.errors
        if e is not None and not math.isnan(e.energy):
            said.append(
                f'Cross-validation error of the energies: {1000 * e.energy:.1f} '
                f'meV/atom (reference energies alone: {1000 * e.base_energy:.1f}).'
            )
        if e is not None and not math.isnan(e.force):
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


@dataclass(frozen=True, eq=False)
class Inferred:
    """The inferred labels.

    Attributes:
        rows: structures of the lower fidelity.
        energies: at the target, in eV, total.
        has_forces: whether there were labels for the difference of the forces. If
            not, the slope of the fit is unreliable, and there is no stress either.
    """

    report: Report
    rows: Ints
    energy: Floats
    model: TwoBody | None = None
    has_forces: bool = False

    def added_to(self, train: FidelityDataset) -> FidelityDataset:
        """Return a training set with these labels added."""
        if self.model is None or not len(self.rows):
            return train
        return train.with_inferred(
            self.rows, self.report.target, self.energy, self.model, self.has_forces
        )


def sources_of(
    order: Sequence[str], base: str, target: str, train: FidelityDataset
) -> list[str]:
    """Return the fidelities that target labels may be inferred from, nearest first.

    These are those below the target that have structures, and finally the base,
    whatever it has.

    Args:
        order: fidelities from low to high.
    """
    known = [name for name in order if name in train.fidelities]
    below = known[: known.index(target)][::-1]
    held = [name for name in below if name != base and len(train.rows_of(name))]
    return [*held, base]


def infer_from(
    train: FidelityDataset,
    sources: Sequence[str],
    target: str,
    cutoff: float,
    always: bool = False,
) -> list[Inferred]:
    """Infer labels from each source for structures that earlier ones left out.

    Args:
        sources: names, as sources_of returns them.
        train, target, cutoff, always: as for infer_labels.
    """
    found = []
    for name in sources:
        found.append(infer_labels(train, name, target, cutoff, always))
        train = found[-1].added_to(train)
    return found


def provenance(reports: Sequence[Report]) -> dict[str, Any]:
    """Return plain builtins: one report, with the sums if there are several.

    With several it is that of the first source that gave any labels, and `each` has
    all.
    """
    gave = [report for report in reports if report.inferred]
    said = (gave or list(reports)[-1:])[0].as_dict()
    if len(reports) == 1:
        return said
    joined = ' '.join(report.digest for report in reports)
    return {
        **said,
        'base': ', '.join(report.base for report in gave) or said['base'],
        'inferred': sum(report.inferred for report in gave),
        'digest': hashlib.sha256(joined.encode()).hexdigest(),
        'each': [report.as_dict() for report in reports],
    }


def infer_labels(
    train: FidelityDataset,
    base: str,
    target: str,
    cutoff: float,
    always: bool = False,
) -> Inferred:
    """Return labels of the target for structures of `base` that have none.

    There are none unless the difference fitted to the paired structures predicts
    those left out of the fit well enough, and none for a structure too different
    from them.

    Args:
        base: the fidelity that they are inferred from.
        cutoff: of the graphs, in Å.
        always: infer labels however poor these predictions are.
    """
    high, low = train.rows_of(target), train.rows_of(base)
    rest = low[~np.isin(train.fingerprint[low], train.fingerprint[high])]
    pair = pair_index(train, base, target)
    # those that were computed, and the same structure twice is one
    own = np.flatnonzero(~train.inferred[high] & (pair >= 0))
    _, first = np.unique(train.fingerprint[high[own]], return_index=True)
    known = own[first]
    report = Report(base, target, len(known))
    if not len(low):
        return _nothing(report, f'no structure of {base} is in the training set')
    if not len(rest):
        return _nothing(report, f'every structure of {base} already has one')
    if len(known) < FEWEST:
        reason = f'{len(known)} structures have both labels; {FEWEST} are needed'
        return _nothing(report, reason)
    found = fit(_differences(train, high[known], low[pair[known]]), cutoff)
    report = replace(report, cutoff=found.model.basis.cutoff, errors=found.errors)
    size = train.subset(high[known]).force_rms()
    if not always and not _worthwhile(found.errors, size):
        return _nothing(report, _why_not(found.errors, size))
    rows, gap = _predicted(train, rest, found)
    energy = train.energy[rows] + gap
    report = replace(
        report,
        inferred=len(rows),
        refused=len(rest) - len(rows),
        digest=hashlib.sha256(rows.tobytes()).hexdigest(),
    )
    return Inferred(report, rows, energy, found.model, found.has_forces)


def _nothing(report: Report, reason: str) -> Inferred:
    rows = np.zeros(0, np.int64)
    return Inferred(replace(report, reason=reason), rows, np.zeros(0))


def _differences(train: FidelityDataset, high: Ints, low: Ints) -> list[Difference]:
    if len(high) > MOST:
        chosen = np.random.default_rng(0).choice(len(high), MOST, replace=False)
        high, low = high[chosen], low[chosen]
    labels = []
    for h, b in zip(high, low, strict=True):
        below = train[int(b)]
        forces = None
        if train.has['force'][h] and train.has['force'][b]:
            above = _forces(train[int(h)])
            order = train.order_between(int(h), int(b))
            forces = (above if order is None else above[order]) - _forces(below)
        gap = float(train.energy[h] - train.energy[b])
        labels.append(Difference(edges_of(below), gap, forces))
    return labels


def _forces(graph: FidelityGraph) -> Floats:
    forces: Floats = graph[KEY.FORCE].numpy().astype(np.float64)
    return forces


def _limits(errors: LeftOutErrors, size: float) -> tuple[float, float]:
    """Return the errors up to which labels are of use, in eV/atom and eV/Å.

    size: root mean square of the target's forces in eV/Å, NaN without any.
    """
    energy = np.fmin(WORTHWHILE * errors.base_energy, CEILING)
    force = np.fmax(FORCE_CEILING * size, FORCE_FLOOR)
    return float(energy), float(np.fmin(errors.base_force, force))


def _worthwhile(errors: LeftOutErrors, size: float) -> bool:
    energy, force = _limits(errors, size)
    good = errors.energy <= energy  # NaN: not known to be
    return good and not errors.force > force


def _why_not(errors: LeftOutErrors, size: float) -> str:
    if math.isnan(errors.energy):
        return 'too few structures have both labels for cross-validation'
    energy, force = (1000 * limit for limit in _limits(errors, size))
    said = (
        'errors on structures left out of a two-body fit are '
        f'{1000 * errors.energy:.1f} meV/atom (with reference energies alone: '
        f'{1000 * errors.base_energy:.1f}; at most {energy:.1f} would do)'
    )
    if math.isnan(errors.force):
        return said
    return (
        f'{said}, and for forces {1000 * errors.force:.1f} meV/Å (without any '
        f'difference: {1000 * errors.base_force:.1f}; at most {force:.1f} would do)'
    )


def _predicted(
    train: FidelityDataset, rows: Ints, found: TwoBodyFit
) -> tuple[Ints, Floats]:
    """The rows that are near enough to paired ones, and their differences in eV."""
    errors = found.errors  # NaN where nothing could be left out
    limit = np.fmin(WORTHWHILE * errors.base_energy, CEILING)
    limit = np.fmax(limit, errors.energy)
    kept, gaps = [], []
    # no bar for what takes a second or two
    for row in tqdm(rows, 'infer labels', disable=None, leave=False, delay=5):
        edges = edges_of(train[int(row)])
        if not found.knows(edges.numbers):
            continue
        gap, std = found.predict(edges)
        if std <= limit:
            kept.append(row)
            gaps.append(gap)
    return np.array(kept, np.int64), np.array(gaps, np.float64)
