"""The levels of theory of the files on a command line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sevennet_mf.config.blocks import DataEntry, validate
from sevennet_mf.config.paths import existing
from sevennet_mf.data.formats import mace
from sevennet_mf.errors import UserError

TEXT: Final = ('.xyz', '.extxyz', '.xyz.gz', '.extxyz.gz')
# words in a file's name that identify the level of its labels
LEVELS: Final = frozenset({
    'lda', 'pbe', 'pbesol', 'pbe0', 'rpbe', 'revpbe', 'pw91', 'blyp', 'bp86',
    'b3lyp', 'tpss', 'scan', 'rscan', 'r2scan', 'r2scanl', 'm06', 'm06l',
    'm062x', 'hse', 'hse03', 'hse06', 'wb97', 'wb97x', 'wb97xd', 'wb97m',
    'wb97mv', 'optb88', 'optb86b', 'vdwdf', 'vdwdf2', 'rvv10', 'scanrvv10',
    'rpa', 'hf', 'mp2', 'mp4', 'ccsd', 'ccsdt', 'dlpno', 'casscf', 'caspt2',
    'qmc', 'dmc', 'gfn1', 'gfn2', 'xtb', 'dftb', 'dftb3', 'am1', 'pm3', 'pm6',
    'pm7',
})


@dataclass(frozen=True)
class Level:
    """A level of theory and its files, as they were typed.

    Attributes:
        keys: The keys of its entry that say what its files are and where their
            labels are, such as `energy_key`.
        taken: Names of those keys that were found in the files, not typed.
    """

    name: str
    files: tuple[str, ...]
    keys: Mapping[str, str | None] = field(default_factory=dict)
    taken: tuple[str, ...] = ()

    def keys_as_text(self) -> str:
        """Return the taken keys: `energy_key REF_energy, force_key REF_forces`."""
        return ', '.join(f'{name} {self.keys[name]}' for name in self.taken)


def levels_of(arguments: Sequence[str]) -> list[Level]:
    """Return the levels of `name=file` or `file`, in their order.

    Raises:
        UserError: For a file that does not exist, and for one without `name=`
            whose file name does not contain a level.
    """
    found: dict[tuple[str, bool], list[str]] = {}
    for argument in arguments:
        for name, file, is_mace in _named(argument):
            validate(DataEntry, {'file': file, 'fidelity': name}, argument)
            existing(file, argument)
            found.setdefault((name, is_mace), []).append(file)
    names = [name for name, _ in found]
    for name in names:
        if names.count(name) > 1:
            own = [files[0] for (n, _), files in found.items() if n == name]
            raise UserError(
                f'{own[0]} and {own[1]} both have the level {name!r}, but only one '
                'of them is a file for MACE. Give one of the two another name.'
            )
    for (name, is_mace), files in found.items():
        others = {f for key, own in found.items() if key[0] != name for f in own}
        shared = [file for file in files if file in others]
        if is_mace and shared and len(files) > 1:
            raise UserError(
                f'{shared[0]} has several levels, and {name!r} has other files as '
                'well. Put all of them into one file, or split it by its heads.'
            )
    return [
        Level(name, tuple(files), {'format': 'mace'} if is_mace else {})
        for (name, is_mace), files in found.items()
    ]


def _named(argument: str) -> Iterator[tuple[str, str, bool]]:
    """(level, file, whether it is one for MACE) of what was typed.

    A file for MACE may have several levels: the heads of its structures.
    """
    name, equals, file = argument.partition('=')
    if not equals or os.path.exists(argument):
        name, file = '', argument
    is_text = file.endswith(TEXT) and os.path.isfile(file)
    heads = mace.heads_of(file) if is_text else None
    if heads and not name:
        for head in heads:
            yield head, file, True
        return
    if heads and len(heads) > 1:
        raise UserError(
            f'{argument}: {file} has the heads {heads}, each of which is a level. '
            f'Give it without `{name}=`, or split it.'
        )
    yield (*_parted(argument), heads is not None)


def _parted(argument: str) -> tuple[str, str]:
    name, equals, file = argument.partition('=')
    if equals and not os.path.exists(argument):
        return name, file
    stem = os.path.basename(argument).lower()
    for word in re.split(r'[^a-z0-9]+', stem):
        if word in LEVELS:
            return word, argument
    raise UserError(
        f'{argument}: the level of theory cannot be read from the file name. Write '
        f'it as NAME=FILE, such as pbe={argument}.'
    )
