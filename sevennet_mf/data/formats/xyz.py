"""Frames of extended XYZ one by one, so that reading continues after a bad one."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from ase import Atoms
from ase.io.extxyz import read_xyz
from ase.io.formats import open_with_compression

from sevennet_mf.errors import UserError


def frames(
    path: str, parse: Callable[[str], dict[str, Any]]
) -> Iterator[Atoms | UserError]:
    """Yield the frames of a file; an error in place of an invalid one.

    Args:
        parse: parses a comment line.

    Raises:
        UserError: It is unclear where a frame ends.
    """
    number = 0
    with open_with_compression(path, 'r') as lines:
        while (head := lines.readline()).strip():
            try:
                count = int(head)
            except ValueError:
                raise UserError(
                    f'{path}:{number} begins with {head.strip()[:40]!r}, not with a '
                    'number of atoms, so what follows cannot be read. Correct it.'
                ) from None
            text = ''.join([head, *islice(lines, count + 1)])
            try:
                yield next(read_xyz(io.StringIO(text), 0, parse))
            except Exception as error:  # whatever stands there
                yield UserError(f'{path}:{number} cannot be read: {error!r}.')
            number += 1
