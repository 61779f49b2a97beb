"""A multi-fidelity YAML that has been read: typed, complete and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import sevenn._keys as KEY

from sevennet_mf import keys
from sevennet_mf.checkpoint.origin import Origin, open_origin
from sevennet_mf.config.blocks import (
    DataEntry,
    DataFidelity,
    ModelFidelity,
    Replay,
    TrainFidelity,
)
from sevennet_mf.config.recipe import Recipe, recipe_for, scheduled

Config = dict[str, Any]
Entries = list[Config]  # of a `load_*_path`, as data.read.read_entry takes them
# of train.fidelity: may be names of a checkpoint, which need not obey our rules
NAMES: Final = ('target', 'known_as', 'start_from')


@dataclass(frozen=True)
class RunInputs:
    """What the YAML of a run asks for.

    Attributes:
        model: the block model.fidelity.
        train: the block train.fidelity.
        data: the block data.fidelity.
        sections: the rest of the YAML as SevenNet's own readers return it, (model,
            train, data).
        origin: the checkpoint that `continue` names, opened, with its fidelities as
            the run calls them.
        is_default_order: whether the YAML has neither data.fidelity.order nor base.
        least_steps: the least steps of an epoch; None if the YAML sets the run's
            length.
    """

    model: ModelFidelity
    train: TrainFidelity
    data: DataFidelity
    sections: tuple[Config, Config, Config]
    origin: Origin | None = None
    is_default_order: bool = False
    least_steps: int | None = None

    # ---- what is read most

    @cached_property
    def host(self) -> Config:
        """SevenNet's keys, its three sections merged as it merges them itself."""
        return {key: v for section in self.sections for key, v in section.items()}

    @property
    def order(self) -> list[str]:
        """The fidelities from low to high."""
        assert self.data.order is not None
        return self.data.order

    @property
    def base(self) -> str:
        assert self.data.base is not None
        return self.data.base

    @property
    def target(self) -> str:
        assert self.train.target is not None
        return self.train.target

    @property
    def old(self) -> tuple[str, ...]:
        """The fidelities of the checkpoint that has names, by their index in it."""
        return () if self.origin is None else self.origin.names

    @property
    def added(self) -> tuple[str, ...]:
        """The fidelities that the checkpoint lacks, where it has any."""
        old = self.old
        return tuple(name for name in self.order if name not in old) if old else ()

    @property
    def trains_theta_only(self) -> bool:
        return self.train.update == 'fidelity_only'

    @property
    def cutoff(self) -> float:
        """In Å."""
        return float(self.host['cutoff'])

    @property
    def epochs(self) -> int:
        return int(self.host['epoch'])

    @property
    def batch_size(self) -> int:
        """Structures per step of one process."""
        return int(self.host['batch_size'])

    @property
    def seed(self) -> int:
        return int(self.host['random_seed'])

    @property
    def ratio(self) -> float:
        """`data_divide_ratio`, 0 without."""
        return float(self.host.get('data_divide_ratio') or 0.0)

    @property
    def style(self) -> Recipe:
        """The recipe that suits the run."""
        continues = self.origin is not None
        return recipe_for(continues, self.train.update, self.model.encoding)

    @property
    def epochs_to_do(self) -> int:
        """As `epochs`, without those of a checkpoint that is continued."""
        if self.origin is None or self.host['continue'].get('reset_epoch'):
            return self.epochs
        return max(1, self.epochs - self.origin.epoch)

    @property
    def entries(self) -> dict[str, Entries]:
        """The entries of every `load_*_path` that is given."""
        return {k: v for k, v in self.host.items() if keys.is_load_path(k) and v}

    @property
    def defaults(self) -> Config:
        """Training keys that were left out, by the origin of their default."""
        return dict(self.host.get(keys.DEFAULTS) or {})

    def scheduled_for(self, name: str, length: int | None) -> Config:
        """Return what a schedule of this length gets for parameters left out.

        Args:
            name: of the schedule.
            length: epochs or steps, whichever it counts.
        """
        block = KEY.SCHEDULER_PARAM
        left_out: set[str] = set()
        for values in self.defaults.values():
            left_out |= {*(values.get(block) or ())}
            left_out |= {
                key.removeprefix(f'{block}.')
                for key in values
                if key.startswith(f'{block}.')
            }
        rate = (self.host.get(KEY.OPTIM_PARAM) or {}).get('lr')
        found = scheduled(name, self.style, length or self.epochs_to_do, rate)
        return {key: v for key, v in found.items() if key in left_out}

    # ---- the border to SevenNet: dictionaries of plain builtins

    def dumped(self) -> tuple[Config, Config, Config]:
        """Return the host's (model, train, data), with blocks as keys of keys.py."""
        model, train, data = (dict(section) for section in self.sections)
        model[keys.FIDELITY_MODEL] = self.model.model_dump()
        train[keys.FIDELITY_TRAIN] = self._train_dumped()
        train[keys.OLD_FIDELITIES] = list(self.old)
        data[keys.DEFAULT_ORDER] = self.is_default_order
        data[keys.FIDELITY_DATA] = self.data.model_dump()
        return model, train, data

    def merged(self) -> Config:
        """Return `dumped` in one dictionary, as in checkpoints."""
        return {key: v for section in self.dumped() for key, v in section.items()}

    def _train_dumped(self) -> Config:
        dump = self.train.model_dump()
        if self.least_steps is not None:
            dump[keys.LEAST_STEPS] = self.least_steps
        if self.train.replay is not None:
            dump['replay'] = _replay_dumped(self.train.replay)
        return dump

    def with_model(self, section: Config) -> RunInputs:
        """Return the same run with another section `model` of the host."""
        return replace(self, sections=(section, *self.sections[1:]))


def from_merged(config: Mapping[str, Any]) -> RunInputs:
    """Return the inputs of which `RunInputs.merged` made a dictionary.

    The checkpoint of `continue` is opened, since SevenNet passes on only its path.
    """
    host = dict(config)
    old = tuple(host.pop(keys.OLD_FIDELITIES) or ())
    is_default_order = bool(host.pop(keys.DEFAULT_ORDER))
    train = dict(host.pop(keys.FIDELITY_TRAIN))
    least_steps = train.pop(keys.LEAST_STEPS, None)
    name = (host.get('continue') or {}).get('checkpoint')
    return RunInputs(
        # these two are of plain builtins
        model=ModelFidelity.model_construct(**host.pop(keys.FIDELITY_MODEL)),
        data=DataFidelity.model_construct(**host.pop(keys.FIDELITY_DATA)),
        train=_train_read(train),
        sections=(host, {}, {}),
        origin=replace(open_origin(name), names=old) if name else None,
        is_default_order=is_default_order,
        least_steps=least_steps,
    )


def _replay_dumped(replay: Replay) -> Config:
    own = set(DataEntry.model_fields) - {'fidelity'}
    return {'entry': replay.entry, **replay.model_dump(exclude=own)}


def _train_read(dump: Config) -> TrainFidelity:
    names = {name: dump.pop(name) for name in NAMES}
    replay = dump.pop('replay')
    train = TrainFidelity.model_validate(dump).model_copy(update=names)
    if replay is not None:
        replay = dict(replay)
        entry = dict(replay.pop('entry'))
        name = replay.pop('fidelity')
        entry.pop('fidelity', None)
        train.replay = Replay.model_validate({**entry, **replay})
        if name is not None:
            train.replay.fidelity = name
    return train
