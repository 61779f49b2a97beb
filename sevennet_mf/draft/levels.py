"""The levels of theory of the files on a command line."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sevennet_mf.config.blocks import DataEntry, validate
from sevennet_mf.config.paths import existing
from sevennet_mf.errors import UserError

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
        keys: The keys of its entry that say where its labels are, such as
            `energy_key`.
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
    found: dict[str, list[str]] = {}
    for argument in arguments:
        name, file = _parted(argument)
        validate(DataEntry, {'file': file, 'fidelity': name}, argument)
        existing(file, argument)
        found.setdefault(name, []).append(file)
    return [Level(name, tuple(files)) for name, files in found.items()]


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
