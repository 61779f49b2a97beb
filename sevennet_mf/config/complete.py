"""What the `fidelity` blocks leave out: order, base, target and the replay."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sevennet_mf.config.blocks import DataFidelity, ModelFidelity, TrainFidelity
from sevennet_mf.config.paths import existing
from sevennet_mf.errors import UserError, unknown

Config = dict[str, Any]
Sets = dict[str, list[Config]]


@dataclass
class Blocks:
    """The three blocks of a YAML while it is being read."""

    model: ModelFidelity
    train: TrainFidelity
    data: DataFidelity

    @property
    def order(self) -> list[str]:
        assert self.data.order is not None
        return self.data.order

    def complete(self, entries: Sets, old: Collection[str]) -> None:
        """Fill in what is left out, and check every fidelity that is named.

        Args:
            entries: of each `load_*_path`.
            old: the fidelities of a checkpoint.

        Raises:
            UserError: A name is missing, or `order` lacks it.
        """
        self._complete_names(entries)
        self._complete_replay(old)
        self._check_shares(entries['load_trainset_path'], old)

    def _complete_names(self, entries: Sets) -> None:
        """Order, base and target."""
        train, data = self.train, self.data
        every = [entry for listed in entries.values() for entry in listed]
        unnamed = {e.get('format') for e in every if 'fidelity' not in e}
        if data.key is None and unnamed == {'mace'}:
            data.key = 'head'  # as MACE calls it
        named = [
            (f'data.{load}[{i}].fidelity', entry.get('fidelity'))
            for load, listed in entries.items()
            for i, entry in enumerate(listed)
        ]
        for where, name in named:
            if name is None and data.key is None:
                raise UserError(
                    f'{where} is missing. Name the fidelity of the file, or set '
                    "data.fidelity.key to read it from each structure's info."
                )
        if data.order is None:
            if any(name is None for _, name in named):
                raise UserError(
                    'data.fidelity.order is missing. It is required with '
                    'data.fidelity.key: list the fidelities from low to high.'
                )
            in_training = [e['fidelity'] for e in entries['load_trainset_path']]
            data.order = list(dict.fromkeys(in_training))
        data.base = data.base or data.order[0]
        train.target = train.target or data.order[-1]
        self._check_names(named)
        if train.loss_weight == 'balanced' and train.sampling != 'proportional':
            raise UserError(
                "train.fidelity.loss_weight: 'balanced' and a sampling other than "
                "'proportional' would balance twice. Keep one of the two."
            )

    def _check_names(self, named: list[tuple[str, Any]]) -> None:
        """UserError for names that `order` lacks; named: (key, name or None)."""
        train, data, order = self.train, self.data, self.order
        named = [
            *named,
            ('data.fidelity.base', data.base),
            ('train.fidelity.target', train.target),
            *(('data.fidelity.about', name) for name in data.about),
        ]
        for where, value in (
            ('train.fidelity.loss_weight', train.loss_weight),
            ('train.fidelity.sampling', train.sampling),
            ('data.fidelity.reference_energies', data.reference_energies),
        ):
            if isinstance(value, dict):
                named += [(where, name) for name in value]
        for where, name in named:
            if name is not None and name not in order:
                raise unknown(
                    where,
                    name,
                    order,
                    'Correct it, or add it to data.fidelity.order.',
                )

    def _complete_replay(self, old: Collection[str]) -> None:
        """The files of a replay, their fidelity, and how often they are drawn."""
        train, replay = self.train, self.train.replay
        if replay is None:
            return
        if not train.model_fields_set & {'sampling', 'loss_weight'}:
            train.sampling = 'balanced'  # a few labels would drown in the replay
        where = 'train.fidelity.replay'
        if replay.file is None:
            options = replay.self_label
            if options is not None and options.structures is not None:
                options.structures = existing(
                    options.structures, f'{where}.self_label.structures'
                )
            return
        replay.file = existing(replay.file, f'{where}.file')
        if replay.fidelity is None:
            adds = any(name not in old for name in self.order)
            kept = [name for name in old if adds or name != train.target]
            source = train.start_from
            replay.fidelity = source if source in kept else kept[0]

    def _check_shares(self, entries: list[Config], old: Collection[str]) -> None:
        """UserError for a fidelity that is known to have data, but no share."""
        train, order = self.train, self.order
        if not isinstance(train.sampling, dict):
            return
        # one that the checkpoint has may be without data
        used = {entry.get('fidelity') for entry in entries}
        if train.replay is not None:
            of = train.replay.fidelity
            used |= set(old) if of is None else {of}
        needs = [name for name in order if name not in old or name in used]
        lacking = [name for name in needs if name not in train.sampling]
        if lacking:
            raise UserError(lacking_shares(lacking))


def lacking_shares(names: list[str]) -> str:
    """Return the message about fidelities with data and without a share."""
    return (
        f'train.fidelity.sampling has no share for {names}; give each fidelity one.'
    )
