"""DeePMD systems: a folder with `type.raw` and `set.*`, also of mixed type.

They are read frame by frame, in the order of the sets. dpdata loads a whole system
into memory and sorts the frames of a mixed one by composition, so that neither
`index` nor an error message could refer to one.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from sevennet_mf.arrays import Ints
from sevennet_mf.data.reading.labels import Entry
from sevennet_mf.errors import UserError

TYPES, NAMES, NO_CELL = 'type.raw', 'type_map.raw', 'nopbc'
REAL_TYPES: Final[str] = 'real_atom_types'  # of each frame, -1 for no atom at all
# what a set may hold of each frame, and the shape of one
LABELS: Final[dict[str, tuple[int, ...]]] = {
    'energy': (1,),
    'force': (-1, 3),
    'virial': (3, 3),
    'atom_pref': (-1,),  # weights of forces
    'fparam': (-1,),
}
OF_ATOMS: Final[tuple[str, ...]] = ('force', 'atom_pref')


def rows(path: str, entry: Entry) -> Sequence[Atoms]:
    """Return the frames of a system, each read when it is requested.

    Labels are in the info, as `energy`, `force`, `virial`.

    Raises:
        UserError: The folder is not a system, or a type has no name.
    """
    del entry
    return _SystemFrames(path)


def files(path: str) -> list[str]:
    """Return the files that make up a system."""
    folder = Path(path)
    raw = [folder / name for name in (TYPES, NAMES, NO_CELL)]
    arrays = sorted(file for part in _sets(folder) for file in part.glob('*.npy'))
    return [str(file) for file in [*raw, *arrays] if file.is_file()]


def _sets(folder: Path) -> list[Path]:
    return sorted(part for part in folder.glob('set.*') if part.is_dir())


class _SystemFrames(Sequence[Atoms]):
    """The frames of a system; its arrays stay on disk."""

    def __init__(self, path: str) -> None:
        self.folder = Path(path)
        self.types = _types(self.folder)
        self.numbers = _numbers(self.folder, int(self.types.max(initial=0)))
        self.periodic = not (self.folder / NO_CELL).exists()
        self.sets = [s for s in _sets(self.folder) if (s / 'coord.npy').is_file()]
        if not self.sets:
            raise UserError(
                f'{path} has no `set.*/coord.npy`: it is not a DeePMD system. Name '
                'the folder that holds `type.raw` and the sets.'
            )
        self.first = [0]  # frame that each set begins with, and the end
        for part in self.sets:
            self.first.append(self.first[-1] + len(_array(part, 'coord')))
        self.part: tuple[int, dict[str, Any]] = (-1, {})

    def __len__(self) -> int:
        return self.first[-1]

    def __getitem__(self, frame: Any) -> Any:
        number = bisect_right(self.first, frame) - 1
        if self.part[0] != number:
            names = ('coord', 'box', REAL_TYPES, *LABELS)
            arrays = {name: _array(self.sets[number], name) for name in names}
            self.part = number, {k: a for k, a in arrays.items() if a is not None}
        row = frame - self.first[number]
        values = {name: np.array(a[row]) for name, a in self.part[1].items()}
        return self._atoms(values)

    def _atoms(self, values: dict[str, Any]) -> Atoms:
        types = np.asarray(values.pop(REAL_TYPES, self.types)).astype(np.int64)
        real = types >= 0
        positions = values.pop('coord').reshape(-1, 3)[real]
        cell, box = None, values.pop('box', None)
        if self.periodic and box is not None:
            cell = box.reshape(3, 3)
        elif self.periodic:
            raise UserError(
                f'{self.folder} has neither `box.npy` nor a file `nopbc`. '
                'Write an empty file `nopbc` there if these are molecules.'
            )
        if (largest := int(types.max(initial=0))) >= len(self.numbers):
            raise _no_name(self.folder, largest)
        atoms = Atoms(
            self.numbers[types[real]],
            positions.astype(np.float64),
            cell=cell,
            pbc=cell is not None,
        )
        for name, value in values.items():
            shaped = value.reshape(LABELS[name])
            atoms.info[name] = shaped[real] if name in OF_ATOMS else shaped
        atoms.info['energy'] = float(np.squeeze(values.get('energy', np.nan)))
        return atoms


def _array(part: Path, name: str) -> Any:
    """An array of a set, on disk; None if it has none."""
    file = part / f'{name}.npy'
    return np.load(file, mmap_mode='r') if file.is_file() else None


def _types(folder: Path) -> Ints:
    file = folder / TYPES
    try:
        return np.array(file.read_text().split(), dtype=np.int64)
    except (OSError, ValueError) as error:
        raise UserError(f'{file} does not list the type of each atom.') from error


def _numbers(folder: Path, largest: int) -> Ints:
    """Atomic number of each type."""
    file = folder / NAMES
    if not file.is_file():
        raise UserError(
            f'{folder} has no {NAMES}, so the elements of its types 0 to {largest} '
            'are not known. Write one there, with a symbol on each line.'
        )
    names = file.read_text().split()
    for name in names:
        if not re.fullmatch('[A-Z][a-z]?', name) or name not in atomic_numbers:
            raise UserError(f'{file}: {name!r} is no chemical symbol. Correct it.')
    if largest >= len(names):
        raise _no_name(folder, largest)
    return np.array([atomic_numbers[name] for name in names], dtype=np.int64)


def _no_name(folder: Path, number: int) -> UserError:
    return UserError(
        f'{folder / NAMES} has no line {number + 1} for the type {number}. Add the '
        'symbols of the missing types, in the order of the types.'
    )
