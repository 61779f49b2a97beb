"""Processed structures on disk: a few plain files that grow as structures come.

    records.bin        the structures one after another, see packed.py
    <column>.bin       one number, or a few, of each structure; see ROW
    elements.bin, counts.bin   compositions, see compositions.py
    meta.json          what else there is, and the size of every file

Writing needs no memory that grows with their number. Reading takes what is asked
for: a structure is one read of its bytes, a column one of its file.
"""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, TypeAlias

import numpy as np
import torch
from sevenn import _keys as KEY

from sevennet_mf.data.processed.compositions import Compositions
from sevennet_mf.data.processed.packed import Edges, Packed, packed
from sevennet_mf.data.reading.read import Structure
from sevennet_mf.data.same.geometry import WIDTH, Geometry
from sevennet_mf.data.same.identity import Traits

META: Final[str] = 'meta.json'
RECORDS: Final[str] = 'records'
# structures whose numbers are written at once
BLOCK: Final[int] = 1024
FEW: Final[int] = 64  # rows that are read one at a time
OPEN_BUFFER: Final[int] = 1 << 20
ROW: Final = np.dtype([
    ('n_atoms', '<i4'),
    ('n_edges', '<i4'),
    ('n_centres', '<i4'),  # atoms that have a neighbour
    ('file', '<i4'),
    ('frame', '<i4'),
    ('digest', '<i8'),  # see identity.Traits, and below
    ('kind', '<i8'),
    ('signature', '<f4', WIDTH),
    ('energy', '<f8'),  # eV, total
    ('force_square', '<f8'),  # eV^2/Å^2, summed over components
    ('has_force', '?'),
    ('has_stress', '?'),
    ('n_elements', 'u1'),
    ('fidelity', '<i4'),  # index into the names
    ('start', '<i8'),  # of its record, bytes
])
COLUMNS: Final[tuple[str, ...]] = tuple(ROW.names or ())
FILE: Final[int] = COLUMNS.index('file')
ELEMENTS: Final[dict[str, np.dtype[Any]]] = {
    'elements': np.dtype('u1'),
    'counts': np.dtype('<i4'),
}

Column: TypeAlias = np.ndarray[Any, Any]
Places: TypeAlias = np.ndarray[Any, np.dtype[np.integer[Any]]]


class Item(NamedTuple):
    """What is kept of a structure.

    Attributes:
        row: its numbers, as in ROW but for the last two.
        elements, counts: those of its composition that are not zero.
    """

    fidelity: str
    row: tuple[Any, ...]
    elements: bytes
    counts: bytes
    record: bytes

    @property
    def file(self) -> int:
        """The number of its file in the entry."""
        return int(self.row[FILE])


def item_of(structure: Structure, edges: Edges, keeps_edges: bool = True) -> Item:
    """Return what is kept of a structure; see packed.packed."""
    geometry = Geometry.of(structure)
    traits = Traits.of(structure, geometry)
    count = np.bincount(structure.numbers)
    elements = np.flatnonzero(count)
    forces = structure.forces
    row = (
        len(structure.numbers),
        len(edges[KEY.EDGE_VEC]),
        np.count_nonzero(np.bincount(edges[KEY.EDGE_IDX][0])),
        structure.file,
        structure.frame,
        traits.digest,
        traits.kind,
        traits.signature,
        structure.energy,
        0.0 if forces is None else float(np.sum(forces**2)),
        forces is not None,
        structure.stress is not None,
        len(elements),
    )
    return Item(
        structure.fidelity,
        row,
        elements.astype(ELEMENTS['elements']).tobytes(),
        count[elements].astype(ELEMENTS['counts']).tobytes(),
        packed(structure, geometry, edges, keeps_edges),
    )


