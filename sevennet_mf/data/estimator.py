"""Least squares for reference energies: sums, ridge fits and their posterior.

The numerical half of `references.py`, which defines what is fitted to what. Every
fit works only on sums over pairs of elements, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from sevennet_mf.arrays import N_SPECIES, Bools, Floats, Ints

# Ridge of the base fit, in structures. A direction of composition space that the
# labels span has sum (x.v)^2 of 1e-4 or more even if one structure alone spans it
# with one atom in a hundred, so the pull on it is below 1e-4 of its distance from
# the mean, and below 1e-8 for whatever a few ordinary structures span. Directions
# no label spans feel nothing else, and there any positive number does.
RIDGE: Final[float] = 1e-8
# eV: least prior width of u (tau of docs/design.md). Differences of two functionals
# or pseudopotential sets are several eV and vary as much between elements; the wider
# prior takes less from a direction that one single label determines.
PRIOR_WIDTH: Final[float] = 10.0
# eV/atom: what structures of one composition typically scatter by. It counts as
# one structure more, which keeps one label from claiming to be exact.
TYPICAL_SCATTER: Final[float] = 0.1
# eV/atom: above it a composition is not determined. A direction without a label
# has the prior's width, 10 eV or more, times its distance in composition (GaN to
# InN: 7), one with a single label about the scatter (0.01 to 0.3). An error of this
# size in the references is beyond what a network is asked to make up for.
DETERMINED_BELOW: Final[float] = 0.5
SCATTER_FLOOR: Final[float] = 1e-3  # eV/atom
# standard deviations that a direction must be off zero by to widen the prior
HEARD: Final[float] = 4.0
PASSES: Final[int] = 3  # scatters and fit are each other's input; settled by then
# The three ways a label is compared with the base: sigma_p, sigma_m, sigma_u.
KINDS: Final[tuple[str, ...]] = ('paired', 'model', 'unpaired')


class NormalEquations:
    """The sums of a least-squares fit of y = x.e; data can be added in chunks.

    Fractions sum to one, so sums of x alone and of y alone are row sums of these.

    Attributes:
        count: number of structures.
        gram: (119, 119), sum of x x^T.
        moment: (119,), sum of x y in eV/atom.
        square: sum of y^2 in (eV/atom)^2.
    """

    def __init__(self) -> None:
        self.count = 0
        self.gram: Floats = np.zeros((N_SPECIES, N_SPECIES))
        self.moment: Floats = np.zeros(N_SPECIES)
        self.square = 0.0

    def add(self, fractions: Floats, energy: Floats) -> None:
        """Add structures.

        Args:
            fractions: (n, 119).
            energy: (n,) in eV/atom.
        """
        self.count += len(energy)
        self.gram += fractions.T @ fractions
        self.moment += fractions.T @ energy
        self.square += float(energy @ energy)

    def residual(self, energies: Floats) -> float:
        """Return sum (y - x.energies)^2 in (eV/atom)^2.

        Args:
            energies: (119,) in eV.
        """
        cross = float(energies @ (self.gram @ energies - 2.0 * self.moment))
        return max(self.square + cross, 0.0)


@dataclass(frozen=True, eq=False)
class Modes:
    """The eigenmodes of a gram matrix over the free elements.

    With s the fraction of free atoms the offset is s c; a centred matrix has it
    eliminated.

    Attributes:
        value, vector: (m,) and (m, m), eigenpairs; values are exactly 0 where there
            is only rounding error, so that unlabelled directions get their prior
            value and no noise.
        share: (m,), sum of s x over sum of s^2.
        total: sum of s^2.
    """

    value: Floats
    vector: Floats
    share: Floats
    total: float

    @classmethod
    def of(cls, gram: Floats, free: Bools, centred: bool) -> Modes:
        part = gram[np.ix_(free, free)]
        row = part.sum(axis=1)
        total = float(row.sum())
        share = row / total if total > 0.0 else np.zeros_like(row)
        noise = N_SPECIES * np.finfo(np.float64).eps * float(part.trace())
        if centred:
            part = part - np.outer(row, share)
        value, vector = np.linalg.eigh(part)
        return cls(np.where(value > noise, value, 0.0), vector, share, total)


def solve(
    gram: Floats,
    moment: Floats,
    given: Floats,
    penalty: float,
    centred: bool,
    fallback: float = 0.0,
    least: float = 0.0,
) -> Floats:
    """Return (119,) energies, offset + u, with the given ones unchanged.

    They minimise the squared residual + penalty |u|^2.

    Args:
        given: (119,) in eV, NaN where an element is free.
        centred: whether the offset is fitted along with u; otherwise it is the mean
            energy per free atom.
        fallback: the offset where no label contains a free atom.
        least: how many standard deviations of its own noise the labels' contribution
            to a direction must reach to count, for sums in units of the scatter.
    """
    free = np.isnan(given)
    moment = moment - gram @ np.where(free, 0.0, given)
    modes = Modes.of(gram, free, centred)
    target = moment[free]
    offset = float(target.sum()) / modes.total if modes.total > 0.0 else fallback
    target = target - modes.share * modes.total * offset
    load = modes.vector.T @ target
    load[(modes.value == 0.0) | (load**2 < least**2 * modes.value)] = 0.0
    deviation = modes.vector @ (load / (modes.value + penalty))
    if centred:
        offset -= float(modes.share @ deviation)
    energies = given.copy()
    energies[free] = offset + deviation
    return energies


@dataclass(frozen=True, eq=False)
class Posterior:
    """Gaussian posterior of the free elements' energies around the estimate."""

    free: Bools  # (119,)
    share: Floats  # (m,) see Modes; zero if there is no fitted offset
    offset_variance: float  # eV^2
    covariance: Floats  # (m, m) eV^2, of u

    @classmethod
    def of(
        cls, gram: Floats, free: Bools, centred: bool, width: float = PRIOR_WIDTH
    ) -> Posterior:
        """Return the posterior of a fit.

        Args:
            gram: (119, 119), weighted by 1 / scatter^2.
            width: of the prior, in eV.
        """
        modes = Modes.of(gram, free, centred)
        spread = 1.0 / (modes.value + width**-2)
        covariance = (modes.vector * spread) @ modes.vector.T
        if not centred:
            return cls(free, np.zeros_like(modes.share), 0.0, covariance)
        variance = 1.0 / modes.total if modes.total > 0.0 else width**2
        return cls(free, modes.share, variance, covariance)

    def std(self, fractions: Floats) -> Floats:
        """Return (n,) standard deviations in eV/atom.

        Args:
            fractions: (n, 119).
        """
        part = fractions[:, self.free]
        count = part.sum(axis=1)
        part = part - count[:, None] * self.share
        variance = np.einsum('ni,ij,nj->n', part, self.covariance, part)
        variance = variance + count**2 * self.offset_variance
        std: Floats = np.sqrt(np.maximum(variance, 0.0))
        return std


