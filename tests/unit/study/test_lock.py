"""Two at once are refused; whoever dies lets go."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sevennet_mf.errors import UserError
from sevennet_mf.study import lock


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
    stream = lock.take(tmp_path / lock.RUN_LOCK)
    assert stream is not None
    with stream, subprocess.Popen(
        [sys.executable, '-S', '-c', 'input()'],
        stdin=subprocess.PIPE,
        pass_fds=[stream.fileno()],
    ) as heir:
        lock.sign(stream, heir.pid)
        stream.close()
        match = rf'process {heir.pid} on \S+ still works on'
        with pytest.raises(UserError, match=match):
            lock.wait_for_others([tmp_path], patience=0)
        heir.kill()
    lock.wait_for_others([tmp_path], patience=0)
    assert (tmp_path / lock.RUN_LOCK).exists()


def test_a_folder_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'gone/a\.lock cannot be written: No such'):
        lock.take(tmp_path / 'gone' / 'a.lock')
