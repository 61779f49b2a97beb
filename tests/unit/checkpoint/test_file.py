"""Checkpoint files: whole or not at all, and errors that help."""

import pickle
import random
import resource
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from sevennet_mf.checkpoint import file as checkpoint_file
from sevennet_mf.errors import UserError

CONTENT: dict[str, Any] = {
    'config': {'version': '0.13.0', 'fidelities': ['pbe', 'r2scan']},
    'model_state_dict': {'weight': torch.arange(1000.0)},
    'epoch': 3,
}


@contextmanager
def largest_file(n_bytes: int) -> Iterator[None]:
    """Within, no file grows beyond `n_bytes`: as good as a full disk."""
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


# ------------------------------------------------------------------------- writing


def test_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / 'a.pth'
    checkpoint_file.save(str(path), CONTENT)
    found = checkpoint_file.load(str(path))
    assert found['config'] == CONTENT['config']
    assert torch.equal(found['model_state_dict']['weight'], torch.arange(1000.0))
    assert [p.name for p in tmp_path.iterdir()] == ['a.pth']


@pytest.mark.parametrize('limit', [0, 100, 2000])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, limit: int) -> None:
    path = tmp_path / 'a.pth'
    checkpoint_file.save(str(path), CONTENT)
    old = path.read_bytes()
    bigger = {**CONTENT, 'model_state_dict': {'weight': torch.zeros(100_000)}}
    with (
        largest_file(limit),
        pytest.raises(UserError, match=r'a\.pth cannot be written: .*') as raised,
    ):
        checkpoint_file.save(str(path), bigger)
    assert '\n' not in str(raised.value)
    assert 'Earlier files are untouched' in str(raised.value)
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ['a.pth']  # no debris


# ------------------------------------------------------------------------- reading


def refused(path: Path, words: str = 'is not a SevenNet checkpoint') -> None:
    with pytest.raises(UserError, match=words) as raised:
        checkpoint_file.load(str(path))
    assert str(path) in str(raised.value)
    assert '\n' not in str(raised.value)


def test_no_such_file(tmp_path: Path) -> None:
    refused(tmp_path / 'a.pth', 'no such file')
    refused(tmp_path, 'no such file')  # a folder is none


@pytest.mark.parametrize('share', [0.0, 0.01, 0.5, 0.9, 0.999])
def test_truncated(tmp_path: Path, share: float) -> None:
    path = tmp_path / 'a.pth'
    checkpoint_file.save(str(path), CONTENT)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    refused(path, 'truncated')


def test_garbage(tmp_path: Path) -> None:
    path = tmp_path / 'a.pth'
    chance = random.Random(1)
    start = pickle.dumps({'config': 1}, protocol=2)[:8]
    for prefix in (b'', b'\x80\x02', b'PK\x03\x04', b'model:\n  cutoff: 5\n', start):
        for _ in range(40):
            path.write_bytes(prefix + chance.randbytes(60))
            refused(path)


def test_another_pickle(tmp_path: Path) -> None:
    path = tmp_path / 'a.pth'
    path.write_bytes(pickle.dumps(CONTENT))
    refused(path)
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('a.txt', 'text')
    refused(path)


@pytest.mark.parametrize(
    'content',
    [
        torch.zeros(3),
        {},
        {'config': {}, 'model_state_dict': {}},
        {'config': {'version': '0.13.0'}},
        {'model_state_dict': {'weight': torch.zeros(3)}},
        ['config', 'model_state_dict'],
    ],
)
def test_another_torch_file(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / 'a.pth')
    refused(tmp_path / 'a.pth')
