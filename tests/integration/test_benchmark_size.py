"""The benchmark of the size of a data set measures what it says, on a small one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import ase.io
import pytest
from rich.console import Console

ROOT = Path(__file__).parents[2]
N = 40


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The programs of the folder, in this process."""
    monkeypatch.syspath_prepend(str(ROOT / 'benchmarks'))
    import data_size
    import data_size_input
    import data_size_tasks

    yield data_size, data_size_tasks, data_size_input
    for name in ('data_size', 'data_size_tasks', 'data_size_input', 'measure'):
        sys.modules.pop(name, None)


def test_every_task_is_measured_once(
    benchmarks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_size, tasks, made = benchmarks
    done: list[tuple[str, int]] = []

    def here(row: tuple[str, int], file: Path, folder: Path) -> dict[str, Any]:
        done.append(row)
        return tasks.measured(row[0], file, folder, row[1])

    monkeypatch.setattr(data_size, '_in_a_process', here)
    report = tmp_path / 'report.json'
    given = [str(N), '--folder', str(tmp_path), '--json', str(report)]
    given += ['--rounds', '1', '--processes', '1']
    data_size.main(given)
    assert sorted(row[0] for row in done) == sorted(tasks.TASKS)
    rows = json.loads(report.read_text())['rows']
    for (taken,) in rows.values():
        assert taken['structures'] == N
        assert taken['seconds'] > 0
    data_size.main(given)  # nothing is measured twice
    assert len(done) == len(tasks.TASKS)
    options = data_size.arguments([*given, '--host_up_to', '10'])
    names = [task for task, _ in data_size.rows_of(N, options)]
    assert names == [task for task in tasks.TASKS if not task.startswith('sevenn')]
    console = Console(width=120, record=True)
    console.print(data_size.table(json.loads(report.read_text()), N, options))
    assert 'open, pairs, references' in console.export_text()
    frames = ase.io.read(made.written(tmp_path / f'{N}.extxyz', N), ':')
    assert {len(atoms) for atoms in frames} == {4, 8}
    assert all('forces' in atoms.calc.results for atoms in frames)
    volumes = {round(atoms.get_volume(), 9) for atoms in frames}
    assert len(volumes) == N  # no two are alike
