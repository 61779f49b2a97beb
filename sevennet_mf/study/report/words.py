"""The cells of a report's tables, and what was compared, in plain sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sevennet_mf.study.report.labels_saved import REFERENCE
from sevennet_mf.study.report.run_results import OverSeeds, RunResult


def number(value: float, like: float | None = None) -> str:
    """Return a number with three digits, or with as many decimals as `like`."""
    size = abs(value if like is None else like)
    if not math.isfinite(value) or size == 0 or not math.isfinite(size):
        return f'{value:g}'
    return f'{value:.{max(0, 2 - math.floor(math.log10(size)))}f}'


def spread(found: OverSeeds) -> str:
    """Return '32.2 ± 4.6', or '32.2' for a single seed."""
    mean = number(found.mean)
    if found.n == 1:
        return mean
    return f'{mean} ± {number(found.deviation, found.mean)}'


def cell(found: OverSeeds, seeds: int) -> str:
    """Return `spread`, with the number of seeds if it is below `seeds`."""
    fewer = f' (n = {found.n})' if found.n < seeds else ''
    return f'{spread(found)}{fewer}'


def span(values: Iterable[int]) -> str:
    """Return '118 to 120', '120', or '' for no values."""
    there = sorted(set(values))
    ends = there if len(there) < 2 else [there[0], there[-1]]
    return ' to '.join(f'{n:,}' for n in ends)


def listed(words: Iterable[Any]) -> str:
    """Return 'a, b and c'."""
    *head, last = [str(word) for word in words] or ['']
    return f'{", ".join(head)} and {last}' if head else last


# ---- what was compared


def split(study: Mapping[str, Any]) -> str:
    """Return how the test set was chosen, according to study.json."""
    told = study.get('split') or (study.get('test') or {}).get('from')
    if not isinstance(told, Mapping):
        return 'separate test files' if told == 'files' else str(told or '')
    seed = f' (seed {told.get("seed", 0)})'
    if told.get('by') == 'composition' and told.get('train'):
        formulas = listed(told['train'])
        return f'by composition: trained on {formulas}, tested on the rest'
    if told.get('by') == 'composition':
        return f'by composition: {_percent(told)} of the formulas, at random{seed}'
    if told.get('by') == 'element':
        names, anchors = listed(told.get('element') or []), told.get('anchors', 1)
        text = f'by element: all structures with {names}'
        kept = f', except {anchors} of each, which stay in training'
        return text + kept * bool(anchors)
    return f'{_percent(told)} of the structures, at random{seed}'


def _percent(split: Mapping[str, Any]) -> str:
    return f'{100 * float(split.get("test") or 0):g} %'


def caveat(results: Iterable[RunResult]) -> str:
    """Return how many test structures have a low-fidelity label in training."""
    told = [r for r in results if r.test_low_labelled is not None]
    if not told:
        return ''
    most = max(told, key=lambda r: r.test_low_labelled or 0)
    if not most.test_low_labelled:
        return (
            'No test structure has a low-fidelity label in training, so all test '
            'structures are new to every method.'
        )
    total = f'the {most.test_structures} ' if most.test_structures else 'the '
    return (
        f'{most.test_low_labelled} of {total}test structures have a low-fidelity '
        'label in training. Methods that train on these labels have seen these '
        f'structures, but {REFERENCE} has not. Their errors are those of completing '
        'a data set, and may be larger on structures without any label.'
        f'{_inferred_test(told)}'
    )


def _inferred_test(results: Iterable[RunResult]) -> str:
    """How many of those test structures may have an inferred label in training."""
    inferring = [r for r in results if r.inferred and r.inferred_test != 0]
    if not inferring:
        return ''
    counts = [r.inferred_test for r in inferring if r.inferred_test]
    who = f'Up to {max(counts)} of them' if counts else 'Some of them'
    return (
        f' {who} may have been in training with an inferred label of the target '
        '(the low-fidelity label plus a difference learned from structures with '
        'both). No true label of a test structure was in training.'
    )


def inferred(results: Iterable[RunResult]) -> list[str]:
    """Return which rows trained on inferred labels, by the number of labels."""
    found: dict[str, dict[int, list[int]]] = {}
    for r in sorted(results, key=lambda r: r.labels):
        if r.inferred is not None and r.labels:
            by_labels = found.setdefault(r.row, {})
            by_labels.setdefault(r.labels, []).append(r.inferred)
    return [
        _inferred(row, by_labels)
        for row, by_labels in found.items()
        if any(map(any, by_labels.values()))
    ]


def _inferred(row: str, by_labels: Mapping[int, Sequence[int]]) -> str:
    parts = [
        f'{span(counts) if any(counts) else "none"} with {n}'
        for n, counts in by_labels.items()
    ]
    parts[0] += ' labels'
    text = f'{row} also trained on inferred labels of the target: {listed(parts)}.'
    begins = not all(map(any, by_labels.values()))
    return f'{text} Its error may jump where these begin.' if begins else text


def steps(results: Sequence[RunResult]) -> str:
    """Return the optimiser steps of some runs, as '1,500 + 1,500'."""
    kinds = sorted({r.steps for r in results if r.steps})
    return ' or '.join(' + '.join(f'{n:,}' for n in kind) for kind in kinds)


def same_budget(results: Sequence[RunResult]) -> str:
    """Return whether all runs took as many optimiser steps."""
    totals = sorted({sum(r.steps) for r in results if r.steps and r.labels})
    if not totals:
        return ''
    if len(totals) == 1:
        return f'Every run took {totals[0]:,} optimiser steps in total.'
    return (
        f'The runs took from {totals[0]:,} to {totals[-1]:,} optimiser steps in '
        'total, so their budgets are not exactly equal.'
    )
