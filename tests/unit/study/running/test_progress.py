"""What a user sees of a study at work."""

import io
from pathlib import Path

import pytest
from rich.console import Console
from study_helpers import Study

from sevennet_mf.study.running.progress import Display
from sevennet_mf.study.status import Status

DONE = Status('done', 1.0, '', 12.34, 80.0)
WAITING = Status('waiting')


@pytest.fixture
def study(tmp_path: Path) -> Study:
    study = Study(tmp_path)
    study.add('low/seed1')
    study.add('delta/n8_seed1', needs=['low/seed1'])
    study.add('delta/n8_seed2')
    return study


def console(terminal: bool) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    made = Console(
        file=stream, force_terminal=terminal, width=100, height=40, color_system=None
    )
    return made, stream


def test_a_file_gets_a_line_for_each_run_that_ended(study: Study) -> None:
    made, stream = console(terminal=False)
    names = [run.name for run in study.runs]
    with Display(study.runs, made) as display:
        for states in (
            (WAITING, WAITING, DONE),
            (Status('running'), WAITING, DONE),
            (Status('running', 0.5), WAITING, DONE),
            (Status('failed', 0.5, 'no [data]'), WAITING, DONE),
            (
                Status('failed', 0.5, 'no [data]'),
                Status('blocked', 0.0, 'needs low/seed1, which failed'),
                DONE,
            ),
        ):
            display.update(dict(zip(names, states, strict=True)))
    assert stream.getvalue().splitlines() == [
        '1 of 3 runs are already done',
        '[2/3] low/seed1: failed: no [data] (0.0 min)',
        '[3/3] delta/n8_seed1: blocked: needs low/seed1, which failed',
    ]


def test_the_line_of_a_done_run_has_its_errors(study: Study) -> None:
    made, stream = console(terminal=False)
    display = Display(study.runs[:1], made)
    display.update({'low/seed1': WAITING})
    display.update({'low/seed1': Status('running')})
    display.update({'low/seed1': DONE})
    line = '[1/1] low/seed1: energy 12.3 meV/atom, force 80.0 meV/Å (0.0 min)'
    assert stream.getvalue().splitlines()[1:] == [line]


def test_a_terminal_gets_a_table(study: Study) -> None:
    made, stream = console(terminal=True)
    with Display(study.runs, made) as display:
        display.update(
            {
                'low/seed1': Status('failed', 0.5, 'no [data]'),
                'delta/n8_seed1': Status('running', 0.456),
                'delta/n8_seed2': DONE,
            }
        )
    # the last picture, which stays
    shown = stream.getvalue().split('\r')[-1]
    rows = [line for line in shown.splitlines() if '│' in line]
    cells = [[cell.strip() for cell in row.strip('│').split('│')] for row in rows]
    assert ['low', '8', 'failed', ''] in cells
    assert ['delta', '8', 'running 46 %', '12.3 / 80.0'] in cells
    assert 'seed 1' in shown
    assert '2/3' in shown  # 2.456 of them, in whole runs
    assert '82 %' in shown
    assert 'low/seed1: failed: no [data]' in shown


def test_a_run_without_forces_shows_its_energy(study: Study) -> None:
    made, stream = console(terminal=True)
    with Display(study.runs, made) as display:
        done = Status('done', 1.0, '', 3.0, None)
        display.update({run.name: done for run in study.runs})
    assert '3.0 / -' in stream.getvalue()


def test_the_job_of_a_run_is_shown(study: Study) -> None:
    runs = study.runs[:1]
    job = 'job 12'
    states = [WAITING, Status('waiting', 0.0, job), Status('running', 0.5, job)]
    for terminal, line in ((False, 'low/seed1: job 12\n'), (True, '50 % (job 12)')):
        made, stream = console(terminal)
        with Display(runs, made) as display:
            for state in states:
                display.update({'low/seed1': state})
        assert line in stream.getvalue()
