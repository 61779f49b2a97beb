"""The files that match the names and patterns of a YAML."""

from __future__ import annotations

import glob
import os

from sevennet_mf.errors import UserError, nearest_file


def existing(given: str | list[str], where: str) -> list[str]:
    """Return the files that match names and patterns.

    Args:
        where: what errors call the key.

    Raises:
        UserError: A pattern is not valid, or matches no file.
    """
    patterns = given if isinstance(given, list) else [given]
    return [path for pattern in patterns for path in _expand(pattern, where)]


def _expand(pattern: str, where: str) -> list[str]:
    from braceexpand import braceexpand

    found: list[str] = []
    if os.path.isfile(pattern):  # whatever characters are in its name
        return [pattern]
    try:
        parts = list(braceexpand(pattern))
    except ValueError:
        raise UserError(f'{where}: a brace is not closed in {pattern!r}.') from None
    for part in parts:
        is_pattern = glob.has_magic(part) and not os.path.exists(part)
        matches = sorted(glob.glob(part)) if is_pattern else [part]
        files = [file for m in matches for file in data_files(m)]
        if not files and os.path.isdir(part):
            raise UserError(
                f'{where}: {part!r} is a folder; name files in it. It holds neither '
                '`.aselmdb` files nor systems of DeePMD.'
            )
        if not files:
            raise UserError(f'{where}: no such file: {part}.{nearest_file(part)}')
        found += files
    return found


def data_files(path: str) -> list[str]:
    """Return the files or folders of data that a path names; [] if there are none.

    That is the file; of a folder its `.aselmdb` files, or itself if it is a system
    of DeePMD, or the systems below it.
    """
    if os.path.isfile(path):
        return [path]
    if not os.path.isdir(path):
        return []
    databases = glob.glob(os.path.join(glob.escape(path), '*.aselmdb'))
    if databases:
        return sorted(databases)
    walked = sorted(os.walk(path))
    return [folder for folder, _, names in walked if 'type.raw' in names]
