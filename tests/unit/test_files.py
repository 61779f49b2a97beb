"""Files: whole or not at all, and errors that name the path and the remedy."""

import errno
import math
import os
import re
import stat
import threading
from pathlib import Path
from typing import IO

import pytest

from sevennet_mf import files
from sevennet_mf.errors import UserError


def test_files_are_as_readable_as_others(tmp_path: Path) -> None:
    """Temporary files are the owner's alone; ours are as umask says."""
    before = os.umask(0o027)
    try:
        files.write_text(tmp_path / 'a.csv', 'text')
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / 'a.csv').stat().st_mode) == 0o640


def test_a_write_that_fails_half_way(tmp_path: Path) -> None:
    path = tmp_path / 'a.csv'
    path.write_text('old')

    def write(stream: IO[bytes]) -> None:
        stream.write(b'new')
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(UserError, match='No space left on device'):
        files.write_whole(path, write)
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
        files.write_whole(path, write)
    assert path.read_text() == 'old'
    left = [p for p in tmp_path.iterdir() if p.name != 'a.csv']
    assert all(p.name.startswith('.') and p.suffix == '.part' for p in left)
    files.write_whole(path, lambda stream: stream.write(b'new'))
    assert path.read_text() == 'new'


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / 'a.csv').mkdir()
    with pytest.raises(UserError, match=r'a\.csv cannot be written.*another folder'):
        files.write_text(tmp_path / 'a.csv', 'text')
    assert [p.name for p in tmp_path.iterdir()] == ['a.csv']
    with pytest.raises(UserError, match='No such file or directory'):
        files.write_text(tmp_path / 'gone' / 'a.csv', 'text')
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='Not a directory'):
        files.write_text(tmp_path / 'file' / 'a.csv', 'text')


def test_what_is_no_file_is_written_as_it_is(tmp_path: Path) -> None:
    """As `--json /dev/stdout`: nothing takes the place of a device or a pipe."""
    pipe = tmp_path / 'pipe'
    os.mkfifo(pipe)
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()))
    reader.start()
    files.write_text(pipe, 'text')
    reader.join(timeout=30)
    assert found == ['text']
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_an_error_that_is_not_of_the_disk_stays_what_it_is(tmp_path: Path) -> None:
    def write(stream: IO[bytes]) -> None:
        raise RuntimeError('CUDA out of memory')

    with pytest.raises(RuntimeError, match='CUDA out of memory'):
        files.write_whole(tmp_path / 'a.csv', write)
    assert list(tmp_path.iterdir()) == []


def test_the_remedy_is_what_the_caller_knows(tmp_path: Path) -> None:
    match = 'a.json cannot be written: No such file or directory. Name another.$'
    with pytest.raises(UserError, match=match):
        files.write_json(tmp_path / 'gone' / 'a.json', {}, 'Name another.')


# ---- JSON


def test_json_there_and_back(tmp_path: Path) -> None:
    path, content = tmp_path / 'a.json', {'Å': [1, None], 'b': {'c': 'd'}}
    files.write_json(path, content)
    assert files.read_json(path) == content
    assert 'Å' in path.read_text(encoding='utf-8')
    with pytest.raises(ValueError, match='not JSON compliant'):
        files.write_json(path, {'a': math.nan}, finite=True)
    assert files.read_json(path) == content


@pytest.mark.parametrize('text', ['', '{', '[1]', 'null', None])
def test_json_that_is_none(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / 'a.json'
    if text is not None:
        path.write_text(text)
    assert files.read_json(path) == {}


# ---- folders


def test_a_folder_is_made_with_those_above_it(tmp_path: Path) -> None:
    for _ in range(2):  # one that is there is fine
        files.make_folder(tmp_path / 'a' / 'b', to_write=True)
    assert list((tmp_path / 'a' / 'b').iterdir()) == []


@pytest.mark.parametrize(('to_write', 'what'), [(False, 'made'), (True, 'written')])
def test_a_folder_that_cannot_be_made(
    tmp_path: Path, to_write: bool, what: str
) -> None:
    (tmp_path / 'file').touch()
    match = f'file/b cannot be {what}: Not a directory. Choose another with -o.$'
    folder = tmp_path / 'file' / 'b'
    with pytest.raises(UserError, match=match):
        files.make_folder(folder, 'Choose another with -o.', to_write)


def test_files_are_set_aside_beside_earlier_ones(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / 'a.csv').write_text(str(number))
        place = files.set_aside(str(tmp_path), re.compile(r'a\.csv'), '-o')
        assert Path(place) == tmp_path / f'earlier_{number}'
        assert (Path(place) / 'a.csv').read_text() == str(number)
    assert files.set_aside(str(tmp_path), re.compile(r'a\.csv'), '-o') == ''
