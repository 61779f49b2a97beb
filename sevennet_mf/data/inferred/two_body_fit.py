"""Fitting the two-body difference of two fidelities to paired labels.

A Gaussian process whose kernel is that of two_body.Basis, in terms of its weights:
prior N(0, s^2) on what all pairs share, noise of energies per atom and of force
components, of which an atom's three count as one datum. s, both noises and the
cutoff maximise the evidence (Rasmussen and Williams, Gaussian Processes for Machine
Learning (2006), Eq. 2.30 and Sec. 5.4.1); nothing is left to choose.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from sevennet_mf.arrays import N_SPECIES, Floats, Ints
from sevennet_mf.data.inferred.two_body import PairEdges, TwoBody
from sevennet_mf.data.inferred.two_body_system import (
    Difference,
    LinearSystem,
    Settings,
    Solution,
    System,
)

CUTOFFS: Final[tuple[float, ...]] = (3.0, 4.0, 5.0, 6.0)  # Å, as far as edges go
SCALES: Final[tuple[float, ...]] = (0.03, 0.1, 0.3, 1.0)  # eV
# eV/atom and eV/Å. No larger: forces are many, and would decide alone where the
# difference is not quite two-body; what is left then shows in the left-out errors
ENERGY_NOISE: Final[tuple[float, ...]] = (3e-4, 1e-3, 3e-3, 1e-2)
FORCE_NOISE: Final[tuple[float, ...]] = (3e-3, 1e-2, 3e-2)


@dataclass(frozen=True)
class LeftOutErrors:
    """Root mean square errors of structures that were left out of the fit.

    Structures whose composition would become undetermined are not left out; all
    errors are NaN if that applies to every structure.

    Attributes:
        energy: in eV/atom.
        force: in eV/Å, NaN without forces.
        base_energy, base_force: with reference energies alone, and no difference of
            the forces.
    """

    energy: float
    force: float
    base_energy: float
    base_force: float


@dataclass(frozen=True, eq=False)
class TwoBodyFit:
    """The fit to the paired labels; has_forces: whether these include forces."""

    model: TwoBody
    errors: LeftOutErrors
    settings: Settings
    has_forces: bool
    _features: LinearSystem
    _unknowns: Floats  # (n,)
    _spread: Floats  # (n,) prior
    _covariance: Floats  # (n, n), of the unknowns over their prior spreads

    def knows(self, numbers: Ints) -> bool:
        """Return whether paired labels contain all elements of atoms, (n_atoms,)."""
        return bool(np.isin(numbers, self.model.basis.elements).all())

    def predict(self, edges: PairEdges) -> tuple[float, float]:
        """Return the difference in eV and its standard deviation in eV/atom.

        All elements must be known. The deviation includes noise and, where it is
        known, the error of predictions for left-out structures.
        """
        row = self._features.energy_row(edges)
        n = len(edges.numbers)
        energy = n * float(row @ self._unknowns)
        scaled = row * self._spread
        variance = float(scaled @ self._covariance @ scaled)
        std = float(np.sqrt(variance + self.settings.energy_noise**2))
        return energy, float(np.fmax(std, self.errors.energy))


def fit(labels: Sequence[Difference], reach: float) -> TwoBodyFit:
    """Fit the difference to paired labels of at least three structures.

    Args:
        reach: in Å, the longest edges of the structures to be predicted.
    """
    assert len(labels) >= 3, len(labels)
    elements = np.unique(np.concatenate([d.edges.numbers for d in labels])).tolist()
    has_forces = any(d.forces is not None for d in labels)
    best: tuple[System, Settings, Solution] | None = None
    for cutoff in [c for c in CUTOFFS if c <= reach] or [reach]:
        system = System.of(labels, elements, cutoff)
        sums = system.sums()
        for settings in _candidates(has_forces):
            found = system.solve(settings, sums)
            if best is None or found.evidence > best[2].evidence:
                best = system, settings, found
    assert best is not None
    system, settings, found = best
    start = system.features.n_weights
    unknowns = found.unknowns.copy()
    unknowns[start:] += system.offset
    elemental = np.zeros(N_SPECIES)
    elemental[elements] = unknowns[start:]
    return TwoBodyFit(
        model=TwoBody(system.features.basis, unknowns[:start], elemental),
        errors=cross_validate(system, settings),
        settings=settings,
        has_forces=has_forces,
        _features=system.features,
        _unknowns=unknowns,
        _spread=system.features.spread(settings.scale),
        _covariance=found.covariance(),
    )


def _candidates(has_forces: bool) -> Iterator[Settings]:
    noises = FORCE_NOISE if has_forces else FORCE_NOISE[:1]
    for values in itertools.product(SCALES, ENERGY_NOISE, noises):
        yield Settings(*values)


def cross_validate(system: System, settings: Settings) -> LeftOutErrors:
    """Errors over the folds, each predicted from the others."""
    left, counts = np.zeros(4), np.zeros(2)
    flat = replace(settings, scale=1e-9)  # element energies alone
    for fold, (energy, force) in enumerate(
        zip(system.energy, system.force, strict=True)
    ):
        if not system.can_predict(fold):
            continue
        sums = system.sums(without=fold)
        found = system.solve(settings, sums).unknowns
        plain = system.solve(flat, sums).unknowns
        left += [
            energy.residual(found),
            force.residual(found),
            energy.residual(plain),
            force.square,
        ]
        counts += energy.count, force.count
    with np.errstate(invalid='ignore'):
        return LeftOutErrors(*np.sqrt(left / np.tile(counts, 2)).tolist())
