"""The findings of a study in plain sentences, the beginning of its report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from sevennet_mf.study.report.labels_saved import FEWER, MORE, REFERENCE, Needed
from sevennet_mf.study.report.run_results import (
    UNITS,
    Table,
    labels_of,
    most_seeds,
    rows_of,
)
from sevennet_mf.study.report.words import cell, listed, number


def headline(
    quantity: str, table: Table, needed: Sequence[Needed], target: str = ''
) -> list[str]:
    """Return what a study says about one quantity, the most important first.

    Args:
        table: Errors over seeds.
        needed: From `labels_saved`.
        target: The fidelity whose labels are counted.
    """
    rows = rows_of(table)
    if not rows:
        return []
    others = [row for row in rows if row != REFERENCE]
    leader = _leading(table, rows)
    found = []
    if REFERENCE not in rows:
        found.append(
            f'The number of labels saved is unknown: no run of {REFERENCE} is '
            'finished.'
        )
    elif others and leader == REFERENCE:
        lower = [row for row in others if _Compared.of(table, row).lower]
        leader = _leading(table, lower or others)
        found.append(_against(quantity, table, leader, others))
    if others and (rises := _rises(quantity, table)):
        found.insert(0, rises)
    elif others:
        found += _worth(quantity, [n for n in needed if n.row == leader], target)
    if others and most_seeds(table) == 1:
        found.append(
            'There is only one seed, so it is unknown how much of the differences '
            'is due to chance.'
        )
    found.append(_lowest(quantity, table, rows))
    return [text for text in found if text]


def _leading(table: Table, rows: Sequence[str]) -> str:
    """The row whose mean error is the lowest, over the labels that all rows have."""
    shared = set.intersection(*(set(labels_of(table, row)) for row in rows))

    def level(row: str) -> float:
        counts = shared or labels_of(table, row)
        errors = [table[row, n].mean for n in counts]
        return float(np.mean(np.log(np.maximum(errors, 1e-12))))

    return min(rows, key=level)


@dataclass(frozen=True)
class _Compared:
    """The labels with which a row is below high_only, near it, and above it.

    Near: the means differ by no more than the spread over seeds of the difference
    of two runs. That of a single seed is not known, and taken for none.
    """

    lower: list[int]
    near: list[int]
    higher: list[int]

    @classmethod
    def of(cls, table: Table, row: str) -> _Compared:
        found = cls([], [], [])
        both = set(labels_of(table, row)) & set(labels_of(table, REFERENCE))
        for n in sorted(both):
            one, other = table[row, n], table[REFERENCE, n]
            off = one.mean - other.mean
            spread = math.hypot(*(s.deviation for s in (one, other) if s.n > 1), 0.0)
            side = found.lower if off < 0 else found.higher
            (found.near if abs(off) <= spread else side).append(n)
        return found


def _rises(quantity: str, table: Table) -> str:
    """That high_only is no better with more labels, if it is not."""
    counts = labels_of(table, REFERENCE)
    if len(counts) < 2:
        return ''
    first, last = table[REFERENCE, counts[0]], table[REFERENCE, counts[-1]]
    if last.mean < first.mean:
        return ''
    return (
        f'The {quantity} error of {REFERENCE} does not decrease with more labels '
        f'({number(first.mean)} {UNITS[quantity]} with {counts[0]}, '
        f'{number(last.mean)} with {counts[-1]}). The training runs may be too '
        'short, and the number of labels saved cannot be estimated.'
    )


def _against(
    quantity: str, table: Table, leader: str, others: Sequence[str]
) -> str:
    """Where the error is lower than that of high_only, which is lower overall."""
    found = _Compared.of(table, leader)
    if not found.lower:
        rows = [_Compared.of(table, row) for row in others]
        if not any(r.near or r.higher for r in rows):
            return ''  # they have no number of labels in common
        beyond = ', beyond the spread over seeds' if found.near else ''
        return f'No method has a lower {quantity} error than {REFERENCE}{beyond}.'
    text = f'{leader} has a lower {quantity} error than {REFERENCE} with '
    rest = sorted([*found.near, *found.higher])
    within = 'the difference is within the spread over seeds'
    if rest and found.lower[-1] < rest[0]:
        but = ', but not with more' if found.higher else f'; with more, {within}'
        return f'{text}up to {found.lower[-1]} labels{but}.'
    higher = f', but not with {listed(found.higher)}'
    near = f'; with {listed(found.near)}, {within}'
    text = f'{text}{listed(found.lower)} labels'
    return f'{text}{higher * bool(found.higher)}{near * bool(found.near)}.'


def _worth(quantity: str, needed: Sequence[Needed], target: str) -> list[str]:
    say = partial(sentence, quantity, target=target)
    inside = [n for n in needed if n.measured]
    above = [n for n in needed if n.value == MORE]
    below = [n for n in needed if n.value == FEWER]
    found = [say(min(inside, key=_labels))] if inside else []
    if above:
        found.append(say(min(above, key=_labels)))
    if below and not found:
        found.append(say(max(below, key=_labels)))
    return found


def _labels(needed: Needed) -> int:
    return needed.labels


def sentence(quantity: str, n: Needed, target: str = '') -> str:
    """Return what the labels of a row are worth, as a sentence."""
    who = f'{n.row} with {n.labels} {target}'.rstrip() + ' labels'
    if n.value == MORE:
        text = f'{who} has a lower {quantity} error than {REFERENCE} with '
        text += f'{n.largest}, the largest number measured'
        # the interval reaches into what was measured
        if n.interval and n.low != MORE:
            text += f' (95 % interval: {n.interval})'
        return f'{text}.'
    if n.value == FEWER:
        return (
            f'{who} has a higher {quantity} error than {REFERENCE} with '
            f'{n.smallest}, the smallest number measured.'
        )
    count = n.words(n.value)
    text = f'{who} reaches the {quantity} error of {REFERENCE} with {count} labels'
    if n.interval not in ('', count):
        text += f' (95 % interval: {n.interval})'
    return f'{text}; {n.note}.' if n.note else f'{text}.'


def _lowest(quantity: str, table: Table, rows: Sequence[str]) -> str:
    """The lowest error with the most labels, beside that of high_only."""
    largest = max(labels_of(table))
    there = [row for row in rows if (row, largest) in table]
    best = min(there, key=lambda row: table[row, largest].mean)
    unit, seeds = UNITS[quantity], most_seeds(table)
    text = f'With {largest} labels, {best} has the lowest {quantity} error: '
    text += f'{cell(table[best, largest], seeds)} {unit}'
    if best != REFERENCE and (REFERENCE, largest) in table:
        text += f', against {cell(table[REFERENCE, largest], seeds)} for {REFERENCE}'
    return f'{text}.'
