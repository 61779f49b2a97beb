"""SevenNet's `structure_list`: a text file that names files of structures."""

from __future__ import annotations

import os

from braceexpand import braceexpand

from sevennet_mf.errors import UserError, nearest_file


def listed(path: str) -> list[tuple[str, str]]:
    """Return (file, index) of a `structure_list`, with braces expanded.

    Lines are `[title]`, or a file with an optional index. Files are looked up from
    the working directory, then from the folder of the list.

    Raises:
        UserError: The list cannot be used.
    """
    found = []
    with open(path, encoding='utf-8') as lines:
        for line in map(str.strip, lines):
            if not line or (line.startswith('[') and line.endswith(']')):
                continue
            name, index, *more = [*line.split(), ':']
            if more not in ([], [':']):
                raise UserError(
                    f'{path}: {line!r} is neither `[title]` nor `file index`.'
                )
            # a name that is there is no pattern
            for part in [name] if _listed_file(path, name) else braceexpand(name):
                file = _listed_file(path, part)
                if file is None:
                    raise UserError(
                        f'{path}: no such file: {part}.{nearest_file(part)}'
                    )
                found.append((file, index))
    return found


def _listed_file(path: str, name: str) -> str | None:
    """The file that a list at `path` names, here or beside the list."""
    beside = os.path.join(os.path.dirname(path), name)
    return next((file for file in (name, beside) if os.path.isfile(file)), None)
