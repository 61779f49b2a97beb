"""Structures of an ASE database: a SQLite file (`.db`) or JSON."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import ase.db
from ase import Atoms

from sevennet_mf.errors import UserError

DATABASES: Final[tuple[str, ...]] = ('db', 'json')  # as ASE calls their formats
# ids of rows whose forces, or the stress, take four bytes a number, and how many
# rows stand before each
SINGLE: Final[str] = """
SELECT id, (SELECT COUNT(*) FROM systems AS s WHERE s.id < systems.id) FROM systems
WHERE length(forces) = 12 * natoms OR length(stress) = 24 ORDER BY id LIMIT 1
"""


def rows(
    path: str, reader: str, chosen: slice | int | str
) -> Iterator[tuple[int, Atoms]]:
    """Yield (frame, structure), with the row's key_value_pairs in its info.

    ASE's own reader drops these pairs.

    Args:
        reader: one of DATABASES.
        chosen: frames, or a query.

    Raises:
        UserError: ASE cannot read the file, or would misread it.
    """
    if reader == 'db':
        _refuse_single_precision(path)
    with ase.db.connect(path, type=reader, serial=True) as database:
        if isinstance(chosen, str):
            yield from enumerate(map(_atoms, database.select(chosen)))
            return
        if isinstance(chosen, int):
            chosen = slice(chosen, chosen + 1 or None)
        frames = range(database.count())[chosen]
        if not frames:
            return
        first, end = min(frames), max(frames) + 1
        found = enumerate(database.select(offset=first, limit=end - first), first)
        kept = ((frame, _atoms(row)) for frame, row in found if frame in frames)
        # backwards as slices of lists are
        yield from kept if frames.step > 0 else reversed([*kept])


def _atoms(row: Any) -> Atoms:
    atoms = row.toatoms()
    atoms.info.update(row.key_value_pairs)
    return atoms


def _refuse_single_precision(path: str) -> None:
    """UserError for float32 results: ASE takes the bytes of two for one float64."""
    only_read = f'{Path(path).absolute().as_uri()}?mode=ro'
    connection = sqlite3.connect(only_read, uri=True)
    try:
        found = connection.execute(SINGLE).fetchone()
    except sqlite3.Error:
        return  # no such file, or of another form: ASE says so
    finally:
        connection.close()
    if found is not None:
        number, frame = found
        raise UserError(
            f'{path}:{frame} (id {number}) has its forces or stress in single '
            'precision, which ASE misreads as double precision. Write the database '
            'again with float64 arrays, or the structures as extended XYZ where '
            'the labels were computed.'
        )
