"""Labelled structures of a study, and the random numbers that assign them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from ase.data import chemical_symbols
from ase.formula import Formula

from sevennet_mf.arrays import N_SPECIES, Bools, Ints
from sevennet_mf.data.processed.graphs import composition
from sevennet_mf.data.reading.read import Structure
from sevennet_mf.data.same.identity import Reader


@dataclass(frozen=True, eq=False)
class LabelSet:
    """The labelled structures of one fidelity, and marks that identify them.

    Attributes:
        structures: n structures.
        marks: n numbers, equal for labels of the same structure.
    """

    structures: list[Structure]
    marks: list[int]

    @classmethod
    def of(cls, structures: Iterable[Structure], reader: Reader) -> LabelSet:
        """Collect labels.

        Args:
            reader: The one that knows all structures of the study.
        """
        listed = list(structures)
        return cls(listed, [reader.same(s).mark for s in listed])

    def __len__(self) -> int:
        return len(self.structures)

    def where(self, chosen: Bools) -> LabelSet:
        return self.at(np.flatnonzero(chosen))

    def at(self, rows: Ints | Sequence[int]) -> LabelSet:
        """Return the structures at `rows`, in that order."""
        return LabelSet(
            [self.structures[i] for i in rows], [self.marks[i] for i in rows]
        )

    def has_any(self, elements: Iterable[str]) -> Bools:
        """Return which structures contain at least one of some elements, (n,)."""
        numbers = [chemical_symbols.index(symbol) for symbol in elements]
        return np.array(
            [bool(np.isin(s.numbers, numbers).any()) for s in self.structures], bool
        )

    @property
    def fingerprint(self) -> Ints:
        """`marks` as an array, (n,)."""
        return np.array(self.marks, np.int64)

    def source(self, i: int) -> str:
        """Return 'path:frame' of structure i."""
        return self.structures[i].source

    def kinds(self) -> tuple[Ints, Ints]:
        """Return the m compositions, (m, 119), and that of each structure, (n,)."""
        counts = [composition(s.numbers) for s in self.structures]
        every = np.array(counts, np.int64).reshape(-1, N_SPECIES)
        kinds, kind = np.unique(every, axis=0, return_inverse=True)
        return kinds, kind.reshape(-1)

    @property
    def elements(self) -> set[str]:
        return {chemical_symbols[z] for s in self.structures for z in set(s.numbers)}

    @property
    def formulas(self) -> list[str]:
        """Reduced formulas, one for each structure."""
        return [formula_of(s.numbers) for s in self.structures]


def formula_of(numbers: Ints) -> str:
    """Return the reduced formula of some atoms, such as 'GaN'.

    Args:
        numbers: (n_atoms,) atomic numbers.
    """
    symbols, counts = np.unique(
        [chemical_symbols[z] for z in numbers], return_counts=True
    )
    count = dict(zip(symbols.tolist(), counts.tolist(), strict=True))
    return reduced(Formula.from_dict(count))


def reduced(formula: Formula) -> str:
    return str(formula.reduce()[0].convert('metal'))


def chance(mark: int | str, seed: int) -> float:
    """Return a number in [0, 1) that depends only on a structure and a seed.

    It does not depend on the order of files, and is the same for two labels of a
    structure.
    """
    digest = hashlib.sha256(f'{seed} {mark}'.encode()).digest()
    return int.from_bytes(digest[:8], 'little') / 2.0**64


def chances(labels: LabelSet, seed: int) -> np.ndarray:
    """Return `chance` of every structure, (n,) float64."""
    return np.array([chance(mark, seed) for mark in labels.marks])


def lowest(values: np.ndarray, share: float) -> Bools:
    """Return which values are among the lowest, (n,); ties stay together.

    Args:
        values: (n,).
        share: Fraction of the values.
    """
    count = int(np.rint(share * len(values)))
    if not 0 < count < len(values):
        return np.zeros(len(values), bool)
    return values <= np.sort(values)[count - 1]


# ---- the order in which labels are added


NEW_DIRECTION: Final[float] = 1e-6  # of a composition vector of length about 1


def label_order(pool: LabelSet, seed: int, first: Sequence[int] = ()) -> list[int]:
    """Return the rows of a pool in the order in which labels are added.

    The order is random, except that `first` lead, followed by structures with a new
    element or a new direction of composition, so that a few labels determine the
    reference energies.

    Args:
        first: Rows that lead.
    """
    by_chance = np.argsort(chances(pool, seed), kind='stable').tolist()
    led = [i for i in by_chance if i in set(first)]
    by_chance = [*led, *(i for i in by_chance if i not in set(first))]
    basis: list[np.ndarray] = []
    leading = []
    for i in by_chance:
        direction = _new_direction(pool.structures[i].numbers, basis)
        if direction is not None:
            basis.append(direction)
            leading.append(i)
    leading = [*led, *(i for i in leading if i not in set(led))]
    taken = set(leading)
    return [*leading, *(i for i in by_chance if i not in taken)]


def _new_direction(numbers: Ints, basis: list[np.ndarray]) -> np.ndarray | None:
    """The part of a composition that a basis lacks, of length 1; None if small."""
    count = composition(numbers).astype(np.float64)
    rest = count / np.linalg.norm(count)
    for vector in basis:
        rest = rest - (rest @ vector) * vector
    length = float(np.linalg.norm(rest))
    return rest / length if length > NEW_DIRECTION else None
