"""What gpu.py runs: programs of their own, so that none takes the others along."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Json = dict[str, Any]
HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RAN, FAILED, OVERTIME, LEFT_OUT = 'ran', 'FAILED', 'OVERTIME', 'left out'
GRACE = 10.0  # s that a part has to end its own programs
ACCELERATORS = ('cuEquivariance', 'FlashTP', 'OpenEquivariance')


@dataclass(frozen=True)
class Part:
    """A program, and the longest that it may take, in s.

    needs_gpu: left out on a CPU; writes_json: it takes `--json FILE`.
    """

    name: str
    what: str
    limit: float
    command: tuple[str, ...]
    needs_gpu: bool = False
    writes_json: bool = True


def parts_of(device: str, smoke: bool) -> list[Part]:
    """All parts, those that matter most first. smoke: the smallest of everything."""
    sized = ('--device', device, '--rounds', '2' if smoke else '10')
    small = ('--model', 'small', '--batch', '2')
    found = [
        Part(
            'pair styles compiled',
            'for the torch and the LAMMPS that are installed',
            150,
            (sys.executable, '-m', 'sevennet_mf.cli', 'lammps', 'build'),
            writes_json=False,
        ),
        Part('tests', 'those marked `gpu`', 100, _tests(), writes_json=False),
    ]
    # CUDA graphs are for GPUs, the fused kernel is for CPUs
    on_gpu = ACCELERATORS if device == 'cuda' else ('fused kernel',)
    for name in ('e3nn', *on_gpu, *(a for a in ACCELERATORS if a not in on_gpu)):
        modes = ('eager', 'CUDA graph') if device == 'cuda' else ('eager',)
        command = script('gpu_convolution.py', name, *sized, '--modes', *modes)
        what = 'each encoding: agreement, inference, training step'
        if 'CUDA graph' in modes:
            what += ', with and without CUDA graphs'
        more = small if smoke else ()
        found.append(Part(name, what, 75, command + more, name in ACCELERATORS))
    backend = ('--backend', 'eager') if smoke else ()
    modes = ('--modes', 'eager', 'torch.compile', '--encodings', 'bias')
    quick = ('--quick',) if smoke else ()
    # the memory would be of a process for each model: too long
    train = (*quick, '--batch', '2' if smoke else '16', '--no-memory')
    cell = quick or ('--atoms', '576')
    on = ('--device', device)
    return [
        *found,
        Part(
            'training and inference',
            "beside SevenNet's models",
            100,
            script('train_step.py', *train, *on),
        ),
        Part(
            'pair styles',
            "an MD step beside SevenNet's pair style and ASE",
            150,
            script('lammps_md.py', *cell, *on),
        ),
        Part(
            'ASE',
            "calculators beside SevenNet's",
            60,
            script('calculator.py', *quick, *on),
        ),
        Part(
            'torch.compile',
            'a small model with and without, where it works',
            150,
            script('gpu_convolution.py', 'e3nn', *sized, *small, *modes, *backend),
        ),
    ]


def script(name: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, str(HERE / name), *arguments)


def _tests() -> tuple[str, ...]:
    # these files alone: to collect all tests takes longer than to run these
    files = [
        str(path)
        for path in sorted((ROOT / 'tests').rglob('test_*.py'))
        if 'pytest.mark.gpu' in path.read_text(encoding='utf-8')
    ]
    options = ('-q', '-m', 'gpu', '-rsfE', '--tb=line')
    return (sys.executable, '-m', 'pytest', *options, *files)


def run(
    part: Part, seconds: float, folder: Path, environment: Mapping[str, str]
) -> tuple[Json, str]:
    """Run a part for `seconds` at most; return its row and what it printed."""
    result = folder / 'part.json'
    result.unlink(missing_ok=True)
    more = ('--json', str(result)) if part.writes_json else ()
    start = time.monotonic()
    process = subprocess.Popen(
        [*part.command, *more],
        cwd=ROOT,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors='replace',
        start_new_session=True,
    )
    in_time = True
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        in_time = False
        out, err = _end(process)
    except BaseException:
        _end(process)
        raise
    row: Json = {'seconds': time.monotonic() - start}
    row['result'] = None
    with suppress(OSError, ValueError):  # none, or cut short
        # what it had found before it was ended counts, too
        row['result'] = json.loads(result.read_text())
    row.update(_outcome(part, process.returncode, in_time, seconds, row, out, err))
    if row['outcome'] in (FAILED, OVERTIME):
        row['said'] = (out + err).splitlines()[-40:]
    return row, out


def _end(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Interrupt it, so that it ends what it started, or kill it and all of these."""
    for number in (signal.SIGINT, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            return process.communicate(timeout=GRACE)
        except subprocess.TimeoutExpired:
            continue
    return '', ''


def _outcome(
    part: Part,
    code: int,
    in_time: bool,
    seconds: float,
    row: Json,
    out: str,
    err: str,
) -> Json:
    reason = (row['result'] or {}).get('left_out')
    if not in_time:
        return {'outcome': OVERTIME, 'note': f'ended after {seconds:.0f} s'}
    if reason:
        return {'outcome': LEFT_OUT, 'note': reason}
    if code:
        how = signal.Signals(-code).name if code < 0 else f'exit status {code}'
        return {'outcome': FAILED, 'note': f'{how}: {_last_line(err, out)}'}
    return {'outcome': RAN, 'note': '' if part.writes_json else _last_line(out)}


def _last_line(*texts: str) -> str:
    for text in texts:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if lines:
            return lines[-1][:200]
    return 'no word'
