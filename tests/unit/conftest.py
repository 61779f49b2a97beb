"""Two processes that train together, started once for all tests of them."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from commandline import free_port

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope='session')
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """.results: what each rank of ddp_worker.py found; .sections: its YAML."""
    folder = tmp_path_factory.mktemp('two')
    common = {
        **os.environ,
        'PYTHONPATH': os.pathsep.join([str(TESTS), str(TESTS.parent)]),
        'MASTER_ADDR': '127.0.0.1',
        'MASTER_PORT': str(free_port()),
        'WORLD_SIZE': '2',
    }
    started = [
        subprocess.Popen(
            [sys.executable, str(TESTS / 'ddp_worker.py'), str(folder)],
            env={**common, 'RANK': str(rank), 'LOCAL_RANK': str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=400)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [p.returncode for p in started] == [0, 0], '\n'.join(outputs)
    results = [
        torch.load(folder / f'rank{k}.pt', weights_only=False) for k in range(2)
    ]
    import ddp_worker

    return SimpleNamespace(
        folder=folder,
        results=results,
        sections=ddp_worker.sections,
        halves=ddp_worker.HALVES,
    )
