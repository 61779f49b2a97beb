"""What a run asks of its data, as the checks need it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sevenn._keys as KEY

from sevennet_mf import keys
from sevennet_mf.data.dataset import TRAIN
from sevennet_mf.data.labels import Entry


@dataclass(frozen=True)
class Needs:
    """What a run asks of its data.

    order: fidelities from low to high; base, target: of them; is_default: whether
    nobody wrote order or base; continues: whether it starts from a checkpoint,
    refits: whose reference energies are fitted anew; old: its fidelities; labelled:
    those of them that it labels structures at; weights, shares: fidelities that
    loss_weight and sampling name, if they do; given: symbols of the elements whose
    reference energy is a number, by fidelity; entries: of the training set; labels:
    'force', 'stress', those that are trained; cutoff: Å; ratio: data_divide_ratio, 0
    without; species: atomic numbers that the model is to know; None: those of the
    data.
    """

    order: tuple[str, ...]
    base: str
    target: str
    is_default: bool
    continues: bool
    refits: bool
    old: tuple[str, ...]
    labelled: tuple[str, ...]
    weights: tuple[str, ...]
    shares: tuple[str, ...] | None
    given: Mapping[str, Collection[str]]
    entries: Sequence[Entry]
    labels: tuple[str, ...]
    cutoff: float
    ratio: float
    species: tuple[int, ...] | None

    @classmethod
    def of(
        cls, config: Mapping[str, Any], species: Collection[int] | None = None
    ) -> Needs:
        """Return those of a merged configuration.

        species: those of the checkpoint that it starts from, where they are known
        and `config` does not have them yet.
        """
        data, train = config[keys.FIDELITY_DATA], config[keys.FIDELITY_TRAIN]
        if species is None and config[KEY.CHEMICAL_SPECIES] != 'auto':
            species = config[KEY.TYPE_MAP]
        start = config[KEY.CONTINUE]
        given, shares = data['reference_energies'], train['sampling']
        weights = train['loss_weight']
        old = tuple(config.get(keys.OLD_FIDELITIES) or ())
        order, target = tuple(data['order']), train['target']
        is_stress = bool(config.get(KEY.IS_TRAIN_STRESS))
        return cls(
            order=order,
            base=data['base'],
            target=target,
            is_default=bool(config.get(keys.DEFAULT_ORDER)),
            continues=bool(start[KEY.CHECKPOINT]),
            refits=not start[KEY.USE_STATISTIC_VALUES_OF_CHECKPOINT],
            old=old,
            labelled=_self_labelled(train['replay'], order, old, target),
            weights=tuple(weights) if isinstance(weights, Mapping) else (),
            shares=tuple(shares) if isinstance(shares, Mapping) else None,
            given=given if isinstance(given, Mapping) else {},
            entries=config[f'load_{TRAIN}_path'],
            labels=('force', *(['stress'] if is_stress else [])),
            cutoff=float(config[KEY.CUTOFF]),
            ratio=float(config.get(KEY.RATIO) or 0.0),
            species=None if species is None else tuple(species),
        )

    @property
    def fitted(self) -> tuple[str, ...]:
        """The fidelities whose reference energies training fits."""
        if not self.continues or self.refits:
            return self.order
        added = tuple(name for name in self.order if name not in self.old)
        return added if self.old else ()


def _self_labelled(
    replay: Mapping[str, Any] | None,
    order: Sequence[str],
    old: Sequence[str],
    target: str,
) -> tuple[str, ...]:
    if not replay or replay['self_label'] is None:
        return ()
    if replay['fidelity'] is not None:
        return (replay['fidelity'],)
    adds = any(name not in old for name in order)
    return tuple(name for name in old if adds or name != target)
