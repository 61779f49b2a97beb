"""Processes of ours that are forked do not wait for threads that only we have."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch_geometric.data import Data

import sevennet_mf
from sevennet_mf.data.batches.loader import make_loader
from sevennet_mf.data.processed import build

PACKAGE = Path(sevennet_mf.__file__).parent
# what starts processes that are copies of this one, and who does: see below
FORKING = ('multiprocessing.', 'concurrent.', 'torch.multiprocessing.')
ALLOWED = {
    'data/processed/build.py',
    # spawned, so that a calculator finds a fresh process
    'label/processes.py',
    'label/worker.py',
}
LONG = 2**20  # numbers: enough work for several threads
LIMIT = 30  # s; what waits for such threads never ends


def work(number: float) -> float:
    """As much as torch shares between threads."""
    return float(torch.full((LONG,), number).exp().sum() / LONG)


class Working(torch.utils.data.Dataset):
    """Works in the process of the loader."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, number: int) -> Data:
        return Data(x=torch.tensor([[work(0.0)]]))


@pytest.fixture
def threads() -> Iterator[None]:
    """This process has started the threads of torch."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    work(0.0)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures('threads')
def test_those_that_look_for_neighbours() -> None:
    with build._pool(2) as pool:
        found = pool.map_async(work, [0.0, 0.0]).get(LIMIT)
    assert found == [1.0, 1.0]


@pytest.mark.usefixtures('threads')
def test_those_that_load_batches() -> None:
    loader = make_loader(Working(), [[0, 1]], num_workers=1)
    loader.timeout = LIMIT
    (batch,) = loader
    assert batch.x.tolist() == [[1.0], [1.0]]


def test_there_are_no_others() -> None:
    found = set()
    for path in PACKAGE.rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or '']
            starts = any(f'{name}.'.startswith(FORKING) for name in names)
            called = getattr(node, 'attr', getattr(node, 'arg', None))
            if starts or called in ('fork', 'forkpty', 'preexec_fn'):
                found.add(path.relative_to(PACKAGE).as_posix())
    assert found == ALLOWED
