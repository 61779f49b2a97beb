"""Labels saved: against curves whose answer is known."""

import math

import numpy as np
import pytest

from sevennet_mf.study.report import labels_saved as module
from sevennet_mf.study.report.labels_saved import FEWER, MORE, Needed, labels_saved
from sevennet_mf.study.report.run_results import OverSeeds, Table

COUNTS = (4, 8, 16, 32)


def spread(*values: float) -> OverSeeds:
    return OverSeeds(tuple(range(1, len(values) + 1)), values)


def table(high: dict[int, OverSeeds], **rows: dict[int, OverSeeds]) -> Table:
    found = {('high_only', n): s for n, s in high.items()}
    found |= {(row, n): s for row, points in rows.items() for n, s in points.items()}
    return found


def answer(high: dict[int, OverSeeds], error: float, seeds: int = 3) -> Needed:
    (found,) = labels_saved(table(high, delta={8: spread(*[error] * seeds)}))
    return found


def curve(*means: float, seeds: int = 3) -> dict[int, OverSeeds]:
    return {n: spread(*[m] * seeds) for n, m in zip(COUNTS, means, strict=False)}


def power_law(counts: tuple[int, ...] = COUNTS) -> dict[int, OverSeeds]:
    return {n: spread(*[200.0 * n**-0.6] * 3) for n in counts}


@pytest.mark.parametrize('needs', [4.0, 5.0, 8.0, 13.0, 31.9, 32.0])
def test_power_law(needs: float) -> None:
    found = answer(power_law(), 200.0 * needs**-0.6)
    assert found.value == pytest.approx(needs, rel=1e-6)
    assert found.factor == pytest.approx(needs / 8, rel=1e-6)
    assert found.measured
    # seeds that agree leave no room
    assert found.low == pytest.approx(needs, rel=1e-6)
    assert found.high == pytest.approx(needs, rel=1e-6)


@pytest.mark.parametrize(
    ('needs', 'value', 'words'),
    [(33.0, MORE, 'more than 32'), (3.9, FEWER, 'fewer than 4')],
)
def test_beyond_the_measured_range(needs: float, value: float, words: str) -> None:
    found = answer(power_law(), 200.0 * needs**-0.6)
    assert found.value == value
    assert found.words(found.value) == words
    assert found.interval == words
    assert found.factor is None
    assert not found.measured


def test_the_mean_of_the_errors_counts() -> None:
    high = {n: spread(0.5 * m, 1.5 * m) for n, m in ((4, 100.0), (16, 50.0))}
    found = labels_saved(table(high, delta={8: spread(60.0, 100.0)}))[0]
    assert found.error == 80.0
    assert found.value == pytest.approx(4 * 4 ** (math.log(100 / 80) / math.log(2)))


def test_neighbours_in_the_wrong_order_are_pooled() -> None:
    high = curve(100.0, 50.0, 52.0)
    pooled = math.sqrt(50.0 * 52.0)
    assert answer(high, 1.0001 * pooled).value == pytest.approx(8.0, rel=1e-3)
    # lower than the pooled mean, though one point alone reached it
    assert answer(high, 50.5).value == MORE
    # nothing above the first point is a detour
    share = math.log(100.0 / 70.0) / math.log(100.0 / pooled)
    assert answer(high, 70.0).value == pytest.approx(4.0 * 2.0**share)


def test_pooling_weighs_by_seeds() -> None:
    high = {**curve(100.0, 40.0), 16: spread(80.0)}
    pooled = math.exp((3 * math.log(40.0) + math.log(80.0)) / 4)
    assert answer(high, 1.001 * pooled).value == pytest.approx(8.0, rel=1e-2)
    assert answer(high, 0.999 * pooled).value == MORE


def test_a_flat_curve() -> None:
    high = curve(10.0, 10.0, 10.0, 10.0)
    assert answer(high, 10.0).value == pytest.approx(4.0)  # the fewest
    assert answer(high, 10.1).value == FEWER
    assert answer(high, 9.9).value == MORE


