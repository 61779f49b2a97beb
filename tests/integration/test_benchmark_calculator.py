"""The benchmark of the calculator runs; no test promises how fast."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / 'benchmarks' / 'calculator.py'
LIMIT = 580.0  # s


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env={**os.environ, 'PYTHONPATH': path},
    )


@pytest.mark.slow
def test_everything_is_timed(tmp_path: Path) -> None:
    done = run('--quick', '--json', tmp_path / 'report.json')
    assert done.returncode == 0, done.stderr
    assert done.stderr == ''
    assert '7net-mf-0, 4 atoms' in done.stdout
    report = json.loads((tmp_path / 'report.json').read_text())
    (cell,) = report['cells']
    assert (cell['atoms'], cell['rounds'], report['threads']) == (4, 2, 1)
    one = {'ratio': 1.0, 'low': 1.0, 'high': 1.0}
    for name, row in cell['times'].items():
        assert name in done.stdout
        assert len(row['cpu']['rounds_ms']) == len(row['wall']['rounds_ms']) == 2
        for times in row.values():
            assert min(times['rounds_ms']) > 0
            assert (times['over_host'] == one) == (name == 'SevenNetCalculator')
            assert (times['over_separate'] == one) == (name == 'separate calls')
    assert len(cell['times']) == 6


def test_options_that_cannot_be() -> None:
    done = run('--rounds', 0)
    assert done.returncode == 2
    assert '--rounds must be 1 or more' in done.stderr
