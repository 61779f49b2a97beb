"""Batches: every structure counted, shares kept, the same on any number of ranks."""

import itertools
import math

import numpy as np
import pytest
import torch

from sevennet_mf.data.batches.sampler import FidelityBatchSampler

# 37 structures of fidelity 0, 9 of 1, 4 of 2, in no order
INDEX = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [37, 9, 4]))
SHARES = {0: 3, 1: 1, 2: 0.5}


def sampler(batch: int = 4, sampling: object = 'proportional', **options: int):
    options = {'seed': 5, **options}
    return FidelityBatchSampler(INDEX, 3, batch, sampling, **options)


def epochs(own: FidelityBatchSampler, *numbers: int) -> list[list[int]]:
    batches = []
    for number in numbers:
        own.set_epoch(number)
        batches += list(own)
    return batches


def real(batch: list[int]) -> list[int]:
    return [i for i in batch if i >= 0]


# --------------------------------------------------------------------- proportional


def test_each_structure_once_per_epoch() -> None:
    own = sampler()
    first, second = epochs(own, 0), epochs(own, 1)
    for batches in (first, second):
        assert len(batches) == len(own) == math.ceil(50 / 4)
        assert sorted(itertools.chain(*batches)) == list(range(50))
    assert first != second
    assert own.draw_probability.tolist() == [37 / 50, 9 / 50, 4 / 50]
    assert own.draw_probability.dtype == np.float64


@pytest.mark.parametrize('steps', [3, 12, 40])
def test_epochs_of_a_given_length(steps: int) -> None:
    own = sampler(steps_per_epoch=steps)
    batches = epochs(own, *range(50))
    assert len(own) == steps
    assert {len(batch) for batch in batches} == {4}
    drawn = list(itertools.chain(*batches))
    for first in range(0, len(drawn) - 49, 50):  # each once before any repeats
        assert sorted(drawn[first : first + 50]) == list(range(50))
    own.set_epoch(7)
    own.start_at(2)
    assert list(own) == batches[7 * steps + 2 : 8 * steps]


@pytest.mark.parametrize('world_size', [2, 3, 7])
def test_ranks_share_the_epoch(world_size: int) -> None:
    ranks = [
        epochs(sampler(2, rank=r, world_size=world_size), 0)
        for r in range(world_size)
    ]
    steps = math.ceil(50 / (2 * world_size))
    assert [len(batches) for batches in ranks] == [steps] * world_size
    drawn = [i for batches in ranks for batch in batches for i in real(batch)]
    assert sorted(drawn) == list(range(50))
    for batches in zip(*ranks, strict=True):
        assert len({len(batch) for batch in batches}) == 1  # none waits for another
        assert len(batches[0]) >= 1
        fillers = [i for batch in batches for i in batch if i < 0]
        assert len(fillers) < world_size
        assert all(-1 - i in range(50) for i in fillers)


def test_more_ranks_than_structures() -> None:
    for rank in range(3):
        own = FidelityBatchSampler(
            np.array([0, 1]), 2, 4, 'proportional', rank=rank, world_size=3
        )
        ((number,),) = list(own)
        assert (number < 0) == (rank == 2)


def test_without_shuffling_the_order_stays() -> None:
    own = sampler(shuffle=False)
    assert list(itertools.chain(*epochs(own, 3))) == list(range(50))


# --------------------------------------------------------------------------- shares


@pytest.mark.parametrize(
    ('sampling', 'probability'),
    [
        ('balanced', [1 / 3, 1 / 3, 1 / 3]),
        (SHARES, [3 / 4.5, 1 / 4.5, 0.5 / 4.5]),
        ({0: 0.1, 1: 0.7, 2: 0.2}, [0.1, 0.7, 0.2]),
        ({0: 1, 1: 1e-3, 2: 1e-3}, [1 / 1.002, 1e-3 / 1.002, 1e-3 / 1.002]),
        # rounded: no common period of any use
        ({0: math.pi, 1: 1.0, 2: math.e / 7}, None),
    ],
    ids=str,
)
@pytest.mark.parametrize('batch', [1, 4, 13])
def test_shares_are_exact_in_the_long_run(
    sampling: object, probability: list[float] | None, batch: int
) -> None:
    own = sampler(batch, sampling)
    p = own.draw_probability
    if probability is None:
        assert isinstance(sampling, dict)
        shares = np.array(list(sampling.values()))
        assert p == pytest.approx(shares / shares.sum(), abs=2e-5)
    else:
        assert p == pytest.approx(probability, abs=1e-12)
    assert p.sum() == pytest.approx(1.0, abs=1e-12)
    count = np.zeros(3)
    for t, drawn in enumerate(epochs(own, *range(40)), start=1):
        assert len(drawn) == batch
        count += np.bincount(INDEX[drawn], minlength=3)
        assert np.abs(count - p * batch * t).max() < 1.0


