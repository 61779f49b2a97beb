"""Two at once are refused; whoever dies lets go."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sevennet_mf import lock
from sevennet_mf.errors import UserError


def test_a_lock_is_given_to_one(tmp_path: Path) -> None:
    path = tmp_path / 'a.lock'
    assert lock.holder(path) == ''
    first = lock.take(path)
    assert first is not None
    assert lock.take(path, patience=0) is None
    assert lock.holder(path).startswith(f'process {os.getpid()} on ')
    first.close()
    assert lock.holder(path) == ''
    again = lock.take(path, patience=0)
    assert again is not None
    again.close()


def test_the_message_names_the_process_and_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / 'a.lock'
    with lock.held(path, 'works here: wait for it'):
        match = rf'^process {os.getpid()} on \S+ works here: wait for it$'
        with (
            pytest.raises(UserError, match=match),
            lock.held(path, 'works here: wait for it'),
        ):
            pass
    with lock.held(path, ''):
        pass


def test_an_heir_holds_it_until_he_is_killed(tmp_path: Path) -> None:
    """What `kill -9` leaves is no lock, though the file is there."""
    path = tmp_path / 'a.lock'
    stream = lock.take(path)
    assert stream is not None
    with stream, subprocess.Popen(
        [sys.executable, '-S', '-c', 'input()'],
        stdin=subprocess.PIPE,
        pass_fds=[stream.fileno()],
    ) as heir:
        lock.sign(stream, heir.pid)
        stream.close()
        assert lock.holder(path).startswith(f'process {heir.pid} on ')
        assert lock.take(path, patience=0) is None
        heir.kill()
    assert lock.holder(path) == ''
    assert path.exists()


def test_a_folder_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'gone/a\.lock cannot be written: No such'):
        lock.take(tmp_path / 'gone' / 'a.lock')


def test_where_there_are_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everybody gets one, but for who must know that he is alone."""

    def refuse(*_: object) -> None:
        raise OSError('No locks available')

    monkeypatch.setattr(lock.fcntl, 'flock', refuse)
    stream = lock.take(tmp_path / 'a.lock', patience=0)
    assert stream is not None
    stream.close()
    with pytest.raises(OSError, match='No locks'):
        lock.take(tmp_path / 'a.lock', patience=0, needed=True)
