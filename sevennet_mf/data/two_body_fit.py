"""Fitting the two-body difference of two fidelities to paired labels.

A Gaussian process whose kernel is that of two_body.Basis, by its weights: prior
N(0, s^2) on what all pairs share, noise of energies per atom and of force
components. s, both noises and the cutoff are those of the largest evidence
(Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), Eq. 2.30 and
Sec. 5.4.1); nothing is left to choose.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from sevennet_mf.data.estimator import N_SPECIES, Floats, Ints
from sevennet_mf.data.two_body import Basis, Edges, TwoBody

CUTOFFS: Final[tuple[float, ...]] = (3.0, 4.0, 5.0, 6.0)  # Å, as far as edges reach
SCALES: Final[tuple[float, ...]] = (0.03, 0.1, 0.3, 1.0)  # eV
ENERGY_NOISE: Final[tuple[float, ...]] = (3e-4, 1e-3, 3e-3, 1e-2)  # eV/atom
FORCE_NOISE: Final[tuple[float, ...]] = (3e-3, 1e-2, 3e-2)  # eV/Å
PRIOR_WIDTH: Final[float] = 5.0  # eV, of an element's energy: DESIGN.md's tau
FOLDS: Final[int] = 5
MOST_FOLDS: Final[int] = 10


@dataclass(frozen=True, eq=False)
class Difference:
    """Labels of one structure at two fidelities, the base's subtracted.

    energy: eV, of the whole structure; forces: (n_atoms, 3) eV/Å, or None.
    """

    edges: Edges
    energy: float
    forces: Floats | None


@dataclass(frozen=True)
class Settings:
    """What the evidence chooses; eV, eV/atom, eV/Å."""

    scale: float
    energy_noise: float
    force_noise: float


@dataclass(frozen=True)
class Errors:
    """Root mean squares over structures that were left out of the fit.

    energy: eV/atom; force: eV/Å, NaN without forces. base_*: the same with the
    reference energies alone, and no difference of forces. All NaN where nothing
    could be left out, since an element would have been without a label.
    """

    energy: float
    force: float
    base_energy: float
    base_force: float


@dataclass(frozen=True, eq=False)
class Fit:
    """What the paired labels say. covariance: of the scaled unknowns."""

    model: TwoBody
    errors: Errors
    settings: Settings
    _features: Features
    _covariance: Floats

    def std(self, edges: Edges) -> float:
        """Return how far `model.energy` may be off, eV/atom, noise included."""
        spread = self._features.spread(self.settings.scale)
        row = self._features.energy_row(edges) * spread
        variance = float(row @ self._covariance @ row)
        return float(np.sqrt(variance + self.settings.energy_noise**2))


class Features:
    """The linear system of one cutoff: energies per atom, then forces.

    The unknowns are the basis' weights, and an energy of each element.
    """

    def __init__(self, elements: Sequence[int], cutoff: float) -> None:
        self.basis = Basis(elements, cutoff)
        self.n_weights = len(self.basis.prior)

    def spread(self, scale: float) -> Floats:
        """Return (n_unknowns,) the prior spread of each unknown."""
        n = len(self.basis.elements)
        return np.concatenate([scale * self.basis.prior, np.full(n, PRIOR_WIDTH)])

    def energy_row(self, edges: Edges) -> Floats:
        """Return (n_unknowns,) of the energy per atom, offset aside."""
        n = len(edges.numbers)
        count = np.bincount(edges.numbers, minlength=N_SPECIES)[self.basis.elements]
        return np.concatenate([self.basis.energy_features(edges), count]) / n

    def force_rows(self, edges: Edges) -> Floats:
        """Return (3 n_atoms, n_unknowns)."""
        rows = self.basis.force_features(edges)
        return np.hstack([rows, np.zeros((len(rows), len(self.basis.elements)))])


@dataclass(eq=False)
class Sums:
    """Normal equations of some structures: X^T X, X^T y, y^T y and rows."""

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
        """Return the summed square of what a solution leaves."""
        left = self.square - 2 * self.moment @ solution
        return max(float(left + solution @ self.gram @ solution), 0.0)


def folds(labels: Sequence[Difference]) -> list[int]:
    """Return which labels are left out together, numbered from 0.

    Those of one stoichiometry, if there are enough: what is to be predicted is
    usually another one. Else at random.
    """
    kinds = [_stoichiometry(label.edges.numbers) for label in labels]
    known = sorted(set(kinds))
    if len(known) >= FOLDS:
        return [known.index(kind) % MOST_FOLDS for kind in kinds]
    order = np.random.default_rng(0).permutation(len(labels))
    return [int(place) % FOLDS for place in np.argsort(order)]


def _stoichiometry(numbers: Ints) -> tuple[int, ...]:
    count = np.bincount(numbers, minlength=N_SPECIES)
    return tuple((count // np.gcd.reduce(count)).tolist())


def total(parts: Sequence[Sums]) -> Sums:
    """Return the sums over all structures of some parts."""
    whole = Sums.empty(len(parts[0].moment))
    for part in parts:
        whole.gram += part.gram
        whole.moment += part.moment
        whole.square += part.square
        whole.count += part.count
    return whole


@dataclass(frozen=True, eq=False)
class System:
    """The sums of one cutoff by fold, of energies and of forces."""

    features: Features
    offset: float  # eV/atom, taken off the energies
    energy: list[Sums]
    force: list[Sums]

    @classmethod
    def of(
        cls, labels: Sequence[Difference], elements: Sequence[int], cutoff: float
    ) -> System:
        features = Features(elements, cutoff)
        n = features.n_weights + len(features.basis.elements)
        fold_of = folds(labels)
        energy = [Sums.empty(n) for _ in range(max(fold_of) + 1)]
        force = [Sums.empty(n) for _ in energy]
        per_atom = [d.energy / len(d.edges.numbers) for d in labels]
        offset = float(np.mean(per_atom))
        for fold, label, value in zip(fold_of, labels, per_atom, strict=True):
            row = features.energy_row(label.edges)
            energy[fold].add(row[None], np.array([value - offset]))
            if label.forces is not None:
                rows = features.force_rows(label.edges)
                force[fold].add(rows, label.forces.ravel())
        return cls(features, offset, energy, force)

    def knows_elements_of(self, fold: int) -> bool:
        """Whether other folds hold each element of this one."""
        start = self.features.n_weights
        held = [np.diag(part.gram)[start:] > 0 for part in self.energy]
        others = [h for i, h in enumerate(held) if i != fold]
        return bool((np.any(others, axis=0) | ~held[fold]).all())

    def solve(
        self, settings: Settings, without: int | None = None
    ) -> tuple[Floats, Floats, float]:
        """Return the unknowns, their scaled covariance, and the log evidence.

        without: a fold that is left out.
        """
        kept = [i for i in range(len(self.energy)) if i != without]
        energy = total([self.energy[i] for i in kept])
        force = total([self.force[i] for i in kept])
        spread = self.features.spread(settings.scale)
        e, f = settings.energy_noise**-2, settings.force_noise**-2
        gram = (e * energy.gram + f * force.gram) * np.outer(spread, spread)
        moment = (e * energy.moment + f * force.moment) * spread
        factor = cho_factor(gram + np.eye(len(gram)), lower=True)
        found = cho_solve(factor, moment)
        fit = e * energy.square + f * force.square - moment @ found
        size = np.log(np.diag(factor[0])).sum()
        size -= 0.5 * (energy.count * np.log(e) + force.count * np.log(f))
        evidence = float(-0.5 * fit - size)
        return spread * found, cho_solve(factor, np.eye(len(gram))), evidence


def fit(labels: Sequence[Difference], elements: Sequence[int], reach: float) -> Fit:
    """Fit the difference to paired labels.

    elements: atomic numbers it must know; reach: Å, how long edges are. At least
    three structures.
    """
    assert len(labels) >= 3, len(labels)
    cutoffs = [c for c in CUTOFFS if c <= reach] or [reach]
    best: tuple[float, System, Settings] | None = None
    for cutoff in cutoffs:
        system = System.of(labels, elements, cutoff)
        for settings in _candidates(any(part.count for part in system.force)):
            evidence = system.solve(settings)[2]
            if best is None or evidence > best[0]:
                best = evidence, system, settings
    assert best is not None
    _, system, settings = best
    unknowns, covariance, _ = system.solve(settings)
    basis = system.features.basis
    elemental = np.zeros(N_SPECIES)
    elemental[basis.elements] = unknowns[system.features.n_weights :]
    weights = unknowns[: system.features.n_weights]
    return Fit(
        model=TwoBody(basis, weights, system.offset, elemental),
        errors=_cross_validate(system, settings),
        settings=settings,
        _features=system.features,
        _covariance=covariance,
    )


def _candidates(has_forces: bool) -> Iterator[Settings]:
    noises = FORCE_NOISE if has_forces else FORCE_NOISE[:1]
    for values in itertools.product(SCALES, ENERGY_NOISE, noises):
        yield Settings(*values)


def _cross_validate(system: System, settings: Settings) -> Errors:
    """Errors over the folds, each predicted from the others."""
    left, counts = np.zeros(4), np.zeros(2)
    flat = replace(settings, scale=1e-9)  # element energies alone
    for fold, (energy, force) in enumerate(
        zip(system.energy, system.force, strict=True)
    ):
        if not system.knows_elements_of(fold):
            continue
        found = system.solve(settings, fold)[0]
        plain = system.solve(flat, fold)[0]
        left += [
            energy.residual(found),
            force.residual(found),
            energy.residual(plain),
            force.square,
        ]
        counts += energy.count, force.count
    with np.errstate(invalid='ignore'):
        return Errors(*np.sqrt(left / np.tile(counts, 2)).tolist())
