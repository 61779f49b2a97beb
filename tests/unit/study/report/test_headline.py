"""The sentences that a report begins with."""

from typing import Any

from sevennet_mf.study.report.headline import headline, sentence
from sevennet_mf.study.report.labels_saved import MORE, Needed, labels_saved
from sevennet_mf.study.report.run_results import OverSeeds, Table


def spread(*values: float) -> OverSeeds:
    return OverSeeds(tuple(range(1, len(values) + 1)), values)


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
    return headline('energy', table, labels_saved(table), 'r2scan')


def test_the_headline_says_what_the_labels_are_worth() -> None:
    text = said(high_only=HIGH, multi_fidelity={4: 70.0, 16: 40.0})
    assert text[0] == (
        'multi_fidelity with 4 r2scan labels reaches the energy error of high_only '
        'with 8 labels.'
    )
    assert text[1] == (
        'multi_fidelity with 16 r2scan labels has a lower energy error than '
        'high_only with 16, the largest number measured.'
    )
    assert text[2] == (
        'With 16 labels, multi_fidelity has the lowest energy error: 40.0 ± 0.0 '
        'meV/atom, against 50.0 ± 0.0 for high_only.'
    )


def test_the_best_method_leads() -> None:
    rows = {'transfer': {4: 90.0, 16: 49.0}, 'delta': {4: 70.0, 16: 45.0}}
    assert said(high_only=HIGH, **rows)[0].startswith('delta with 4')


def test_methods_that_do_not_pay() -> None:
    text = said(high_only=HIGH, transfer={4: 120.0, 16: 60.0})
    assert text[0] == 'No method has a lower energy error than high_only.'
    # 60 is reached by 11 labels, where transfer had 16
    assert 'transfer with 16 r2scan labels reaches' in text[1]
    assert 'with 11 labels' in text[1]
    text = said(high_only=HIGH, transfer={4: 120.0})
    assert text[1] == (
        'transfer with 4 r2scan labels has a higher energy error than high_only '
        'with 4, the smallest number measured.'
    )


def test_a_method_that_pays_with_few_labels_only() -> None:
    """The lowest over all numbers of labels is not the lowest at each."""
    high = {4: 102.0, 8: 41.0, 16: 10.5}
    text = said(high_only=high, multi_fidelity={4: 60.0, 8: 40.0, 16: 30.0})
    assert text[0] == (
        'multi_fidelity has a lower energy error than high_only with up to 8 '
        'labels, but not with more.'
    )
    assert 'multi_fidelity with 4 r2scan labels reaches' in text[1]
    # said of the method that it is true of, though another is better overall
    rows = {'transfer': {4: 103.0, 8: 42.0, 16: 11.0}, 'delta': {4: 90.0, 8: 90.0}}
    text = said(high_only=high, **rows)
    assert text[0] == (
        'delta has a lower energy error than high_only with up to 4 labels, but '
        'not with more.'
    )
    assert 'delta with 4' in text[1]


def test_a_method_that_pays_here_and_there() -> None:
    high = {4: 100.0, 8: 50.0, 16: 25.0}
    text = said(high_only=high, delta={4: 130.0, 8: 49.0, 16: 40.0})
    assert text[0] == (
        'delta has a lower energy error than high_only with 8 labels, but not with '
        '4 and 16.'
    )
    # not with the same labels: nothing to compare
    text = said(high_only={4: 100.0}, delta={16: 130.0})
    assert not any(t.startswith('No method') for t in text)


def test_what_the_spread_does_not_bear_out_is_not_said() -> None:
    """high_only 133 ± 36 against 115 ± 69: that is no difference."""
    table = {
        ('high_only', 4): spread(160.0, 150.0),
        ('high_only', 8): spread(107.0, 159.0),
        ('high_only', 16): spread(60.0, 62.0),
        ('delta', 4): spread(120.0, 124.0),
        ('delta', 8): spread(66.0, 164.0),
        ('delta', 16): spread(120.0, 121.0),
    }
    text = headline('energy', table, labels_saved(table))
    assert text[0] == (
        'delta has a lower energy error than high_only with up to 4 labels, but '
        'not with more.'
    )
    near = {k: s for k, s in table.items() if k[1] == 8}
    near['high_only', 8] = spread(60.0, 150.0)
    text = headline('energy', near, labels_saved(near))
    assert text[0] == (
        'No method has a lower energy error than high_only, beyond the spread over '
        'seeds.'
    )


def test_a_curve_that_rises_is_told_and_nothing_is_counted_on_it() -> None:
    text = said(high_only={6: 76.0, 29: 165.0}, delta={6: 121.0, 29: 127.0})
    assert text[0] == (
        'The energy error of high_only does not decrease with more labels (76.0 '
        'meV/atom with 6, 165 with 29). The training runs may be too short, and the '
        'number of labels saved cannot be estimated.'
    )
    assert not any('labels reaches' in t or 'labels has a' in t for t in text)


def test_one_seed_is_told() -> None:
    table = {
        ('high_only', 4): spread(100.0),
        ('high_only', 8): spread(60.0),
        ('delta', 4): spread(50.0),
    }
    text = headline('energy', table, labels_saved(table))
    assert any(t.startswith('There is only one seed') for t in text)


def test_fewer_seeds_are_told() -> None:
    table = {
        **study(high_only=HIGH, delta={4: 90.0}),
        ('delta', 16): spread(40.0, 40.0),
    }
    text = headline('energy', table, [])[-1]
    assert 'delta has the lowest energy error: 40.0 ± 0.0 (n = 2) meV/atom' in text


def test_without_high_only() -> None:
    text = said(transfer={4: 90.0}, delta={4: 80.0})
    assert 'is unknown: no run of high_only is finished' in text[0]
    assert text[1].startswith('With 4 labels, delta has the lowest energy error')


def test_nothing_to_say() -> None:
    assert headline('energy', {}, []) == []


def test_high_only_alone() -> None:
    (text,) = said(high_only=HIGH)
    assert text == (
        'With 16 labels, high_only has the lowest energy error: 50.0 ± 0.0 meV/atom.'
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
    text = sentence('force', needed(), 'r2scan')
    assert text == (
        'multi_fidelity with 8 r2scan labels reaches the force error of high_only '
        'with 31 labels (95 % interval: 24 to 40).'
    )
    text = sentence('force', needed(value=MORE, high=MORE))
    assert text.endswith('measured (95 % interval: 24 to more than 47).')
    why = 'no interval, because delta has only one seed'
    lone = needed(low=None, high=None, note=why)
    assert sentence('force', lone).endswith(f'with 31 labels; {why}.')
