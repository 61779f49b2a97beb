"""Structures for a study with a teacher: made piece by piece, split into files.

A script that makes structures does it in pieces (a trajectory, a crystal), each a
file of its own, so that an interrupted call goes on with the next one. The info of
the structures says what they are for, and once they are labelled, `write_parts`
writes the files of the study by it. So do `example_inputs/lipscl` and
`example_inputs/ingan_teacher`.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import ase.io
import numpy as np
from ase import Atoms

from sevennet_mf.data import extxyz
from sevennet_mf.errors import UserError
from sevennet_mf.files import make_folder

Parts = Mapping[str, tuple[str, Callable[[Mapping[str, Any]], bool]]]


class Piece(Protocol):
    """What a piece has: a name that no other has, and that serves as a file name."""

    @property
    def name(self) -> str: ...


AnyPiece = TypeVar('AnyPiece', bound=Piece)


def options(description: str, output: str) -> argparse.ArgumentParser:
    """Return the command line of a script that makes structures."""
    parser = argparse.ArgumentParser(description=description)
    add = parser.add_argument
    add('-o', '--output', default=output, help=f'folder; default: {output}')
    add(
        '--with',
        dest='calculator',
        default='sevennet_mf:FidelityCalculator',
        help='calculator of the dynamics, as of sevennet-mf label',
    )
    add(
        '--arguments',
        default='{checkpoint: 7net-mf-0, fidelity: PBE, device: cpu}',
        help='its keywords',
    )
    add('--seed', type=int, default=1)
    add('--small', action='store_true', help='a few structures, to try it out')
    return parser


def rng_of(piece: Piece, seed: int) -> np.random.Generator:
    """Return the random numbers of a piece, whichever others have been made."""
    return np.random.default_rng([seed, zlib.crc32(piece.name.encode())])


def in_pieces(
    folder: Path,
    pieces: Iterable[AnyPiece],
    make: Callable[[AnyPiece], Sequence[Atoms]],
    say: Callable[[str], object],
) -> list[Atoms]:
    """Make the pieces that have no file yet, and return the structures of all.

    Args:
        folder: For a file of each piece; it is made if it is not there.
        make: Returns the structures of a piece.
        say: Gets a line for each piece that was made.

    Raises:
        UserError: From `make`, naming the piece; or a file cannot be written.
    """
    make_folder(folder, to_write=True)
    todo = list(pieces)
    found: list[Atoms] = []
    for number, piece in enumerate(todo, 1):
        path = folder / f'{piece.name}.extxyz'
        if not path.is_file():
            try:
                extxyz.write(path, make(piece))
            except UserError as error:
                raise error.within(piece.name) from error
            say(f'{number} of {len(todo)}: {piece.name}')
        found += ase.io.read(path, ':')
    return found


def noted(atoms: Atoms, **info: Any) -> Atoms:
    """Return a copy without labels whose info says what it is for."""
    bare = extxyz.stripped(atoms)
    # extended XYZ has a way of its own to write True
    bare.info.update(
        {k: int(v) if isinstance(v, bool) else v for k, v in info.items()}
    )
    return bare


def write_parts(folder: Path, parts: Parts) -> dict[Path, int]:
    """Write the files of a study from the labels in `folder/labels`.

    Args:
        folder: Each part becomes `<name>.extxyz` in it.
        parts: By name, the fidelity of the labels, and whether a structure with
            this info belongs to it.

    Returns:
        The number of structures in each file.

    Raises:
        UserError: A fidelity has no labels, or a part no structures.
    """
    labels = {}
    for fidelity in dict.fromkeys(fidelity for fidelity, _ in parts.values()):
        path = folder / 'labels' / f'{fidelity}.extxyz'
        if not path.is_file():
            raise UserError(f'no such file: {path}. Label the structures first.')
        labels[fidelity] = ase.io.read(path, ':')
    written = {}
    for name, (fidelity, belongs) in parts.items():
        chosen = [atoms for atoms in labels[fidelity] if belongs(atoms.info)]
        if not chosen:
            raise UserError(
                f'no structure for {name}. Label the structures at {fidelity} with '
                'the keys of their info (--keep).'
            )
        path = folder / f'{name}.extxyz'
        written[path] = extxyz.write(path, chosen)
    return written
