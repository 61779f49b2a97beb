"""Runs of the command line, as a user starts them, that several tests share."""

from __future__ import annotations

import copy
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

DATA = Path(__file__).parent / 'data'
INGAN = DATA / 'ingan'
MOLECULES = DATA / 'molecules'
COMMAND = [sys.executable, '-m', 'sevennet_mf.cli']
WAITING = Path(__file__).with_name('waiting_train.py')
LIMIT = 300.0  # s after which a process that hangs is an error
RESUME_FILE = 'checkpoint_resume.pth'

Run = subprocess.CompletedProcess[str]

MODEL = {
    'chemical_species': 'auto',
    'cutoff': 4.0,
    'channel': 4,
    'lmax': 1,
    'num_convolution_layer': 1,
    'weight_nn_hidden_neurons': [8],
    'radial_basis': {'radial_basis_name': 'bessel', 'bessel_basis_num': 4},
}


def entry(file: str, fidelity: str, index: str, **more: Any) -> dict[str, Any]:
    """One entry of a `load_*_path`; file: below tests/data."""
    path = str(DATA / file)
    return {'file': path, 'fidelity': fidelity, 'index': index, **more}


def small_yaml() -> dict[str, Any]:
    """PBE and r2SCAN of InGaN: 8 steps an epoch, a fraction of a second each."""
    return {
        'model': {**copy.deepcopy(MODEL), 'fidelity': {'encoding': 'bias'}},
        'train': {
            'random_seed': 1,
            'epoch': 1,
            'optim_param': {'lr': 0.01},
            'scheduler': 'exponentiallr',
            'scheduler_param': {'gamma': 0.9},
            'fidelity': {'target': 'r2scan'},
        },
        'data': {
            'batch_size': 4,
            'load_trainset_path': [
                entry('ingan/pbe_train.extxyz', 'pbe', ':16'),
                entry('ingan/r2scan_pool.extxyz', 'r2scan', ':16'),
            ],
            'load_validset_path': [
                entry('ingan/pbe_valid.extxyz', 'pbe', ':4'),
                entry('ingan/r2scan_valid.extxyz', 'r2scan', ':4'),
            ],
        },
    }


def write_yaml(path: Path, sections: dict[str, Any]) -> str:
    """Write a YAML file; returns its path."""
    path.write_text(yaml.safe_dump(sections, sort_keys=False), encoding='utf-8')
    return str(path)


def run(
    *args: object,
    command: Sequence[str] = COMMAND,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
) -> Run:
    """Run a command line to its end; with warnings as a user has them."""
    return subprocess.run(
        [*command, *map(str, args)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def start(
    *args: object,
    command: Sequence[str] = COMMAND,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
) -> subprocess.Popen[str]:
    """Start a command line; `finish` waits for it."""
    return subprocess.Popen(
        [*command, *map(str, args)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> Run:
    """Wait for a started process; kill it, and fail, if it hangs."""
    try:
        out, err = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        process.terminate()  # torchrun ends what it started
        process.communicate()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def waiting(epoch: int) -> list[str]:
    """A command line whose training waits for a signal in an epoch."""
    return [sys.executable, str(WAITING), str(epoch)]


def wait_until(done: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    """Poll until `done()`; an error if the process ends before, or it takes long."""
    deadline = time.monotonic() + LIMIT
    while not done():
        if process.poll() is not None or time.monotonic() > deadline:
            process.terminate()  # torchrun ends what it started
            out, err = process.communicate()
            raise AssertionError(f'it ended too early or took long: {out} {err}')
        time.sleep(0.02)


def wait_for_end(pid: int) -> None:
    """Poll until a process that is not a child of ours has ended.

    A signal ends it a moment after it was sent, and a zombie is left where nothing
    asks what became of orphans.
    """
    status = Path('/proc', str(pid), 'status')
    deadline = time.monotonic() + LIMIT
    while True:
        try:
            if 'State:\tZ' in status.read_text():
                return
        except OSError:
            return
        assert time.monotonic() < deadline
        time.sleep(0.02)


def progress_of(folder: Path) -> tuple[int, int]:
    """(epoch under way, steps done in it) that a folder can be resumed at."""
    path = folder / RESUME_FILE
    if not path.is_file():
        return 0, 0
    content = torch.load(path, map_location='cpu', weights_only=False)
    state = content['fidelity_training_state']['state']
    return state['epoch'], state['step']


def wait_in_epoch(process: subprocess.Popen[str], folder: Path, epoch: int) -> None:
    """Until a process of `waiting(epoch)` waits for its signal in that epoch."""

    def inside() -> bool:
        now, step = progress_of(folder)
        return now == epoch and step > 0

    wait_until(inside, process)


def content_of(folder: Path) -> tuple[dict[str, Any], bytes]:
    """(resumable checkpoint, lc.csv) of a run."""
    path = folder / RESUME_FILE
    content = torch.load(path, map_location='cpu', weights_only=False)
    return content, (folder / 'lc.csv').read_bytes()


def assert_same_run(folder: Path, other: Path) -> None:
    """Weights, optimiser and learning curve agree to the last bit."""
    assert content_of(folder)[1] == content_of(other)[1]
    assert_same_weights(folder, other)


def assert_same_weights(folder: Path, other: Path) -> None:
    """Weights, those of the best checkpoint too, and optimiser agree to the bit."""
    (a, _), (b, _) = content_of(folder), content_of(other)
    for part in ('model_state_dict', 'optimizer_state_dict'):
        assert_equal(a[part], b[part], part)
    best = [
        torch.load(f / 'checkpoint_best.pth', weights_only=False)['model_state_dict']
        for f in (folder, other)
    ]
    assert_equal(*best, 'best')


def assert_equal(a: Any, b: Any, where: str) -> None:
    """Nested values agree to the last bit."""
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_equal(a[key], b[key], f'{where}.{key}')
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, (left, right) in enumerate(zip(a, b, strict=True)):
            assert_equal(left, right, f'{where}[{i}]')
    else:
        assert a == b, where


def table(path: Path) -> dict[str, list[float]]:
    """The columns of a CSV file."""
    head, *lines = path.read_text(encoding='utf-8').splitlines()
    rows = [[float(cell) for cell in line.split(',')] for line in lines]
    names = head.split(',')
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, with its content."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob('*')
        if path.is_file()
    }


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port: int = probe.getsockname()[1]
    return port
