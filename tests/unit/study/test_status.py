"""What the files of a run's folder say it is at."""

import json
from pathlib import Path

import pytest
from study_helpers import Study

from sevennet_mf import lock
from sevennet_mf.study import status
from sevennet_mf.study.status import Status


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path)


def test_the_states_in_the_life_of_a_run(study: Study) -> None:
    run = study.add('delta/n8_seed1')
    assert status.read(run) == Status('waiting')
    stage = run.folder / 'stage'
    stage.mkdir()
    (stage / 'lc.csv').write_text('epoch,lr\n0,0.1\n', encoding='utf-8')
    held = lock.take(run.folder / status.RUN_LOCK)
    assert held is not None
    assert status.read(run) == Status('running', 0.25)
    held.close()
    assert status.read(run) == Status('interrupted', 0.25)
    (run.folder / 'failed.json').write_text(
        '{"message": "no data", "stage": "low"}', encoding='utf-8'
    )
    assert status.read(run) == Status('failed', 0.25, 'no data')
    errors = {'energy': {'mae': 12.5, 'rmse': 20.0, 'n': 3}}
    (run.folder / 'result.json').write_text(
        json.dumps({'errors': errors}), encoding='utf-8'
    )
    assert status.read(run) == Status('done', 1.0, '', 12.5, None)


def test_a_run_that_began_without_an_epoch_was_interrupted(study: Study) -> None:
    run = study.add('low/seed1')
    (run.folder / status.RUN_LOCK).touch()
    assert status.read(run).state == 'interrupted'


def test_stages_count_by_their_steps(study: Study) -> None:
    run = study.add('delta/n8_seed1')
    stages = [
        {'folder': 'a', 'epochs': 2, 'steps': 30},
        {'folder': 'b', 'epochs': 10, 'steps': 10},
        {'kind': 'test'},  # takes no steps
    ]
    (run.folder / 'run.json').write_text(
        json.dumps({'stages': stages}), encoding='utf-8'
    )
    for name, epochs in (('a', 3), ('b', 5)):  # one more than there are to do
        (run.folder / name).mkdir()
        text = 'epoch,lr\n' + '1,0.1\n' * epochs
        (run.folder / name / 'lc.csv').write_text(text, encoding='utf-8')
    assert status.progress(run.folder) == pytest.approx((30 + 5) / 40)


def test_what_needs_a_failed_run_is_blocked(study: Study) -> None:
    low = study.add('low/seed1')
    study.add('delta/n8_seed1', needs=['low/seed1'])
    study.add('more/n8_seed1', needs=['delta/n8_seed1'])
    study.add('high_only/n8_seed1')
    done = study.add('transfer/n8_seed1', needs=['low/seed1'])
    (low.folder / 'failed.json').write_text('{"message": "no"}', encoding='utf-8')
    (done.folder / 'result.json').write_text('{"errors": {}}', encoding='utf-8')
    found = status.read_all(study.runs)
    for name in ('delta/n8_seed1', 'more/n8_seed1'):
        assert found[name].state == 'blocked'
        assert found[name].message == 'needs low/seed1, which failed'
    assert found['high_only/n8_seed1'].state == 'waiting'
    assert found['transfer/n8_seed1'].state == 'done'


@pytest.mark.parametrize('content', ['', '{"errors": {"ene', '[1]'])
def test_a_file_cut_short_is_no_result(study: Study, content: str) -> None:
    run = study.add('low/seed1')
    (run.folder / 'result.json').write_text(content, encoding='utf-8')
    assert status.read(run).state == 'waiting'


def test_the_study_of_a_run(study: Study) -> None:
    for name in ('low/seed1', 'flat', 'a/b/seed1'):
        assert status.study_folder(study.add(name)) == study.folder
