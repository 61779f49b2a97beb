"""What a study found, in plain sentences and in the cells of tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from sevennet_mf.study.labels_saved import FEWER, MORE, REFERENCE, Needed
from sevennet_mf.study.results import (
    UNITS,
    Result,
    Spread,
    Table,
    labels_of,
    rows_of,
)


def number(value: float, like: float | None = None) -> str:
    """Return three digits of a number, or as many decimals as `like` gets."""
    size = abs(value if like is None else like)
    if not math.isfinite(value) or size == 0 or not math.isfinite(size):
        return f'{value:g}'
    return f'{value:.{max(0, 2 - math.floor(math.log10(size)))}f}'


def spread(found: Spread) -> str:
    """Return '32.2 ± 4.6', or '32.2' of one seed."""
    mean = number(found.mean)
    if found.n == 1:
        return mean
    return f'{mean} ± {number(found.deviation, found.mean)}'


def listed(words: Iterable[Any]) -> str:
    """Return 'a, b and c'."""
    *head, last = [str(word) for word in words] or ['']
    return f'{", ".join(head)} and {last}' if head else last


# ---- the headline


def headline(
    quantity: str, table: Table, needed: Sequence[Needed], target: str = ''
) -> list[str]:
    """Return what a study says about one quantity, the main thing first.

    needed: of `labels_saved`; target: the fidelity whose labels are counted.
    """
    rows = rows_of(table)
    if not rows:
        return []
    best = _leading(table, rows)
    found = []
    if REFERENCE not in rows:
        found.append(
            f'How many labels a method saves is not known: {REFERENCE} has no '
            'finished run.'
        )
    elif best == REFERENCE:
        text = f'No method has a lower {quantity} error than {REFERENCE}.'
        found.append(text if len(rows) > 1 else '')
    others = [row for row in rows if row != REFERENCE]
    if needed and others:
        leader = best if best != REFERENCE else _leading(table, others)
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
    unit = UNITS[quantity]
    text = f'With {largest} labels the lowest {quantity} error is that of {best}, '
    text += f'{spread(table[best, largest])} {unit}'
    if best != REFERENCE and (REFERENCE, largest) in table:
        text += f'; {REFERENCE} has {spread(table[REFERENCE, largest])}'
    return f'{text}.'


# ---- what was compared


def split(study: Mapping[str, Any]) -> str:
    """Return how the test set was chosen, as study.json says it."""
    told = study.get('split') or (study.get('test') or {}).get('from')
    if not isinstance(told, Mapping):
        return 'given as files of its own' if told == 'files' else str(told or '')
    seed = f' (seed {told.get("seed", 0)})'
    if told.get('by') == 'composition' and told.get('train'):
        formulas = listed(told['train'])
        return f'by composition: trained on {formulas}, tested on the rest'
    if told.get('by') == 'composition':
        return f'by composition: {_percent(told)} of the formulas, at random{seed}'
    if told.get('by') == 'element':
        names, anchors = listed(told.get('element') or []), told.get('anchors', 1)
        text = f'by element: all structures with {names}'
        return f'{text}, but {anchors} of each kept in training' if anchors else text
    return f'{_percent(told)} of the structures, at random{seed}'


def _percent(split: Mapping[str, Any]) -> str:
    return f'{100 * float(split.get("test") or 0):g} %'


def caveat(results: Iterable[Result]) -> str:
    """Return how many test structures have a low-fidelity label in training."""
    told = [r for r in results if r.test_low_labelled is not None]
    if not told:
        return ''
    most = max(told, key=lambda r: r.test_low_labelled or 0)
    if not most.test_low_labelled:
        return (
            'No test structure has a low-fidelity label in training: what is tested '
            'is new to every method.'
        )
    total = f'the {most.test_structures} ' if most.test_structures else 'the '
    return (
        f'{most.test_low_labelled} of {total}test structures have a low-fidelity '
        'label in training. The methods that train on it know these structures, '
        f'which {REFERENCE} does not: their errors are those of completing a data '
        'set, and may be larger on structures without any label.'
    )


def steps(results: Sequence[Result]) -> str:
    """Return the optimiser steps of some runs, as '1,500 + 1,500'."""
    kinds = sorted({r.steps for r in results if r.steps})
    return ' or '.join(' + '.join(f'{n:,}' for n in kind) for kind in kinds)


def same_budget(results: Sequence[Result]) -> str:
    """Return whether all runs took as many optimiser steps."""
    totals = sorted({sum(r.steps) for r in results if r.steps and r.labels})
    if not totals:
        return ''
    if len(totals) == 1:
        return f'Every run took {totals[0]:,} optimiser steps, all stages together.'
    return (
        f'The runs took from {totals[0]:,} to {totals[-1]:,} optimiser steps, all '
        'stages together: not quite the same budget.'
    )
