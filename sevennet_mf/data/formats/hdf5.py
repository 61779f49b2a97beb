"""Structures in HDF5: ANI-1x, SPICE, QM7-X, AIMNet, and files whose keys are named.

A group contains the frames of one molecule, (n, atoms, 3), or one structure,
(atoms, 3). Any other data set with one row for each frame belongs to the frames; the
rest applies to all of them.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from ase import Atoms

from sevennet_mf import units
from sevennet_mf.data.formats.known import need
from sevennet_mf.data.reading.labels import Entry, NotComputed
from sevennet_mf.errors import UserError, nearest

BLOCK: Final[int] = 256  # frames read at once
UNITS: Final[str] = 'units'  # attribute of a data set
# a data set by which each published form is known
SIGNS: Final[dict[str, str]] = {
    'wb97x_dz.energy': 'ani1x',
    'dft_total_gradient': 'spice',
    'atXYZ': 'qm7x',
    'spin_charges': 'aimnet',
}
# charges stand in the brackets of a SMILES: [N+:1], [O-:2], [Ca+2:3]
CHARGED: Final[re.Pattern[str]] = re.compile(r'\[[^\]]*?([+-]+)(\d*)(?::\d+)?\]')


def rows(path: str, entry: Entry) -> Sequence[Atoms]:
    """Return the structures of a file, each read when it is requested.

    Args:
        entry: with `positions_key`, `numbers_key`, and optionally `cell_key`.

    Raises:
        UserError: The file lacks these, or a group has different units.
    """
    return _GroupFrames(path, entry)


def units_of(path: str, entry: Entry) -> dict[str, str]:
    """Return the units that a file states, as keys of an entry.

    Raises:
        UserError: The entry names a different unit.
    """
    with _opened(path) as file:
        group = next((g for _, g in _groups(file, entry.get('positions_key'))), None)
        found = {} if group is None else _stated(group, entry)
    return found


def recognised(path: str) -> str:
    """Return the form of a file, recognised by the names of its data sets."""
    with _opened(path) as file:
        names = {name for group in _first_groups(file) for name in group}
    return next((form for name, form in SIGNS.items() if name in names), 'hdf5')


def _opened(path: str) -> Any:
    try:
        return need('h5py', path).File(path, 'r')
    except OSError as error:
        raise UserError(
            f'{path} cannot be opened as HDF5: {" ".join(str(error).split())}. Is '
            'it complete, and is no other program writing it?'
        ) from error


def _first_groups(group: Any) -> Iterator[Any]:
    """A file, the first group in it, the first in that, and so on."""
    while hasattr(group, 'keys') and len(group):
        yield group
        group = group[next(iter(group))]


def _groups(
    group: Any, key: str | None, name: str = ''
) -> Iterator[tuple[str, Any]]:
    """(name, group) of every group that holds positions, in the file's order."""
    if key is None or not hasattr(group, 'keys'):
        return
    if key in group:
        yield name or '/', group
        return
    for inner in group:
        yield from _groups(group[inner], key, f'{name}/{inner}')


# which keys of an entry have which unit
_UNIT_OF: Final[dict[str, str]] = {
    'energy_key': 'energy_unit',
    'positions_key': 'length_unit',
    'force_key': 'force_unit',
    'gradient_key': 'force_unit',
    'stress_key': 'stress_unit',
}


def _stated(group: Any, entry: Entry) -> dict[str, str]:
    """The units in the attributes of the data sets that an entry names."""
    found = {}
    for key, unit in _UNIT_OF.items():
        name = entry.get(key)
        if name is not None and name in group and UNITS in group[name].attrs:
            found[unit] = _text(group[name].attrs[UNITS])
    return found


