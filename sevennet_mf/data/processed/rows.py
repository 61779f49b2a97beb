"""Structures of several processed entries as one list, in any order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from sevennet_mf.arrays import N_SPECIES, Bools, Floats, Ints
from sevennet_mf.data.processed.cache import Cached
from sevennet_mf.data.reading.read import require_known
from sevennet_mf.data.same.geometry import Geometry

# structures whose compositions are in memory as they are at once, 15 MB
CHUNK: Final[int] = 16384

FEW: Final[int] = 1024

Places = NDArray[np.int32]


class Rows:
    """n rows of processed entries.

    Attributes:
        parts: the entries.
        part, row: (n,) int32, the entry of each and its row in that.
    """

    def __init__(self, parts: Sequence[Cached], part: Places, row: Places) -> None:
        self.parts = list(parts)
        self.part, self.row = part, row

    @classmethod
    def of(cls, parts: Sequence[Cached]) -> Rows:
        """Return all rows of entries, in the order of their files."""
        part = np.repeat(np.arange(len(parts)), [len(p) for p in parts])
        rows = [p.rows().astype(np.int32) for p in parts]
        row = np.concatenate([np.zeros(0, np.int32), *rows])
        return cls(parts, part.astype(np.int32), row)

    def __len__(self) -> int:
        return len(self.row)

    def at(self, chosen: Ints) -> Rows:
        """Return some of them."""
        return Rows(self.parts, self.part[chosen], self.row[chosen])

    def followed_by(self, other: Rows) -> Rows:
        """Return these and then others."""
        part = np.concatenate([self.part, other.part + np.int32(len(self.parts))])
        row = np.concatenate([self.row, other.row])
        return Rows([*self.parts, *other.parts], part, row)

    def used(self) -> list[Cached]:
        """Return the entries that any of them is of."""
        return [self.parts[k] for k in np.unique(self.part)]

    def column(self, name: str, dtype: type[np.generic]) -> NDArray[Any]:
        """Return a column of the entries, (n, ...)."""
        none = np.zeros(0, np.int64)
        shape = self.parts[0].values(name, none).shape[1:] if self.parts else ()
        result = np.zeros((len(self), *shape), dtype)
        for k, part in enumerate(self.parts):
            mine = self.part == k
            if mine.any():
                result[mine] = part.values(name, self.row[mine])
        return result

    def fidelity_index(self, fidelities: Sequence[str]) -> Ints:
        """Return (n,), the index of each structure's fidelity in `fidelities`.

        Raises:
            UserError: It is not one of them: processed data may be of another run.
        """
        index = np.zeros(len(self), np.int64)
        for k, part in enumerate(self.parts):
            mine = np.flatnonzero(self.part == k)
            inside = part.values('fidelity', self.row[mine])
            for number, name in enumerate(part.fidelity_names):
                rows = mine[inside == number]
                if len(rows):
                    require_known(name, fidelities, self.source(int(rows[0])))
                    index[rows] = fidelities.index(name)
        return index

    def compositions(
        self, chosen: Ints | None = None, chunk: int = CHUNK
    ) -> Iterator[tuple[Ints, Ints]]:
        """Yield (k,) structures and their (k, 119) atoms of each atomic number.

        Args:
            chosen: the structures; None: all of them.
            chunk: the largest k.
        """
        n = len(self) if chosen is None else len(chosen)
        for start in range(0, n, chunk):
            end = min(start + chunk, n)
            rows = np.arange(start, end) if chosen is None else chosen[start:end]
            yield rows, self._composition(rows)

    def _composition(self, rows: Ints) -> Ints:
        result = np.zeros((len(rows), N_SPECIES), np.int64)
        part, row = self.part[rows], self.row[rows]
        for k in np.unique(part):
            mine = part == k
            result[mine] = self.parts[k].compositions.at(row[mine].astype(np.int64))
        return result

    def elements(self) -> Ints:
        """Return the atomic numbers that any structure has, ascending."""
        present = np.zeros(N_SPECIES, bool)
        for _, count in self.compositions():
            present |= count.any(axis=0)
        return np.flatnonzero(present)

    def sums_of(self, energies: Floats, fidelity_index: Ints) -> Floats:
        """Return (n,) float64 in eV: energies of the elements summed over the atoms.

        Args:
            energies: (n_fidelities, 119) float64, in eV per atom.
            fidelity_index: (n,) which row of them each structure takes.
        """
        sums = np.zeros(len(self))
        # each for itself, so that parts of any size give the same
        for rows, count in self.compositions(chunk=FEW):
            own = energies[fidelity_index[rows]]
            # an element without a reference must not spoil structures without it
            sums[rows] = np.where(count > 0, count * own, 0.0).sum(axis=1)
        return sums

    def of_entries(self, first: int) -> Bools:
        """Return (n,) which structures are of the entries from number `first` on."""
        late: Bools = self.part >= first
        return late

    def graph(self, i: int) -> dict[str, torch.Tensor]:
        """Return new tensors of structure i, in the host's types."""
        return self.parts[self.part[i]].graph(int(self.row[i]))

    def geometry(self, i: int) -> Geometry:
        """Return the atoms of structure i and its lattice."""
        return self.parts[self.part[i]].geometry(int(self.row[i]))

    def source(self, i: int) -> str:
        """Return 'path:frame' of structure i, for messages."""
        return self.parts[self.part[i]].source(int(self.row[i]))

    def sources(self) -> list[str]:
        """Return 'path:frame' of all structures."""
        every = [part.sources() for part in self.parts]
        places = zip(self.part.tolist(), self.row.tolist(), strict=True)
        return [every[part][row] for part, row in places]
