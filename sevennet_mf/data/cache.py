"""Processed graphs on disk, one folder for each entry of a `load_*_path`.

A folder is named after the content of everything that went into it, is written next
to its final place and moved there when complete, and is read by memory-mapping its
files, so that the data need not fit into memory. It contains only plain tensors:

    meta.pt      small arrays over the structures, see Cached
    00000.pt ..  {'data': {key: tensor}, 'slices': {key: (n+1,)}, 'composition'},
                 as torch_geometric packs a list of graphs
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import ase
import numpy as np
import sevenn
import torch
from sevenn import _keys as KEY
from sevenn.atom_graph_data import AtomGraphData
from torch_geometric.data.separate import separate

from sevennet_mf.arrays import Ints
from sevennet_mf.config.blocks import DataEntry
from sevennet_mf.data.files import (
    GRAPH,
    LIST,
    files_of,
    listed,
    reader_of,
    unreadable,
)
from sevennet_mf.data.formats import deepmd
from sevennet_mf.data.geometry import Geometry
from sevennet_mf.data.labels import Entry
from sevennet_mf.data.told import Line

CACHE_FORMAT: Final[int] = 2  # raise it when what is written changes its meaning
META: Final[str] = 'meta.pt'
# what of an entry decides about the structures; unset and null differ
ENTRY_KEYS: Final[tuple[str, ...]] = tuple(
    name for name in DataEntry.model_fields if name != 'file'
)

Plain = dict[str, Any]
# graphs in one, where each begins, their compositions
Shard = tuple[AtomGraphData, Plain, torch.Tensor]


@dataclass(frozen=True)
class Input:
    """A file of an entry: content, the reader it needs, path, place in the entry."""

    sha256: str
    reader: str
    path: str
    place: int


@dataclass(frozen=True)
class CacheRecipe:
    """Everything that determines the content of a folder, except the paths."""

    inputs: tuple[Input, ...]  # by content, whatever the files are called
    settings: str

    @property
    def folder_name(self) -> str:
        parts = [f'{i.sha256} {i.reader}' for i in self.inputs]
        digest = hashlib.sha256('\n'.join([self.settings, *parts]).encode())
        return f'fidelity_{digest.hexdigest()[:16]}'


def recipe_of(entry: Entry, key: str | None, cutoff: float) -> CacheRecipe:
    """Hash the content of an entry's files and everything their reading depends on.

    Args:
        key: data.fidelity.key.
        cutoff: in Å.

    Raises:
        UserError: A file cannot be read.
    """
    inputs = []
    for place, path in enumerate(files_of(entry)):
        reader = reader_of(path, entry.get('format'))
        inputs.append(Input(_content(path, reader), reader, path, place))
    inputs.sort(key=lambda i: (i.sha256, i.reader))
    settings = {
        'entry': {k: entry[k] for k in ENTRY_KEYS if k in entry},
        'key': key,
        'cutoff': float(cutoff),
        'cache': CACHE_FORMAT,
        'sevenn': sevenn.__version__,
        'ase': ase.__version__,
    }
    return CacheRecipe(tuple(inputs), json.dumps(settings, sort_keys=True))


def _content(path: str, reader: str) -> str:
    """sha256 of a file, and of those that only together with it have a meaning."""
    names = [path]
    try:
        if reader == GRAPH:
            names.append(path.removesuffix('.pt') + '.yaml')
        elif reader == LIST:
            names += [file for file, _ in listed(path)]
        elif os.path.isdir(path):
            names = deepmd.files(path)
        digests = []
        for name in filter(os.path.isfile, names):
            with open(name, 'rb') as stream:
                digests.append(hashlib.file_digest(stream, 'sha256').hexdigest())
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from error
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256(' '.join(digests).encode()).hexdigest()


def is_whole(folder: Path) -> bool:
    """Return whether a folder contains what its meta.pt lists, by name and size."""
    try:
        sizes = _load(folder / META)['sizes']
        return all(
            (folder / name).stat().st_size == size for name, size in sizes.items()
        )
    except (OSError, RuntimeError, LookupError, TypeError, EOFError):
        return False
    except pickle.UnpicklingError:  # not even a file of ours
        return False


def _load(path: Path) -> Plain:
    # weights_only: plain tensors, no code of a file is run
    loaded: Plain = torch.load(path, mmap=True, weights_only=True)
    return loaded


class Cached:
    """A processed entry of n structures. Rows are in the order of its folder.

    Attributes:
        n_atoms, n_edges: (n,) int64.
        n_centres: (n,) int64, number of atoms that have a neighbour.
        file, frame: (n,) int64.
        fidelity: (n,) int64, index into fidelity_names.
        digest, kind: (n,) int64, see identity.Traits.
        signature: (n, WIDTH) float32, see identity.Traits.
        lattice: (n, 3, 3) float64, Å, the periodic vectors followed by zeros.
        energy: (n,) float64, eV, total.
        force_square: (n,) float64, eV^2/Å^2, summed over components.
        has_force, has_stress: (n,) bool.
    """

    def __init__(self, folder: Path, recipe: CacheRecipe) -> None:
        self._shards: dict[int, Shard] = {}  # those opened so far
        self.folder = folder
        self.inputs = recipe.inputs
        meta = _load(folder / META)
        # what there was to say while it was read, and energies of isolated atoms
        self.told = [Line(*line) for line in meta.get('told', ())]
        self.isolated: dict[str, dict[str, float]] = meta.get('isolated', {})
        self.fidelity_names: list[str] = meta['fidelity_names']
        self._first = meta['first_rows'].numpy()  # of each shard, then the end
        self.arrays: dict[str, np.ndarray[Any, Any]] = {
            name: tensor.numpy() for name, tensor in meta['arrays'].items()
        }

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getstate__(self) -> Plain:
        # a worker process maps the files for itself
        return {**self.__dict__, '_shards': {}}

    def _shard(self, number: int) -> Shard:
        if number not in self._shards:
            packed = _load(self.folder / f'{number:05d}.pt')
            data = AtomGraphData(**packed['data'])
            self._shards[number] = data, packed['slices'], packed['composition']
        return self._shards[number]

    def rows(self) -> Ints:
        """Return (n,) rows in the order of the entry's files."""
        place = np.array([i.place for i in self.inputs])
        return np.argsort(place[self.arrays['file']], kind='stable')

    def source(self, row: int) -> str:
        """Return 'path:frame' of a row, with the current path."""
        path = self.inputs[self.arrays['file'][row]].path
        return f'{path}:{self.arrays["frame"][row]}'

    def lines(self, only_loud: bool = False) -> list[str]:
        """Return the log lines on the files, with their current paths."""
        paths = {number: given.path for number, given in enumerate(self.inputs)}
        told = [line for line in self.told if line.loud or not only_loud]
        return [line.said(paths) for line in told]

    def graph(self, row: int) -> dict[str, torch.Tensor]:
        """Return new tensors of a row, in the host's types; labels as on disk."""
        number = int(np.searchsorted(self._first, row, side='right')) - 1
        data, slices, _ = self._shard(number)
        graph = separate(
            AtomGraphData,
            data,
            row - int(self._first[number]),
            slices,
            decrement=False,
        ).to_dict()
        graph[KEY.CELL_VOLUME] = graph[KEY.CELL_VOLUME].reshape(())
        index = graph.pop(KEY.EDGE_IDX).to(torch.int64)
        # the host writes into what it is given, so nothing is shared
        fresh = {key: value.clone() for key, value in graph.items()}
        return {**fresh, KEY.EDGE_IDX: index}

    def geometry(self, row: int) -> Geometry:
        """Return the atoms (positions as float32) and the lattice of a row."""
        number = int(np.searchsorted(self._first, row, side='right')) - 1
        data, slices, _ = self._shard(number)
        start, end = slices[KEY.POS][row - int(self._first[number]) :][:2].tolist()
        lattice = self.arrays['lattice'][row]
        return Geometry(
            data[KEY.ATOMIC_NUMBERS][start:end].numpy(),
            data[KEY.POS][start:end].double().numpy(),
            lattice[lattice.any(axis=1)],
        )

    def composition(self) -> np.ndarray[Any, np.dtype[np.int32]]:
        """Return (n, 119) int32, number of atoms of each atomic number."""
        shards = range(len(self._first) - 1)
        return np.concatenate([self._shard(k)[2].numpy() for k in shards])
