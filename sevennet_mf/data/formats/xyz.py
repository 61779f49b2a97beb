"""Extended XYZ: its comment lines, and its frames one by one.

ASE lists all frames of a file before it reads the first one, and parses a comment
character by character. Here a frame is read as it comes; what is unusual in it is
left to ASE.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Any, Final

import numpy as np
from ase import Atoms
from ase.io.extxyz import (
    REV_PROPERTY_NAME_MAP,
    SPECIAL_3_3_KEYS,
    UNPROCESSED_KEYS,
    key_val_str_to_dict,
    read_xyz,
    set_calc_and_arrays,
)
from ase.io.formats import open_with_compression

from sevennet_mf.errors import UserError

# a key and what it is, where nothing needs a second look
PAIR: Final = re.compile(
    r"""([A-Za-z_][\w.-]*)=("[^"\\]+"|[^\s"'{}\[\]=\\]+)(?:\s+|$)""", re.ASCII
)
COLUMNS: Final = re.compile(r'Properties=\w+:[RISL]:[\w:]+\s*', re.ASCII)
# what is not a whole number, and which list of numbers has one
FLOAT: Final = re.compile(r'[-+]?(?:\d+\.\d*|\.\d+)(?:[eE][-+]?\d+)?')
NUMBERS: Final = re.compile(rf'\s*(?:{FLOAT.pattern}(?:\s+|$))+', re.ASCII)

# columns by their letter, and how their values are read
TYPES: Final = {'R': 'd', 'I': 'i', 'S': 'O'}
READ_AS: Final[dict[str, Callable[[str], Any]]] = {'d': float, 'i': int, 'O': str}


def parsed(line: str) -> dict[str, Any]:
    """Return what a comment line says, exactly as ASE's own parser does."""
    info: dict[str, Any] = {}
    line, at = line.strip(), 0
    while at < len(line):
        pair = PAIR.match(line, at)
        if pair is None:  # an escape, a bracket, a key without a value
            whole: dict[str, Any] = key_val_str_to_dict(line)
            return whole
        key, value = pair.groups()
        at = pair.end()
        if COLUMNS.fullmatch(pair[0]):
            info[key] = value  # text, whatever it is
        elif key.lower() not in UNPROCESSED_KEYS and NUMBERS.fullmatch(
            value.strip('"')
        ):
            info[key] = _numbers(key, value.strip('"'))
        else:
            info |= key_val_str_to_dict(pair[0])
    return info


def _numbers(key: str, text: str) -> Any:
    numbers = np.array([float(part) for part in text.split()])
    if key in SPECIAL_3_3_KEYS:
        if len(numbers) != 9:  # an error in ASE's words
            return key_val_str_to_dict(f'{key}="{text}"')
        return numbers.reshape((3, 3), order='F')
    return numbers[0] if len(numbers) == 1 else numbers


def frames(
    path: str, parse: Callable[[str], dict[str, Any]], strict: bool = True
) -> Iterator[Atoms | UserError]:
    """Yield the frames of a file, as ASE reads them; nothing else is in memory.

    Args:
        parse: parses a comment line.
        strict: raise the error of a frame that is invalid; otherwise yield a
            UserError in its place.

    Raises:
        ValueError: It is unclear where a frame begins.
    """
    number = 0
    with open_with_compression(path, 'r') as stream:
        following = stream.readline()
        while (head := following).strip():
            try:
                count = int(head)
            except ValueError:
                raise ValueError(
                    f'frame {number} begins with {head.strip()[:40]!r}, not with a '
                    'number of atoms'
                ) from None
            lines = [head, *islice(stream, count + 1)]
            following = stream.readline()
            while following.lstrip().startswith('VEC'):  # cell vectors
                lines.append(following)
                following = stream.readline()
            try:
                yield _frame(lines, count, parse)
            except Exception as error:  # whatever stands there
                if strict:
                    raise
                yield UserError(f'{path}:{number} cannot be read: {error!r}.')
            number += 1


def _frame(
    lines: list[str], count: int, parse: Callable[[str], dict[str, Any]]
) -> Atoms:
    """One frame: if it is a usual one, without ASE's reader, which is slower."""
    try:
        usual = _usual(lines, count, parse)
    except Exception:  # ASE says what is wrong
        usual = None
    if usual is not None:
        return usual
    return next(read_xyz(io.StringIO(''.join(lines)), 0, parse))


def _usual(
    lines: list[str], count: int, parse: Callable[[str], dict[str, Any]]
) -> Atoms | None:
    """A frame whose columns are real, whole or text; None for any other."""
    info = parse(lines[1].strip())
    columns = _columns(info.pop('Properties', ''))
    rows = [line.split() for line in lines[2:]]
    if columns is None or len(rows) != count:
        return None
    values = list(zip(*rows, strict=False))  # more columns than named are ignored
    arrays: dict[str, Any] = {}
    at = 0
    for name, dtype, width in columns:
        read = READ_AS[dtype]
        of_name = [[read(text) for text in column] for column in values[at:][:width]]
        if len(of_name) != width:
            return None
        array = np.array(of_name, dtype)
        arrays[name] = array[0] if width == 1 else array.T
        at += width
    symbols = arrays.pop('symbols', None)
    numbers = arrays.pop('numbers', None)
    if symbols is not None:
        symbols = [symbol.capitalize() for symbol in symbols]
    lattice = info.pop('Lattice', None)
    atoms = Atoms(
        symbols if numbers is None else numbers,
        positions=arrays.pop('positions', None),
        charges=arrays.pop('initial_charges', None),
        cell=None if lattice is None else lattice.T,
        pbc=info.pop('pbc', None if lattice is None else [True, True, True]),
        info=info,
    )
    set_calc_and_arrays(atoms, arrays)
    return atoms


@lru_cache(maxsize=64)
def _columns(properties: str) -> tuple[tuple[str, str, int], ...] | None:
    """ASE's names, types and widths of columns; None for those that are special."""
    fields = properties.split(':')
    if len(fields) < 3 or len(fields) % 3 or 'move_mask' in fields:
        return None
    names = [REV_PROPERTY_NAME_MAP.get(name, name) for name in fields[::3]]
    if len({*names}) < len(names) or not {*fields[1::3]} <= {*TYPES}:
        return None
    types = [TYPES[letter] for letter in fields[1::3]]
    return tuple(zip(names, types, map(int, fields[2::3]), strict=True))
