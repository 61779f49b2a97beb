"""The cells of a report, and its sentences on what was compared."""

import math
from pathlib import Path
from typing import Any

import pytest

from sevennet_mf.study.report import words
from sevennet_mf.study.report.run_results import OverSeeds, RunResult


def spread(*values: float) -> OverSeeds:
    return OverSeeds(tuple(range(1, len(values) + 1)), values)


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


@pytest.mark.parametrize(
    ('told', 'text'),
    [
        ('files', 'separate test files'),
        ({'by': 'random', 'test': 0.2, 'seed': 3}, '20 % of the structures'),
        ({'by': 'composition', 'train': ['GaN', 'InN']}, 'trained on GaN and InN'),
        ({'by': 'composition', 'test': 0.3, 'seed': 0}, '30 % of the formulas'),
        ({'by': 'element', 'element': ['In'], 'anchors': 1}, 'with In, except 1'),
        (None, ''),
    ],
)
def test_split(told: Any, text: str) -> None:
    found = words.split({'test': {'from': told}})
    assert (text in found) if text else found == ''


def run(**about: Any) -> RunResult:
    told: dict[str, Any] = {
        'name': 'delta/n8_seed1',
        'folder': Path('delta/n8_seed1'),
        'row': 'delta',
        'method': 'delta',
        'labels': 8,
        'seed': 1,
        'state': 'done',
    }
    return RunResult(**{**told, **about})


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


def inferring(labels: int, inferred: int | None, **about: Any) -> RunResult:
    found = {'test_structures': 18, 'test_low_labelled': 6, **about}
    row = {'row': 'multi_fidelity', 'method': 'multi_fidelity'}
    return run(**row, labels=labels, inferred=inferred, **found)


def test_caveat_says_that_labels_of_test_structures_were_inferred() -> None:
    told = [inferring(8, 120, inferred_test=5), inferring(8, 118, inferred_test=6)]
    text = words.caveat(told)
    assert text.startswith('6 of the 18 test structures have a low-fidelity label')
    assert 'Up to 6 of them may have been in training with an inferred label' in text
    assert 'No true label' in text
    # how many is not told
    text = words.caveat([inferring(8, 120)])
    assert 'Some of them may have been in training with an inferred label' in text
    assert 'inferred' not in words.caveat([inferring(8, 120, inferred_test=0)])
    assert 'inferred' not in words.caveat([inferring(8, 0)])
    assert 'inferred' not in words.caveat([inferring(8, None)])


def test_inferred_labels_are_told_by_number_of_labels() -> None:
    runs = [
        inferring(2, 0),
        inferring(4, 120),
        inferring(4, 118, seed=2),
        inferring(16, 101),
        run(inferred=0),
    ]
    assert words.inferred(runs) == [
        'multi_fidelity also trained on inferred labels of the target: none with 2 '
        'labels, 118 to 120 with 4 and 101 with 16. Its error may jump where these '
        'begin.'
    ]
    assert words.inferred([inferring(2, 0), run()]) == []
    (always,) = words.inferred([inferring(4, 120)])
    assert always.endswith('of the target: 120 with 4 labels.')


def test_fewer_seeds_are_marked() -> None:
    assert words.cell(spread(30.0, 40.0), 3) == '35.0 ± 7.1 (n = 2)'
    assert words.cell(spread(30.0), 3) == '30.0 (n = 1)'
    assert words.cell(spread(30.0, 40.0), 2) == '35.0 ± 7.1'


def test_budget() -> None:
    runs = [run(steps=(1500, 1500)), run(steps=(3000,))]
    assert words.steps(runs) == '1,500 + 1,500 or 3,000'
    assert words.same_budget(runs).startswith('Every run took 3,000 optimiser steps')
    other = [*runs, run(steps=(3050,))]
    assert 'from 3,000 to 3,050 optimiser steps' in words.same_budget(other)
    assert words.same_budget([]) == ''
