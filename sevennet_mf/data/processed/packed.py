"""One structure as the bytes that processed data keep of it.

A head of fixed size says how many atoms and edges follow. Where edges are not kept,
positions are, in double precision, so that the edges found later are the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from ase import Atoms
from sevenn import _keys as KEY

from sevennet_mf.arrays import Floats
from sevennet_mf.data.processed import graphs
from sevennet_mf.data.reading.read import Structure
from sevennet_mf.data.same.geometry import Geometry

HEAD: Final = np.dtype([
    ('n_atoms', '<i4'),
    ('n_edges', '<i4'),
    ('pbc', '?', 3),
    ('has_edges', '?'),
    ('wide', '<i4'),  # whether an atom's number needs 32 bits
    ('cell', '<f8', (3, 3)),  # Å; of a graph, which has none, the lattice first
    ('volume', '<f4'),
    ('stress', '<f4', 6),
])
# beyond this an atom's number needs 32 bits
NARROW: Final[int] = 1 << 16

Edges = dict[str, np.ndarray[Any, Any]]


def packed(
    structure: Structure, geometry: Geometry, edges: Edges, keeps_edges: bool
) -> bytes:
    """Return the bytes that are kept of a structure; NaN stands for no label.

    Args:
        edges: as graphs.edges_of returns them.
        keeps_edges: whether they are kept; those of a graph file always are.
    """
    n = len(structure.numbers)
    forces, stress = structure.forces, structure.stress
    head = np.zeros((), HEAD)
    head['n_atoms'], head['n_edges'] = n, len(edges[KEY.EDGE_VEC])
    head['has_edges'] = keeps = keeps_edges or structure.cell is None
    head['wide'] = is_wide = n > NARROW
    head['volume'] = edges[KEY.CELL_VOLUME]
    head['stress'] = np.nan if stress is None else stress
    if structure.cell is None:
        d = len(geometry.lattice)
        head['cell'][:d], head['pbc'][:d] = geometry.lattice, True
    else:
        head['cell'], head['pbc'] = structure.cell, structure.pbc
    if forces is None:
        forces = np.full((n, 3), np.nan)
    parts: list[np.ndarray[Any, Any]] = [
        structure.positions.astype('<f4' if keeps else '<f8'),
        forces.astype('<f4'),
    ]
    if keeps:
        parts.append(edges[KEY.EDGE_VEC].astype('<f4'))
        parts.append(edges[KEY.EDGE_IDX].astype('<i4' if is_wide else '<u2'))
    parts.append(structure.numbers.astype('u1'))
    return b''.join([head.tobytes(), *(part.tobytes() for part in parts)])


@dataclass(frozen=True, eq=False)
class Packed:
    """A structure from its bytes, which nobody else writes into.

    Attributes:
        pos: (n_atoms, 3) in Å, float64 where edges are not kept.
        force: (n_atoms, 3) float32 in eV/Å.
        edge_vec: (n_edges, 3) float32 in Å, or None; edge_idx: (2, n_edges).
        numbers: (n_atoms,) uint8.
    """

    head: np.ndarray[Any, Any]
    pos: np.ndarray[Any, Any]
    force: np.ndarray[Any, Any]
    edge_vec: np.ndarray[Any, Any] | None
    edge_idx: np.ndarray[Any, Any] | None
    numbers: np.ndarray[Any, Any]

    @classmethod
    def of(cls, content: bytearray) -> Packed:
        head = np.frombuffer(content, HEAD, 1)[0]
        n, n_edges = int(head['n_atoms']), int(head['n_edges'])
        start = HEAD.itemsize

        def taken(dtype: str, *shape: int) -> np.ndarray[Any, Any]:
            nonlocal start
            found = np.frombuffer(content, dtype, math.prod(shape), start)
            start += found.nbytes
            return found.reshape(shape)

        keeps = bool(head['has_edges'])
        pos, force = taken('<f4' if keeps else '<f8', n, 3), taken('<f4', n, 3)
        vectors = index = None
        if keeps:
            vectors = taken('<f4', n_edges, 3)
            index = taken('<i4' if head['wide'] else '<u2', 2, n_edges)
        return cls(head, pos, force, vectors, index, taken('u1', n))

    def graph(self, cutoff: float) -> dict[str, torch.Tensor]:
        """Return the tensors of the host's graph, without an energy.

        Args:
            cutoff: in Å, for edges that are not kept.
        """
        vectors, index = self.edge_vec, self.edge_idx
        if vectors is None or index is None:
            atoms = Atoms(
                self.numbers,
                self.pos,
                cell=self.head['cell'],
                pbc=self.head['pbc'],
            )
            found = graphs.host_graph(atoms, cutoff)
            vectors, index = found[KEY.EDGE_VEC], found[KEY.EDGE_IDX]
            vectors = vectors.astype(np.float32)
        values = {
            KEY.EDGE_VEC: vectors,
            KEY.CELL_VOLUME: np.array(self.head['volume']),
            KEY.ATOMIC_NUMBERS: self.numbers.astype(np.int64),
            KEY.POS: self.pos.astype(np.float32, copy=False),
            KEY.FORCE: self.force,
            KEY.STRESS: self.head['stress'].reshape(1, 6).copy(),
            KEY.EDGE_IDX: index.astype(np.int64),
        }
        return {key: torch.from_numpy(value) for key, value in values.items()}

    def geometry(self) -> Geometry:
        """Return the atoms, with positions of single precision, and the lattice."""
        positions: Floats = self.pos.astype(np.float32).astype(np.float64)
        lattice = self.head['cell'][self.head['pbc']].astype(np.float64)
        return Geometry(self.numbers.astype(np.int64), positions, lattice)
