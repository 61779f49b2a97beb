"""The linear system of a two-body difference: what labels require of its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from sevennet_mf.arrays import N_SPECIES, Floats
from sevennet_mf.data.inferred.two_body import Basis, PairEdges
from sevennet_mf.data.inferred.two_body_folds import folds, spans

# eV: prior spread of an element's energy about `element_energies`
ELEMENT_SPREAD: Final[float] = 5.0
LEAST_SINGULAR: Final[float] = 1e-6  # of compositions; below it nothing is known
# of a datum, each component of a force: an atom counts as one. What pairs cannot say
# is common to the three, and to neighbours. As data of their own they outvote the
# energies: the evidence then takes a noise of 10 meV/atom for these, though a fit
# leaves 1 (a power likelihood: Miller and Dunson, JASA 114, 1113 (2019))
FORCE_SHARE: Final[float] = 1 / 3


@dataclass(frozen=True, eq=False)
class Difference:
    """Labels of one structure at a fidelity minus those at the base.

    Attributes:
        energy: in eV, of the whole structure.
        forces: (n_atoms, 3) in eV/Å, or None.
    """

    edges: PairEdges
    energy: float
    forces: Floats | None


@dataclass(frozen=True)
class Settings:
    """What maximising the evidence determines; in eV, eV/atom, eV/Å."""

    scale: float
    energy_noise: float
    force_noise: float


class LinearSystem:
    """The linear system for one cutoff: energies per atom, then forces.

    The unknowns are the weights of the basis and an energy of each element.
    """

    def __init__(self, elements: Sequence[int], cutoff: float) -> None:
        self.basis = Basis(elements, cutoff)
        self.n_weights = len(self.basis.prior)

    def spread(self, scale: float) -> Floats:
        """Return (n_unknowns,), the prior standard deviation of each unknown."""
        n = len(self.basis.elements)
        return np.concatenate([scale * self.basis.prior, np.full(n, ELEMENT_SPREAD)])

    def energy_row(self, edges: PairEdges) -> Floats:
        """Return (n_unknowns,), the row of the energy per atom."""
        n = len(edges.numbers)
        count = np.bincount(edges.numbers, minlength=N_SPECIES)[self.basis.elements]
        return np.concatenate([self.basis.energy_features(edges), count]) / n

    def force_rows(self, edges: PairEdges) -> Floats:
        """Return (3 n_atoms, n_unknowns), the rows of the forces."""
        rows = self.basis.force_features(edges)
        return np.hstack([rows, np.zeros((len(rows), len(self.basis.elements)))])


@dataclass(eq=False)
class Sums:
    """Normal equations of some structures: X^T X, X^T y, y^T y, number of rows."""

    gram: Floats
    moment: Floats
    square: float = 0.0
    count: int = 0

    @classmethod
    def empty(cls, n: int) -> Sums:
        return cls(np.zeros((n, n)), np.zeros(n))

    def add(self, rows: Floats, values: Floats) -> None:
        self.gram += rows.T @ rows
        self.moment += rows.T @ values
        self.square += float(values @ values)
        self.count += len(values)

    def residual(self, solution: Floats) -> float:
        """Return the residual sum of squares of a solution."""
        left = self.square - 2 * self.moment @ solution
        return max(float(left + solution @ self.gram @ solution), 0.0)


def total(parts: Sequence[Sums]) -> Sums:
    """Return the sum of all parts."""
    whole = Sums.empty(len(parts[0].moment))
    for part in parts:
        whole.gram += part.gram
        whole.moment += part.moment
        whole.square += part.square
        whole.count += part.count
    return whole


def element_energies(
    labels: Sequence[Difference], elements: Sequence[int]
) -> Floats:
    """Return (n_elements,) in eV: the differences without any pair contributions.

    Two codes may differ by 1000 eV per atom; the rest is of the order of eV.
    """
    counts = np.array(
        [np.bincount(d.edges.numbers, minlength=N_SPECIES) for d in labels]
    )[:, list(elements)]
    n_atoms = np.array([len(d.edges.numbers) for d in labels])
    energy = np.array([d.energy for d in labels])
    found = np.linalg.lstsq(
        counts / n_atoms[:, None], energy / n_atoms, rcond=LEAST_SINGULAR
    )
    energies: Floats = found[0]
    return energies


@dataclass(frozen=True, eq=False)
class System:
    """The sums for one cutoff by fold, of energies and of forces."""

    features: LinearSystem
    offset: Floats  # (n_elements,) eV, taken off the energies
    energy: list[Sums]
    force: list[Sums]

    @classmethod
    def of(
        cls, labels: Sequence[Difference], elements: Sequence[int], cutoff: float
    ) -> System:
        features = LinearSystem(elements, cutoff)
        n = features.n_weights + len(features.basis.elements)
        fold_of = folds([d.edges.numbers for d in labels])
        energy = [Sums.empty(n) for _ in range(max(fold_of) + 1)]
        force = [Sums.empty(n) for _ in energy]
        offset = element_energies(labels, features.basis.elements)
        rows = np.array([features.energy_row(d.edges) for d in labels])
        per_atom = np.array([d.energy / len(d.edges.numbers) for d in labels])
        values = per_atom - rows[:, features.n_weights :] @ offset
        for fold in range(len(energy)):
            chosen = np.array(fold_of) == fold
            energy[fold].add(rows[chosen], values[chosen])
        for fold, label in zip(fold_of, labels, strict=True):
            if label.forces is not None:
                pulls = features.force_rows(label.edges)
                force[fold].add(pulls, label.forces.ravel())
        return cls(features, offset, energy, force)

    def can_predict(self, fold: int) -> bool:
        """Return whether compositions of a fold follow from those of the others."""
        start = self.features.n_weights
        others, _ = self.sums(without=fold)
        left_out = self.energy[fold].gram[start:, start:]
        return spans(others.gram[start:, start:], left_out)

    def sums(self, without: int | None = None) -> tuple[Sums, Sums]:
        """Return the sums of energies and of forces, without those of one fold."""
        kept = [i for i in range(len(self.energy)) if i != without]
        parts = [total([one[i] for i in kept]) for one in (self.energy, self.force)]
        return parts[0], parts[1]

    def solve(self, settings: Settings, sums: tuple[Sums, Sums]) -> Solution:
        """Return the solution for some of the sums, as `sums` returns them."""
        energy, force = sums
        spread = self.features.spread(settings.scale)
        e, f = settings.energy_noise**-2, FORCE_SHARE * settings.force_noise**-2
        gram = (e * energy.gram + f * force.gram) * np.outer(spread, spread)
        moment = (e * energy.moment + f * force.moment) * spread
        factor = cho_factor(gram + np.eye(len(gram)), lower=True)
        found = cho_solve(factor, moment)
        fit = e * energy.square + f * force.square - moment @ found
        size = np.log(np.diag(factor[0])).sum()
        size += energy.count * np.log(settings.energy_noise)
        size += FORCE_SHARE * force.count * np.log(settings.force_noise)
        return Solution(spread * found, float(-0.5 * fit - size), factor)


@dataclass(frozen=True, eq=False)
class Solution:
    """A solution of the linear system.

    Attributes:
        unknowns: (n,).
        evidence: its logarithm, up to a constant of the labels.
    """

    unknowns: Floats
    evidence: float
    factor: tuple[Floats, bool]

    def covariance(self) -> Floats:
        """Return (n, n), the covariance of the unknowns over their prior spreads."""
        inverse: Floats = cho_solve(self.factor, np.eye(len(self.unknowns)))
        return inverse
