"""How large a model and how long a run."""

from __future__ import annotations

import pytest

from sevennet_mf.draft.size import Size, batch_for, size_for


def size(structures: int, hours: float) -> Size:
    """A step takes 0.1 s with 16 channels, and in proportion to these."""

    def time_of(channels: int | None) -> float:
        return 0.1 * (channels or 16) / 16

    return size_for(structures, 4, hours, time_of, is_continued=False)


def test_few_data_are_trained_on_as_was_measured() -> None:
    found = size(193, hours=1.0)
    assert (found.channels, found.epochs, found.steps_per_epoch) == (16, 30, 100)
    assert not found.is_short


def test_a_day_more_does_not_make_a_larger_model_of_few_data() -> None:
    assert size(193, hours=24.0) == size(193, hours=1.0)


@pytest.mark.parametrize(
    ('structures', 'hours', 'channels'),
    [(5_000, 1.0, 16), (5_000, 10.0, 32), (50_000, 100.0, 64), (50_000, 1.0, 16)],
)
def test_more_data_get_the_largest_model_that_there_is_time_for(
    structures: int, hours: float, channels: int
) -> None:
    found = size(structures, hours)
    assert found.channels == channels
    assert found.hours <= hours


def test_little_time_is_a_short_run_and_it_says_so() -> None:
    found = size(193, hours=0.01)
    assert found.is_short
    assert 0.5 * 0.01 < found.hours <= 0.01
    assert found.steps_per_epoch >= 10
    least = size(193, hours=1e-9)
    assert (least.epochs, least.steps_per_epoch) == (1, 10)


def test_a_checkpoint_has_its_size() -> None:
    asked: list[int | None] = []

    def time_of(channels: int | None) -> float:
        asked.append(channels)
        return 1.0

    found = size_for(29, 2, 1.0, time_of, is_continued=True)
    assert asked == [None]
    assert (found.channels, found.steps) == (None, 200)
    # with more labels a few passes over them
    assert size_for(1000, 2, 10.0, time_of, is_continued=True).steps == 5000


def test_large_structures_come_fewer_in_a_step() -> None:
    assert batch_for(193, 7.0, is_continued=False) == 4
    assert batch_for(193, 400.0, is_continued=False) == 2
    assert batch_for(193, 5000.0, is_continued=False) == 1
    assert batch_for(30_000, 7.0, is_continued=False) == 16
    assert batch_for(193, 7.0, is_continued=True) == 2
