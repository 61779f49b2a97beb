"""Who works in a folder: a lock that the kernel releases when its holder dies."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from sevennet_mf.errors import UserError
from sevennet_mf.files import unwritable

PATIENCE = 1.0  # s; another process may be checking whether the lock is free


def take(
    path: Path, patience: float = PATIENCE, needed: bool = False
) -> IO[str] | None:
    """Lock `path` for as long as the stream is open; None if another process has it.

    A process that inherits the stream's descriptor holds the lock too, until it
    ends, however it ends: no lock is left behind by `kill -9` or a crash. On a file
    system without locks everybody gets one.

    Args:
        path: The file to lock; it is made if it does not exist.
        patience: Seconds to wait for another process.
        needed: Raise OSError on a file system without locks.

    Raises:
        UserError: The file cannot be written.
    """
    try:
        stream = path.open('a+', encoding='utf-8')
    except OSError as error:
        raise unwritable(path, error, 'Choose another folder.') from None
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                stream.close()
                return None
            time.sleep(0.02)
            continue
        except OSError:  # a file system without locks
            if needed:
                stream.close()
                raise
        sign(stream, os.getpid())
        return stream


def sign(stream: IO[str], pid: int) -> None:
    """Write into a locked file which process holds it, for messages."""
    with suppress(OSError):  # a full disk: the lock counts, not its content
        stream.truncate(0)
        stream.write(f'process {pid} on {socket.gethostname()}')
        stream.flush()


def holder(path: Path) -> str:
    """Return who has the lock, as 'process 12 on host'; '' if nobody has it."""
    try:
        with path.open(encoding='utf-8') as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return stream.read() or 'another process'
    except OSError:  # no such file, or no locks here
        pass
    return ''


@contextmanager
def held(path: Path, told: str) -> Iterator[None]:
    """Hold a lock; UserError, which ends with `told`, if another process has it."""
    stream = take(path)
    if stream is None:
        raise UserError(f'{holder(path) or "another process"} {told}')
    with stream:
        yield
