"""Folders, and files that are written as a whole or not at all."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO, Any, Final

from sevennet_mf.errors import UserError

Path = str | os.PathLike[str]

EARLIER: Final[str] = 'earlier_'  # folders of what earlier runs wrote: earlier_1
ELSEWHERE: Final[str] = (
    'Earlier files are untouched; free space or choose another folder.'
)


# ---- writing


def write_whole(
    path: Path, write: Callable[[IO[bytes]], object], remedy: str = ELSEWHERE
) -> None:
    """Write a file so that `path` has either the old content or all of the new one.

    A device or a pipe, such as /dev/stdout, is written directly.

    Raises:
        UserError: The folder cannot be written or the disk is full; the message ends
            with `remedy`. What was at `path` stays.
    """
    path = os.fspath(path)
    is_file = os.path.isfile(path) or os.path.isdir(path) or not os.path.exists(path)
    try:
        if is_file:
            _replace(path, write)
        else:
            with open(path, 'wb') as stream:
                write(stream)
    except (OSError, RuntimeError) as error:
        if not isinstance(_cause(error), OSError):
            raise
        raise unwritable(path, error, remedy) from None


def _replace(path: str, write: Callable[[IO[bytes]], object]) -> None:
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
    except Exception:
        if temporary is not None:
            with suppress(OSError):
                os.remove(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _cause(error: BaseException) -> BaseException | None:
    """torch's message for a full disk is of no help; its cause is."""
    return error if isinstance(error, OSError) else error.__context__


def unwritable(path: Path, error: Exception, remedy: str = ELSEWHERE) -> UserError:
    """Return the error for a path that cannot be written because of `error`."""
    text = f'{os.fspath(path)} cannot be written: {reason(error)}. {remedy}'
    return UserError(text)


def reason(error: Exception) -> str:
    """Return why a file or a folder cannot be written, in a few words."""
    said = getattr(_cause(error), 'strerror', None) or str(error)
    return (said.splitlines() or [type(error).__name__])[0]


def write_text(path: Path, text: str, remedy: str = ELSEWHERE) -> None:
    """Write a text in UTF-8, as `write_whole`."""
    write_whole(path, lambda stream: stream.write(text.encode()), remedy)


def write_csv(path: Path, table: Sequence[Sequence[Any]]) -> None:
    """Write lines of cells, as `write_whole`."""
    text = io.StringIO()
    csv.writer(text, lineterminator='\n').writerows(table)
    write_text(path, text.getvalue())


def sha256_of(path: Path) -> str:
    """Return the digest of a file, as 64 hexadecimal digits."""
    with open(path, 'rb') as stream:
        return hashlib.file_digest(stream, 'sha256').hexdigest()


# ---- JSON


def as_json(content: Any, finite: bool = False) -> str:
    """Return the text of a JSON file.

    Args:
        content: Plain builtins.
        finite: Raise ValueError for NaN and infinity, which JSON readers other than
            Python's refuse.
    """
    text = json.dumps(
        content, indent=2, ensure_ascii=False, allow_nan=not finite
    )
    return text + '\n'


def write_json(
    path: Path, content: Any, remedy: str = ELSEWHERE, finite: bool = False
) -> None:
    """Write plain builtins as JSON, as `write_whole`; see `as_json`."""
    write_text(path, as_json(content, finite), remedy)


def read_json(path: Path) -> dict[str, Any]:
    """Return the dictionary in a JSON file; {} if it cannot be read."""
    try:
        with open(path, encoding='utf-8') as stream:
            content = json.load(stream)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


# ---- folders


def make_folder(
    path: Path, remedy: str = 'Choose another folder.', to_write: bool = False
) -> None:
    """Make a folder and its parents if they do not exist.

    Args:
        path: The folder.
        remedy: The end of the message.
        to_write: Also try to write a file in it, before work whose result is to go
            there.

    Raises:
        UserError: That is not possible.
    """
    try:
        os.makedirs(path, exist_ok=True)
        if to_write:
            with tempfile.TemporaryFile(dir=path):
                pass
    except OSError as error:
        what = 'written' if to_write else 'made'
        text = f'{os.fspath(path)} cannot be {what}: {reason(error)}. {remedy}'
        raise UserError(text) from None


def set_aside(folder: str, names: re.Pattern[str], option: str) -> str:
    """Move files of an earlier run into a folder of their own.

    Args:
        folder: Where they are.
        names: What matches their names.
        option: The one that selects another folder, for the message.

    Returns:
        The new folder, or '' if there was no such file.

    Raises:
        UserError: They cannot be moved.
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
            f'{reason(error)}. Choose another folder with {option}.'
        ) from None
    return place


def tidy(folder: str) -> None:
    """Remove what a killed run left half written."""
    for name in os.listdir(folder):
        if name.startswith('.') and name.endswith('.part'):
            with suppress(OSError):
                os.remove(os.path.join(folder, name))
