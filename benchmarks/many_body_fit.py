"""A difference of two levels that is linear in node features, with pairs or without.

    E_high - E_low = sum_i u_A(i) + w_A(i) . x_i  (+ pairs, as of inferred labels)

x_i: features of atom i minus their mean over atoms of its element A. The fit is that
of `two_body_fit`: a Gaussian process in terms of the weights, whose prior spread and
noises maximise the evidence. What pairs contribute keeps the prior spread and the
cutoff that pairs alone got.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from many_body_features import Network, NodeSums

from sevennet_mf.arrays import N_SPECIES, Floats, Ints
from sevennet_mf.data.inferred.two_body import PairEdges, TwoBody
from sevennet_mf.data.inferred.two_body_fit import (
    ENERGY_NOISE,
    TwoBodyFit,
    cross_validate,
)
from sevennet_mf.data.inferred.two_body_folds import folds
from sevennet_mf.data.inferred.two_body_system import (
    ELEMENT_SPREAD,
    LEAST_SINGULAR,
    Settings,
    Sums,
    System,
)

SCALES = (0.01, 0.03, 0.1, 0.3)  # eV, for features of unit spread
# pairs leave more of the forces than the evidence of a two-body fit may admit
FORCE_NOISE = (0.003, 0.01, 0.03, 0.1)  # eV/Å


@dataclass(frozen=True, eq=False)
class Structure:
    """A structure with its features and the difference of its labels.

    Attributes:
        energy: in eV per atom.
        forces: (n_atoms, 3) in eV/Å, None without.
    """

    edges: PairEdges
    nodes: NodeSums
    energy: float
    forces: Floats | None

    @property
    def n_atoms(self) -> int:
        return len(self.edges.numbers)

    def pulls(self, forces: Floats | None) -> Floats:
        """Return forces, (n_atoms, 3), along the directions: (n_directions,)."""
        assert forces is not None
        return self.nodes.directions @ forces.ravel()


@dataclass(frozen=True, eq=False)
class Prior:
    """Spreads of weights, as of a `LinearSystem`; only features are scaled."""

    pairs: Floats
    features: Floats
    n_elements: int

    @property
    def n_weights(self) -> int:
        return len(self.pairs) + len(self.features)

    def spread(self, scale: float) -> Floats:
        elements = np.full(self.n_elements, ELEMENT_SPREAD)
        return np.concatenate([self.pairs, scale * self.features, elements])


class ManyBody:
    """The fitted difference.

    Args:
        known: Structures to fit to.
        elements: Atomic numbers, as those of their features.
        pairs: The two-body fit to the same structures, whose terms are added.
    """

    def __init__(
        self,
        known: list[Structure],
        elements: list[int],
        pairs: TwoBodyFit | None = None,
    ) -> None:
        self._elements = elements
        self._pairs = pairs.model.basis if pairs else None
        spread = pairs.settings.scale * pairs.model.basis.prior if pairs else []
        nodes = [one.nodes for one in known]
        counts = np.array([self._counts(one) for one in known]).sum(axis=0)
        atoms = np.maximum(counts, 1)
        self._mean = np.sum([x.sums for x in nodes], axis=0) / atoms[:, None]
        variance = np.sum([x.squares for x in nodes], axis=0) / atoms
        variance -= np.square(self._mean).sum(axis=1)
        size = np.sqrt(variance[counts > 0].mean())
        features = np.full(self._mean.size, 1 / size)
        self._prior = Prior(np.array(spread), features, len(elements))
        self._fit(known)

    def _fit(self, known: list[Structure]) -> None:
        rows = np.array([self.energy_row(one) for one in known])
        energies = np.array([one.energy for one in known])
        start = self._prior.n_weights
        offset = np.linalg.lstsq(rows[:, start:], energies, rcond=LEAST_SINGULAR)[0]
        fold_of = np.array(folds([one.edges.numbers for one in known]))
        energy = [Sums.empty(rows.shape[1]) for _ in range(fold_of.max() + 1)]
        force = [Sums.empty(rows.shape[1]) for _ in energy]
        for one, row, fold in zip(known, rows, fold_of, strict=True):
            value = one.energy - row[start:] @ offset
            energy[fold].add(row[None], np.array([value]))
            if one.forces is not None:
                force[fold].add(self.force_rows(one), one.pulls(one.forces))
        system = System(self._prior, offset, energy, force)  # type: ignore[arg-type]
        sums = system.sums()
        found = [
            (system.solve(Settings(*values), sums), Settings(*values))
            for values in itertools.product(SCALES, ENERGY_NOISE, FORCE_NOISE)
        ]
        best, self.settings = max(found, key=lambda one: one[0].evidence)
        self._unknowns = best.unknowns.copy()
        self._unknowns[start:] += offset
        self._covariance = best.covariance()
        errors = cross_validate(system, self.settings)
        self.left_out = errors.energy, errors.force

    def energy_row(self, one: Structure) -> Floats:
        """Return (n_unknowns,), the row of the energy per atom."""
        counts = self._counts(one)
        features = (one.nodes.sums - counts[:, None] * self._mean).ravel()
        pairs = self._pairs.energy_features(one.edges) if self._pairs else []
        return np.concatenate([pairs, features, counts]) / one.n_atoms

    def force_rows(self, one: Structure) -> Floats:
        """Return (n_directions, n_unknowns), the rows of forces along directions."""
        m = len(one.nodes.slopes)
        features = -one.nodes.slopes.reshape(m, self._mean.size)
        pairs = np.zeros((m, 0))
        if self._pairs:
            pairs = one.nodes.directions @ self._pairs.force_features(one.edges)
        return np.hstack([pairs, features, np.zeros((m, len(self._elements)))])

    def predict(self, one: Structure) -> tuple[float, Floats, float]:
        """Return energy (eV/atom), forces along directions, std of the energy."""
        row = self.energy_row(one)
        scaled = row * self._prior.spread(self.settings.scale)
        variance = scaled @ self._covariance @ scaled
        std = np.sqrt(variance + self.settings.energy_noise**2)
        pulls = self.force_rows(one) @ self._unknowns
        return float(row @ self._unknowns), pulls, float(std)

    def derivatives(
        self, atoms: Atoms, one: Structure, network: Network
    ) -> tuple[Floats, Floats]:
        """Return forces, (n_atoms, 3) in eV/Å, and dE/d(strain), (3, 3) in eV."""
        n = len(self._prior.pairs)
        own = self._unknowns[n : self._prior.n_weights].reshape(self._mean.shape)
        forces, strain = network.derivatives(atoms, self._elements, own)
        if self._pairs:
            pairs = TwoBody(self._pairs, self._unknowns[:n], np.zeros(N_SPECIES))
            more = pairs.derivatives(one.edges)
            return forces + more[0], strain + more[1]
        return forces, strain

    def _counts(self, one: Structure) -> Ints:
        found: Ints = np.equal.outer(self._elements, one.edges.numbers).sum(axis=1)
        return found
