"""What is in a file, as a hash; an unchanged file is read for it only once."""

from __future__ import annotations

import hashlib
import os
import time
from typing import Final

from sevennet_mf.data.formats import deepmd
from sevennet_mf.data.formats.structure_list import listed
from sevennet_mf.data.reading.files import GRAPH, LIST, unreadable

# s that a file must be older than its hash: the clocks of file systems are coarse,
# and what is written in the same tick leaves no trace
SETTLED: Final[float] = 2.5

# of files that have not changed since: device, number, size, times -> sha256
_known: dict[tuple[int, ...], str] = {}


def content_hash(path: str, reader: str) -> str:
    """Return the sha256 of a file, and of those that only with it have a meaning.

    Args:
        reader: as files.reader_of returns it.

    Raises:
        UserError: A file cannot be read.
    """
    names = [path]
    try:
        if reader == GRAPH:
            names.append(path.removesuffix('.pt') + '.yaml')
        elif reader == LIST:
            names += [file for file, _ in listed(path)]
        elif os.path.isdir(path):
            names = deepmd.files(path)
        digests = [_sha256(name) for name in filter(os.path.isfile, names)]
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from error
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256(' '.join(digests).encode()).hexdigest()


def _sha256(name: str) -> str:
    """The hash of one file, from memory if it cannot have changed."""
    begun = time.time()
    with open(name, 'rb') as stream:
        mark = _mark(stream.fileno())
        if mark in _known:
            return _known[mark]
        digest = hashlib.file_digest(stream, 'sha256').hexdigest()
        latest = max(mark[3:]) / 1e9
        if _mark(stream.fileno()) == mark and latest < begun - SETTLED:
            _known[mark] = digest
    return digest


def _mark(file: int) -> tuple[int, ...]:
    """What changes whenever somebody writes into a file."""
    at = os.fstat(file)
    return at.st_dev, at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns
