"""Which labelled structures are tested, and in which order labels are added."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from ase.data import chemical_symbols
from ase.formula import Formula

from sevennet_mf.data import graphs
from sevennet_mf.data.estimator import Bools, Ints
from sevennet_mf.data.read import Structure
from sevennet_mf.errors import UserError, nearest, unknown
from sevennet_mf.study.config import Split

NEW_DIRECTION: Final[float] = 1e-6  # of a composition vector of length about 1


@dataclass(frozen=True, eq=False)
class Labels:
    """The labelled structures of one fidelity, and marks that tell them apart.

    marks: fingerprints, equal for labels of one structure.
    """

    structures: list[Structure]
    marks: list[int]

    @classmethod
    def of(cls, structures: Iterable[Structure]) -> Labels:
        listed = list(structures)
        return cls(listed, [graphs.fingerprint(s) for s in listed])

    def __len__(self) -> int:
        return len(self.structures)

    def where(self, chosen: Bools) -> Labels:
        return self.at(np.flatnonzero(chosen))

    def at(self, rows: Ints | Sequence[int]) -> Labels:
        """The structures at `rows`, in that order."""
        return Labels(
            [self.structures[i] for i in rows], [self.marks[i] for i in rows]
        )

    def has_any(self, elements: Iterable[str]) -> Bools:
        """Which structures contain one of some elements."""
        numbers = [chemical_symbols.index(symbol) for symbol in elements]
        return np.array(
            [bool(np.isin(s.numbers, numbers).any()) for s in self.structures], bool
        )

    @property
    def elements(self) -> set[str]:
        return {chemical_symbols[z] for s in self.structures for z in set(s.numbers)}

    @property
    def formulas(self) -> list[str]:
        """Reduced formulas, one for each structure."""
        return [formula_of(s.numbers) for s in self.structures]


def formula_of(numbers: Ints) -> str:
    """Return the reduced formula of some atoms, as 'GaN'; numbers: (n_atoms,)."""
    symbols, counts = np.unique(
        [chemical_symbols[z] for z in numbers], return_counts=True
    )
    count = dict(zip(symbols.tolist(), counts.tolist(), strict=True))
    return _reduced(Formula.from_dict(count))


def _reduced(formula: Formula) -> str:
    return str(formula.reduce()[0].convert('metal'))


def chance(mark: int | str, seed: int) -> float:
    """Return a number in [0, 1) that only a structure and a seed decide.

    Not the order of files: two labels of a structure have the same.
    """
    digest = hashlib.sha256(f'{seed} {mark}'.encode()).digest()
    return int.from_bytes(digest[:8], 'little') / 2.0**64


def chances(labels: Labels, seed: int) -> np.ndarray:
    """`chance` of every structure, (n,) float64."""
    return np.array([chance(mark, seed) for mark in labels.marks])


def lowest(values: np.ndarray, share: float) -> Bools:
    """Which of `values` (n,) are among the lowest `share`, equal ones together."""
    count = int(np.rint(share * len(values)))
    if not 0 < count < len(values):
        return np.zeros(len(values), bool)
    return values <= np.sort(values)[count - 1]


@dataclass(frozen=True, eq=False)
class Parts:
    """What a split leaves: the test set, the pool, and who leads its order.

    first: rows of the pool that are the first labels of every run; kept: which of
    the validation structures say nothing about what is tested.
    """

    test: Labels
    pool: Labels
    first: list[int]
    kept: Bools


def apply(split: Split, labels: Labels, valid: Labels) -> Parts:
    """Split the labels of the target; `valid` are its validation structures.

    Raises UserError for a formula or an element that the labels do not have, and
    if one side would be empty.
    """
    first = np.zeros(len(labels), bool)
    if split.by == 'random':
        assert split.test is not None
        tested = lowest(chances(labels, split.seed), split.test)
        alike = np.zeros(len(valid), bool)
    elif split.by == 'composition':
        held_out = _held_out(split, labels.formulas)
        tested = np.isin(labels.formulas, held_out)
        alike = np.isin(valid.formulas, held_out)
    else:
        assert split.element is not None
        _check_elements(split.element, labels)
        first = _anchors(split, labels)
        # the same structure twice would be on both sides
        same = np.isin(
            labels.marks, [m for m, f in zip(labels.marks, first, strict=True) if f]
        )
        tested = labels.has_any(split.element) & ~same
        alike = valid.has_any(split.element)
    _check_sides(split, tested)
    alike |= np.isin(valid.marks, labels.where(tested).marks)
    return Parts(
        test=labels.where(tested),
        pool=labels.where(~tested),
        first=np.flatnonzero(first[~tested]).tolist(),
        kept=~alike,
    )


def _check_sides(split: Split, tested: Bools) -> None:
    n = len(tested)
    count = int(tested.sum())
    if 0 < count < n:
        return
    given = {
        'random': f'test: {split.test}',
        'composition': f'train: {split.train}'
        if split.train
        else f'test: {split.test}',
        'element': f'element: {split.element}, anchors: {split.anchors}',
    }[split.by]
    raise UserError(
        f'study.split: by: {split.by}, {given} puts {count} of the {n} labelled '
        'structures of the target into the test set; both sides need one at least.'
    )


def _held_out(split: Split, formulas: list[str]) -> list[str]:
    """The reduced formulas that are tested."""
    known = sorted(set(formulas))
    if split.train is not None:
        trained = [_known_formula(text, known) for text in split.train]
        return [name for name in known if name not in trained]
    assert split.test is not None
    values = np.array([chance(name, split.seed) for name in known])
    return [
        name
        for name, out in zip(known, lowest(values, split.test), strict=True)
        if out
    ]


def _known_formula(text: str, known: list[str]) -> str:
    try:
        reduced = _reduced(Formula(text))
    except ValueError:
        raise UserError(
            f'study.split.train: {text!r} is no formula.{nearest(text, known)}'
        ) from None
    if reduced not in known:
        raise unknown('study.split.train', text, known)
    return reduced


def _check_elements(elements: list[str], labels: Labels) -> None:
    known = sorted(labels.elements)
    for symbol in elements:
        if symbol not in known:
            raise unknown('study.split.element', symbol, known)


def _anchors(split: Split, labels: Labels) -> Bools:
    """Which structures with a held-out element stay in training."""
    assert split.element is not None
    by_chance = np.argsort(chances(labels, split.seed), kind='stable')
    chosen = np.zeros(len(labels), bool)
    for symbol in split.element:
        has = labels.has_any([symbol])
        chosen[[i for i in by_chance if has[i]][: split.anchors]] = True
    return chosen


def label_order(pool: Labels, seed: int, first: Sequence[int] = ()) -> list[int]:
    """Return the rows of a pool in the order in which labels are added.

    At random, but `first` lead; then those that bring a new element or a new
    direction of composition, so that a few labels determine reference energies.
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
    count = np.bincount(numbers, minlength=len(chemical_symbols)).astype(np.float64)
    rest = count / np.linalg.norm(count)
    for vector in basis:
        rest = rest - (rest @ vector) * vector
    length = float(np.linalg.norm(rest))
    return rest / length if length > NEW_DIRECTION else None
