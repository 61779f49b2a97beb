"""Checkpoint files: whole or not at all, and errors that help."""

import errno
import os
import pickle
import random
import resource
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
import torch

from sevennet_mf import files, keys
from sevennet_mf.checkpoint import file as checkpoint_file
from sevennet_mf.errors import UserError
from sevennet_mf.train.loop import run_folder

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


def test_files_are_as_readable_as_others(tmp_path: Path) -> None:
    """Temporary files are the owner's alone; a checkpoint is as umask says."""
    before = os.umask(0o027)
    try:
        checkpoint_file.save(str(tmp_path / 'a.pth'), CONTENT)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / 'a.pth').stat().st_mode) == 0o640


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


def test_a_write_that_fails_half_way(tmp_path: Path) -> None:
    path = tmp_path / 'a.csv'
    path.write_text('old')

    def write(stream: IO[bytes]) -> None:
        stream.write(b'new')
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(UserError, match='No space left on device'):
        files.write_whole(str(path), write)
    assert path.read_text() == 'old'
    assert [p.name for p in tmp_path.iterdir()] == ['a.csv']


def test_a_write_that_is_interrupted(tmp_path: Path) -> None:
    """What kill -9 leaves of a write is never taken for the file."""
    path = tmp_path / 'a.csv'
    path.write_text('old')

    def write(stream: IO[bytes]) -> None:
        stream.write(b'new')
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.write_whole(str(path), write)
    assert path.read_text() == 'old'
    left = [p for p in tmp_path.iterdir() if p.name != 'a.csv']
    assert all(p.name.startswith('.') and p.suffix == '.part' for p in left)
    files.write_whole(str(path), lambda stream: stream.write(b'new'))
    assert path.read_text() == 'new'


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / 'a.pth').mkdir()
    with pytest.raises(UserError, match=r'a\.pth cannot be written.*another folder'):
        checkpoint_file.save(str(tmp_path / 'a.pth'), CONTENT)
    assert [p.name for p in tmp_path.iterdir()] == ['a.pth']
    with pytest.raises(UserError, match='No such file or directory'):
        checkpoint_file.save(str(tmp_path / 'gone' / 'a.pth'), CONTENT)
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='Not a directory'):
        checkpoint_file.save(str(tmp_path / 'file' / 'a.pth'), CONTENT)


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


def test_weights_alone_cannot_be_resumed(tmp_path: Path) -> None:
    path = str(tmp_path / 'a.pth')
    checkpoint_file.save(path, CONTENT)
    with pytest.raises(UserError, match=r'--resume needs a checkpoint_resume\.pth'):
        run_folder.load_training_state(path)
    checkpoint_file.save(path, {**CONTENT, keys.TRAINING_STATE: {'state': {}}})
    assert run_folder.load_training_state(path)['epoch'] == 3


def test_an_earlier_runs_checkpoints_are_moved_not_lost(tmp_path: Path) -> None:
    names = ('checkpoint_0.pth', 'checkpoint_best.pth', 'checkpoint_resume.pth')
    for name in names:
        (tmp_path / name).write_text(name)
    (tmp_path / 'checkpoint_of_mine.pth').write_text('not of training')
    (tmp_path / '.abc.part').write_text('half of one')
    files.tidy(str(tmp_path))
    place = Path(run_folder.set_aside(str(tmp_path)))
    assert place == tmp_path / 'earlier_1'
    assert {p.name: p.read_text() for p in place.iterdir()} == {n: n for n in names}
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {'checkpoint_of_mine.pth', 'earlier_1'}
    assert run_folder.set_aside(str(tmp_path)) == ''
    (tmp_path / names[1]).write_text('second')
    assert run_folder.set_aside(str(tmp_path)).endswith('earlier_2')