class _GroupFrames(Sequence[Atoms]):
    """The frames of a file; no more than a block of them is in memory."""

    def __init__(self, path: str, entry: Entry) -> None:
        self.path, self.entry = path, entry
        self.file = _opened(path)
        self.names: list[str] = []
        self.first = [0]  # frame that each group begins with, and the end
        positions = entry['positions_key']
        for name, group in _groups(self.file, positions):
            shape = group[positions].shape
            self.names.append(name)
            self.first.append(self.first[-1] + (shape[0] if len(shape) == 3 else 1))
        if not self.names:
            raise UserError(
                f'{path} has no data set {positions!r}'
                f'{_known(self.file, positions)} Correct `positions_key` or '
                '`format`.'
            )
        self.block: tuple[int, int, dict[str, Any]] = (-1, 0, {})

    def __len__(self) -> int:
        return self.first[-1]

    def __getitem__(self, frame: Any) -> Any:
        number = bisect_right(self.first, frame) - 1
        row = frame - self.first[number]
        self._check_energy(number, frame)
        start = row - row % BLOCK
        if self.block[:2] != (number, start):
            self.block = number, start, self._read(number, start)
        values = {
            name: value[row - start] if many else value
            for name, (many, value) in self.block[2].items()
        }
        return self._atoms(values, number)

    def _read(self, number: int, start: int) -> dict[str, Any]:
        """{name: (whether it has a row for each frame, values)} of a block."""
        group = self.file[self.names[number]]
        self._check_units(group, self.names[number])
        shape = group[self.entry['positions_key']].shape
        n = shape[0] if len(shape) == 3 else 0  # 0: one structure, no frames
        found: dict[str, Any] = {}
        for name, data in group.items():
            if not hasattr(data, 'shape'):
                continue
            # of all frames, though there may happen to be as many
            common = {self.entry['numbers_key']: 1, self.entry.get('cell_key'): 2}
            many = n > 0 and data.ndim > 0 and data.shape[0] == n
            many &= common.get(name) != data.ndim
            part = data[start : start + BLOCK] if many else data[()]
            found[name] = many, part
        return found

    def _check_energy(self, number: int, frame: int) -> None:
        """A group may lack a level of theory altogether."""
        key, group = self.entry.get('energy_key'), self.file[self.names[number]]
        if key is not None and key not in group:
            raise NotComputed(
                f'{self.path}:{frame} has no energy {key!r} in its group '
                f'{self.names[number]} ({", ".join(group)}).{nearest(key, group)} '
                'Correct energy_key.'
            )

    def _check_units(self, group: Any, name: str) -> None:
        for unit, stated in _stated(group, self.entry).items():
            given = self.entry.get(unit)
            factor = units.BY_KEY[unit]
            if given is not None and factor(given) != factor(stated):
                raise UserError(
                    f'{self.path}, group {name}: its attribute `{UNITS}` says '
                    f'{stated}, not {unit} {given}. Correct `{unit}`; if groups '
                    'differ, split them into two files.'
                )

    def _atoms(self, values: dict[str, Any], number: int) -> Atoms:
        entry, where = self.entry, self.names[number]
        numbers = values.pop(entry['numbers_key'], None)
        if numbers is None:
            raise UserError(
                f'{self.path}, group {where}: it has no {entry["numbers_key"]!r}, '
                f'only {", ".join(values)}. Correct `numbers_key`.'
            )
        positions = values.pop(entry['positions_key'])
        cell = values.pop(entry.get('cell_key') or '', None)
        atoms = Atoms(
            np.asarray(numbers, dtype=np.int64),
            np.asarray(positions, dtype=np.float64),
            cell=None if cell is None else np.asarray(cell, dtype=np.float64),
            pbc=cell is not None,
        )
        atoms.info.update({name: _plain(value) for name, value in values.items()})
        atoms.info['group'] = where.strip('/')
        if isinstance(smiles := atoms.info.get('smiles'), str):
            atoms.info.setdefault('charge', charge_of(smiles))
        return atoms


def charge_of(smiles: str) -> int:
    """Return the charge of a molecule from the brackets of its SMILES."""
    total = 0
    for signs, count in CHARGED.findall(smiles):
        one = 1 if signs[0] == '+' else -1
        total += one * (int(count) if count else len(signs))
    return total


def _known(file: Any, name: str) -> str:
    """What the first group holds, for an error, and what may have been meant."""
    *_, group = [{}, *_first_groups(file)]
    held = list(group)
    return f' ({", ".join(held)}).{nearest(name, held)}'


def _text(value: Any) -> str:
    value = value.item() if isinstance(value, (np.ndarray, np.generic)) else value
    return value.decode() if isinstance(value, bytes) else str(value)


def _plain(value: Any) -> Any:
    """A text as such, a single number without its axis, an array as it is."""
    if isinstance(value, bytes):
        return value.decode(errors='replace')
    if isinstance(value, np.ndarray) and value.size == 1:
        return _plain(value.reshape(-1)[0])
    return value
