"""Processed structures in the form of version 0.1.0, which stays readable.

    meta.pt      small arrays over the structures
    00000.pt ..  {'data': {key: tensor}, 'slices': {key: (n+1,)}, 'composition'},
                 as torch_geometric packs a list of graphs
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from sevenn import _keys as KEY
from sevenn.atom_graph_data import AtomGraphData
from torch_geometric.data.separate import separate

from sevennet_mf.data.processed.compositions import Compositions
from sevennet_mf.data.processed.store import Places
from sevennet_mf.data.same.geometry import Geometry

META: Final[str] = 'meta.pt'
CACHE_FORMAT: Final[int] = 2  # part of the folder's name then

Plain = dict[str, Any]
# graphs in one, where each begins, their compositions
Shard = tuple[AtomGraphData, Plain, torch.Tensor]


class FormerStore:
    """A folder in the former form, as store.GraphStore has it.

    Attributes:
        meta: 'fidelity_names', 'told' and 'isolated'.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.meta = read_meta(folder)
        self._first = self.meta['first_rows'].numpy()  # of each shard, then the end
        self._shards: dict[int, Shard] = {}  # those opened so far

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getstate__(self) -> Plain:
        # a worker process maps the files for itself
        return {**self.__dict__, '_shards': {}}

    def column(self, name: str) -> np.ndarray[Any, Any]:
        """Return a column, (n, ...)."""
        found: np.ndarray[Any, Any] = self.meta['arrays'][name].numpy()
        return found

    def values(self, name: str, rows: Places) -> np.ndarray[Any, Any]:
        """Return some rows of a column, (k, ...)."""
        found: np.ndarray[Any, Any] = self.column(name)[rows]
        return found

    def compositions(self) -> Compositions:
        """Return those of all structures."""
        shards = range(len(self._first) - 1)
        return Compositions.of(self._shard(k)[2].numpy() for k in shards)

    def graph(self, row: int) -> dict[str, torch.Tensor]:
        """Return new tensors of a row, in the host's types, without an energy."""
        number, inside = self._place(row)
        data, slices, _ = self._shard(number)
        graph = separate(
            AtomGraphData, data, inside, slices, decrement=False
        ).to_dict()
        graph[KEY.CELL_VOLUME] = graph[KEY.CELL_VOLUME].reshape(())
        index = graph.pop(KEY.EDGE_IDX).to(torch.int64)
        # the host writes into what it is given, so nothing is shared
        fresh = {key: value.clone() for key, value in graph.items()}
        return {**fresh, KEY.EDGE_IDX: index}

    def geometry(self, row: int) -> Geometry:
        """Return the atoms (positions as float32) and the lattice of a row."""
        number, inside = self._place(row)
        data, slices, _ = self._shard(number)
        start, end = slices[KEY.POS][inside:][:2].tolist()
        lattice = self.column('lattice')[row]
        return Geometry(
            data[KEY.ATOMIC_NUMBERS][start:end].numpy(),
            data[KEY.POS][start:end].double().numpy(),
            lattice[lattice.any(axis=1)],
        )

    def _place(self, row: int) -> tuple[int, int]:
        """The shard of a row, and its place in it."""
        number = int(np.searchsorted(self._first, row, side='right')) - 1
        return number, row - int(self._first[number])

    def _shard(self, number: int) -> Shard:
        if number not in self._shards:
            packed = _load(self.folder / f'{number:05d}.pt')
            data = AtomGraphData(**packed['data'])
            self._shards[number] = data, packed['slices'], packed['composition']
        return self._shards[number]


def read_meta(folder: Path) -> Plain:
    """Return what meta.pt of a folder holds.

    Raises:
        OSError, RuntimeError, EOFError, pickle.UnpicklingError: There is none, or it
            is not whole.
    """
    return _load(folder / META)


def _load(path: Path) -> Plain:
    # weights_only: plain tensors, no code of a file is run
    loaded: Plain = torch.load(path, mmap=True, weights_only=True)
    return loaded
