"""What a run requires of its data, in the form that the checks use."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import sevenn._keys as KEY

from sevennet_mf.config.run_inputs import RunInputs
from sevennet_mf.data.reading.labels import Entry


@dataclass(frozen=True)
class Needs:
    """What a run requires of its data.

    Attributes:
        order: fidelities from low to high.
        base, target: two of them.
        is_default: whether neither order nor base is given in the YAML.
        continues: whether the run starts from a checkpoint.
        refits: whether the reference energies of the checkpoint are fitted again.
        old: fidelities of the checkpoint.
        labelled: those of them that the run has labels for.
        weights, shares: fidelities that loss_weight and sampling name, if any.
        given: symbols of the elements with given reference energies, by fidelity.
        entries: of the training set.
        labels: 'force', 'stress', those that are trained.
        cutoff: in Å.
        ratio: data_divide_ratio, 0 without.
        species: atomic numbers that the model is to know; None: those of the data.
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
    def of(cls, asked: RunInputs, entries: Sequence[Entry]) -> Needs:
        """Return the needs of a run.

        Args:
            asked: what its YAML asks for.
            entries: of the training set, including those of a replay.
        """
        host, start = asked.host, asked.host[KEY.CONTINUE]
        given, shares = asked.data.reference_energies, asked.train.sampling
        weights = asked.train.loss_weight
        species: Collection[int] | None = None
        if asked.origin is not None:  # its elements are the model's
            species = asked.origin.config[KEY.TYPE_MAP]
        elif host[KEY.CHEMICAL_SPECIES] != 'auto':
            species = host[KEY.TYPE_MAP]
        is_stress = bool(host.get(KEY.IS_TRAIN_STRESS))
        return cls(
            order=tuple(asked.order),
            base=asked.base,
            target=asked.target,
            is_default=asked.is_default_order,
            continues=asked.origin is not None,
            refits=not start[KEY.USE_STATISTIC_VALUES_OF_CHECKPOINT],
            old=asked.old,
            labelled=_self_labelled(asked),
            weights=tuple(weights) if isinstance(weights, Mapping) else (),
            shares=tuple(shares) if isinstance(shares, Mapping) else None,
            given=given if isinstance(given, Mapping) else {},
            entries=entries,
            labels=('force', *(['stress'] if is_stress else [])),
            cutoff=asked.cutoff,
            ratio=asked.ratio,
            species=None if species is None else tuple(species),
        )

    @property
    def fitted(self) -> tuple[str, ...]:
        """The fidelities whose reference energies training fits."""
        if not self.continues or self.refits:
            return self.order
        added = tuple(name for name in self.order if name not in self.old)
        return added if self.old else ()


def _self_labelled(asked: RunInputs) -> tuple[str, ...]:
    replay = asked.train.replay
    if replay is None or replay.self_label is None:
        return ()
    if replay.fidelity is not None:
        return (replay.fidelity,)
    kept = (name for name in asked.old if asked.added or name != asked.target)
    return tuple(kept)
