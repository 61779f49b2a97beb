"""What a study found, in plain sentences: the beginning of its report."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from sevennet_mf.study.labels_saved import FEWER, MORE, REFERENCE, Needed
from sevennet_mf.study.results import UNITS
from sevennet_mf.study.seeds import Table, labels_of, most_seeds, rows_of
from sevennet_mf.study.words import cell, listed


def headline(
    quantity: str, table: Table, needed: Sequence[Needed], target: str = ''
) -> list[str]:
    """Return what a study says about one quantity, the main thing first.

    needed: of `labels_saved`; target: the fidelity whose labels are counted.
    """
    rows = rows_of(table)
    if not rows:
        return []
    others = [row for row in rows if row != REFERENCE]
    leader = _leading(table, rows)
    found = []
    if REFERENCE not in rows:
        found.append(
            f'How many labels a method saves is not known: {REFERENCE} has no '
            'finished run.'
        )
    elif others and leader == REFERENCE:
        lower = [row for row in others if _compared(table, row)[0]]
        leader = _leading(table, lower or others)
        found.append(_against(quantity, table, leader, others))
    if others:
        found += _worth(quantity, [n for n in needed if n.row == leader], target)
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


def _compared(table: Table, row: str) -> tuple[list[int], list[int]]:
    """The labels with which a row is below high_only, and those where not."""
    lower: list[int] = []
    higher: list[int] = []
    for n in sorted(set(labels_of(table, row)) & set(labels_of(table, REFERENCE))):
        is_lower = table[row, n].mean < table[REFERENCE, n].mean
        (lower if is_lower else higher).append(n)
    return lower, higher


def _against(
    quantity: str, table: Table, leader: str, others: Sequence[str]
) -> str:
    """Where the error is lower than that of high_only, which is lower overall."""
    lower, higher = _compared(table, leader)
    if not lower:
        if not any(any(_compared(table, row)) for row in others):
            return ''  # they have no number of labels in common
        return f'No method has a lower {quantity} error than {REFERENCE}.'
    text = f'{leader} has a lower {quantity} error than {REFERENCE} with '
    if higher and lower[-1] < higher[0]:
        return f'{text}up to {lower[-1]} labels, not beyond.'
    but = f', not with {listed(higher)}' if higher else ''
    return f'{text}{listed(lower)} labels{but}.'


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
        text += f'{n.largest}, the most that was measured'
        # the interval reaches into what was measured
        if n.interval and n.low != MORE:
            text += f' (95 % interval: {n.interval})'
        return f'{text}.'
    if n.value == FEWER:
        return (
            f'{who} has a higher {quantity} error than {REFERENCE} with '
            f'{n.smallest}, the fewest that were measured.'
        )
    needs = n.words(n.value)
    if n.interval not in ('', needs):
        needs += f' ({n.interval})'
    tail = f'; {n.note}' if n.note else ''
    return (
        f'{who} reaches the {quantity} error that {REFERENCE} needs {needs} '
        f'for{tail}.'
    )


def _lowest(quantity: str, table: Table, rows: Sequence[str]) -> str:
    """The lowest error with the most labels, beside that of high_only."""
    largest = max(labels_of(table))
    there = [row for row in rows if (row, largest) in table]
    best = min(there, key=lambda row: table[row, largest].mean)
    unit, seeds = UNITS[quantity], most_seeds(table)
    text = f'With {largest} labels the lowest {quantity} error is that of {best}, '
    text += f'{cell(table[best, largest], seeds)} {unit}'
    if best != REFERENCE and (REFERENCE, largest) in table:
        text += f'; {REFERENCE} has {cell(table[REFERENCE, largest], seeds)}'
    return f'{text}.'
