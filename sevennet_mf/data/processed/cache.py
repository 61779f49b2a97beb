"""Processed graphs on disk, one folder for each entry of a `load_*_path`.

A folder is named after the content of everything that went into it, is written next
to its final place and moved there when complete. Its structures stay on disk, so
that they need not fit into memory: see store.py for its files.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import ase
import numpy as np
import sevenn
import torch

from sevennet_mf.arrays import Ints
from sevennet_mf.config.blocks import DataEntry
from sevennet_mf.data.processed import former_store, store
from sevennet_mf.data.processed.compositions import Compositions
from sevennet_mf.data.processed.content import content_hash
from sevennet_mf.data.reading.files import files_of, reader_of
from sevennet_mf.data.reading.labels import Entry
from sevennet_mf.data.reading.notes import Line
from sevennet_mf.data.same.geometry import Geometry

CACHE_FORMAT: Final[int] = 3  # raise it when what is written changes its meaning
# what of an entry decides about the structures; unset and null differ
ENTRY_KEYS: Final[tuple[str, ...]] = tuple(
    name for name in DataEntry.model_fields if name != 'file'
)

Plain = dict[str, Any]


@dataclass(frozen=True)
class Input:
    """A file of an entry: content, the reader it needs, path, place in the entry."""

    sha256: str
    reader: str
    path: str
    place: int


@dataclass(frozen=True)
class CacheRecipe:
    """Everything that determines the content of a folder, except the paths.

    Attributes:
        inputs: sorted by content, whatever the files are called.
        settings: how they are read.
    """

    inputs: tuple[Input, ...]
    settings: Mapping[str, Any]

    @property
    def folder_name(self) -> str:
        """The name of a folder with graphs."""
        return self._name({'cache': CACHE_FORMAT})

    @property
    def bare_name(self) -> str:
        """The name of a folder whose graphs are made when they are needed."""
        return self._name({'cache': CACHE_FORMAT, 'graphs': False})

    @property
    def former_name(self) -> str:
        """The name that version 0.1.0 gave to a folder with graphs."""
        return self._name({'cache': former_store.CACHE_FORMAT})

    def found_in(self, folder: Path, keeps_graphs: bool) -> Path | None:
        """Return a whole folder with these data, if there is one."""
        names = [self.folder_name, self.former_name]
        if not keeps_graphs:  # kept ones save the time to make them
            names.append(self.bare_name)
        return next((folder / n for n in names if is_whole(folder / n)), None)

    def _name(self, form: Mapping[str, Any]) -> str:
        settings = json.dumps({**self.settings, **form}, sort_keys=True)
        parts = [f'{i.sha256} {i.reader}' for i in self.inputs]
        digest = hashlib.sha256('\n'.join([settings, *parts]).encode())
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
        inputs.append(Input(content_hash(path, reader), reader, path, place))
    inputs.sort(key=lambda i: (i.sha256, i.reader))
    settings = {
        'entry': {k: entry[k] for k in ENTRY_KEYS if k in entry},
        'key': key,
        'cutoff': float(cutoff),
        'sevenn': sevenn.__version__,
        'ase': ase.__version__,
    }
    return CacheRecipe(tuple(inputs), settings)


def is_whole(folder: Path) -> bool:
    """Return whether a folder contains all that its meta file lists, in full."""
    try:
        sizes = _meta(folder)['sizes']
        return all(
            (folder / name).stat().st_size == size for name, size in sizes.items()
        )
    except (OSError, RuntimeError, LookupError, TypeError, ValueError, EOFError):
        return False
    except pickle.UnpicklingError:  # not even a file of ours
        return False


def _is_former(folder: Path) -> bool:
    return (folder / former_store.META).is_file()


def _meta(folder: Path) -> Plain:
    form = former_store if _is_former(folder) else store
    return form.read_meta(folder)


class _Columns(Mapping[str, store.Column]):
    """The columns of a folder, each read as it is used."""

    def __init__(self, kept: store.GraphStore | former_store.FormerStore) -> None:
        self._kept = kept

    def __getitem__(self, name: str) -> store.Column:
        return self._kept.column(name)

    def __iter__(self) -> Iterator[str]:
        return iter(store.COLUMNS)

    def __len__(self) -> int:
        return len(store.COLUMNS)


class Cached:
    """A processed entry of n structures. Rows are in the order of its folder.

    Attributes:
        arrays: by name, see store.ROW.
        told: what there was to say while it was read.
        isolated: {fidelity: {symbol: eV}}, energies of isolated atoms.
    """

    def __init__(self, folder: Path, recipe: CacheRecipe) -> None:
        self.folder = folder
        self.inputs = recipe.inputs
        former = _is_former(folder)
        self._kept: store.GraphStore | former_store.FormerStore = (
            former_store.FormerStore(folder) if former else store.GraphStore(folder)
        )
        meta = self._kept.meta
        self.told = [Line(*_line(line)) for line in meta.get('told', ())]
        self.isolated: dict[str, dict[str, float]] = meta.get('isolated', {})
        self.fidelity_names: list[str] = meta['fidelity_names']
        self.arrays = _Columns(self._kept)
        self._compositions: Compositions | None = None

    def __len__(self) -> int:
        return len(self._kept)

    def __getstate__(self) -> Plain:
        # of use for a whole data set, not for a worker process
        return {**self.__dict__, '_compositions': None}

    def rows(self) -> Ints:
        """Return (n,) rows in the order of the entry's files."""
        place = np.array([i.place for i in self.inputs])
        return np.argsort(place[self.arrays['file']], kind='stable')

    def values(self, name: str, rows: store.Places) -> store.Column:
        """Return some rows of a column, (k, ...)."""
        return self._kept.values(name, rows)

    def source(self, row: int) -> str:
        """Return 'path:frame' of a row, with the current path."""
        file, frame = (self.values(n, np.array([row]))[0] for n in ('file', 'frame'))
        return f'{self.inputs[file].path}:{frame}'

    def sources(self) -> list[str]:
        """Return 'path:frame' of every row."""
        paths = [given.path for given in self.inputs]
        file, frame = self.arrays['file'].tolist(), self.arrays['frame'].tolist()
        return [f'{paths[f]}:{k}' for f, k in zip(file, frame, strict=True)]

    def lines(self, only_loud: bool = False) -> list[str]:
        """Return the log lines on the files, with their current paths."""
        paths = {number: given.path for number, given in enumerate(self.inputs)}
        told = [line for line in self.told if line.loud or not only_loud]
        return [line.said(paths) for line in told]

    def graph(self, row: int) -> dict[str, torch.Tensor]:
        """Return new tensors of a row, in the host's types; labels as on disk."""
        return self._kept.graph(row)

    def geometry(self, row: int) -> Geometry:
        """Return the atoms (positions as float32) and the lattice of a row."""
        return self._kept.geometry(row)

    @property
    def compositions(self) -> Compositions:
        """The number of atoms of each element in every row."""
        if self._compositions is None:
            self._compositions = self._kept.compositions()
        return self._compositions


def _line(saved: Any) -> tuple[str, tuple[int, ...], bool]:
    """What is saved of a notes.Line."""
    text, files, loud = saved
    return text, tuple(files), loud
