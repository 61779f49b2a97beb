"""What a training on some files is, before its size is known: sections of a YAML."""

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
# what the recipe was measured with; SevenNet's pretrained models are the same
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
# of validation: its share, and the structures of the target that are better there
SHARE, LARGEST, FEW = 0.1, 0.2, 3
COPIES: Final[int] = 5  # of each structure, that a checkpoint labels itself


@dataclass(frozen=True)
class Draft:
    """What to train on: levels from low to high, the last one is wanted.

    origin: the checkpoint to start from; known_as: what its one fidelity is called,
    if it has no name of its own; replay: the level of it that is not to be
    forgotten; share: of each level, for validation if there is no `valid`.
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
        """Those to train on, that of the replay and those of validation."""
        old = () if self.replay is None else (self.replay,)
        return (*old, *self.levels, *self.valid)

    def sections(self) -> Config:
        """The sections of the YAML, with a model of any size."""
        train: Config = {'fidelity': {'target': self.target}}
        data: Config = {
            'load_trainset_path': [_entry(level) for level in self.levels]
        }
        found: Config = {'train': train, 'data': data}
        if self.valid:
            data['load_validset_path'] = [_entry(level) for level in self.valid]
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


def _entry(level: Level) -> Config:
    files = list(level.files)
    return {
        'file': files[0] if len(files) == 1 else files,
        'fidelity': level.name,
        **level.keys,
    }


def from_scratch(levels: Sequence[Level], valid: Sequence[Level]) -> Draft:
    """Return the plan of a model with new weights."""
    _check_valid(levels, valid)
    return Draft(tuple(levels), tuple(valid))


def from_checkpoint(
    checkpoint: str,
    known_as: str | None,
    levels: Sequence[Level],
    valid: Sequence[Level],
) -> Draft:
    """Return the plan of a checkpoint that learns the last of `levels`.

    Raises UserError if it has that already, or its own level has no name.
    """
    given = validate(TrainFidelity, {'known_as': known_as}, '--known_as')
    found = inherit.read({'continue': {'checkpoint': checkpoint}}, given)
    assert found is not None
    *lower, new = levels
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
            'Labels of another code are another level: give yours a name of its '
            f'own, as in {new.name}_own={new.files[0]}.'
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
                f'--valid: {level.files[0]} is of {level.name!r}, and the training '
                f'files are of {known}. Write it as NAME={level.files[0]}, with one '
                'of these.'
            )


def ratio_for(structures: int) -> float:
    """The share of each level for validation; structures: of the wanted one."""
    return round(min(LARGEST, max(SHARE, FEW / max(structures, 1))), 2)
