"""Steps that wait for their batches are told so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sevennet_mf.train.loop import waiting
from sevennet_mf.train.loop.waiting import Waiting


class Clock:
    """Moves on only where a test says so."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(waiting, 'time', found)
    return found


def an_epoch(clock: Clock, loading: float, step: float) -> Waiting:
    """Ten batches of so many seconds, after a first one that is slow."""

    def loader() -> Iterator[Any]:
        for number in range(11):
            clock.now += loading if number else 100.0
            yield number

    measured = Waiting()
    seen = []
    for batch in measured.batches(loader()):
        clock.now += step
        seen.append(batch)
    assert seen == [*range(11)]
    return measured


def test_what_is_measured(clock: Clock) -> None:
    measured = an_epoch(clock, loading=0.5, step=2.0)
    assert (measured.waited, measured.total) == (5.0, 27.0)
    words = (
        '19% of this epoch was spent waiting for batches. train.num_workers: 2 (it '
        'is 0) loads them in processes of their own, beside the steps.'
    )
    assert measured.advice(0) == words
    assert 'num_workers: 6 (it is 3)' in measured.advice(3)
    assert not [*measured.batches([])]
    assert (measured.waited, measured.total) == (0.0, 0.0)


@pytest.mark.parametrize(
    ('loading', 'step'),
    [(0.05, 2.0), (0.2, 0.2)],  # hardly, and in an epoch of seconds
)
def test_what_is_not_worth_a_word(loading: float, step: float, clock: Clock) -> None:
    assert an_epoch(clock, loading, step).advice(0) == ''
