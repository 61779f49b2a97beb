"""Two processes that train together, started once for all tests of them."""

import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from commandline import free_port

from sevennet_mf import lock

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope='session')
def two_processes(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> SimpleNamespace:
    """.results: what each rank of ddp_worker.py found; .sections: its YAML.

    One of pytest-xdist's workers starts them, in the folder of all.
    """
    base = tmp_path_factory.getbasetemp()
    is_worker = hasattr(pytestconfig, 'workerinput')
    folder = (base.parent if is_worker else base) / 'two'
    folder.mkdir(exist_ok=True)
    held = lock.take(folder / 'lock', math.inf, needed=True)
    assert held is not None
    with held:
        if not (folder / 'ended').is_file():
            train_together(folder)
            (folder / 'ended').touch()
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


def train_together(folder: Path) -> None:
    """Run ddp_worker.py on two ranks to its end."""
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
