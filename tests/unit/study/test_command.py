"""`sevennet-mf study`: what is planned, done and shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from commandline import snapshot
from study_inputs import write_study

from sevennet_mf import cli
from sevennet_mf.checkpoint import unpickle
from sevennet_mf.study.running import execute
from sevennet_mf.study.running.worker_process import COMMAND, TRUST
from sevennet_mf.study.runs import Run
from sevennet_mf.study.status import Status


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the runs that would have been done; delta's fail."""
    names: list[str] = []

    def pretend(
        runs: Sequence[Run],
        options: Any,
        *,
        on_change: Callable[..., None],
        command: Sequence[str],
    ) -> dict[str, Status]:
        assert [*command] == [*COMMAND, *([TRUST] if unpickle.is_trusting() else [])]
        names.extend(run.name for run in runs)
        assert options.threads == 2
        states: dict[str, Status] = {run.name: Status('waiting') for run in runs}
        on_change(states)
        for run in runs:
            is_bad = run.method == 'delta'
            states[run.name] = Status('failed' if is_bad else 'done', 1.0, 'a pity')
            file = 'failed.json' if is_bad else 'result.json'
            text = '{"message": "a pity", "stage": "train"}'
            if not is_bad:
                text = '{"errors": {"energy": {"mae": 12.5, "rmse": 20.0, "n": 5}}}'
            (run.folder / file).write_text(text)
            on_change(states)
        return states

    monkeypatch.setattr(execute, 'work', pretend)
    return names


def test_a_dry_run_shows_runs_and_steps(
    tmp_path: Path, started: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_study(tmp_path, methods=['high_only', 'transfer'], steps=40)
    out = str(tmp_path / 'out')
    assert cli.main(['study', path, '-o', out, '--dry_run']) == cli.DONE
    said = capsys.readouterr().out
    assert '3 runs, 3 to do: 80 optimiser steps' in said
    assert '20 + 20' in said
    assert 'low/seed1' in said
    assert started == []
    assert not Path(out).exists()


def test_a_study_ends_with_its_report(
    tmp_path: Path, started: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_study(tmp_path, run={'threads': 2})
    out = str(tmp_path / 'out')
    assert cli.main(['study', path, '-o', out, '--trust']) == cli.DONE
    assert started == ['high_only/n4_seed1']
    said = capsys.readouterr().out
    assert '12.5' in said
    assert f'report: {out}/report.html' in said
    assert (tmp_path / 'out' / 'report.html').is_file()
    assert (tmp_path / 'out' / 'results.csv').is_file()


def test_a_failed_run_is_told_by_the_exit_code(
    tmp_path: Path, started: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_study(tmp_path, methods=['high_only', 'delta'], run={'threads': 2})
    out = str(tmp_path / 'out')
    assert cli.main(['study', path, '-o', out]) == cli.FAILED
    assert 'delta/n4_seed1: failed: a pity' in capsys.readouterr().out
    assert (tmp_path / 'out' / 'report.html').is_file()


def test_a_report_of_what_is_there(
    tmp_path: Path, started: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_study(tmp_path, run={'threads': 2})
    out = str(tmp_path / 'out')
    assert cli.main(['study', path, '-o', out]) == cli.DONE
    started.clear()
    Path(path).unlink()  # the folder says it all
    (tmp_path / 'out' / 'report.html').unlink()
    assert cli.main(['study', path, '-o', out, '--report_only']) == cli.DONE
    assert started == []
    assert (tmp_path / 'out' / 'report.html').is_file()


def test_the_report_says_how_to_repeat_it(
    tmp_path: Path, started: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(write_study(tmp_path, run={'threads': 2}))
    mine = path.rename(path.with_name('mine.yaml'))
    out = tmp_path / 'out'
    assert cli.main(['study', str(mine), '-o', str(out)]) == cli.DONE
    told = json.loads((out / 'study.json').read_text())
    assert told['command'] == f'sevennet-mf study {mine} -o {out}'


def test_a_second_call_changes_nothing_before_it_is_refused(
    tmp_path: Path, started: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'out'
    path = write_study(tmp_path, run={'threads': 2})
    assert cli.main(['study', path, '-o', str(out)]) == cli.DONE
    capsys.readouterr()
    other = write_study(tmp_path, run={'threads': 2}, labels=[2, 4])
    with execute.locked(out):
        before = snapshot(out)
        assert cli.main(['study', other, '-o', str(out)]) == cli.BAD_INPUT
        assert snapshot(out) == before
    assert 'is running a study in' in capsys.readouterr().err


def test_what_is_wrong_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_study(tmp_path, labels=[99])
    assert cli.main(['study', path, '-o', str(tmp_path / 'out')]) == cli.BAD_INPUT
    said = capsys.readouterr().err
    assert said.startswith('sevennet-mf: study.labels: 99 is more than the 8')
    assert len(said.splitlines()) == 1
