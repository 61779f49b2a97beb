"""Files written whole or not at all, and what earlier runs left."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Final

from sevennet_mf.errors import UserError

EARLIER: Final[str] = 'earlier_'  # folders of what earlier runs wrote: earlier_1


def write_whole(path: str, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file so that at `path` stands the old one or the whole new one.

    Raises UserError if the folder cannot be written or the disk is full; what
    was at `path` stays.
    """
    folder = os.path.dirname(os.path.abspath(path))
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(
            dir=folder, prefix='.', suffix='.part', delete=False
        ) as stream:
            temporary = stream.name
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch wraps a full disk
        if temporary is not None:
            with suppress(OSError):
                os.remove(temporary)
        # torch's own words for a full disk say nothing
        cause = error if isinstance(error, OSError) else error.__context__
        reason = getattr(cause, 'strerror', None) or str(error).splitlines()[0]
        raise UserError(
            f'{path} cannot be written: {reason}. Earlier files are untouched; '
            'free space or choose another folder.'
        ) from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: str, text: str) -> None:
    """As `write_whole`, of a text in UTF-8."""
    write_whole(path, lambda stream: stream.write(text.encode()))


def set_aside(
    folder: str, names: re.Pattern[str], option: str
) -> str:
    """Move files of an earlier run into a folder of their own.

    names: of the files; option: the one that names another folder. Returns the
    new folder, or '' if there was no such file. Raises UserError if they cannot be
    moved.
    """
    try:
        found = [name for name in os.listdir(folder) if names.fullmatch(name)]
        if not found:
            return ''
        number = 1
        while os.path.exists(os.path.join(folder, f'{EARLIER}{number}')):
            number += 1
        place = os.path.join(folder, f'{EARLIER}{number}')
        os.mkdir(place)
        for name in found:
            os.rename(os.path.join(folder, name), os.path.join(place, name))
    except OSError as error:
        raise UserError(
            f'what an earlier run wrote in {folder} cannot be moved aside: '
            f'{error.strerror}. Choose another folder with {option}.'
        ) from None
    return place


def tidy(folder: str) -> None:
    """Remove what a killed run left half written."""
    for name in os.listdir(folder):
        if name.startswith('.') and name.endswith('.part'):
            with suppress(OSError):
                os.remove(os.path.join(folder, name))
