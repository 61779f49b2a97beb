"""The structures to label, each with an id that stays the same from call to call."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from ase import Atoms

from sevennet_mf.config.paths import existing
from sevennet_mf.data.extxyz import check_has, stripped
from sevennet_mf.data.reading.files import atoms_of
from sevennet_mf.data.reading.label_names import kind_of
from sevennet_mf.errors import UserError

MARK: Final[str] = 'structure_id'
SOURCE: Final[str] = 'source'  # 'file:frame'
FIDELITY: Final[str] = 'fidelity'
OWN: Final[tuple[str, ...]] = (MARK, SOURCE, FIDELITY)
GRAIN: Final[float] = 1e-8  # Å; extended XYZ has as many digits


@dataclass
class Survey:
    """What files contain.

    Attributes:
        sources: By id, in the order of the files, 'file:frame' of the first copy.
        repeats: How many structures are there again.
        symbols: Of all elements.
    """

    sources: dict[str, str] = field(default_factory=dict)
    repeats: int = 0
    symbols: set[str] = field(default_factory=set)


def structures(
    files: Sequence[str], keep: Sequence[str]
) -> Iterator[tuple[str, str, Atoms]]:
    """Yield (id, 'file:frame', structure without labels) of each structure.

    Args:
        keep: Keys of info to keep.

    Raises:
        UserError: A file cannot be read, is a graph file, or a key is missing.
    """
    for path in files:
        for frame, atoms in atoms_of(path):
            source = f'{path}:{frame}'
            check_has(atoms, keep, source)
            bare = stripped(atoms, keep)
            mark = mark_of(bare)
            bare.info.update({MARK: mark, SOURCE: source})
            yield mark, source, bare


def survey(files: Sequence[str], keep: Sequence[str] = ()) -> Survey:
    """Read all structures once.

    Raises:
        UserError: As `structures`, or there are none.
    """
    _check_keys(keep)
    found = Survey()
    for mark, source, atoms in structures(files, keep):
        found.repeats += mark in found.sources
        found.sources.setdefault(mark, source)
        found.symbols |= set(atoms.symbols)
    if not found.sources:
        raise UserError(f'there are no structures in {", ".join(files)}.')
    return found


def files_of(files: Sequence[str]) -> list[str]:
    """Return the paths of file names and patterns.

    Raises:
        UserError: If there is no such file.
    """
    return existing(list(files), 'the structures')


def mark_of(atoms: Atoms) -> str:
    """Return the id of a structure: equal for the same atoms, cell and input.

    What counts are elements, positions and cell to 1e-8 Å, periodicity, and initial
    magnetic moments and charges. Unlike in training, a shifted or reordered copy is
    another structure.
    """
    found = hashlib.sha256()
    found.update(atoms.numbers.astype(np.int64).tobytes())
    found.update(atoms.pbc.astype(np.int64).tobytes())
    values = [atoms.positions, np.asarray(atoms.cell)]
    for name in ('initial_magmoms', 'initial_charges'):
        if name in atoms.arrays:
            found.update(name.encode())
            values.append(atoms.arrays[name])
    for value in values:
        found.update(np.rint(np.asarray(value) / GRAIN).astype(np.int64).tobytes())
    # a letter in front: 16 digits would be read as a number
    return f's{found.hexdigest()[:15]}'


def _check_keys(keep: Sequence[str]) -> None:
    for key in keep:
        if key in OWN:
            raise UserError(
                f'--keep {key}: {", ".join(OWN)} are written by this command. Leave '
                'it out, or rename the key in the file.'
            )
        if kind_of(key) is not None:
            raise UserError(
                f'--keep {key} is named like a label, and would stand beside the '
                'new one. Leave it out, or rename the key in the file.'
            )
