"""The structures of a phase diagram: read, named and checked."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ase import Atoms

from sevennet_mf.analysis.hull.diagram import check_references
from sevennet_mf.data.extxyz import stripped
from sevennet_mf.data.reading.files import atoms_of
from sevennet_mf.errors import UserError
from sevennet_mf.label.structures import MARK, SOURCE, files_of, mark_of

NAME: Final[str] = 'name'  # of the phase, in the info of a structure


@dataclass(frozen=True, eq=False)
class StartPhase:
    """A structure before it is relaxed.

    Attributes:
        name: No other has it.
        mark: Its `structure_id`.
        source: 'file:frame'.
        atoms: Without labels and constraints.
    """

    name: str
    mark: str
    source: str
    atoms: Atoms


def read_starts(files: Sequence[str]) -> list[StartPhase]:
    """Return the structures of files, each once.

    The name of a structure is `name` of its info; or that of its file, if there is
    no other structure in it; or 'file:frame'.

    Raises:
        UserError: A file cannot be read, a structure has no atoms, two have one
            name, or an element has no structure of its own.
    """
    found: dict[str, StartPhase] = {}
    repeats = 0
    for start in _all(files_of(files)):
        repeats += start.mark in found
        found.setdefault(start.mark, start)
    if repeats:
        warnings.warn(
            f'copies of other structures: {repeats}; each structure is used once',
            stacklevel=2,
        )
    starts = list(found.values())
    if not starts:
        raise UserError(f'there are no structures in {", ".join(files)}.')
    _check_names(starts)
    check_references([start.atoms for start in starts])
    return starts


def _all(paths: Sequence[str]) -> Iterator[StartPhase]:
    constrained = []
    for path in paths:
        frames = list(atoms_of(path))
        stem, base = Path(path).stem, Path(path).name
        for frame, atoms in frames:
            source = f'{path}:{frame}'
            if len(atoms) == 0:
                raise UserError(f'{source} has no atoms. Leave it out.')
            if atoms.constraints:
                constrained.append(source)
            name = stem if len(frames) == 1 else f'{base}:{frame}'
            name = str(atoms.info.get(NAME, name))
            bare = stripped(atoms)
            mark = mark_of(bare)
            bare.info.update({NAME: name, MARK: mark, SOURCE: source})
            yield StartPhase(name, mark, source, bare)
    if constrained:
        warnings.warn(
            f'constraints are not used, all atoms move: {", ".join(constrained)}',
            stacklevel=4,
        )


def _check_names(starts: Sequence[StartPhase]) -> None:
    number = Counter(start.name for start in starts)
    for name, times in number.items():
        if times > 1:
            where = ', '.join(s.source for s in starts if s.name == name)
            raise UserError(
                f'different structures are called {name!r}: {where}. Give each a '
                f'name of its own, as {NAME!r} in its info or by its file.'
            )
