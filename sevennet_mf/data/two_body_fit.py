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

from sevennet_mf.data.estimator import N_SPECIES, Floats
from sevennet_mf.data.two_body import Edges, TwoBody
from sevennet_mf.data.two_body_system import Difference, Features, Settings, System

CUTOFFS: Final[tuple[float, ...]] = (3.0, 4.0, 5.0, 6.0)  # Å, as far as edges reach
SCALES: Final[tuple[float, ...]] = (0.03, 0.1, 0.3, 1.0)  # eV
ENERGY_NOISE: Final[tuple[float, ...]] = (3e-4, 1e-3, 3e-3, 1e-2)  # eV/atom
FORCE_NOISE: Final[tuple[float, ...]] = (3e-3, 1e-2, 3e-2)  # eV/Å


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
