"""Which run may start next."""

from pathlib import Path

import pytest
from study_helpers import Study

from sevennet_mf.study.running.schedule import Schedule
from sevennet_mf.study.status import Status


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Two chains of 40 steps in all, and two runs of 10 and 30 steps alone."""
    study = Study(tmp_path)
    study.add('short/n8_seed1', steps=10)
    study.add('delta/n8_seed1', needs=['low/seed1'], steps=20)
    study.add('delta/n16_seed1', needs=['low/seed1'], steps=5)
    study.add('long/n8_seed1', steps=30)
    study.add('low/seed1', steps=20)
    return study


def names(schedule: Schedule, *met: str) -> list[str]:
    return [run.name for run in schedule.waiting(met)]


def test_the_longest_chain_comes_first(study: Study) -> None:
    schedule = Schedule(study.runs)
    assert names(schedule) == ['low/seed1', 'long/n8_seed1', 'short/n8_seed1']
    schedule.set('low/seed1', Status('done', 1.0))
    schedule.set('long/n8_seed1', Status('running'))
    assert names(schedule) == ['delta/n8_seed1', 'short/n8_seed1', 'delta/n16_seed1']


def test_what_was_submitted_counts_as_met(study: Study) -> None:
    assert 'delta/n8_seed1' in names(Schedule(study.runs), 'low/seed1')


def test_a_failure_blocks_what_needs_it_and_nothing_else(study: Study) -> None:
    seen: list[dict[str, Status]] = []
    schedule = Schedule(study.runs, lambda states: seen.append(dict(states)))
    schedule.fail('low/seed1', 'no data')
    assert seen[-1]['low/seed1'] == Status('failed', 0.0, 'no data')
    assert seen[-1]['delta/n8_seed1'].message == 'needs low/seed1, which failed'
    assert names(schedule) == ['long/n8_seed1', 'short/n8_seed1']
    assert not schedule.over
    for name in names(schedule):
        schedule.set(name, Status('done', 1.0))
    assert schedule.over
    assert schedule.count('done') == 2
    assert schedule.count('failed', 'blocked') == 3


def test_only_what_is_done_stays_from_an_earlier_call(study: Study) -> None:
    folders = {run.name: run.folder for run in study.runs}
    (folders['low/seed1'] / 'failed.json').write_text('{"message": "no"}')
    (folders['long/n8_seed1'] / 'result.json').write_text('{"errors": {}}')
    schedule = Schedule(study.runs)
    assert schedule.states['low/seed1'].state == 'waiting'
    assert schedule.states['delta/n8_seed1'].state == 'waiting'
    assert names(schedule) == ['low/seed1', 'short/n8_seed1']
