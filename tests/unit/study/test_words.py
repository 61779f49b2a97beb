"""The sentences and cells of a report."""

import math
from typing import Any

import pytest

from sevennet_mf.study import words
from sevennet_mf.study.labels_saved import MORE, Needed, labels_saved
from sevennet_mf.study.results import Result, Spread, Table


def spread(*values: float) -> Spread:
    return Spread(tuple(range(1, len(values) + 1)), values)


def study(**errors: dict[int, float]) -> Table:
    """Three seeds that agree, by row and number of labels."""
    return {
        (row, n): spread(e, e, e)
        for row, points in errors.items()
        for n, e in points.items()
    }


HIGH = {4: 100.0, 16: 50.0}


def said(**rows: dict[int, float]) -> list[str]:
    table = study(**rows)
    return words.headline('energy', table, labels_saved(table), 'r2scan')


@pytest.mark.parametrize(
    ('value', 'text'),
    [(119.4, '119'), (35.43, '35.4'), (1.996, '2.00'), (0.012, '0.0120'), (0, '0')],
)
def test_three_digits(value: float, text: str) -> None:
    assert words.number(value) == text


def test_a_spread_has_the_decimals_of_its_mean() -> None:
    assert words.spread(spread(30.0, 40.0)) == '35.0 ± 7.1'
    assert words.spread(spread(300.0, 400.0)) == '350 ± 71'
    assert words.spread(spread(30.0)) == '30.0'
    assert words.number(math.nan) == 'nan'


def test_the_headline_says_what_the_labels_are_worth() -> None:
    text = said(high_only=HIGH, multi_fidelity={4: 70.0, 16: 40.0})
    assert text[0] == (
        'multi_fidelity with 4 r2scan labels reaches the energy error that '
        'high_only needs 8 for.'
    )
    assert text[1] == (
        'multi_fidelity with 16 r2scan labels has a lower energy error than '
        'high_only with 16, the most that was measured.'
    )
    assert text[2] == (
        'With 16 labels the lowest energy error is that of multi_fidelity, '
        '40.0 ± 0.0 meV/atom; high_only has 50.0 ± 0.0.'
    )


def test_the_best_method_leads() -> None:
    rows = {'transfer': {4: 90.0, 16: 49.0}, 'delta': {4: 70.0, 16: 45.0}}
    assert said(high_only=HIGH, **rows)[0].startswith('delta with 4')


def test_methods_that_do_not_pay() -> None:
    text = said(high_only=HIGH, transfer={4: 120.0, 16: 60.0})
    assert text[0] == 'No method has a lower energy error than high_only.'
    # 60 is reached by 11 labels, where transfer had 16
    assert 'transfer with 16 r2scan labels reaches' in text[1]
    assert 'needs 11' in text[1]
    text = said(high_only=HIGH, transfer={4: 120.0})
    assert text[1] == (
        'transfer with 4 r2scan labels has a higher energy error than high_only '
        'with 4, the fewest that were measured.'
    )


def test_without_high_only() -> None:
    text = said(transfer={4: 90.0}, delta={4: 80.0})
    assert 'is not known: high_only has no finished run' in text[0]
    assert text[1].startswith('With 4 labels the lowest energy error is that of d')


def test_nothing_to_say() -> None:
    assert words.headline('energy', {}, []) == []


def test_high_only_alone() -> None:
    (text,) = said(high_only=HIGH)
    assert text == (
        'With 16 labels the lowest energy error is that of high_only, '
        '50.0 ± 0.0 meV/atom.'
    )


def needed(**changes: Any) -> Needed:
    about: dict[str, Any] = {
        'row': 'multi_fidelity',
        'labels': 8,
        'error': 20.0,
        'value': 31.2,
        'low': 24.3,
        'high': 40.4,
        'smallest': 4,
        'largest': 47,
    }
    return Needed(**{**about, **changes})


def test_the_interval_is_said() -> None:
    text = words.sentence('force', needed(), 'r2scan')
    assert text == (
        'multi_fidelity with 8 r2scan labels reaches the force error that '
        'high_only needs 31 (24 to 40) for.'
    )
    text = words.sentence('force', needed(value=MORE, high=MORE))
    assert text.endswith('measured (95 % interval: 24 to more than 47).')
    lone = needed(low=None, high=None, note='no interval: one seed of delta')
    assert words.sentence('force', lone).endswith(
        'needs 31 for; no interval: one seed of delta.'
    )


@pytest.mark.parametrize(
    ('told', 'text'),
    [
        ('files', 'given as files of its own'),
        ({'by': 'random', 'test': 0.2, 'seed': 3}, '20 % of the structures'),
        ({'by': 'composition', 'train': ['GaN', 'InN']}, 'trained on GaN and InN'),
        ({'by': 'composition', 'test': 0.3, 'seed': 0}, '30 % of the formulas'),
        ({'by': 'element', 'element': ['In'], 'anchors': 1}, 'with In, but 1'),
        (None, ''),
    ],
)
def test_split(told: Any, text: str) -> None:
    found = words.split({'test': {'from': told}})
    assert (text in found) if text else found == ''


def run(**about: Any) -> Result:
    return Result('delta/n8_seed1', 'delta', 8, 1, 'done', '', '', **about)


def test_caveat() -> None:
    runs = [
        run(test_structures=18, test_low_labelled=0),
        run(test_structures=18, test_low_labelled=6),
    ]
    assert words.caveat(runs).startswith(
        '6 of the 18 test structures have a low-fidelity label in training.'
    )
    assert words.caveat(runs[:1]).startswith('No test structure has a low-fidelity')
    assert words.caveat([run()]) == ''


def test_budget() -> None:
    runs = [run(steps=(1500, 1500)), run(steps=(3000,))]
    assert words.steps(runs) == '1,500 + 1,500 or 3,000'
    assert words.same_budget(runs).startswith('Every run took 3,000 optimiser steps')
    other = [*runs, run(steps=(3050,))]
    assert 'from 3,000 to 3,050 optimiser steps' in words.same_budget(other)
    assert words.same_budget([]) == ''
