"""Findings about data, and what the checks require of a set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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

    Attributes:
        kind: a word or two, listed in docs/inspect.md.
        severity: PROBLEM for what is almost certainly a mistake, NOTE for what may
            be intended.
        message: one clear line.
        names: the fidelities or elements concerned.
        count: number of structures concerned, 0 for none in particular.
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
    """Raise a finding, unless None, as UserError with `where` before its message."""
    if finding is not None:
        raise UserError(where + finding.message)


class Marked(Protocol):
    """Structures that can be identified and named."""

    def __len__(self) -> int: ...

    @property
    def fingerprint(self) -> Ints:
        """(n,) int64, equal for labels of one structure."""
        ...

    def source(self, i: int) -> str:
        """Return 'path:frame' of structure i."""
        ...


class LabelledSet(Protocol):
    """The n labelled structures of one set, as the checks see them."""

    def __len__(self) -> int: ...

    @property
    def fidelities(self) -> tuple[str, ...]: ...

    @property
    def has(self) -> Mapping[str, Bools]:
        """Who has the label: 'energy', 'force', 'stress', (n,) bool each."""
        ...

    @property
    def has_neighbours(self) -> bool:
        """Return whether any two atoms of a structure are within the cutoff."""
        ...

    def rows_of(self, fidelity: str) -> Ints:
        """Return the structures of a fidelity."""
        ...

    def compositions(self, rows: Ints | None = None) -> Iterator[tuple[Ints, Ints]]:
        """Yield (k,) structures and their (k, 119) atoms of each atomic number.

        Args:
            rows: the structures; None: all of them.
        """
        ...

    def source(self, i: int) -> str:
        """Return 'path:frame' of structure i."""
        ...


# ---- words


def some(names: Iterable[str]) -> str:
    """Return the first few names and the number of the others."""
    listed = list(names)
    more = len(listed) - SHOWN
    return ', '.join(listed[:SHOWN]) + (f' and {more} more' if more > 0 else '')


def structures(count: int) -> str:
    """Return '1 structure' or '5 structures'."""
    return f'{count} structure{"" if count == 1 else "s"}'


def formula(composition: Ints) -> str:
    """Return a composition, (119,), as a formula such as 'Ga2N2'."""
    return ''.join(
        f'{chemical_symbols[z]}{composition[z] if composition[z] > 1 else ""}'
        for z in np.flatnonzero(composition)
    )
