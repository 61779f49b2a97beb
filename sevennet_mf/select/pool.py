"""The structures to choose from, read in a stream and again where needed.

Atoms are not kept: 10^5 structures would fill the memory. They are read once to
find every mistake before the model runs, once for the model, and once more if they
were chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from ase import Atoms

from sevennet_mf.arrays import Floats
from sevennet_mf.data.processed.graphs import check_structure
from sevennet_mf.data.reading.files import atoms_of
from sevennet_mf.data.reading.read import Structure
from sevennet_mf.data.same.identity import Reader, digest
from sevennet_mf.errors import UserError, nearest
from sevennet_mf.evaluate.entries import checked

Cost = Callable[[Atoms, str], float]


@dataclass(frozen=True)
class Candidate:
    """What is kept of a structure.

    Attributes:
        source: Its file, as given.
        frame: Its number in the file, from 0.
        formula: In Hill order.
        mark: Equal for all copies of one structure, however they are written.
        digest: Hash of this copy as written.
        cost: In the user's unit, 1 if there is none.
    """

    source: str
    frame: int
    formula: str
    n_atoms: int
    mark: int
    digest: int
    cost: float


def files_of(files: Sequence[str]) -> list[str]:
    """Return the paths of file names and patterns.

    Raises:
        UserError: If there is no such file.
    """
    return list(checked({'file': list(files)}, 'the files')['file'])


def structures(files: Iterable[str]) -> Iterator[Structure]:
    """Yield every structure of some files, without labels.

    Raises:
        UserError: For a file that cannot be read, and for SevenNet's graph files:
            a DFT code needs the cell, which these do not contain.
    """
    for number, path in enumerate(files):
        for frame, atoms in atoms_of(path):
            yield Structure(
                numbers=atoms.get_atomic_numbers().astype(np.int64),
                positions=atoms.get_positions(),
                cell=np.array(atoms.get_cell()),
                pbc=atoms.get_pbc(),
                atoms=atoms,
                graph=None,
                fidelity='',
                energy=float('nan'),
                forces=None,
                stress=None,
                source=f'{path}:{frame}',
                file=number,
                frame=frame,
            )


def survey(
    files: Sequence[str],
    known: Sequence[tuple[str, Floats]],
    reader: Reader,
    cost: Cost | None = None,
) -> list[Candidate]:
    """Read every structure and return what is kept of it, in the order of files.

    Args:
        known: Name and (119,) reference energies in eV of each model, NaN for an
            element that it does not know.
        reader: Recognises copies of structures, also from other files.
        cost: Returns the cost of atoms at 'file:frame'.

    Raises:
        UserError: Names `file:frame` of a structure that a model cannot handle; or
            if there are no structures.
    """
    found = []
    for structure in structures(files):
        atoms = structure.atoms
        assert atoms is not None
        for name, references in known:
            try:
                check_structure(atoms, references)
            except UserError as error:
                raise error.within(f'{structure.source}, {name}') from None
        found.append(
            Candidate(
                source=files[structure.file],
                frame=structure.frame,
                formula=atoms.get_chemical_formula(),
                n_atoms=len(atoms),
                mark=reader.same(structure).mark,
                digest=digest(structure),
                cost=cost(atoms, structure.source) if cost else 1.0,
            )
        )
    if not found:
        raise UserError(f'there are no structures in {", ".join(files)}.')
    return found


def distinct(
    candidates: Sequence[Candidate], seen: Iterable[Candidate] = ()
) -> list[Candidate]:
    """Return the first copy of each structure that is not among `seen`."""
    known = {other.mark for other in seen}
    result = []
    for candidate in candidates:
        if candidate.mark not in known:
            known.add(candidate.mark)
            result.append(candidate)
    return result


def read_again(candidates: Iterable[Candidate]) -> Iterator[Structure]:
    """Yield the structures of candidates, in the order of their files and frames.

    Args:
        candidates: In this order, as `survey` returns them.

    Raises:
        UserError: For a file that has changed since `survey`.
    """
    by_file: dict[str, dict[int, Candidate]] = {}
    for candidate in candidates:
        by_file.setdefault(candidate.source, {})[candidate.frame] = candidate
    for path, frames in by_file.items():
        last = max(frames)
        for structure in structures([path]):
            wanted = frames.pop(structure.frame, None)
            if wanted is not None:
                if digest(structure) != wanted.digest:
                    raise _changed(path)
                yield structure
            if structure.frame == last:
                break
        if frames:
            raise _changed(path)


def _changed(path: str) -> UserError:
    return UserError(f'{path} changed while it was being read. Start again.')


# ---- what a structure costs at the high fidelity


ATOMS3: Final[str] = 'atoms3'
NONE: Final[str] = 'none'


def cost_of(name: str) -> Cost | None:
    """Return a function for the cost of atoms at 'file:frame'; None for 'none'.

    The function raises UserError for a structure whose info has no such number.

    Args:
        name: 'none'; 'atoms3' for n_atoms^3, the scaling of plane-wave codes; or a
            key of `atoms.info` with a positive number.
    """
    if name == NONE:
        return None
    if name == ATOMS3:
        return lambda atoms, where: float(len(atoms)) ** 3
    return lambda atoms, where: _column(atoms, where, name)


def _column(atoms: Atoms, where: str, name: str) -> float:
    if name not in atoms.info:
        known = [ATOMS3, NONE, *map(str, atoms.info)]
        listed = ', '.join(map(str, atoms.info)) or 'nothing'
        raise UserError(
            f'{where}: --cost {name!r} is not in its info, which has {listed}.'
            f'{nearest(name, known)} Give a key that all structures have, '
            f'{ATOMS3} or {NONE}.'
        )
    try:
        value = float(np.asarray(atoms.info[name]).squeeze())
    except (TypeError, ValueError):
        value = float('nan')
    if not (np.isfinite(value) and value > 0):
        raise UserError(
            f'{where}: its {name} (--cost) is {atoms.info[name]!r}, but a cost must '
            'be a positive number.'
        )
    return value
