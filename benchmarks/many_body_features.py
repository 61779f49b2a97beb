"""Scalar node features of a model, and how they change when atoms move."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import sevenn._keys as KEY
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list

from sevennet_mf.arrays import Floats, Ints
from sevennet_mf.data.inferred.two_body import PairEdges
from sevennet_mf.model.load import load_model
from sevennet_mf.model.runner import Runner, _until
from sevennet_mf.select.network import readout_of

STEP = 0.005  # Å; of float32 features that change by about 1 in an Å
EDGES = 8000  # in a batch


@dataclass(frozen=True, eq=False)
class NodeSums:
    """Features of a structure, summed over its atoms of each element.

    Attributes:
        sums: (n_elements, width).
        squares: (n_elements,), the squared lengths summed in the same way.
        slopes: (n_directions, n_elements, width), their derivatives per Å along
            each of `directions`.
        directions: (n_directions, 3 n_atoms), of unit length.
    """

    sums: Floats
    squares: Floats
    slopes: Floats
    directions: Floats


class Network:
    """A pretrained model, or a checkpoint of one fidelity."""

    def __init__(self, name: str) -> None:
        loaded = load_model(name)
        self.cutoff = loaded.cutoff
        self._layer, self._scalars = readout_of(loaded.model)
        self._runner = Runner(loaded.model)

    def sums(
        self, atoms: Atoms, elements: list[int], directions: Floats
    ) -> NodeSums:
        """Return the features of a structure, and their difference quotients."""
        steps = STEP / np.abs(directions).max(axis=1)
        moves = (steps[:, None] * directions).reshape(-1, len(atoms), 3)
        still = np.zeros((1, len(atoms), 3))
        x = self._features(atoms, np.concatenate([still, moves]))
        own = np.equal.outer(elements, atoms.numbers).astype(float)
        sums = np.einsum('za,dak->dzk', own, x)
        slopes = (sums[1:] - sums[0]) / steps[:, None, None]
        squares = own @ np.square(x[0]).sum(axis=1)
        return NodeSums(sums[0], squares, slopes, directions)

    def derivatives(
        self, atoms: Atoms, elements: list[int], weights: Floats
    ) -> tuple[Floats, Floats]:
        """Return those of the sums times weights: forces and dE/d(strain).

        Args:
            weights: (n_elements, width) in eV.

        Returns:
            (n_atoms, 3) in eV/Å and (3, 3) in eV.
        """
        edges = edges_of(atoms, self.cutoff)
        batch = self._runner._batch([_graph(atoms, edges)], [0])
        vector = batch[KEY.EDGE_VEC].requires_grad_()
        own = weights[np.searchsorted(elements, atoms.numbers)]
        with torch.enable_grad():
            found = _until(self._runner.model, batch, self._layer)
            x = found[KEY.NODE_FEATURE][:, self._scalars]
            total = (torch.as_tensor(own, dtype=x.dtype) * x).sum()
            pull = torch.autograd.grad(total, vector)[0].double().numpy()
        forces = np.zeros((len(atoms), 3))
        np.add.at(forces, edges.centre, pull)
        np.add.at(forces, edges.neighbour, -pull)
        strain = pull.T @ edges.vector
        return forces, 0.5 * (strain + strain.T)

    def _features(self, atoms: Atoms, moves: Floats) -> Floats:
        """(n_moves, n_atoms, width) of the structure after each of the moves."""
        edges = edges_of(atoms, self.cutoff)
        i, j = edges.centre, edges.neighbour
        graphs = [
            {**_graph(atoms, edges), KEY.EDGE_VEC: edges.vector + move[j] - move[i]}
            for move in moves
        ]
        size = max(1, EDGES // max(1, len(i)))
        parts = [
            self._runner.features(part, [0] * len(part), self._layer)
            for part in (graphs[i : i + size] for i in range(0, len(graphs), size))
        ]
        found = np.concatenate(parts)[:, self._scalars].astype(np.float64)
        return found.reshape(len(moves), len(atoms), -1)


def _graph(atoms: Atoms, edges: PairEdges) -> dict[str, Any]:
    return {
        KEY.ATOMIC_NUMBERS: edges.numbers,
        KEY.EDGE_IDX: np.stack([edges.centre, edges.neighbour]),
        KEY.EDGE_VEC: edges.vector,
        KEY.CELL_VOLUME: atoms.get_volume() if atoms.cell.rank == 3 else 0.0,
    }


def edges_of(atoms: Atoms, cutoff: float) -> PairEdges:
    """Return the edges of a structure, without those of an atom with itself."""
    i, j, vector = neighbor_list('ijD', atoms, cutoff)
    numbers: Ints = atoms.numbers.astype(np.int64)
    return PairEdges(numbers, i.astype(np.int64), j.astype(np.int64), vector)


def directions_of(atoms: Atoms, most: int, rng: np.random.Generator) -> Floats:
    """Return each coordinate, or random directions if there are more than `most`.

    Returns:
        (n_directions, 3 n_atoms), of unit length.
    """
    n = 3 * len(atoms)
    if n <= most:
        return np.eye(n)
    signs: Floats = rng.choice([-1.0, 1.0], (most, n))
    return signs / np.sqrt(n)