def test_seven_fidelities_keep_their_shares() -> None:
    # cumulative rounding of each would not add up to the batch
    index = np.repeat(np.arange(7), 5)
    shares = dict(enumerate([50, 20, 10, 9, 5, 5, 1]))
    own = FidelityBatchSampler(index, 7, 3, shares, seed=1)
    count = np.zeros(7)
    for t, drawn in enumerate(epochs(own, *range(20)), start=1):
        count += np.bincount(index[drawn], minlength=7)
        assert np.abs(count - own.draw_probability * 3 * t).max() < 1.0
        assert sum(count) == 3 * t


@pytest.mark.parametrize('sampling', ['balanced', SHARES])
def test_all_of_a_fidelity_before_any_repeats(sampling: object) -> None:
    batches = epochs(sampler(4, sampling), *range(30))
    drawn = np.array(list(itertools.chain(*batches)))
    orders = set()
    for f in range(3):
        members = np.flatnonzero(np.equal(INDEX, f)).tolist()
        mine = drawn[INDEX[drawn] == f].tolist()
        assert len(mine) > 3 * len(members)
        for start in range(0, len(mine) - len(members), len(members)):
            one_pass = mine[start : start + len(members)]
            assert sorted(one_pass) == members  # across epochs
            orders.add(tuple(one_pass))
    assert len(orders) > 20


def test_an_epoch_has_the_same_steps_however_it_is_drawn() -> None:
    assert len(sampler(4, 'balanced')) == len(sampler(4)) == 13


def test_fidelity_without_structures() -> None:
    index = np.array([0, 0, 2])
    own = FidelityBatchSampler(index, 3, 2, 'balanced')
    assert own.draw_probability.tolist() == [0.5, 0.0, 0.5]
    with pytest.raises(ValueError, match='fidelity 1 has 0 structures and share 1'):
        FidelityBatchSampler(index, 3, 2, {0: 1, 1: 1, 2: 1})
    with pytest.raises(ValueError, match='2 has 1 structures and share None'):
        FidelityBatchSampler(index, 3, 2, {0: 1})
    with pytest.raises(ValueError, match='no such sampling'):
        FidelityBatchSampler(index, 3, 2, 'balnced')
    with pytest.raises(ValueError, match='no structures'):
        FidelityBatchSampler(np.array([], int), 1, 2)


# ---------------------------------------------------------------- ranks and resuming


@pytest.mark.parametrize('sampling', ['proportional', 'balanced', SHARES], ids=str)
@pytest.mark.parametrize('world_size', [2, 3])
def test_ranks_together_draw_what_one_would(
    sampling: object, world_size: int
) -> None:
    one = epochs(sampler(2 * world_size, sampling), 0, 1, 2)
    ranks = [
        epochs(sampler(2, sampling, rank=r, world_size=world_size), 0, 1, 2)
        for r in range(world_size)
    ]
    own = sampler(2, sampling, rank=1, world_size=world_size)
    said = []
    for epoch in range(3):  # what all ranks have, each knows by itself
        own.set_epoch(epoch)
        said += [own.present(step).tolist() for step in range(len(own))]
    assert said == [[f in INDEX[joint] for f in range(3)] for joint in one]
    for joint, *parts in zip(one, *ranks, strict=True):
        assert sorted(joint) == sorted(i for part in parts for i in real(part))
        shares = [np.bincount(INDEX[real(part)], minlength=3) for part in parts]
        assert np.ptp(shares, axis=0).max() <= 1  # each about its share


@pytest.mark.parametrize('sampling', ['proportional', 'balanced', SHARES], ids=str)
def test_resuming_draws_what_would_have_been_drawn(sampling: object) -> None:
    whole = epochs(sampler(4, sampling), 0, 1, 2)
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002 - nothing may depend on it
    own = sampler(4, sampling)
    own.set_epoch(1)
    own.start_at(5)
    steps = len(own)
    assert steps == 13
    assert list(own) == whole[13 + 5 : 26]
    own.set_epoch(2)
    assert list(own) == whole[26:]


def test_seeds_differ() -> None:
    assert epochs(sampler(seed=1), 0) != epochs(sampler(seed=2), 0)
    assert epochs(sampler(seed=-1), 0) == epochs(sampler(seed=-1), 0)


def test_far_epochs_are_as_near_as_the_first() -> None:
    own = sampler(4, SHARES)
    own.set_epoch(10**15)
    assert len(list(own)) == 13