@dataclass(frozen=True, eq=False)
class Support:
    """Which energies labels and given numbers determine, however well they fit.

    Attributes:
        seen: (119,), whether a labelled structure contains the element.
        given: (119,), whether there is an explicit number.
        posterior: with labels of the usual scatter.
    """

    seen: Bools
    given: Bools
    posterior: Posterior

    @classmethod
    def of(
        cls, gram: Floats, given: Bools, centred: bool, width: float = PRIOR_WIDTH
    ) -> Support:
        """Return the support of sums.

        Args:
            gram: (119, 119), as of NormalEquations.
            given, centred, width: as for Posterior.of.
        """
        typical = gram / TYPICAL_SCATTER**2
        posterior = Posterior.of(typical, ~given, centred, width)
        return cls(gram.diagonal() > 0.0, given, posterior)

    def tells(self, composition: Ints) -> Bools:
        """Return (n,) bool, whether labels or given numbers determine the energy.

        It is False for compositions with an element that has neither, however
        dilute, and for a mix of known elements that the labels leave open (N2 from
        GaN). A given number determines every composition with its element: for a
        fixed stoichiometry only the author of the number knows which split it
        assumes.

        Args:
            composition: (n, 119), numbers of atoms.
        """
        holds = composition > 0
        lacking = (holds & ~(self.seen | self.given)).any(axis=1)
        vouched = (holds & self.given).any(axis=1)
        fractions = composition / composition.sum(axis=1, keepdims=True)
        close = self.posterior.std(fractions) <= DETERMINED_BELOW
        return ~lacking & (vouched | close)


