"""The benchmarks run and report every variant; no test promises how fast."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from sevennet_mf.lammps.plugin_path import CACHE_VARIABLE

ROOT = Path(__file__).parents[2]
TRAIN_STEP = ROOT / 'benchmarks' / 'train_step.py'
LAMMPS_MD = ROOT / 'benchmarks' / 'lammps_md.py'
WHOLE_RUN = ROOT / 'benchmarks' / 'whole_run.py'
LIMIT = 580.0  # s; two pair styles are compiled where they are not kept
HOST = ['host', 'host, again', 'modality']
OURS = ['bias', 'gain', 'lora', 'fused']
PAIR_STYLES = ['ours', 'host', 'host, again', "our pair, host's file"]
PAIR_STYLES += ["host's pair, our file"]
ASE = ['ASE, ours', 'ASE, host']
PARALLEL = ['parallel, 1 rank', 'parallel, 2 ranks']
THREADS = 'ours, 2 threads'


def run(
    *arguments: object, script: Path = TRAIN_STEP
) -> subprocess.CompletedProcess[str]:
    """Start a benchmark as `make bench` does."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    # where the tests of the pair styles keep theirs
    kept = os.environ.get(CACHE_VARIABLE) or str(ROOT / '.pytest_cache' / 'plugin')
    return subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env={**os.environ, 'PYTHONPATH': path, CACHE_VARIABLE: kept},
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
        'inference': [*HOST, *OURS, 'folded'],
        'deployed': [*HOST, 'folded'],
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
    # a plain model with a bias at every linear layer, used or not
    assert n['host'] < n['folded'] != n['bias']


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
    tasks = ('training step', "trainer's step", 'inference', 'deployed')
    for name in (*HOST, *OURS, 'folded', *tasks):
        assert name in printed


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('--rounds', 0), '--rounds must be 1 or more'),
        (('--batch', 0), '--batch and --repeat must be 1 or more'),
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


# ---- whole runs


@pytest.mark.slow
def test_whole_runs(tmp_path: Path) -> None:
    file = tmp_path / 'report.json'
    arguments = ('--quick', '--structures', 4, '--epochs', 1, '--json', file)
    done = run(*arguments, script=WHOLE_RUN)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ''
    result = json.loads(file.read_text())
    assert (result['structures'], result['epochs'], result['rounds']) == (4, 1, 1)
    rows = {row['program']: row for row in result['programs']}
    assert list(rows) == ['host', 'host, again', 'ours']
    for name, row in rows.items():
        assert name in done.stdout
        for clock in ('cpu', 'wall'):
            whole, start = row[clock], row[f'{clock}_to_first_step']
            assert 0.5 < start['median_s'] < whole['median_s']
            over = whole['over_host']
            assert 0 < over['low'] <= over['ratio'] <= over['high']
        assert 1e8 < row['peak_memory_bytes'] < 2e9


@pytest.mark.parametrize('option', ['rounds', 'epochs', 'structures', 'threads'])
def test_options_of_whole_runs_that_cannot_be(option: str) -> None:
    done = run(f'--{option}', 0, script=WHOLE_RUN)
    assert done.returncode == 2
    assert f'--{option} must be 1 or more' in done.stderr


# ---- MD steps


@pytest.fixture(scope='module')
def md(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """The printed table and the report of a trial run."""
    file = tmp_path_factory.mktemp('lammps') / 'report.json'
    arguments = ('--quick', '--rounds', 2, '--json', file)
    done = run(*arguments, script=LAMMPS_MD)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ''
    return done.stdout, json.loads(file.read_text())


@pytest.mark.slow
def test_every_program_makes_md_steps(md: tuple[str, dict[str, Any]]) -> None:
    cells = md[1]['cells']
    assert list(cells) == ['72']
    rows = {row['program']: row for row in cells['72']['programs']}
    assert list(rows) == [*PAIR_STYLES, *ASE, *PARALLEL, THREADS]
    for row in rows.values():
        for clock in ('wall', 'cpu'):
            taken = row[clock]['rounds_s']
            assert len(taken) == cells['72']['rounds'] == 2
            assert min(taken) <= row[clock]['median_s'] <= max(taken)
            over = row[clock]['over_host']
            assert 0 <= over['low'] <= over['ratio'] <= over['high']
        assert row['wall']['median_s'] > 0
    one = {'ratio': 1.0, 'low': 1.0, 'high': 1.0}
    assert rows['host']['wall']['over_host'] == one
    with_speed_up = [name for name, row in rows.items() if 'speed_up' in row['wall']]
    assert with_speed_up == [PARALLEL[1], THREADS]


@pytest.mark.slow
def test_memory_is_that_of_each_rank(md: tuple[str, dict[str, Any]]) -> None:
    for row in md[1]['cells']['72']['programs']:
        n_ranks = 2 if row['program'] == 'parallel, 2 ranks' else 1
        assert len(row['peak_memory_bytes']) == n_ranks
        for n_bytes in row['peak_memory_bytes']:  # torch alone takes this much
            assert 5e7 < n_bytes < 2e9


@pytest.mark.slow
def test_the_table_of_md_steps(md: tuple[str, dict[str, Any]]) -> None:
    printed, report = md
    assert report['model'] == 'small'
    assert f'72 atoms of GaN, {report["cells"]["72"]["edges"]} edges' in printed
    assert '2 ranks are' in printed
    for name in (*PAIR_STYLES, *ASE, *PARALLEL, THREADS):
        assert name in printed


@pytest.mark.slow
def test_the_largest_cell_says_how_the_next_failed(tmp_path: Path) -> None:
    file = tmp_path / 'report.json'
    arguments = ('--quick', '--largest', '--memory', 1.5, '--json', file)
    done = run(*arguments, script=LAMMPS_MD)
    assert done.returncode == 0, done.stderr
    result = json.loads(file.read_text())
    assert result['cells'] == {}
    for attempts in result['largest']['programs'].values():
        *ran, last = attempts
        assert [one['atoms'] for one in attempts] == [
            72 * 2**k for k in range(len(attempts))
        ]
        assert ran
        assert not any('failure' in one for one in ran)
        assert last['failure'].split(':')[0]
    ours = result['largest']['programs']['ours'][-1]
    assert 'ERROR' in ours['failure']
    assert 'out of memory' in ours['failure']
    assert 'out of memory' in ' '.join(done.stdout.split())


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('--rounds', 0), '--rounds must be 1 or more'),
        (('--atoms', 100), 'invalid choice: 100'),
        (('--model', 'large'), "invalid choice: 'large'"),
        (('--memory', -1), '--memory must be a number of GB'),
    ],
)
def test_options_of_md_that_cannot_be(
    arguments: tuple[Any, ...], message: str
) -> None:
    done = run(*arguments, script=LAMMPS_MD)
    assert done.returncode == 2
    assert message in done.stderr