def test_a_curve_that_rises() -> None:
    high = curve(10.0, 20.0, 40.0)
    assert answer(high, 20.0).value == pytest.approx(4.0)
    assert answer(high, 19.0).value == MORE
    assert answer(high, 21.0).value == FEWER


def test_a_single_number_of_labels() -> None:
    high = {16: spread(9.0, 10.0, 11.0)}
    found = answer(high, 5.0)
    assert (found.value, found.interval) == (MORE, 'more than 16')
    assert answer(high, 50.0).value == FEWER
    assert answer(high, 10.0).value == pytest.approx(16.0)
    assert answer(high, 10.0).interval == 'not resolved'


def test_one_seed_has_no_interval_and_says_so() -> None:
    found = answer(power_law(), 50.0, seeds=1)
    assert found.measured
    assert (found.low, found.high, found.interval) == (None, None, '')
    assert found.note == 'no interval, because delta has only one seed'
    lone = curve(100.0, 50.0, seeds=1)
    assert answer(lone, 70.0).note.endswith('because high_only has only one seed')
    both = answer(lone, 70.0, seeds=1)
    assert both.note.endswith('because high_only and delta have only one seed')


def test_a_seed_that_failed_takes_the_spread_of_the_other_points() -> None:
    means = {n: s.mean for n, s in power_law().items()}
    high = {n: spread(0.9 * m, m, 1.1 * m) for n, m in means.items()}
    points = {4: spread(70.0), 8: spread(45.0, 55.0)}
    four, eight = labels_saved(table(high, delta=points))
    assert four.note == ''
    assert four.low is not None
    assert four.high is not None
    assert four.low < four.value < four.high
    assert eight.interval


def test_without_high_only_there_is_no_answer() -> None:
    assert labels_saved({('delta', 8): spread(1.0, 2.0)}) == []
    assert labels_saved({}) == []


def test_answers_repeat_whatever_else_is_in_the_study() -> None:
    rng = np.random.default_rng(0)
    high = {
        n: spread(*(s.mean * np.exp(0.1 * rng.normal(size=3))))
        for n, s in power_law().items()
    }
    delta = {8: spread(40.0, 45.0, 50.0)}
    alone = labels_saved(table(high, delta=delta), 'energy')
    more = labels_saved(
        table(high, transfer={8: spread(60.0, 61.0)}, delta=delta), 'energy'
    )
    assert alone[0] == more[1]
    assert alone[0].low is not None
    assert alone[0].low < alone[0].value


def test_the_interval_holds_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    """As often as it says, at three seeds; drawing from those alone: 80 %."""
    monkeypatch.setattr(module, 'DRAWS', 300)
    rng = np.random.default_rng(7)
    needs, width, held = 13.0, [], 0
    trials = 200

    def noisy(mean: float, size: float) -> OverSeeds:
        return spread(*(mean * np.exp(size * rng.normal(size=3))))

    for _ in range(trials):
        high = {n: noisy(s.mean, 0.15) for n, s in power_law().items()}
        row = {n: noisy(200.0 * (needs * n / 8) ** -0.6, 0.1) for n in COUNTS}
        found = labels_saved(table(high, delta=row))[1]
        assert found.low is not None
        assert found.high is not None
        held += found.low <= needs <= found.high
        width.append(found.high / found.low if found.low else math.inf)
    # 95 % less three standard errors of 200 trials; not by being endless
    assert 0.90 <= held / trials <= 0.995
    assert np.median(width) < 3.0


def test_an_interval_that_holds_everything_is_words() -> None:
    found = Needed('delta', 8, 50.0, 12.0, FEWER, MORE, 4, 32)
    assert found.unresolved
    assert found.interval == 'not resolved'
    assert not Needed('delta', 8, 50.0, 12.0, FEWER, 20.0, 4, 32).unresolved
