"""Batches of about equal work: none above the limit, each structure in its turn."""

import itertools

import numpy as np
import pytest

from sevennet_mf.data.batches import equal_work
from sevennet_mf.data.batches.equal_work import EqualWorkSampler, batches_in_order

# fidelities and edges of 60 structures: 2-atom cells, 200-atom cells, lone atoms
RANDOM = np.random.default_rng(0)
INDEX = RANDOM.permutation(np.repeat([0, 1, 2], [40, 14, 6]))
EDGES = RANDOM.choice([0, 30, 45, 80, 2000], 60, p=[0.1, 0.4, 0.25, 0.2, 0.05])
LIMIT = 300
SAMPLINGS = ['proportional', 'balanced', {0: 3, 1: 1, 2: 0.5}]


def sampler(sampling: object = 'proportional', **options: int) -> EqualWorkSampler:
    limit = options.pop('limit', LIMIT)
    return EqualWorkSampler(EDGES, limit, INDEX, 3, sampling, seed=5, **options)


def epochs(own: EqualWorkSampler, *numbers: int) -> list[list[int]]:
    batches = []
    for number in numbers:
        own.set_epoch(number)
        batches += list(own)
    return batches


def work(batch: list[int]) -> int:
    return int(np.maximum(EDGES[batch], 1).sum())


@pytest.mark.parametrize('sampling', SAMPLINGS, ids=str)
@pytest.mark.parametrize('world_size', [1, 2, 3])
def test_batches_are_full_but_not_above_the_limit(
    sampling: object, world_size: int
) -> None:
    ranks = [
        epochs(sampler(sampling, rank=r, world_size=world_size), 0, 1)
        for r in range(world_size)
    ]
    steps = len(sampler(sampling, world_size=world_size))
    assert {len(batches) for batches in ranks} == {2 * steps}  # none waits
    drawn = list(itertools.chain(*zip(*ranks, strict=True)))
    for batch, following in itertools.pairwise(drawn):
        assert len(batch) >= 1
        assert work(batch) <= LIMIT or len(batch) == 1
        assert work(batch) + work(following[:1]) > LIMIT  # no room for the next
    own = sampler(sampling, world_size=world_size)
    own.set_epoch(1)
    seen = [own.present(step).tolist() for step in range(steps)]
    joint = [list(itertools.chain(*batches)) for batches in zip(*ranks, strict=True)]
    assert seen == [[f in INDEX[step] for f in range(3)] for step in joint[steps:]]


def test_each_structure_once_before_any_repeats() -> None:
    drawn = list(itertools.chain(*epochs(sampler(), *range(12))))
    assert len(drawn) > 600
    for first in range(0, 600, 60):
        assert sorted(drawn[first : first + 60]) == list(range(60))


def test_an_epoch_is_about_a_pass() -> None:
    own = sampler()
    batches = epochs(own, 0)
    assert len(batches) == len(own)
    assert 60 <= sum(map(len, batches)) < 60 + max(map(len, batches))
    assert own.structures_per_batch == pytest.approx(60 / len(own), rel=0.1)


@pytest.mark.parametrize('sampling', SAMPLINGS, ids=str)
def test_shares_are_kept(sampling: object) -> None:
    own = sampler(sampling)
    drawn = list(itertools.chain(*epochs(own, *range(8))))
    for n in (20, 100, len(drawn)):
        count = np.bincount(INDEX[drawn[:n]], minlength=3)
        if sampling != 'proportional':
            assert np.abs(count - n * own.draw_probability).max() < 1.0


@pytest.mark.parametrize('sampling', SAMPLINGS, ids=str)
@pytest.mark.parametrize('block', [equal_work.BLOCK, 3])
def test_resuming_draws_what_would_have_been_drawn(
    sampling: object, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = epochs(sampler(sampling), *range(4))
    monkeypatch.setattr(equal_work, 'BLOCK', block)
    own = sampler(sampling)
    steps = len(own)
    own.set_epoch(2)
    own.start_at(3)
    assert list(own) == whole[2 * steps + 3 : 3 * steps]
    assert epochs(own, 3, 0) == whole[3 * steps :] + whole[:steps]


def test_epochs_of_a_given_length() -> None:
    whole = epochs(sampler(), *range(3))
    own = sampler()
    own.steps_per_epoch = 4
    assert epochs(own, 0, 1, 2) == whole[:12]


def test_a_limit_that_every_structure_exceeds() -> None:
    own = sampler(limit=1)
    assert {len(batch) for batch in epochs(own, 0)} == {1}
    assert len(own) == 60
    assert own.structures_per_batch == 1.0


@pytest.mark.parametrize('world_size', [1, 2, 7])
def test_evaluation_has_each_structure_once(world_size: int) -> None:
    several = range(world_size)
    ranks = [batches_in_order(EDGES, LIMIT, r, world_size) for r in several]
    assert len({len(batches) for batches in ranks}) == 1
    steps = itertools.zip_longest(*ranks)
    drawn = [i for step in steps for batch in step for i in batch if i >= 0]
    assert drawn == list(range(60))
    for batch in itertools.chain(*ranks):
        assert batch == [-1] or work(batch) <= LIMIT or len(batch) == 1
    assert batches_in_order(EDGES[:0], LIMIT, 1, 2) == []
