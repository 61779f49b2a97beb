"""The benchmark runs and reports every variant; no test promises how fast."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / 'benchmarks' / 'train_step.py'
LIMIT = 280.0  # s
HOST = ['host', 'host, again', 'modality']
OURS = ['bias', 'gain', 'lora']


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Start the benchmark as `make bench` does."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env={**os.environ, 'PYTHONPATH': path},
    )


@pytest.fixture(scope='module')
def finished(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, dict[str, Any]]:
    """The printed table and the report of a trial run."""
    file = tmp_path_factory.mktemp('benchmark') / 'report.json'
    done = run('--quick', '--rounds', 2, '--batch', 2, '--json', file)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ''  # no progress bar, no warning
    return done.stdout, json.loads(file.read_text())


@pytest.mark.slow
def test_every_task_of_every_variant_is_timed(
    finished: tuple[str, dict[str, Any]],
) -> None:
    result = finished[1]['architectures']['small']
    found: dict[str, list[str]] = {}
    for row in result['times']:
        found.setdefault(row['task'], []).append(row['variant'])
        for clock in ('cpu', 'wall'):
            times = row[clock]
            assert len(times['rounds_ms']) == result['rounds']
            assert min(times['rounds_ms']) <= times['median_ms']
            assert min(times['rounds_ms']) > 0
            for over in (times['over_host'], times['over_modality']):
                assert 0 < over['low'] <= over['ratio'] <= over['high']
    assert found == {
        'training step': HOST + OURS,
        "trainer's step": OURS,
        'inference': HOST + OURS,
    }


@pytest.mark.slow
def test_a_model_is_compared_with_itself_as_one(
    finished: tuple[str, dict[str, Any]],
) -> None:
    one = {'ratio': 1.0, 'low': 1.0, 'high': 1.0}
    for row in finished[1]['architectures']['small']['times']:
        if row['task'] == "trainer's step":
            continue  # beside the host's own loop
        for clock in ('cpu', 'wall'):
            assert (row[clock]['over_host'] == one) == (row['variant'] == 'host')
            is_modality = row['variant'] == 'modality'
            assert (row[clock]['over_modality'] == one) == is_modality


@pytest.mark.slow
def test_the_variants_are_what_they_are_called(
    finished: tuple[str, dict[str, Any]],
) -> None:
    result = finished[1]['architectures']['small']
    assert (result['structures'], result['rounds']) == (2, 2)
    n = result['parameters']
    assert n['host'] == n['host, again'] < n['modality']
    # the same weights as the host's modality, and more in the richer encodings
    assert n['modality'] == n['bias'] < n['gain'] < n['lora']


@pytest.mark.slow
def test_memory_is_that_of_a_process_per_variant(
    finished: tuple[str, dict[str, Any]],
) -> None:
    memory = finished[1]['architectures']['small']['peak_memory_bytes']
    assert set(memory) == {'host', 'modality', *OURS}
    for n_bytes in memory.values():  # above the weights, below a whole torch
        assert 1e6 < n_bytes < 1e9


@pytest.mark.slow
def test_the_table_says_what_was_run(
    finished: tuple[str, dict[str, Any]],
) -> None:
    printed, report = finished
    result = report['architectures']['small']
    assert report['threads'] == 1
    assert report['clock'] == 'cpu'
    assert set(report['versions']) == {'torch', 'sevenn', 'sevennet_mf'}
    assert f'2 structures, {result["atoms"]} atoms' in printed
    assert 'threads: 1' in printed
    for name in (*HOST, *OURS, 'training step', "trainer's step", 'inference'):
        assert name in printed


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('--rounds', 0), '--rounds must be 1 or more'),
        (('--batch', 1), '--batch must be 2 or more: one structure of each'),
        (('--models', 'large'), "invalid choice: 'large'"),
    ],
)
def test_options_that_cannot_be(arguments: tuple[Any, ...], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_a_gpu_that_is_not_there() -> None:
    done = run('--quick', '--device', 'cuda')
    assert done.returncode == 1
    assert done.stderr == '--device cuda: torch finds no GPU here\n'
