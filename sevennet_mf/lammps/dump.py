"""Snapshots that LAMMPS writes: `dump atom` and `dump custom`, as text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from ase.io.formats import open_with_compression

from sevennet_mf.arrays import Floats, Ints
from sevennet_mf.errors import UserError

HEAD: Final[str] = 'ITEM: '


@dataclass(frozen=True, eq=False)
class Dump:
    """One snapshot of n atoms, in ascending order of their ids.

    Attributes:
        ids: (n,).
        values: (n,) values by column of numbers.
        words: (n,) words by any other column, such as `element`.
        step: Of the run.
        time: As `dump_modify time` writes it, in the units of the run.
        units: Of the run, as `dump_modify units` writes them; '' if it does not.
        cell: (3, 3) vectors of the box in Å.
        origin: (3,) its lowest corner in Å.
        boundary: As 'pp pp pp'.
    """

    ids: Ints
    values: dict[str, Floats]
    words: dict[str, tuple[str, ...]] = field(default_factory=dict)
    step: int = 0
    time: float | None = None
    units: str = ''
    cell: Floats = field(default_factory=lambda: np.zeros((3, 3)))
    origin: Floats = field(default_factory=lambda: np.zeros(3))
    boundary: str = ''

    def columns(self, *names: str) -> Floats:
        """Return columns such as 'fx', 'fy', 'fz', (n, len(names))."""
        return np.stack([self.values[name] for name in names], axis=1)


def read_dump(path: Path) -> list[Dump]:
    """Read all snapshots of a `dump custom` file with a column id."""
    return list(snapshots(path))


def is_dump(path: str | Path) -> bool:
    """Whether a file, compressed or not, begins as a dump in text does."""
    try:
        with open_with_compression(str(path), 'r') as lines:
            return str(lines.readline(len(HEAD))) == HEAD
    except (OSError, UnicodeDecodeError, EOFError):
        return False


def snapshots(path: str | Path) -> Iterator[Dump]:
    """Yield the snapshots of a file one by one.

    One that is cut off at the end, as a run that was killed leaves it, is left out.

    Raises:
        UserError: The file is no dump in text, or has no column id.
    """
    with open_with_compression(str(path), 'r') as lines:
        yield from parse(lines, str(path))


def parse(lines: Iterator[str], where: str) -> Iterator[Dump]:
    """Yield the snapshots in an iterator of lines, as `snapshots`."""
    found: dict[str, Any] = {}
    count = 0
    try:
        for line in lines:
            if not line.strip():
                continue
            if not line.startswith(HEAD):
                raise UserError(
                    f'{where} is no LAMMPS dump in text: {line.strip()[:40]!r}.'
                )
            item = line.removeprefix(HEAD).strip()
            if item == 'TIMESTEP':
                found['step'] = int(next(lines))
            elif item == 'UNITS':
                found['units'] = next(lines).strip()
            elif item == 'TIME':
                found['time'] = float(next(lines))
            elif item == 'NUMBER OF ATOMS':
                count = int(next(lines))
            elif item.startswith('BOX BOUNDS'):
                found |= _box(item, [next(lines).split() for _ in range(3)])
            elif item.startswith('ATOMS'):
                rows = [next(lines) for _ in range(count)]
                if rows and not rows[-1].endswith('\n'):
                    return
                yield _snapshot(item.split()[1:], rows, found, where)
                found = {'units': found['units']} if 'units' in found else {}
    except (StopIteration, EOFError):
        return
    except (ValueError, IndexError) as error:
        if isinstance(error, UserError):
            raise
        at = f' of step {found["step"]}' if 'step' in found else ''
        raise UserError(
            f'{where}: the snapshot{at} cannot be read: {error}.'
        ) from None


def _snapshot(
    names: list[str], rows: list[str], found: dict[str, Any], where: str
) -> Dump:
    if 'id' not in names:
        raise UserError(
            f'{where} has no column id, so atoms cannot be followed from frame to '
            'frame. Write it: dump 1 all custom N file id element xu yu zu'
        )
    table = np.array([row.split() for row in rows]).reshape(len(rows), len(names))
    values, words = {}, {}
    for name, column in zip(names, table.T, strict=True):
        try:
            values[name] = column.astype(float)
        except ValueError:
            words[name] = column
    order = np.argsort(values['id'])
    ids = values.pop('id')[order].astype(int)
    return Dump(
        ids=ids,
        values={name: column[order] for name, column in values.items()},
        words={n: tuple(column[order].tolist()) for n, column in words.items()},
        **found,
    )


def _box(item: str, rows: list[list[str]]) -> dict[str, Any]:
    """Cell, origin and boundary of a box in any of LAMMPS's three forms."""
    table = np.array(rows, dtype=float)
    boundary = ' '.join(item.split()[-3:])
    if 'abc origin' in item:
        cell, origin = table[:, :3], table[:, 3]
    else:
        xy, xz, yz = table[:, 2] if table.shape[1] > 2 else (0.0, 0.0, 0.0)
        low, high = table[:, 0].copy(), table[:, 1].copy()
        # what stands there are the bounds of the tilted box
        low -= [min(0.0, xy, xz, xy + xz), min(0.0, yz), 0.0]
        high -= [max(0.0, xy, xz, xy + xz), max(0.0, yz), 0.0]
        lx, ly, lz = high - low
        cell = np.array([[lx, 0.0, 0.0], [xy, ly, 0.0], [xz, yz, lz]])
        origin = low
    return {'cell': cell, 'origin': origin, 'boundary': boundary}
