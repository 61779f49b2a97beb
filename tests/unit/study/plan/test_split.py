"""Test sets by chance, composition and element; nested orders of labels."""

from __future__ import annotations

from typing import Any

import pytest
from helpers import INGAN

from sevennet_mf.data.reading.read import read_entry
from sevennet_mf.data.same.identity import Reader
from sevennet_mf.errors import UserError
from sevennet_mf.study.plan import split as module
from sevennet_mf.study.plan.label_set import LabelSet, label_order
from sevennet_mf.study.plan.study_yaml import Split


def labels_in(name: str, index: str = ':') -> LabelSet:
    entry = {
        'file': [str(INGAN / f'{name}.extxyz')],
        'fidelity': 'r2scan',
        'index': index,
    }
    return LabelSet.of(read_entry(entry, None, ['r2scan'], 4.0), Reader())


@pytest.fixture(scope='module')
def pool() -> LabelSet:
    """30 cells: GaN, InN and mixed ones."""
    return labels_in('r2scan_pool')


@pytest.fixture(scope='module')
def valid() -> LabelSet:
    return labels_in('r2scan_valid')


def split(pool: LabelSet, valid: LabelSet, **block: Any) -> module.Sides:
    return module.apply(Split(**block), pool, valid)


def sources(labels: LabelSet) -> list[str]:
    return [s.source for s in labels.structures]


def test_random_takes_the_share_and_nothing_twice(
    pool: LabelSet, valid: LabelSet
) -> None:
    parts = split(pool, valid, by='random', test=0.2)
    assert len(parts.test) == round(0.2 * len(pool))
    assert sorted(sources(parts.test) + sources(parts.pool)) == sorted(sources(pool))
    assert parts.kept.all()
    again = split(pool, valid, by='random', test=0.2)
    assert sources(again.test) == sources(parts.test)
    other = split(pool, valid, by='random', test=0.2, seed=1)
    assert sources(other.test) != sources(parts.test)


def test_random_does_not_depend_on_the_order_of_files(
    pool: LabelSet, valid: LabelSet
) -> None:
    parts = split(pool, valid, by='random', test=0.3)
    turned = split(pool.at(range(len(pool))[::-1]), valid, by='random', test=0.3)
    assert sorted(sources(turned.test)) == sorted(sources(parts.test))


def test_a_structure_that_is_there_twice_is_on_one_side(valid: LabelSet) -> None:
    twice = labels_in('r2scan_valid')
    both = LabelSet(valid.structures + twice.structures, valid.marks + twice.marks)
    parts = split(both, valid, by='random', test=0.5)
    assert not set(parts.test.marks) & set(parts.pool.marks)
    # and no test structure validates
    kept = [m for m, k in zip(valid.marks, parts.kept, strict=True) if k]
    assert not set(parts.test.marks) & set(kept)


def test_composition_trains_on_the_formulas_that_are_named(
    pool: LabelSet, valid: LabelSet
) -> None:
    # however they are written
    parts = split(pool, valid, by='composition', train=['NGa', 'In2N2'])
    assert set(parts.pool.formulas) == {'GaN', 'InN'}
    assert not {'GaN', 'InN'} & set(parts.test.formulas)
    assert len(parts.pool) + len(parts.test) == len(pool)
    # a mixed cell in validation would tell of the test set
    kept = valid.where(parts.kept)
    assert set(kept.formulas) <= {'GaN', 'InN'}
    assert len(kept) < len(valid)


def test_composition_by_share_holds_whole_formulas_out(
    pool: LabelSet, valid: LabelSet
) -> None:
    parts = split(pool, valid, by='composition', test=0.4)
    assert not set(parts.test.formulas) & set(parts.pool.formulas)
    share = len(set(parts.test.formulas)) / len(set(pool.formulas))
    assert share == pytest.approx(0.4, abs=0.15)


def test_element_keeps_anchors_first_of_all_labels(
    pool: LabelSet, valid: LabelSet
) -> None:
    parts = split(pool, valid, by='element', element=['In'], anchors=2)
    assert parts.test.has_any(['In']).all()
    assert parts.pool.has_any(['In']).sum() == 2
    for seed in range(3):
        order = label_order(parts.pool, seed, parts.first)
        assert parts.pool.at(order[:2]).has_any(['In']).all()
        assert not parts.pool.at(order[2:]).has_any(['In']).any()
    assert not valid.where(parts.kept).has_any(['In']).any()


def test_element_without_anchors_never_sees_it(
    pool: LabelSet, valid: LabelSet
) -> None:
    parts = split(pool, valid, by='element', element=['In'], anchors=0)
    assert not parts.pool.has_any(['In']).any()
    assert parts.first == []


@pytest.mark.parametrize(
    ('block', 'words'),
    [
        (
            {'by': 'composition', 'train': ['GaAs']},
            r"study.split.train must be one of \[.*'GaN'.*got 'GaAs'",
        ),
        ({'by': 'composition', 'train': ['Ga_N']}, "'Ga_N' is not a formula"),
        ({'by': 'element', 'element': ['in']}, "got 'in'. Did you mean 'In'"),
        (
            {'by': 'element', 'element': ['N']},
            'leaves no structure for training out of the 47 labelled',
        ),
        ({'by': 'random', 'test': 0.001}, '0.001 leaves no structure for testing'),
        ({'by': 'random', 'test': 0.99}, 'leaves no structure for training'),
    ],
)
def test_wrong_splits(
    block: dict[str, Any], words: str, pool: LabelSet, valid: LabelSet
) -> None:
    if block.get('element') == ['N']:
        block = {**block, 'anchors': 0}
    with pytest.raises(UserError, match=words):
        split(pool, valid, **block)