class Writer:
    """Writes structures into a folder as they come.

    Raises:
        OSError: Anywhere, if a file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: list[str] = []  # of the fidelities
        self._rows: list[tuple[Any, ...]] = []
        self._n = self._start = 0
        self._files: dict[str, BinaryIO] = {
            stem: open(folder / f'{stem}.bin', 'wb')  # noqa: SIM115
            for stem in (*COLUMNS, *ELEMENTS)
        }
        self._records = open(  # noqa: SIM115
            folder / f'{RECORDS}.bin', 'wb', buffering=OPEN_BUFFER
        )

    def add(self, item: Item) -> None:
        if item.fidelity not in self.names:
            self.names.append(item.fidelity)
        fidelity = self.names.index(item.fidelity)
        self._rows.append((*item.row, fidelity, self._start))
        self._records.write(item.record)
        self._start += len(item.record)
        self._files['elements'].write(item.elements)
        self._files['counts'].write(item.counts)
        if len(self._rows) >= BLOCK:
            self._flush()

    def _flush(self) -> None:
        block = np.array(self._rows, ROW)
        for name in COLUMNS:
            self._files[name].write(np.ascontiguousarray(block[name]).tobytes())
        self._n += len(block)
        self._rows = []

    def finish(self, meta: Mapping[str, Any]) -> None:
        """Write what is left, and last meta.json, without which nothing is whole.

        Args:
            meta: what else there is to know, in plain builtins.
        """
        self._flush()
        sizes = {}
        for stream in [self._records, *self._files.values()]:
            stream.flush()
            os.fsync(stream.fileno())
            sizes[os.path.basename(stream.name)] = stream.tell()
        self.close()
        whole = {**meta, 'fidelity_names': self.names, 'n': self._n, 'sizes': sizes}
        with open(self.folder / META, 'w', encoding='utf-8') as last:
            json.dump(whole, last)
            last.flush()
            os.fsync(last.fileno())

    def close(self) -> None:
        """Close the files, wherever writing ended."""
        for stream in [self._records, *self._files.values()]:
            try:
                stream.close()
            except OSError:  # of a full disk, which was said when it was written
                continue


class GraphStore:
    """A folder that a Writer has finished; n structures.

    Attributes:
        meta: what `finish` was given, with 'fidelity_names'.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.meta = read_meta(folder)
        self._n = int(self.meta['n'])
        self._streams: dict[str, int] = {}  # files that are open

    def __len__(self) -> int:
        return self._n

    def __getstate__(self) -> dict[str, Any]:
        # a worker process opens the files for itself
        return {**self.__dict__, '_streams': {}}

    def column(self, name: str) -> Column:
        """Return a column of ROW, (n, ...); its file is read as it is used."""
        if name not in COLUMNS:
            raise KeyError(name)
        dtype = ROW[name]
        shape = (self._n, *dtype.shape)
        path = self.folder / f'{name}.bin'
        if self._n == 0:
            return np.zeros(shape, dtype.base)
        return np.memmap(path, dtype.base, 'r', shape=shape)

    def values(self, name: str, rows: Places) -> Column:
        """Return some rows of a column, (k, ...)."""
        if len(rows) > FEW:
            found: Column = self.column(name)[rows]
            return found
        dtype = ROW[name]
        size = dtype.itemsize
        content = b''.join(self._read(name, k * size, size) for k in rows.tolist())
        return np.frombuffer(content, dtype.base).reshape(-1, *dtype.shape)

    def compositions(self) -> Compositions:
        """Return those of all structures."""
        found = {
            name: np.fromfile(self.folder / f'{name}.bin', dtype)
            for name, dtype in ELEMENTS.items()
        }
        return Compositions(self.column('n_elements'), **found)

    def graph(self, row: int) -> dict[str, torch.Tensor]:
        """Return new tensors of a row, in the host's types, without an energy."""
        return self._packed(row).graph(float(self.meta['cutoff']))

    def geometry(self, row: int) -> Geometry:
        """Return the atoms (positions as float32) and the lattice of a row."""
        return self._packed(row).geometry()

    def _packed(self, row: int) -> Packed:
        size = ROW['start'].itemsize
        is_last = row + 1 == self._n
        content = self._read('start', row * size, size if is_last else 2 * size)
        start, *following = np.frombuffer(content, ROW['start']).tolist()
        end = self.meta['sizes'][f'{RECORDS}.bin'] if is_last else following[0]
        return Packed.of(self._read(RECORDS, start, end - start))

    def _read(self, stem: str, start: int, size: int) -> bytearray:
        if stem not in self._streams:
            stream = os.open(self.folder / f'{stem}.bin', os.O_RDONLY)
            self._streams[stem] = stream
            weakref.finalize(self, os.close, stream)
        content = bytearray(size)
        # at a place, not from where the file is: processes may share it
        os.preadv(self._streams[stem], [content], start)
        return content


def read_meta(folder: Path) -> dict[str, Any]:
    """Return what meta.json of a folder holds.

    Raises:
        OSError, ValueError: There is none, or it is not whole.
    """
    with open(folder / META, encoding='utf-8') as stream:
        meta: dict[str, Any] = json.load(stream)
    return meta
