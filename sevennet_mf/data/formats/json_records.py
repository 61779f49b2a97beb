"""Records of structures in JSON, one at a time: MatPES, MPtrj, CHGNet and lists.

A list of records, records grouped by the names of materials and frames, a dictionary
of lists of equal length, or one record per line; plain or compressed. The file is
parsed while it is read, with no more of it in memory than one record, or the records
of one material.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import itertools
import json
import lzma
import re
import zlib
from collections.abc import Iterator
from typing import IO, Any, Final, cast

from ase import Atoms

from sevennet_mf.data.formats.known import need
from sevennet_mf.data.formats.records import STRUCTURE, structures
from sevennet_mf.data.reading.labels import Entry
from sevennet_mf.errors import UserError

OPENERS: Final[dict[str, Any]] = {'.gz': gzip, '.bz2': bz2, '.xz': lzma}
HEAD: Final[int] = 1 << 18  # bytes that tell what a file is
NO_NUMBER: Final[re.Pattern[bytes]] = re.compile(
    rb'([:,\[\s])(?:NaN|-?Infinity)(?=[,\]}\s]|\Z)'
)
BROKEN = (EOFError, OSError, lzma.LZMAError, zlib.error)  # of a file cut short
LINES, LIST, TREE, COLUMNS = 'lines', 'list', 'tree', 'columns'


def rows(path: str, entry: Entry) -> Iterator[Atoms | UserError]:
    """Yield the structures of a file; an error in place of an invalid one.

    Raises:
        UserError: The file is not JSON of structures, or it is truncated.
    """
    layout = _layout(_head(path))
    if layout is None:
        raise UserError(
            f'{path} is not a JSON file of structures: it begins with neither a '
            'list nor a record of pymatgen structures.'
        )
    found = {LINES: _lines, LIST: _list, TREE: _tree, COLUMNS: _columns}[layout]
    number = -1
    try:
        for number, item in enumerate(structures(found(path), path)):  # noqa: B007
            yield item
    except (*BROKEN, need('ijson', path).JSONError) as error:
        raise _broken(path, number, error) from error


def recognised(path: str) -> str | None:
    """Return the form of a JSON file, or None if it is not one of ours.

    An ASE database in JSON is not one, either.
    """
    head = _head(path)
    if _layout(head) is None:
        return None
    if b'"matpes_id"' in head:
        return 'matpes'
    if b'"uncorrected_total_energy"' in head:
        return 'mptrj'
    return 'pymatgen'


def _broken(path: str, last: int, error: Exception) -> UserError:
    reason = ' '.join(str(error).split(' in json')[0].split())
    early = 'premature EOF' in str(error) or 'Incomplete' in str(error)
    if isinstance(error, EOFError) or early or 'Unexpected end' in str(error):
        reason = 'it is truncated'
    after = f'after record {last}' if last >= 0 else 'at its beginning'
    return UserError(
        f'{path} cannot be read {after}: {reason.rstrip(".")}. Is it complete? '
        'Download it again.'
    )


def _open(path: str) -> IO[bytes]:
    for suffix, module in OPENERS.items():
        if path.endswith(suffix):
            return cast(IO[bytes], module.open(path, 'rb'))
    return open(path, 'rb')


def _head(path: str) -> bytes:
    """The beginning of a file; of one that is cut short what there is of it."""
    head = b''
    with _open(path) as stream, contextlib.suppress(*BROKEN):
        while len(head) < HEAD and (part := stream.read(4096)):
            head += part
    return head


def _layout(head: bytes) -> str | None:
    """How records lie in a file, by its beginning."""
    head = head.lstrip()
    if head.startswith(b'['):
        return LIST if b'"sites"' in head or b'"structure"' in head else None
    if not head.startswith(b'{'):
        return None
    names = '|'.join(STRUCTURE).encode()
    if _is_record(head.split(b'\n', 1)[0]):
        return LINES
    if re.search(rb'"(%s)"\s*:\s*\[' % names, head):
        return COLUMNS
    if re.search(rb'"(%s)"\s*:\s*["{]' % names, head):
        return TREE
    return None


def _is_record(line: bytes) -> bool:
    """Whether a line is a record, and not the beginning of one that goes on."""
    try:
        record = json.loads(line)
    except ValueError:
        return False
    return any(isinstance(record.get(name), dict | str) for name in STRUCTURE)


class _Stream:
    """A file as JSON has it: Python writes NaN, which JSON does not know."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.kept = b''

    def read(self, size: int = -1) -> bytes:
        while size != 0:
            new = self.stream.read(size)
            part = self.kept + new
            # up to a comma: a word may go on in the next part
            cut = part.rfind(b',') if new and size > 0 else len(part)
            if cut > 0 or not new:
                self.kept = part[max(cut, 0) :]
                return NO_NUMBER.sub(rb'\1null', part[: max(cut, 0)])
            self.kept = part
        return b''


@contextlib.contextmanager
def _parsed(path: str) -> Iterator[Any]:
    with _open(path) as stream:
        yield _Stream(stream)


def _list(path: str) -> Iterator[Any]:
    with _parsed(path) as stream:
        yield from need('ijson', path).items(stream, 'item', use_float=True)


def _tree(path: str) -> Iterator[Any]:
    """Records below the name of a frame, and perhaps that of a material."""
    with _parsed(path) as stream:
        pairs = need('ijson', path).kvitems(stream, '', use_float=True)
        for name, inside in pairs:
            yield from _below(inside, (name,))


def _below(value: Any, names: tuple[str, ...]) -> Iterator[Any]:
    if not isinstance(value, dict) or any(key in value for key in STRUCTURE):
        # the outer name groups frames of one material
        own = {'material_id': names[0], 'frame_id': names[-1]}
        yield {**own, **value} if isinstance(value, dict) else value
        return
    for name, inside in value.items():
        yield from _below(inside, (*names, name))


def _columns(path: str) -> Iterator[Any]:
    """Record i is element i of each list; a list may be null: no such label."""
    ijson = need('ijson', path)
    with _parsed(path) as stream:
        names = [
            key
            for prefix, event, key in ijson.parse(stream, use_float=True)
            if (prefix, event) == ('', 'map_key')
        ]
    with contextlib.ExitStack() as stack:
        lists = {
            name: ijson.items(
                stack.enter_context(_parsed(path)), f'{name}.item', use_float=True
            )
            for name in names
        }
        absent = object()
        columns: dict[str, Iterator[Any]] = {}
        for name, values in lists.items():
            first = next(values, absent)
            if first is not absent:
                columns[name] = itertools.chain([first], values)
        for number, values in enumerate(
            itertools.zip_longest(*columns.values(), fillvalue=absent)
        ):
            short = [n for n, v in zip(columns, values, strict=True) if v is absent]
            if short:
                raise UserError(
                    f'{path}: its list `{short[0]}` ends at {number}, others are '
                    'longer. Record i must be element i of each.'
                )
            yield dict(zip(columns, values, strict=True))


def _lines(path: str) -> Iterator[Any]:
    """One record a line; a line that is none does not spoil the others."""
    with _open(path) as stream:
        number = 0
        for line in stream:
            if not line.strip():
                continue
            try:
                yield json.loads(line)
            except ValueError as error:
                yield UserError(
                    f'{path}:{number} is not a JSON record: {error}. Correct or '
                    'remove the line.'
                )
            number += 1
