"""The script for a GPU: what it runs, and what it says where there is none."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from commandline import wait_for_end

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / 'benchmarks'
LIMIT = 580.0  # s


def run(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(FOLDER / 'gpu.py'), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        cwd=folder,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
    )


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module('gpu_parts')


@pytest.mark.parametrize('device', ['cuda', 'cpu'])
@pytest.mark.parametrize('smoke', [True, False])
def test_every_program_takes_its_options(
    device: str, smoke: bool, parts: ModuleType
) -> None:
    """Nothing tries most of these lines where there is no GPU."""
    found = parts.parts_of(device, smoke)
    assert len({part.name for part in found}) == len(found)
    convolutions = set()
    for part in found:
        arguments = [*part.command, *(['--json', 'x'] if part.writes_json else [])]
        script = Path(arguments[1])
        if script.suffix != '.py':
            assert arguments[1] == '-m'
            continue
        options = importlib.import_module(script.stem)._options(arguments[2:])
        assert isinstance(options, argparse.Namespace)
        assert options.device == device
        assert options.json == Path('x')
        if script.stem == 'gpu_convolution' and part.name != 'torch.compile':
            convolutions.add(options.convolution)
            assert options.encodings == ['bias', 'gain', 'lora']
            assert ('CUDA graph' in options.modes) == (device == 'cuda')
    own = set() if device == 'cuda' else {'fused kernel'}
    assert convolutions == {'e3nn', *parts.ACCELERATORS, *own}


def test_the_marked_tests_are_found(parts: ModuleType) -> None:
    command = ' '.join(parts.parts_of('cuda', False)[1].command)
    assert 'unit/model/test_accelerators.py' in command
    assert 'lammps/test_pair_scripts.py' in command


def test_a_dry_run_lists_the_parts(parts: ModuleType, tmp_path: Path) -> None:
    done = run('--dry_run', folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, '')
    lines = done.stdout.splitlines()
    wanted = parts.parts_of('cuda', False)
    for line, part in zip(lines, wanted, strict=False):
        assert line == f'{part.name} ({part.limit:.0f} s): {part.what}'
    assert lines[len(wanted) :] == ['in all at most 8 minutes']
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    done = run(folder=tmp_path)
    assert (done.returncode, done.stdout) == (77, '')
    assert done.stderr == 'torch finds no GPU here: nothing was run\n'
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('arguments', 'message', 'code'),
    [
        (('--minutes', 0), '--minutes must be above 0', 2),
        (('--device', 'tpu'), "invalid choice: 'tpu'", 2),
        (('--parts', 'flash'), "--parts: 'flash' is none of ['pair styles", 1),
    ],
)
def test_options_that_cannot_be(
    arguments: tuple[Any, ...], message: str, code: int, tmp_path: Path
) -> None:
    done = run(*arguments, folder=tmp_path)
    assert done.returncode == code
    assert message in done.stderr


# ---- what becomes of a part


def outcome(
    parts: ModuleType, code: str, folder: Path, seconds: float = 60.0
) -> dict[str, Any]:
    """The row of a part that is this Python code."""
    part = parts.Part('a', 'b', 1, (sys.executable, '-c', code))
    row, _ = parts.run(part, seconds, folder, os.environ)
    return row


def test_a_part_that_runs(parts: ModuleType, tmp_path: Path) -> None:
    write = 'import sys; open(sys.argv[-1], "w").write(%r)'
    row = outcome(parts, write % '{"rows": [1]}', tmp_path)
    assert (row['outcome'], row['result']) == ('ran', {'rows': [1]})
    row = outcome(parts, write % '{"left_out": "not here"}', tmp_path)
    assert (row['outcome'], row['note']) == ('left out', 'not here')
    # nothing of the part before it
    assert outcome(parts, 'pass', tmp_path)['result'] is None


@pytest.mark.parametrize(
    ('code', 'note'),
    [
        ('raise ValueError("two\\nlines")', 'exit status 1: lines'),
        ('print("x: differs"); raise SystemExit(1)', 'exit status 1: x: differs'),
        ('import os; os.abort()', 'SIGABRT: no word'),
    ],
)
def test_a_part_that_fails_says_one_line(
    code: str, note: str, parts: ModuleType, tmp_path: Path
) -> None:
    row = outcome(parts, code, tmp_path)
    assert (row['outcome'], row['note']) == ('FAILED', note)
    assert row['said'] == [] if note.endswith('no word') else row['said']


def test_a_part_that_takes_too_long_is_ended(
    parts: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what it has started, and with what it has found."""
    monkeypatch.setattr(parts, 'GRACE', 0.5)
    pid = tmp_path / 'pid'
    code = (
        'import signal, subprocess, sys, time\n'
        'signal.signal(signal.SIGINT, signal.SIG_IGN)\n'
        'open(sys.argv[-1], "w").write(\'{"rows": [2]}\')\n'
        'child = subprocess.Popen(["sleep", "600"])\n'
        f'open({str(pid)!r}, "w").write(str(child.pid))\n'
        'time.sleep(600)\n'
    )
    row = outcome(parts, code, tmp_path, seconds=2.0)
    assert (row['outcome'], row['note']) == ('OVERTIME', 'ended after 2 s')
    assert row['result'] == {'rows': [2]}
    assert row['seconds'] < 30
    wait_for_end(int(pid.read_text()))


@pytest.mark.slow
def test_what_a_cpu_can_do(tmp_path: Path) -> None:
    some = ('tests', 'fused kernel', 'FlashTP')
    done = run('--device', 'cpu', '--smoke', '--parts', *some, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / 'gpu.json').read_text())
    rows = {row['part']: row for row in report['parts']}
    assert list(rows) == list(some)
    outcomes = [row['outcome'] for row in rows.values()]
    assert outcomes == ['ran', 'ran', 'left out']
    assert 'skipped' in rows['tests']['note'] or 'passed' in rows['tests']['note']
    assert rows['FlashTP']['note'] == 'it needs a GPU'
    kernel = rows['fused kernel']['result']['rows']
    for encoding in ('bias', 'gain', 'lora'):
        mine = [row for row in kernel if row['encoding'] == encoding]
        names = [(row['task'], row['convolution'], row['mode']) for row in mine]
        assert names == [
            (task, convolution, 'eager')
            for task in ('inference', 'training step')
            for convolution in ('e3nn', 'fused kernel')
        ]
        for row in mine:
            assert row['outcome'] == 'ran'
            assert len(row['rounds_ms']) == 2
            assert (row['off'] == {}) == (row['convolution'] == 'e3nn')
    assert all(part in done.stdout for part in some)