@dataclass(frozen=True, eq=False)
class ReferenceFit:
    """What the labels and given numbers of one fidelity determine."""

    energies: Floats  # (119,) eV
    scatter: dict[str, float]  # eV/atom
    posterior: Posterior
    support: Support


def _scatter(
    sums: NormalEquations, energies: Floats, free: Bools, prior: float
) -> float:
    """Scatter around a fit; `prior` counts as one structure more.

    Structures that the fit could follow by itself say nothing about scatter.
    """
    rank = int((Modes.of(sums.gram, free, False).value > 0.0).sum())
    spare = max(sums.count - rank, 0)
    square = sums.residual(energies) if spare else 0.0
    return max(math.sqrt((square + prior**2) / (spare + 1)), SCATTER_FLOOR)


def fit_alone(sums: NormalEquations, given: Floats) -> ReferenceFit:
    """Fit the base: absolute energies per atom, with a prior around their mean."""
    free = np.isnan(given)
    fallback = 0.0 if free.all() else float(given[~free].mean())
    energies = solve(sums.gram, sums.moment, given, RIDGE, False, fallback)
    scatter = _scatter(sums, energies, free, TYPICAL_SCATTER)
    posterior = Posterior.of(sums.gram / scatter**2, free, False)
    support = Support.of(sums.gram, ~free, False)
    return ReferenceFit(energies, {'fit': scatter}, posterior, support)


def fit_aligned(
    sums: Mapping[str, NormalEquations], base: ReferenceFit, given: Floats
) -> ReferenceFit:
    """Fit differences from the base.

    Args:
        sums: one entry for each of KINDS.
    """
    free = np.isnan(given)
    known = given - base.energies
    fallback = 0.0 if free.all() else float(known[~free].mean())
    # how far the base's own fit is off says nothing about paired differences
    typical = dict.fromkeys(KINDS, TYPICAL_SCATTER)
    prior = {**typical, 'unpaired': base.scatter['fit']}
    scatter = dict(prior)
    width = _width(*_weighted(sums, prior), known, fallback)
    for _ in range(PASSES):
        gram, moment = _weighted(sums, scatter)
        delta = solve(gram, moment, known, width**-2, True, fallback)
        for kind, part in sums.items():
            scatter[kind] = _scatter(part, delta, free, prior[kind])
    energies = np.where(free, base.energies + delta, given)
    posterior = Posterior.of(_weighted(sums, scatter)[0], free, True, width)
    whole: Floats = np.sum([part.gram for part in sums.values()], axis=0)
    support = Support.of(whole, ~free, True, width)
    used = {kind: scatter[kind] for kind in KINDS if sums[kind].count}
    return ReferenceFit(energies, used, posterior, support)


def _width(gram: Floats, moment: Floats, known: Floats, fallback: float) -> float:
    """Return the prior width of u in eV, as wide as what the labels ask for.

    All-electron totals are 1000 eV from pseudopotential ones and more for each atom.
    Held near zero by 10 eV such a u is cut short, that counts as scatter, and the
    larger scatter cuts it shorter still. Noise along a direction that labels hardly
    span asks for nothing: that is what the prior is for.
    """
    held = np.flatnonzero((gram.diagonal() > 0.0) & np.isnan(known))
    if not held.size:
        return PRIOR_WIDTH
    asked = solve(gram, moment, known, RIDGE, True, fallback, HEARD)[held]
    return max(PRIOR_WIDTH, float(np.abs(asked - np.median(asked)).max()))


def _weighted(
    sums: Mapping[str, NormalEquations], scatter: Mapping[str, float]
) -> tuple[Floats, Floats]:
    gram = np.zeros((N_SPECIES, N_SPECIES))
    moment = np.zeros(N_SPECIES)
    for kind, part in sums.items():
        gram += part.gram / scatter[kind] ** 2
        moment += part.moment / scatter[kind] ** 2
    return gram, moment
