"""Farthest-point sampling against a plain, slow one, and what weighs in it."""

import numpy as np
import pytest

from sevennet_mf.select.farthest import Coverage, choose
from sevennet_mf.select.features import NodeFeatures, standardise

GA, N = 31, 7


def features(*structures: dict[int, list[list[float]]]) -> NodeFeatures:
    """Features as they are given: by structure and element, one line per atom."""
    elements = sorted({z for s in structures for z in s})
    values: dict[int, np.ndarray] = {}
    owner: dict[int, np.ndarray] = {}
    for z in elements:
        lines = [line for s in structures for line in s.get(z, [])]
        values[z] = np.array(lines, dtype=np.float32)
        sizes = [len(s.get(z, [])) for s in structures]
        owner[z] = np.repeat(np.arange(len(structures)), sizes)
    return NodeFeatures(len(structures), values, owner)


def line(*places: float) -> NodeFeatures:
    """Structures of one Ga atom each, on a line."""
    return features(*({GA: [[x, 0.0]]} for x in places))


def random_pool(n: int, seed: int = 0) -> NodeFeatures:
    """Structures of one to four atoms of two elements."""
    rng = np.random.default_rng(seed)
    return features(*(
        {
            z: rng.normal(size=(rng.integers(1, 5), 3)).tolist()
            for z in ((GA, N), (GA,), (N,))[rng.integers(3)]
        }
        for _ in range(n)
    ))


def slow(
    pool: NodeFeatures, chosen: list[int], i: int, of: str, unseen: float
) -> float:
    """The distance of structure i to the chosen ones, atom by atom."""
    by_element = []
    for z, values in pool.of(i).items():
        others = [pool.of(k).get(z) for k in chosen]
        known = np.concatenate([o for o in others if o is not None] or [[]])
        nearest = [
            min((np.linalg.norm(v - k) for k in known), default=unseen)
            for v in values.astype(float)
        ]
        by_element.append(np.mean(nearest) if of == 'mean' else max(nearest))
    return float(np.mean(by_element) if of == 'mean' else max(by_element))


@pytest.mark.parametrize('of', ['mean', 'max'])
def test_every_choice_is_the_farthest_one(of: str) -> None:
    pool = random_pool(25)
    coverage = Coverage(pool, of)
    choices = choose(coverage, 8, np.ones(25)).choices
    taken: list[int] = []
    for choice in choices:
        distances = {
            i: slow(pool, taken, i, of, coverage.unseen)
            for i in range(25)
            if i not in taken
        }
        assert choice.distance == pytest.approx(distances[choice.index], rel=1e-5)
        assert choice.distance == pytest.approx(max(distances.values()), rel=1e-5)
        taken.append(choice.index)


def test_large_pools_and_choices_are_done_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = choose(Coverage(random_pool(40)), 6, np.ones(40))
    monkeypatch.setattr('sevennet_mf.select.farthest.CHUNK', 7)
    monkeypatch.setattr('sevennet_mf.select.farthest.BLOCK', 2)
    parts = choose(Coverage(random_pool(40)), 6, np.ones(40))
    assert [c.index for c in parts.choices] == [c.index for c in whole.choices]


def test_the_first_is_the_most_typical_and_the_second_far_from_it() -> None:
    found = choose(Coverage(line(-5.0, -1.0, 0.2, 1.0, 9.0)), 2, np.ones(5))
    assert [c.index for c in found.choices] == [2, 4]


def test_a_seed_takes_the_first_at_random() -> None:
    firsts = {
        choose(Coverage(random_pool(25)), 1, np.ones(25), seed=k).choices[0].index
        for k in range(6)
    }
    assert len(firsts) > 1


def test_what_is_labelled_counts_as_chosen() -> None:
    coverage = Coverage(line(0.0, 1.0, 8.0))
    coverage.add({GA: np.array([[7.9, 0.0]], dtype=np.float32)})
    assert choose(coverage, 1, np.ones(3)).choices[0].index == 0


