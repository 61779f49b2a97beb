"""A training on some files, before its size is known: sections of a YAML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sevennet_mf.checkpoint.origin import Origin
from sevennet_mf.config import inherit
from sevennet_mf.config.blocks import TrainFidelity, validate
from sevennet_mf.draft.levels import Level
from sevennet_mf.errors import UserError

Config = dict[str, Any]
CUTOFF: Final[float] = 5.0  # Å
# what the recipe was measured with; as in SevenNet's pretrained models
MODEL: Final[Config] = {
    'cutoff': CUTOFF,
    'channel': 16,
    'lmax': 2,
    'num_convolution_layer': 3,
    'is_parity': False,
    'self_connection_type': 'linear',
    'fidelity': {'encoding': 'bias'},
}
# the level of SevenNet's pretrained models that have one
PRETRAINED_LEVEL: Final = {'7net-0': 'pbe', '7net-l3i5': 'pbe', '7net-omat': 'pbe'}
# of validation: its share, the largest, and how many structures of the target it
# should have
SHARE, LARGEST, FEW = 0.1, 0.2, 3
COPIES: Final[int] = 5  # of each structure, labelled by the checkpoint itself


@dataclass(frozen=True)
class Draft:
    """What to train on.

    Attributes:
        levels: Levels from low to high; the last one is the target.
        valid: Levels for validation.
        origin: The checkpoint to start from.
        known_as: Name for the fidelity of the checkpoint, if it has none.
        replay: The level of the checkpoint that must not be forgotten.
        share: Fraction of each level for validation if there is no `valid`.
    """

    levels: tuple[Level, ...]
    valid: tuple[Level, ...]
    origin: Origin | None = None
    known_as: str | None = None
    replay: Level | None = None
    share: float = SHARE

    @property
    def target(self) -> str:
        return self.levels[-1].name

    @property
    def all_levels(self) -> tuple[Level, ...]:
        """The levels for training, replay and validation."""
        old = () if self.replay is None else (self.replay,)
        return (*old, *self.levels, *self.valid)

    def sections(self) -> Config:
        """Return the sections of the YAML, with a model of any size."""
        train: Config = {'fidelity': {'target': self.target}}
        data: Config = {
            'load_trainset_path': _entries(self.levels)
        }
        found: Config = {'train': train, 'data': data}
        if self.valid:
            data['load_validset_path'] = _entries(self.valid)
        else:
            data['data_divide_ratio'] = self.share
        if self.origin is None:
            found['model'] = {**MODEL}
            data['fidelity'] = {'order': [level.name for level in self.levels]}
            return found
        train['continue'] = {'checkpoint': self.origin.name}
        own = train['fidelity']
        if self.known_as is not None:
            own['known_as'] = self.known_as
        if self.replay is None:
            own['replay'] = {'self_label': {'per_structure': COPIES}}
        else:
            own['replay'] = _entry(self.replay)
            own['start_from'] = self.replay.name
        return found


def _entries(levels: Sequence[Level]) -> list[Config]:
    """An entry for each level, but one for all heads of the same files."""
    found = []
    for level in levels:
        entry = _entry(level)
        if shares_file(level, levels):
            del entry['fidelity']  # each structure names its own
        if entry not in found:
            found.append(entry)
    return found


def shares_file(level: Level, levels: Sequence[Level]) -> bool:
    """Whether the files of a level, being for MACE, have other levels as well."""
    same = [other for other in levels if other.files == level.files]
    return len(same) > 1 and level.keys.get('format') == 'mace'


def _entry(level: Level) -> Config:
    files = list(level.files)
    return {
        'file': files[0] if len(files) == 1 else files,
        'fidelity': level.name,
        **level.keys,
    }


def from_scratch(levels: Sequence[Level], valid: Sequence[Level]) -> Draft:
    """Return the plan for a model with new weights."""
    _check_valid(levels, valid)
    return Draft(tuple(levels), tuple(valid))


def from_checkpoint(
    checkpoint: str,
    known_as: str | None,
    levels: Sequence[Level],
    valid: Sequence[Level],
) -> Draft:
    """Return the plan for a checkpoint that learns the last of `levels`.

    Raises:
        UserError: If the checkpoint has that level already, or if its own level
            has no name.
    """
    given = validate(TrainFidelity, {'known_as': known_as}, '--known_as')
    found = inherit.read({'continue': {'checkpoint': checkpoint}}, given)
    assert found is not None
    *lower, new = levels
    shared = [level for level in levels if shares_file(level, levels)]
    if shared:
        raise UserError(
            f'{shared[0].files[0]} has several levels. Split it by its heads to '
            'start from a checkpoint.'
        )
    names = found.names
    if not names:
        known_as = lower[0].name if lower else PRETRAINED_LEVEL.get(checkpoint)
        if known_as is None:
            raise UserError(
                f'{checkpoint} has one fidelity, without a name. Give it one with '
                '--known_as, such as --known_as pbe.'
            )
        names = (known_as,)
    spelt = {name.lower(): name for name in names}
    if new.name.lower() in spelt:
        raise UserError(
            f'{checkpoint} has the fidelity {spelt[new.name.lower()]!r} already. '
            'Labels from another code are another level: give yours a different '
            f'name, as in {new.name}_own={new.files[0]}.'
        )
    lower = [replace(x, name=spelt.get(x.name.lower(), x.name)) for x in lower]
    valid = [replace(x, name=spelt.get(x.name.lower(), x.name)) for x in valid]
    old = [level for level in lower if level.name in names]
    kept = tuple(level for level in lower if level not in old[:1])
    _check_valid([*lower, new], valid)
    return Draft(
        (*kept, new),
        tuple(valid),
        found,
        known_as,
        old[0] if old else None,
    )


def _check_valid(levels: Sequence[Level], valid: Sequence[Level]) -> None:
    known = [level.name for level in levels]
    for level in valid:
        if level.name not in known:
            raise UserError(
                f'--valid: {level.files[0]} has the level {level.name!r}, but the '
                f'training files have {known}. Write it as NAME={level.files[0]}, '
                'with one of these.'
            )


def ratio_for(structures: int) -> float:
    """Return the fraction of each level for validation.

    Args:
        structures: Number of structures of the target.
    """
    return round(min(LARGEST, max(SHARE, FEW / max(structures, 1))), 2)
