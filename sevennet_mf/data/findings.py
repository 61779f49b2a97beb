"""What is said of data: one finding, and what the checks ask of a set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from ase.data import chemical_symbols

from sevennet_mf.arrays import Bools, Ints
from sevennet_mf.errors import UserError

PROBLEM: Final[str] = 'problem'
NOTE: Final[str] = 'note'
SHOWN: Final[int] = 3  # structures that a message names


@dataclass(frozen=True)
class Finding:
    """Something about the data of a run that its user should know.

    kind: a word or two, of docs/inspect.md; severity: PROBLEM for what is almost
    surely a mistake, NOTE for what may be meant; message: one clear line; names: the
    fidelities or elements that it is about; count: of the structures, 0 where it is
    about none in particular.
    """

    kind: str
    severity: str
    message: str
    names: tuple[str, ...] = ()
    count: int = 0

    @property
    def is_problem(self) -> bool:
        return self.severity == PROBLEM


def problem(kind: str, message: str, *names: str, count: int = 0) -> Finding:
    return Finding(kind, PROBLEM, message, names, count)


def note(kind: str, message: str, *names: str, count: int = 0) -> Finding:
    return Finding(kind, NOTE, message, names, count)


def refuse(finding: Finding | None, where: str = '') -> None:
    """Raise a finding as UserError, with `where` before its message; None: pass."""
    if finding is not None:
        raise UserError(where + finding.message)


class Marked(Protocol):
    """Structures that can be told from others and named."""

    def __len__(self) -> int: ...

    @property
    def fingerprint(self) -> Ints:
        """(n,) int64, equal for labels of one structure."""
        ...

    def source(self, i: int) -> str:
        """Return 'path:frame' of structure i."""
        ...


class LabelledSet(Protocol):
    """The labelled structures of one set, as checks see them: n of them."""

    def __len__(self) -> int: ...

    @property
    def fidelities(self) -> tuple[str, ...]: ...

    @property
    def has(self) -> Mapping[str, Bools]:
        """Who has the label: 'energy', 'force', 'stress', (n,) bool each."""
        ...

    @property
    def has_neighbours(self) -> bool:
        """Whether any two atoms of a structure are within the cutoff."""
        ...

    def rows_of(self, fidelity: str) -> Ints:
        """Return the structures of a fidelity."""
        ...

    def kinds(self) -> tuple[Ints, Ints]:
        """Return compositions, (m, 119), and which each structure has, (n,)."""
        ...

    def source(self, i: int) -> str:
        """Return 'path:frame' of structure i."""
        ...


# ---- words


def some(names: Iterable[str]) -> str:
    """Return the first few names, and how many more there are."""
    listed = list(names)
    more = len(listed) - SHOWN
    return ', '.join(listed[:SHOWN]) + (f' and {more} more' if more > 0 else '')


def structures(count: int) -> str:
    """Return '1 structure' or '5 structures'."""
    return f'{count} structure{"" if count == 1 else "s"}'


def formula(composition: Ints) -> str:
    """Return a composition, (119,), as in 'Ga2N2'."""
    return ''.join(
        f'{chemical_symbols[z]}{composition[z] if composition[z] > 1 else ""}'
        for z in np.flatnonzero(composition)
    )
