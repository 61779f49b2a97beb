"""Which labelled structures are for testing, and which are left for training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.formula import Formula

from sevennet_mf.arrays import Bools
from sevennet_mf.errors import UserError, nearest, unknown
from sevennet_mf.study.plan.label_set import (
    LabelSet,
    chance,
    chances,
    lowest,
    reduced,
)
from sevennet_mf.study.plan.study_yaml import Split


@dataclass(frozen=True, eq=False)
class Sides:
    """The result of a split.

    Attributes:
        test: The test set.
        pool: Structures left for training.
        first: Rows of the pool that are the first labels of every run.
        kept: (n,) which validation structures are unrelated to the test set.
    """

    test: LabelSet
    pool: LabelSet
    first: list[int]
    kept: Bools


def apply(split: Split, labels: LabelSet, valid: LabelSet) -> Sides:
    """Split the labels of the target.

    Args:
        labels: Labels of the target in training.
        valid: Its validation structures.

    Raises:
        UserError: For a formula or an element that the labels do not have, or if
            one side would be empty.
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
    return Sides(
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
    # `lowest` also returns none if the share rounds to all
    is_all = count or (split.test or 0.0) > 0.5
    side = 'no structure for training' if is_all else 'no structure for testing'
    raise UserError(
        f'study.split: by: {split.by}, {given} leaves {side} out of the {n} '
        'labelled ones of the target.'
    )


def _held_out(split: Split, formulas: list[str]) -> list[str]:
    """The reduced formulas for testing."""
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
        name = reduced(Formula(text))
    except ValueError:
        raise UserError(
            f'study.split.train: {text!r} is not a formula.{nearest(text, known)}'
        ) from None
    if name not in known:
        raise unknown('study.split.train', text, known)
    return name


def _check_elements(elements: list[str], labels: LabelSet) -> None:
    known = sorted(labels.elements)
    for symbol in elements:
        if symbol not in known:
            raise unknown('study.split.element', symbol, known)


def _anchors(split: Split, labels: LabelSet) -> Bools:
    """Which structures with a held-out element stay in training."""
    assert split.element is not None
    by_chance = np.argsort(chances(labels, split.seed), kind='stable')
    chosen = np.zeros(len(labels), bool)
    for symbol in split.element:
        has = labels.has_any([symbol])
        chosen[[i for i in by_chance if has[i]][: split.anchors]] = True
    return chosen