def test_an_element_that_nothing_chosen_has_comes_first() -> None:
    pool = features(
        {GA: [[0.0, 0.0]]}, {GA: [[3.0, 0.0]]}, {GA: [[0.1, 0.0]], N: [[0.0, 1.0]]}
    )
    coverage = Coverage(pool)
    coverage.add({GA: np.zeros((1, 2), np.float32)})
    assert choose(coverage, 1, np.ones(3)).choices[0].index == 2


@pytest.mark.parametrize('of', ['mean', 'max'])
def test_it_comes_first_however_far_others_are(of: str) -> None:
    """Labelled structures may lie outside of the pool."""
    pool = features(
        {GA: [[0.0]]}, {GA: [[0.1]]}, {GA: [[9.9]], N: [[0.0]]}, {GA: [[0.2]]}
    )
    coverage = Coverage(pool, of)
    coverage.add({GA: np.array([[100.0]], np.float32)})
    weight = np.array([1.0, 1.0, 0.01, 1.0])
    chosen = choose(coverage, 2, weight).choices
    assert chosen[0].index == 2
    assert chosen[1].index == 0


def test_elements_are_compared_with_themselves_only() -> None:
    pool = features({GA: [[0.0]]}, {N: [[5.0]]})
    coverage = Coverage(pool)
    coverage.add({N: np.zeros((1, 1), np.float32)})
    assert coverage.distances().tolist() == [coverage.unseen, 5.0]


def test_copies_are_never_chosen() -> None:
    found = choose(Coverage(line(0.0, 4.0, 4.0, 0.0)), 4, np.ones(4))
    assert {c.index for c in found.choices} in ({0, 1}, {0, 2}, {3, 1}, {3, 2})
    assert found.left[-1].tolist() == [0.0, 0.0]


def test_a_weight_turns_the_choice() -> None:
    coverage = Coverage(line(0.0, 1.0, 2.0, 3.0))
    coverage.add({GA: np.zeros((1, 2), np.float32)})
    (found,) = choose(coverage, 1, np.array([1.0, 1.0, 2.0, 1.0])).choices
    assert (found.index, found.distance, found.score) == (2, 2.0, 4.0)


def test_a_budget_is_not_exceeded_and_used_as_far_as_possible() -> None:
    cost = np.array([8.0, 1.0, 64.0, 8.0, 1.0])
    coverage = Coverage(line(0.0, 3.0, 9.0, 6.0, -2.0))
    found = choose(coverage, 5, np.ones(5), cost, budget=10.0)
    assert sum(cost[c.index] for c in found.choices) == 10.0


def test_what_is_left_shrinks() -> None:
    found = choose(Coverage(random_pool(30)), 10, np.ones(30))
    assert found.left.shape == (11, 2)
    assert (np.diff(found.left[:, 0]) <= 0).all()


def test_an_element_has_a_spread_of_one_and_labelled_ones_the_same_scale() -> None:
    pool, own = random_pool(30), line(1.0)
    own = features({GA: [[1.0, 2.0, 3.0]]})
    mean = pool.values[GA].mean(axis=0)
    spread = np.sqrt(np.square(pool.values[GA] - mean).sum(axis=1).mean())
    wanted = (np.array([1.0, 2.0, 3.0]) - mean) / spread
    standardise(pool, [own])
    np.testing.assert_allclose(own.values[GA][0], wanted, rtol=1e-5)
    for values in pool.values.values():
        np.testing.assert_allclose(values.mean(axis=0), 0.0, atol=1e-6)
        assert np.square(values).sum(axis=1).mean() == pytest.approx(1.0)


def test_rounding_is_not_taken_for_a_spread() -> None:
    pool = features(*({GA: [[100.0 + 1e-5 * k, 0.0]]} for k in range(4)))
    standardise(pool)
    assert len(choose(Coverage(pool), 4, np.ones(4)).choices) == 1
