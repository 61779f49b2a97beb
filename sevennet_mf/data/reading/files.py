"""What a file contains: which reader it needs, and its structures one at a time.

These are formats that ASE reads, formats that data sets are published in (see
formats/), the host's graph files (`.pt`, `.sevenn_data`) and its `structure_list`.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import ase.io
from ase import Atoms
from ase.data import chemical_symbols
from ase.io.formats import filetype, ioformats
from ase.utils import string2index
from sevenn.atom_graph_data import AtomGraphData

from sevennet_mf.config.option_words import without_entry
from sevennet_mf.data.formats import ase_database as databases
from sevennet_mf.data.formats import deepmd, graph_files, known, mace, xyz
from sevennet_mf.data.formats.structure_list import listed
from sevennet_mf.data.reading import convention, fidelity_names
from sevennet_mf.data.reading.convention import UNIT_KEYS
from sevennet_mf.data.reading.labels import LABEL_KEYS, Entry
from sevennet_mf.errors import UserError, nearest, nearest_file

GRAPH, OLD_GRAPH, LIST = 'sevenn graph', 'sevenn_data', 'structure_list'
SKIP = 'skip'  # of `on_bad`
ISOTOPES = ('D', 'T')


def files_of(entry: Entry) -> list[str]:
    """Return the paths of an entry, in its order."""
    files = entry['file']
    return [files] if isinstance(files, str) else list(files)


def reader_of(path: str, format: str | None = None) -> str:
    """Return the reader of `path`: one of ours, or ASE's name of its format.

    Raises:
        UserError: The format is unknown or cannot be inferred from the file.
    """
    if path.endswith('.aselmdb') and format in (None, *databases.DATABASES):
        return 'aselmdb'
    if format is not None:
        if known.form_of(format) is None and format not in ioformats:
            names = [*known.FORMS, *ioformats]
            raise UserError(
                f'{path}: format {format!r} is neither one of '
                f'{", ".join(known.FORMS)}, nor known to ASE.'
                f'{nearest(format, names)} Correct it, or leave it out.'
            )
        return format
    if path.endswith('.pt'):
        return GRAPH
    if path.endswith('.sevenn_data'):
        return OLD_GRAPH
    if LIST in os.path.basename(path):
        return LIST
    try:
        if (form := known.recognised(path)) is not None:
            return form
        name = filetype(path)
    except UserError:
        raise
    except Exception as error:
        raise unreadable(path, error) from error
    if name not in ioformats:
        raise UserError(
            f'{path} cannot be read: no file format is known by that name. Write '
            "`format:` with ASE's name for it."
        )
    return name


def size_of(path: str) -> int:
    """Return the size in bytes of a file, or of all files of a DeePMD system."""
    files = deepmd.files(path) if os.path.isdir(path) else [path]
    return sum(os.path.getsize(file) for file in files)


def count_frames(path: str, reader: str, index: str = ':') -> int | None:
    """Return how many structures `index` selects; None if slow to find out."""
    if reader not in ('extxyz', 'xyz') or path.endswith(('.gz', '.bz2', '.xz')):
        return None
    total = 0
    try:
        chosen = string2index(index)
        with open(path, 'rb') as lines:
            while (line := lines.readline()).strip():
                for _ in range(int(line) + 1):
                    lines.readline()
                total += 1
    except (OSError, ValueError):
        return None  # reading it will tell what is wrong
    return len(range(total)[chosen]) if isinstance(chosen, slice) else 1


def unreadable(path: str, error: Exception, last: int | None = None) -> UserError:
    """Return the error for a file that a reader failed on.

    Args:
        last: the last frame that was read.
    """
    if isinstance(error, FileNotFoundError) and not os.path.exists(path):
        return UserError(f'no such file: {path}.{nearest_file(path)}')
    where = path if last is None else f'{path}, after frame {last},'
    reason = ' '.join(str(error).split()) or type(error).__name__
    if os.path.isdir(path) and reason.startswith('Not a BundleTrajectory'):
        return UserError(f'{path} is a folder; give a file in it.')
    if isinstance(error, KeyError):
        name = str(error.args[0]) if error.args else ''
        if meant := _element(name):
            return UserError(
                f'{where} has {name!r} as an element symbol. Write {meant!r}, '
                'without labels, charges or isotopes.'
            )
        reason = f'it lacks {name!r}, or ASE does not know it'
    if 'locked' in reason:
        return UserError(
            f'{where} cannot be read: {reason.rstrip(".")}. Another program has it: '
            'wait until it has ended, or read a copy.'
        )
    return UserError(
        f'{where} cannot be read: {reason.rstrip(".")}. Correct the file, its '
        '`index` or its `format`, or remove it from the list.'
    )


def _element(name: str) -> str | None:
    """The symbol that is meant by 'Ga1', 'O2-' or 'D'; None for other names."""
    if name in ISOTOPES:
        return 'H'
    found = re.match('[A-Za-z]{1,2}(?![a-z])', name)
    meant = found[0].capitalize() if found else ''
    return meant if meant in chemical_symbols[1:] and meant != name else None


def completed(path: str, entry: Entry) -> Entry:
    """Return an entry with what the form of one of its files sets.

    These are keys, units and signs that the entry does not name itself.

    Raises:
        UserError: As for `reader_of`, or the form leaves open what the entry must
            say.
    """
    return known.completed(path, reader_of(path, entry.get('format')), entry)


def items_of(
    path: str, entry: Entry, cutoff: float, key: str | None = None
) -> Iterator[tuple[int, Atoms | AtomGraphData]]:
    """Yield (frame, structure) of one file.

    Positions and cells are in Å, labels as they are in the file.

    Args:
        entry: as `completed` returns it.
        key: the key of the structures' info that names the fidelity.

    Raises:
        UserError: A structure cannot be read.
    """
    for frame, item in records_of(path, entry, cutoff, key):
        if isinstance(item, UserError):
            raise item
        yield frame, item


def records_of(
    path: str, entry: Entry, cutoff: float, key: str | None = None
) -> Iterator[tuple[int, Atoms | AtomGraphData | UserError]]:
    """Yield as `items_of`, but with the error in place of a structure.

    The structures after it may be fine. Where none can follow, the error is raised.
    """
    reader = reader_of(path, entry.get('format'))
    if reader in (GRAPH, OLD_GRAPH):
        words = ('energy_key', *LABEL_KEYS, *UNIT_KEYS)
        given = [k for k in words if entry.get(k) is not None]
        if given:
            raise UserError(
                f'{path}: {given[0]} has no meaning for a graph file, whose '
                'labels are fixed. Remove it; `null` leaves a label out.'
            )
    last, length = None, convention.of_entry(entry).length
    try:
        for frame, item in _items(path, reader, entry, cutoff, key):
            last = frame
            if length != 1.0 and isinstance(item, Atoms):
                item.set_cell(item.cell * length)
                item.positions *= length
            yield frame, item
    except UserError:
        raise
    except Exception as error:  # whatever a reader may raise
        raise unreadable(path, error, last) from error


def _items(
    path: str, reader: str, entry: Entry, cutoff: float, key: str | None
) -> Iterator[tuple[int, Atoms | AtomGraphData | UserError]]:
    index = entry.get('index', ':')
    chosen = string2index(index)
    form = known.form_of(reader)
    if form is known.MACE:  # extended XYZ, whose heads are texts
        form, reader, key = None, 'extxyz', key or mace.HEAD
    if reader == 'extxyz':
        parse = xyz.parsed
        if key is not None:
            parse = partial(fidelity_names.parse_comment, key=key)
        strict = entry.get('on_bad') != SKIP
        rows = partial(xyz.frames, path, parse, strict)
        yield from _streamed(rows, _as_slice(chosen))
        return
    if reader == GRAPH:
        yield from _chosen(graph_files.processed(path, cutoff), chosen)
    elif reader == OLD_GRAPH:
        yield from _chosen(graph_files.of_old_form(path, cutoff), chosen)
    elif reader == LIST:
        # the host's reader has every ionic step but the first twice
        frames = (
            item
            for file, part in listed(path)
            for _, item in items_of(
                file, completed(file, {'index': part}), cutoff, key
            )
        )
        if chosen == slice(None):
            yield from enumerate(frames)
        else:
            yield from _chosen([*frames], chosen)
    elif form is not None:
        yield from _of_form(path, form, entry, chosen)
    elif reader in databases.DATABASES:
        yield from databases.rows(path, reader, chosen)
    else:
        numbers = _numbers(path, chosen, reader)
        yield from zip(numbers, _frames(path, index, reader), strict=False)


def _of_form(
    path: str, form: known.Form, entry: Entry, chosen: Any
) -> Iterator[tuple[int, Atoms | UserError]]:
    """Rows of one of our forms: at random where it can be, else streaming."""
    read = partial(known.module_of(form).rows, path, entry)
    rows = read()
    if isinstance(chosen, str) and hasattr(rows, 'selected'):
        yield from _each(path, rows, rows.selected(chosen))
        return
    chosen = _as_slice(chosen)
    if isinstance(rows, Sequence):
        yield from _each(path, rows, range(len(rows))[chosen])
    else:
        yield from _streamed(read, chosen)


def _streamed(
    read: Callable[[], Iterator[Atoms | UserError]], chosen: slice
) -> Iterator[tuple[int, Atoms | UserError]]:
    """Those of the rows that `chosen` picks; only backwards are they in memory."""
    start, stop, step = chosen.start or 0, chosen.stop, chosen.step or 1
    if min(start, step, stop or 0) >= 0:
        numbers = itertools.count(start, step)
        rows = itertools.islice(read(), start, stop, step)
        yield from zip(numbers, rows, strict=False)
        return
    wanted = range(sum(1 for _ in read()))[chosen]
    found = ((k, row) for k, row in enumerate(read()) if k in wanted)
    # backwards as slices of lists are
    yield from found if wanted.step > 0 else reversed([*found])


def _each(
    path: str, rows: Sequence[Atoms], frames: Iterable[int]
) -> Iterator[tuple[int, Atoms | UserError]]:
    for frame in frames:
        try:
            yield frame, rows[frame]
        except UserError as error:
            yield frame, error
        except Exception as error:  # whatever a row may hold
            yield frame, unreadable(f'{path}:{frame}', error)


def atoms_of(path: str) -> Iterator[tuple[int, Atoms]]:
    """Yield (frame, structure) of one file.

    Raises:
        UserError: It is a graph file, or cannot be read without an entry that
            describes it.
    """
    try:
        reader = reader_of(path, None)
        if reader in (GRAPH, OLD_GRAPH):
            raise no_cell(path)
        entry = known.completed(path, reader, {}, has_labels=False)
        for frame, item in items_of(path, entry, cutoff=0.0):  # of graphs
            assert isinstance(item, Atoms)
            yield frame, item
    except UserError as error:
        raise type(error)(without_entry(str(error))) from error


def no_cell(where: str) -> UserError:
    """Return the error for a graph where the cell is needed."""
    return UserError(
        f'{where}: a SevenNet graph file has no cell. Give the structures in a file '
        'that ASE reads.'
    )


def _frames(path: str, index: str, reader: str) -> Iterator[Atoms]:
    # parallel: one rank reads alone; at_sign: a name with @ is only a name
    options: dict[str, Any] = {'parallel': False, 'do_not_split_by_at_sign': True}
    yield from ase.io.iread(path, index=index, format=reader, **options)


def _numbers(path: str, chosen: Any, reader: str) -> Iterable[int]:
    """Numbers of the frames of `path` that `chosen` picks."""
    chosen = _as_slice(chosen)
    start, step = chosen.start or 0, chosen.step or 1
    if min(start, step, chosen.stop or 0) >= 0:
        return itertools.count(start, step)
    total = sum(1 for _ in _frames(path, ':', reader))
    return range(total)[chosen]


def _chosen(items: Sequence[Any], chosen: Any) -> Iterator[tuple[int, Any]]:
    for frame in range(len(items))[_as_slice(chosen)]:
        yield frame, items[frame]


def _as_slice(chosen: Any) -> slice:
    if isinstance(chosen, str):
        raise ValueError(f'{chosen!r} is not an index')
    return slice(chosen, chosen + 1 or None) if isinstance(chosen, int) else chosen
