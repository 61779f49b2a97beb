"""Structures of ASE-LMDB files (`.aselmdb`): OMat24, sAlex, OMol25."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from typing import Any, Final
from weakref import WeakValueDictionary

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from sevennet_mf.data.formats.known import need
from sevennet_mf.data.reading.labels import Entry
from sevennet_mf.errors import UserError

LABELS: Final[tuple[str, ...]] = ('energy', 'forces', 'stress')


def rows(path: str, entry: Entry) -> Sequence[Atoms]:
    """Return the rows of a database, each read when it is requested.

    What a row has under `data`, such as charge, spin and ids, goes into the info; a
    label there takes precedence over the row's own, as in fairchem.

    Raises:
        UserError: The file cannot be opened.
    """
    del entry
    return _Rows(path)


class _Rows(Sequence[Atoms]):
    def __init__(self, path: str) -> None:
        self.database = _opened(path)
        self.ids = self.database.ids

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, frame: Any) -> Any:
        return to_atoms(self.database.get(id=self.ids[frame]))

    def selected(self, query: str) -> list[int]:
        """Return the frames that a query of ASE picks."""
        place = {number: frame for frame, number in enumerate(self.ids)}
        return [place[row.id] for row in self.database.select(query)]


def to_atoms(row: Any) -> Atoms:
    """Return the structure of a row, with the contents of `data` in its info."""
    atoms = row.toatoms()
    data = dict(row.data)
    atoms.info.pop('data', None)
    atoms.info.update({k: v for k, v in data.items() if k not in LABELS})
    atoms.info.update(row.key_value_pairs)
    own = {name: data[name] for name in LABELS if data.get(name) is not None}
    if own:
        results = {} if atoms.calc is None else atoms.calc.results
        # a free energy of the row would come before the energy of `data`
        kept = {k: v for k, v in results.items() if k != 'free_energy'}
        atoms.calc = SinglePointCalculator(atoms, **{**kept, **own})
    return atoms


# a process may open a file of LMDB once only
_OPEN: WeakValueDictionary[str, Any] = WeakValueDictionary()


def _opened(path: str) -> Any:
    """The database, only to be read: no lock file, and none is minded."""
    if (known := _OPEN.get(path := os.path.realpath(path))) is not None:
        return known
    backend = need('ase_db_backends.aselmdb', path)
    # opened by itself first: the class of a database that cannot be fails once more
    # when it is deleted, and Python prints that
    lmdb = need('lmdb', path)
    try:
        with contextlib.closing(
            lmdb.open(path, subdir=False, readonly=True, lock=False)
        ) as environment, environment.begin() as reading:
            reading.stat()
        database = backend.LMDBDatabase(path, readonly=True, use_lock_file=False)
        _OPEN[path] = database
        return database
    except (lmdb.Error, OSError, json.JSONDecodeError, ValueError) as error:
        raise UserError(
            f'{path} cannot be opened as an ASE-LMDB file: '
            f'{" ".join(str(error).split()).rstrip(".")}. Is it complete? '
            'Download it again.'
        ) from error
