"""Progress with the time left."""

from __future__ import annotations

import io

import pytest

from sevennet_mf.label import progress


@pytest.mark.parametrize(
    ('seconds', 'words'),
    [(0.4, '0 s'), (59.6, '1 min 0 s'), (301, '5 min 1 s'), (7800, '2 h 10 min')],
)
def test_times_are_spelt_out(seconds: float, words: str) -> None:
    assert progress.spelt(seconds) == words


def test_without_a_terminal_a_line_is_written_now_and_then() -> None:
    now, stream = [0.0], io.StringIO()
    shown = progress.Labelling(10, stream, lambda: now[0])
    for k in range(4):
        now[0] += 20.0
        shown.count(failed=k == 1)
    shown.close()
    assert stream.getvalue() == (
        '3 of 10 structures, 1 failed, 20 s each, 2 min 20 s left\n'
    )


def test_what_is_counted_has_a_name() -> None:
    stream = io.StringIO()
    shown = progress.Labelling(2, stream, lambda: 0.0, what='relax', unit='crystals')
    shown.close()
    assert shown.line() == '0 of 2 crystals, 0 s each, 0 s left'
