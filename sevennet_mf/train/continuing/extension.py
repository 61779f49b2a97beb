"""Training that adds fidelities to a pretrained model."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import numpy as np
import sevenn._keys as KEY
import torch
from sevenn.logger import Logger

from sevennet_mf import keys
from sevennet_mf.data.dataset import FidelityDataset
from sevennet_mf.data.references import References
from sevennet_mf.distributed import Process
from sevennet_mf.errors import UserError
from sevennet_mf.model.extend import (
    ExtensionPlan,
    extend,
    extended_config,
    set_references,
)
from sevennet_mf.model.plain_config import statistics
from sevennet_mf.model.runner import reference_energies
from sevennet_mf.train.continuing.start import Start
from sevennet_mf.train.setup import TRAIN, check_determined, named_elements

Sets = dict[str, FidelityDataset]
# eV/atom: labels of the same level of theory and code are nearer to a universal
# model's predictions, those of another code are off by more
ALIGNED_WITHIN: Final[float] = 0.05


def added_to(config: dict[str, Any]) -> bool:
    """Whether a configuration adds fidelities to the checkpoint it starts from.

    inherit.py sees to it that the names are meant so.
    """
    known = config.get(keys.OLD_FIDELITIES) or ()
    order = config[keys.FIDELITY_DATA]['order']
    return len(known) > 0 and any(name not in known for name in order)


class Extension(Start):
    """As Start, for a YAML that names fidelities which the checkpoint lacks.

    `weights` are the checkpoint's until `settle` has found the reference energies
    of the added fidelities.
    """

    must_be_same = False

    def __init__(self, config: dict[str, Any]) -> None:
        train = config[keys.FIDELITY_TRAIN]
        super().__init__(config)
        self.old = tuple(config[keys.OLD_FIDELITIES])
        order = config[keys.FIDELITY_DATA]['order']
        self.trained = tuple(name for name in order if name not in self.old)
        self.plan = ExtensionPlan(
            self.old,
            self.trained,
            train['start_from'],
            dict(config[keys.FIDELITY_MODEL]),
        )
        extended = extended_config(self.config, self.plan)
        for key in (
            KEY.MODAL_MAP,
            KEY.NUM_MODALITIES,
            KEY.USE_MODAL_WISE_SHIFT,
            KEY.USE_MODAL_WISE_SCALE,
        ):
            config[key] = extended[key]
        data = config[keys.FIDELITY_DATA]
        data['about'] = {**self._known('about'), **data['about']}
        self.weights = self.state()
        config.update(statistics(self.config, self.weights))

    def _check_layers(self, config: dict[str, Any]) -> None:
        """Nothing: `extended_config` says what cannot be extended."""

    def state(self) -> dict[str, torch.Tensor]:
        return extend(self.loaded.model, self.plan)

    def old_name(self, name: str) -> str:
        """What the checkpoint itself calls one of `old`."""
        return str(self.loaded.fidelities[self.old.index(name)])

    def references(self) -> np.ndarray:
        """Those of the checkpoint, (n_old, 119) eV; 0 for unknown elements."""
        return np.nan_to_num(reference_energies(self.loaded.model))

    # ---- labels of old fidelities

    def align(
        self,
        config: dict[str, Any],
        sets: Sets,
        process: Process,
        self_labelled: Mapping[str, np.ndarray],
    ) -> None:
        """Move labels of old fidelities to the checkpoint's energies per element.

        Another code or other pseudopotentials have other reference energies. The
        checkpoint's stay as they are, so the labels are moved, where they are off.
        """
        for name in self.old:
            rows = {set_name: data.rows_of(name) for set_name, data in sets.items()}
            for set_name, made in self_labelled.items():
                mine = rows[set_name]
                rows[set_name] = mine[~made[mine]]
            # the training set tells best, if it holds any
            holds = [s for s in (TRAIN, *sets) if len(rows[s])]
            if not holds:
                continue
            labelled = sets[holds[0]].subset(rows[holds[0]])
            offsets = partial(self._offsets, config, sets, labelled, name)
            found = process.share(offsets)
            if found is None:
                continue
            for set_name, dataset in sets.items():
                dataset.add_energies(rows[set_name], -found)

    def _offsets(
        self,
        config: dict[str, Any],
        sets: Sets,
        labelled: FidelityDataset,
        name: str,
    ) -> np.ndarray | None:
        """How far labels are off by element, (119,) eV; None if they fit."""
        own = self.references()[self.old.index(name)]
        elements = named_elements(config, sets)
        references = self.fit(
            config, labelled, name, elements, self.old_name(name)
        )
        offsets = references.energies[0] - own
        per_atom = labelled.composition @ offsets / labelled.n_atoms
        off = float(np.abs(per_atom).mean())
        if off <= ALIGNED_WITHIN:
            return None
        message = (
            f'{len(labelled)} labels of {name!r} are off from '
            f'{self.path} by {off:.2f} eV/atom: another code, or other '
            'pseudopotentials. The difference by element is taken off them; '
            f'energies of {name!r} stay on the scale of the checkpoint.'
        )
        Logger().writeline(f'WARNING: {message}')
        warnings.warn(message, UserWarning, stacklevel=2)
        return offsets

    # ---- reference energies

    def settle(
        self, config: dict[str, Any], sets: Sets, process: Process
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """As Start's: the old ones stay, those of added fidelities are fitted.

        To what their labels differ by from the checkpoint's own prediction at
        `start_from`. Raises UserError for a fidelity without labels or numbers.
        """
        source = self.plan.source
        old = self.references()
        shift = np.concatenate([old, np.zeros((len(self.trained), old.shape[1]))])
        report = self._known('reference_energies')
        for index, name in enumerate(self.trained, start=len(self.old)):
            references = process.share(partial(self._fitted, config, sets, name))
            check_determined(config, sets, references)
            shift[index] = references.energies[0]
            types = self.config[KEY.TYPE_MAP]
            set_references(self.weights, types, index, shift[index])
            report.update(references.as_dict())
        config.update(statistics(self.config, self.weights))
        Logger().writeline(
            f'Added to {self.path}: {", ".join(self.trained)}, from {source!r}'
        )
        return shift, report

    def _fitted(self, config: dict[str, Any], sets: Sets, name: str) -> References:
        labelled = sets[TRAIN].subset(sets[TRAIN].rows_of(name))
        given = config[keys.FIDELITY_DATA]['reference_energies']
        numbers = given.get(name) if isinstance(given, dict) else None
        return self.fit(
            config,
            labelled,
            name,
            named_elements(config, sets),
            self.old_name(self.plan.source),
            numbers,
        )

    def _known(self, key: str) -> dict[str, Any]:
        """What the checkpoint's provenance says, by the names of this run."""
        known = (self.config.get(keys.PROVENANCE) or {}).get(key) or {}
        names = {self.old_name(name): name for name in self.old}
        return {names.get(name, name): value for name, value in known.items()}

    def _refuse_ignored(self, config: dict[str, Any]) -> None:
        """As Start's, but that numbers for added fidelities are fine."""
        data = config[keys.FIDELITY_DATA]
        given = data['reference_energies']
        if given == 'independent':
            raise UserError(
                "data.fidelity.reference_energies: 'independent' cannot stand "
                'beside a checkpoint that fidelities are added to: they are '
                'fitted to what labels differ by from its predictions. Take it '
                'out.'
            )
        if isinstance(given, dict):
            known = config[keys.OLD_FIDELITIES]
            old = [name for name in given if name in known]
            if old:
                raise UserError(
                    f'data.fidelity.reference_energies.{old[0]} comes from '
                    f'{self.path}. Take it out of the YAML.'
                )
            data = {**data, 'reference_energies': 'aligned'}
        super()._refuse_ignored({**config, keys.FIDELITY_DATA: data})


def make_start(config: dict[str, Any]) -> Start | None:
    """The checkpoint that a run starts from, or None."""
    if not config[KEY.CONTINUE][KEY.CHECKPOINT]:
        return None
    return Extension(config) if added_to(config) else Start(config)


