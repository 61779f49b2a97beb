"""The difference of two fidelities as a two-body potential.

    E_f - E_base = sum_A n_A u_A + sum_{i<j} phi_AB(r_ij)
    phi_AB(r) = sum_k (w0_k + wA_k + wB_k + wAB_k) g_k(r)

g_k: Gaussians times a cosine cutoff. The difference of two electronic structure
methods is far smoother than either energy, and a few paired structures determine it.
A pair of elements that no paired structure contains (Ga-In from GaN and InN) uses
what all pairs, and each element's pairs, have in common. Everything is numpy and
float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

from sevennet_mf.arrays import N_SPECIES, Floats, Ints

SPACING: Final[float] = 0.2  # Å between centres, and their width
FIRST: Final[float] = 0.6  # Å: nearer than any bond
# prior spread of what an element adds, and a pair of elements, to what all share
ELEMENT_SHARE: Final[float] = 0.5
PAIR_SHARE: Final[float] = 0.25
# above it pairs have no weights of their own: what is solved grows with the third
# power of their number
MOST_PAIRS: Final[int] = 100


@dataclass(frozen=True, eq=False)
class PairEdges:
    """The edges of one structure, each pair in both directions.

    Attributes:
        numbers: (n_atoms,) int64.
        centre, neighbour: (n_edges,) int64.
        vector: (n_edges, 3) in Å, from centre to neighbour.
    """

    numbers: Ints
    centre: Ints
    neighbour: Ints
    vector: Floats


class Basis:
    """Radial functions and how the elements of a data set share them.

    A *slot* is a pair of elements with `size` functions; a *block* of weights is
    shared by some of the slots.

    Attributes:
        elements: atomic numbers.
        cutoff: in Å.
    """

    def __init__(self, elements: Sequence[int], cutoff: float) -> None:
        self.elements = sorted(elements)
        self.cutoff = cutoff
        self.centres: Floats = np.arange(FIRST, cutoff, SPACING)
        self.size = len(self.centres)
        n = len(self.elements)
        self._index: Ints = np.full(N_SPECIES, -1)
        self._index[self.elements] = np.arange(n)
        first, second = np.triu_indices(n)
        self._slot: Ints = np.zeros((n, n), np.int64)
        self._slot[first, second] = self._slot[second, first] = np.arange(len(first))
        self.n_slots = len(first)
        # (n_slots, n_blocks): w0, one for each element, one for each pair
        own = np.eye(n)[first] + np.eye(n)[second]
        pairs = np.eye(self.n_slots, self.n_slots if len(own) <= MOST_PAIRS else 0)
        self.sharing: Floats = np.hstack([np.ones((self.n_slots, 1)), own, pairs])
        blocks = [1.0] + n * [ELEMENT_SHARE] + pairs.shape[1] * [PAIR_SHARE]
        # (n_weights,) prior spread of each weight, relative to that of w0
        self.prior: Floats = np.repeat(blocks, self.size)

    def radial(self, distance: Floats) -> tuple[Floats, Floats]:
        """Return g_k and dg_k/dr, each (n, size), at distances (n,) in Å."""
        r = distance[:, None]
        inside = r < self.cutoff
        gauss = np.exp(-0.5 * ((r - self.centres) / SPACING) ** 2)
        x = np.pi / self.cutoff
        cut = np.where(inside, 0.5 * (1 + np.cos(x * r)), 0.0)
        slope = np.where(inside, -0.5 * x * np.sin(x * r), 0.0)
        steep = -(r - self.centres) / SPACING**2 * gauss
        return gauss * cut, steep * cut + gauss * slope

    def slots(self, edges: PairEdges) -> Ints:
        """Return the slot of each edge."""
        kind = self._index[edges.numbers]
        assert (kind >= 0).all(), 'an element the basis lacks'
        found: Ints = self._slot[kind[edges.centre], kind[edges.neighbour]]
        return found

    def energy_features(self, edges: PairEdges) -> Floats:
        """Return (n_weights,), the contribution of each weight to the energy."""
        g, _ = self.radial(np.linalg.norm(edges.vector, axis=1))
        present, slot = np.unique(self.slots(edges), return_inverse=True)
        per_slot = np.zeros((len(present), self.size))
        np.add.at(per_slot, slot, 0.5 * g)
        flat: Floats = (self.sharing[present].T @ per_slot).ravel()
        return flat

    def force_features(self, edges: PairEdges) -> Floats:
        """Return (3 n_atoms, n_weights), each weight's contribution to forces."""
        distance = np.linalg.norm(edges.vector, axis=1)
        _, dg = self.radial(distance)
        unit = edges.vector / distance[:, None]
        # the pair is there both ways, and pulls on both of its atoms
        pull = unit[:, :, None] * dg[:, None, :]  # (n_edges, 3, size)
        n = len(edges.numbers)
        present, slot = np.unique(self.slots(edges), return_inverse=True)
        per_slot = np.zeros((n, len(present), 3, self.size))
        np.add.at(per_slot, (edges.centre, slot), pull)
        shared = np.einsum('asxk,sb->axbk', per_slot, self.sharing[present])
        flat: Floats = shared.reshape(3 * n, -1)
        return flat


@dataclass(frozen=True, eq=False)
class TwoBody:
    """A fitted difference E_f - E_base.

    Attributes:
        weights: (n_weights,) in eV.
        elements: (119,) in eV per atom.
    """

    basis: Basis
    weights: Floats
    elements: Floats

    @cached_property
    def table(self) -> Floats:
        """Return the weights of each pair of elements, (n_slots, size) in eV."""
        weights = self.weights.reshape(-1, self.basis.size)
        pairs: Floats = self.basis.sharing @ weights
        return pairs

    def energy(self, edges: PairEdges) -> float:
        """Return the difference of the total energies in eV."""
        return float(
            self.elements[edges.numbers].sum()
            + self.basis.energy_features(edges) @ self.weights
        )

    def forces(self, edges: PairEdges) -> Floats:
        """Return the difference of the forces, (n_atoms, 3) in eV/Å."""
        return self.derivatives(edges)[0]

    def derivatives(self, edges: PairEdges) -> tuple[Floats, Floats]:
        """Return differences of the forces and of dE/d(strain).

        Returns:
            (n_atoms, 3) in eV/Å and (3, 3) in eV. The latter divided by the volume
                is the stress, positive under tension.
        """
        distance = np.linalg.norm(edges.vector, axis=1)
        near = distance < self.basis.cutoff
        _, dg = self.basis.radial(distance[near])
        slots = self.basis.slots(edges)[near]
        slope = np.einsum('ek,ek->e', dg, self.table[slots])
        vector = edges.vector[near]
        pull = vector * (slope / distance[near])[:, None]
        forces = np.zeros((len(edges.numbers), 3))
        np.add.at(forces, edges.centre[near], pull)
        return forces, 0.5 * pull.T @ vector  # each pair is there twice


def edges_of(graph: Any) -> PairEdges:
    """Return the edges of a host graph."""
    import sevenn._keys as KEY

    index = graph[KEY.EDGE_IDX].numpy().astype(np.int64)
    return PairEdges(
        graph[KEY.ATOMIC_NUMBERS].numpy().astype(np.int64),
        index[0],
        index[1],
        graph[KEY.EDGE_VEC].numpy().astype(np.float64),
    )
