"""Labelled structures as extended XYZ, in files that are never silently changed."""

from __future__ import annotations

import filecmp
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Final, TextIO

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.extxyz import write_extxyz

from sevennet_mf.arrays import Floats
from sevennet_mf.data.reading.files import no_cell
from sevennet_mf.data.reading.read import Structure
from sevennet_mf.data.reading.stress import as_ase
from sevennet_mf.errors import UserError, nearest
from sevennet_mf.files import write_whole

# input of a calculation; everything else may be the result of another one
INPUTS: Final[tuple[str, ...]] = ('initial_magmoms', 'initial_charges', 'tags')


def to_atoms(structure: Structure) -> Atoms:
    """Return a structure with its labels as ASE has them, and its source.

    Raises:
        UserError: It is from a graph file, which does not store the cell.
    """
    if structure.cell is None:
        raise no_cell(structure.source)
    atoms = Atoms(
        structure.numbers,
        structure.positions,
        cell=structure.cell,
        pbc=structure.pbc,
        info={'source': structure.source},
    )
    return with_labels(atoms, structure.energy, structure.forces, structure.stress)


def with_labels(
    atoms: Atoms, energy: float, forces: Floats | None, stress: Floats | None
) -> Atoms:
    """Set the labels of `atoms`; missing ones are None.

    Args:
        energy: in eV, total.
        forces: (n_atoms, 3) in eV/Å.
        stress: (6,) in eV/Å^3 in the host's order and sign.
    """
    results: dict[str, float | Floats] = {'energy': energy}
    if forces is not None:
        results['forces'] = forces
    if stress is not None:
        results['stress'] = as_ase(stress)
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def stripped(atoms: Atoms, keep: Sequence[str] = ()) -> Atoms:
    """Return a structure without labels, constraints and notes.

    Elements, positions, cell, pbc and the arrays in INPUTS are kept.

    Args:
        keep: Keys of info to keep.
    """
    bare = Atoms(
        numbers=atoms.numbers,
        positions=atoms.positions,
        cell=atoms.cell,
        pbc=atoms.pbc,
        info={key: atoms.info[key] for key in keep},
    )
    for name in INPUTS:
        if name in atoms.arrays:
            bare.set_array(name, np.array(atoms.arrays[name]))
    return bare


def check_has(atoms: Atoms, keep: Sequence[str], where: str) -> None:
    """Check that a structure has the keys to keep.

    Args:
        where: 'file:frame' of the structure.

    Raises:
        UserError: If its info lacks one of them.
    """
    for key in keep:
        if key not in atoms.info:
            raise UserError(
                f'{where}: --keep {key!r} is not in its info.'
                f'{nearest(key, map(str, atoms.info))} Give keys that all '
                'structures have.'
            )


def write(path: Path, frames: Iterable[Atoms]) -> int:
    """Write structures one after another, completely or not at all; return how many.

    Raises:
        UserError: `path` cannot be written.
    """
    count = 0

    def put(stream: IO[bytes]) -> None:
        nonlocal count
        text = io.TextIOWrapper(stream, encoding='utf-8')
        for atoms in frames:
            write_one(text, atoms)
            count += 1
        text.detach()  # writes what it has, and leaves the stream open

    write_whole(path, put)
    return count


def write_one(stream: TextIO, atoms: Atoms) -> None:
    """Append a structure to a file."""
    write_extxyz(stream, [atoms])


def whole_frames(stream: IO[bytes]) -> Iterator[tuple[bytes, int, int]]:
    """Yield the frames of a file that was written frame by frame, up to a torn one.

    Args:
        stream: Of an extended XYZ file, at its beginning.

    Yields:
        The comment line of a frame, and where the frame begins and ends.

    Raises:
        ValueError: A frame begins with something else than a number of atoms.
    """
    while True:
        start = stream.tell()
        head, line = stream.readline(), stream.readline()
        comment = line
        if not comment.endswith(b'\n'):
            return
        for _ in range(int(head)):
            line = stream.readline()
        if not line.endswith(b'\n'):
            return
        yield comment, start, stream.tell()


def put(new: Path, path: Path, may_change: bool) -> None:
    """Move a complete new file to `path`, unless the same is already there.

    Raises:
        UserError: A different file is there and `may_change` is False.
    """
    if path.is_file() and filecmp.cmp(new, path, shallow=False):
        new.unlink()
        return
    if path.is_file() and not may_change:
        raise _changed(path)
    os.replace(new, path)


def refuse_other(new: Path, folder: Path) -> None:
    """Raise UserError if a file in `new` differs from its namesake in `folder`."""
    for path in sorted(new.iterdir()):
        there = folder / path.name
        if there.is_file() and not filecmp.cmp(path, there, shallow=False):
            raise _changed(there)


def _changed(path: Path) -> UserError:
    return UserError(
        f'{path} would change: the data, or their description in study.yaml, '
        'differ from those of the existing runs. Choose another folder with -o, or '
        'undo the change.'
    )
