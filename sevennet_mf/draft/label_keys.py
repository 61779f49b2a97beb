"""The keys under which a level has its labels, where ASE would not find them.

What was typed comes first. A further key is chosen automatically only where nothing
else can be meant; for all others, training stops and names the choices.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final

from ase import Atoms

from sevennet_mf.config.blocks import DataEntry, validate
from sevennet_mf.config.paths import existing
from sevennet_mf.data.formats import known
from sevennet_mf.data.reading import unread_labels
from sevennet_mf.data.reading.files import count_frames, items_of, reader_of
from sevennet_mf.data.reading.label_names import origin_of
from sevennet_mf.data.reading.labels import LABEL_KEYS, StructureLabels
from sevennet_mf.data.reading.stress import stress_of
from sevennet_mf.draft.levels import Level
from sevennet_mf.draft.plan import CUTOFF
from sevennet_mf.errors import UserError, unknown

Keys = dict[str, str | None]
Typed = Mapping[str, str | None]
OPTIONS: Final = ('energy_key', *LABEL_KEYS)
LOOKED: Final[int] = 100  # structures of each file, spread over it
Found = dict[str, set[str]]  # by kind of unread_labels.READ_BY


def given(
    levels: Sequence[Level], options: Mapping[str, Sequence[str] | None]
) -> list[Level]:
    """Return levels with the keys that were typed.

    Args:
        levels: Levels without keys, or with some already.
        options: For each name of a key, `KEY` for all levels or `NAME=KEY` for one
            of them; the key `none` means that there is no such label.

    Raises:
        UserError: For a name that no level has.
    """
    found = list(levels)
    for option in OPTIONS:
        for argument in options.get(option) or ():
            name, equals, key = argument.rpartition('=')
            names = [level.name for level in levels]
            if equals and name not in names:
                raise unknown(f'--{option}: the level', name, names)
            value = None if key == 'none' else key
            found = [
                level
                if equals and level.name != name
                else replace(level, keys={**level.keys, option: value})
                for level in found
            ]
    for level in found:
        validate(DataEntry, {'file': list(level.files), **level.keys}, level.name)
    return found


def completed(level: Level) -> Level:
    """Return a level with the keys that are unambiguous; `taken` lists them.

    A published form has its own.
    """
    files = existing(list(level.files), level.name)
    readers = [_reader(path, level.keys.get('format')) for path in files]
    if any(reader in known.FORMS for reader in readers):
        return level
    every = [_of_file(path, level.keys) for path in files]
    choices = [_choice(lost, own, level.keys) for lost, own in every]
    if not choices or any(choice != choices[0] for choice in choices):
        return level  # one entry has one set of keys
    new = {k: v for k, v in choices[0].items() if k not in level.keys}
    whole = {**level.keys, **new}
    ordered = {name: whole[name] for name in OPTIONS if name in whole}
    return replace(level, keys=ordered, taken=tuple(k for k in ordered if k in new))


def _reader(path: str, form: str | None) -> str:
    """How a file is read; '' if it cannot be: the audit says why."""
    try:
        return reader_of(path, form)
    except UserError:
        return ''


def _of_file(path: str, typed: Typed) -> tuple[Found, set[str]]:
    """Labels of a file that nothing reads, and the kinds that ASE reads."""
    lost: Found = {}
    own: set[str] = set()
    for atoms in _some(path):
        results = {} if atoms.calc is None else atoms.calc.results
        read = {k for k in ('energy', 'forces', 'stress') if k in results}
        own |= read
        stress = results.get('stress')
        labels = StructureLabels(
            results.get('energy', float('nan')),
            results.get('forces'),
            None if stress is None else stress_of(stress, path),
        )
        for label in unread_labels.find(atoms, typed, labels):
            lost.setdefault(label.kind, set()).add(label.name)
    return lost, own


def _some(path: str) -> Iterator[Atoms]:
    """Structures spread over a file; the audit reports what cannot be read."""
    try:
        count = count_frames(path, reader_of(path, None)) or 1
        step = max(1, count // LOOKED)
        index = ':' if step == 1 else f'::{step}'
        for _, item in islice(items_of(path, {'index': index}, CUTOFF), LOOKED):
            if isinstance(item, Atoms):
                yield item
    except UserError:
        return


def _choice(lost: Found, own: set[str], typed: Typed) -> Keys:
    """The keys to use, by the name of the entry's key; none if in doubt.

    There is doubt if a file has a kind of label twice, or if the names do not show
    that all labels have the same origin: those that ASE reads do not show it.
    """
    lost = {kind: set(names) for kind, names in lost.items()}
    placeholder = lost.pop(unread_labels.PLACEHOLDER, None)
    chosen: Keys = {} if placeholder is None else {'energy_key': 'energy'}
    twice = [kind for kind in lost if len(lost[kind]) > 1 or kind in own]
    known = own | set(lost)
    if twice or {'virial', 'stress'} <= known or {'gradient', 'forces'} <= known:
        return {}
    names = {unread_labels.READ_BY[kind]: name for kind, (name,) in lost.items()}
    read_as_own = {unread_labels.READ_BY[kind]: kind for kind in own}
    read_as_own = {k: v for k, v in read_as_own.items() if k not in typed}
    every = {**read_as_own, **{k: v for k, v in typed.items() if v}, **names}
    if len({origin_of(name) for name in every.values()}) > 1:
        return {}
    chosen.update(names)
    if {**typed, **chosen}.get('energy_key') not in (None, 'energy'):
        # with a key for energies, what ASE reads has to be named as well
        chosen.update({k: v for k, v in read_as_own.items() if k != 'energy_key'})
    return chosen
