"""Training that adds fidelities to a pretrained model."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
import sevenn._keys as KEY
import torch
from sevenn.logger import Logger

from sevennet_mf.config.run_inputs import RunInputs
from sevennet_mf.data.dataset import FidelityDataset
from sevennet_mf.data.references import References, with_isolated
from sevennet_mf.distributed import Process
from sevennet_mf.model.extend import (
    ExtensionPlan,
    extend,
    extended_config,
    set_references,
)
from sevennet_mf.model.shift import reference_energies
from sevennet_mf.train.continuing.start import Start
from sevennet_mf.train.setup import TRAIN, check_determined, named_elements

Sets = dict[str, FidelityDataset]
# eV/atom: labels of the same level of theory and code are closer to a universal
# model's predictions, those of another code differ by more
ALIGNED_WITHIN: Final[float] = 0.05
# keys that say that a model has several fidelities
OF_SEVERAL: Final = (
    KEY.MODAL_MAP,
    KEY.NUM_MODALITIES,
    KEY.USE_MODAL_WISE_SHIFT,
    KEY.USE_MODAL_WISE_SCALE,
)


class Extension(Start):
    """As Start, for a YAML with fidelities that the checkpoint lacks.

    `weights` have the checkpoint's reference energies until `settle` has found those
    of the added fidelities.

    Raises:
        UserError: The model cannot be extended in this way.
    """

    adds_fidelities = True

    def __init__(self, inputs: RunInputs) -> None:
        super().__init__(inputs)
        self.old, self.trained = inputs.old, inputs.added
        source = inputs.train.start_from
        assert source is not None
        self.plan = ExtensionPlan(
            self.old, self.trained, source, inputs.model.model_dump()
        )
        self.names = self.plan.names
        self.extended = extended_config(self.config, self.plan)
        about = {**self._known('about'), **inputs.data.about}
        data = inputs.data.model_copy(update={'about': about})
        self.inputs = replace(inputs, data=data)
        self.weights = self.state()

    def taken_over(self) -> dict[str, Any]:
        own = {key: self.extended[key] for key in OF_SEVERAL}
        return {**super().taken_over(), **own}

    def state(self) -> dict[str, torch.Tensor]:
        return extend(self.loaded.model, self.plan)

    def old_name(self, name: str) -> str:
        """Return the name in the checkpoint of one of `old`."""
        return str(self.loaded.fidelities[self.old.index(name)])

    def references(self) -> np.ndarray:
        """Return the checkpoint's, (n_old, 119) eV; 0 for unknown elements."""
        return np.nan_to_num(reference_energies(self.loaded.model))

    # ---- labels of old fidelities

    def align(
        self,
        sets: Sets,
        process: Process,
        self_labelled: Mapping[str, np.ndarray],
    ) -> None:
        """Shift labels of old fidelities to the checkpoint's energies per element.

        Another code or other pseudopotentials have other reference energies. The
        checkpoint's stay as they are, so labels that differ are shifted.
        """
        for name in self.old:
            rows = {set_name: data.rows_of(name) for set_name, data in sets.items()}
            for set_name, made in self_labelled.items():
                mine = rows[set_name]
                rows[set_name] = mine[~made[mine]]
            # the training set is best, if it has any
            holds = [s for s in (TRAIN, *sets) if len(rows[s])]
            if not holds:
                continue
            labelled = sets[holds[0]].subset(rows[holds[0]])
            offsets = partial(self._offsets, sets, labelled, name)
            found = process.share(offsets)
            if found is None:
                continue
            for set_name, dataset in sets.items():
                dataset.add_energies(rows[set_name], -found)

    def _offsets(
        self, sets: Sets, labelled: FidelityDataset, name: str
    ) -> np.ndarray | None:
        """How much labels differ by element, (119,) eV; None if they fit."""
        own = self.references()[self.old.index(name)]
        elements = named_elements(self.inputs, sets)
        references = self.fit(labelled, name, elements, self.old_name(name))
        offsets = references.energies[0] - own
        sums = [count @ offsets for _, count in labelled.compositions()]
        per_atom = np.concatenate(sums) / labelled.n_atoms
        off = float(np.abs(per_atom).mean())
        if off <= ALIGNED_WITHIN:
            return None
        message = (
            f'{len(labelled)} labels of {name!r} differ from '
            f'{self.path} by {off:.2f} eV/atom: another code, or other '
            'pseudopotentials. The difference by element is subtracted from them; '
            f'energies of {name!r} stay on the scale of the checkpoint.'
        )
        Logger().writeline(f'WARNING: {message}')
        warnings.warn(message, UserWarning, stacklevel=2)
        return offsets

    # ---- reference energies

    def settle(
        self, sets: Sets, process: Process
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """As Start's: the old ones stay, those of added fidelities are fitted.

        The fit is to the difference between their labels and the checkpoint's own
        predictions at `start_from`.

        Raises:
            UserError: A fidelity has neither labels nor numbers.
        """
        source = self.plan.source
        old = self.references()
        shift = np.concatenate([old, np.zeros((len(self.trained), old.shape[1]))])
        report = self._known('reference_energies')
        for index, name in enumerate(self.trained, start=len(self.old)):
            references = process.share(partial(self._fitted, sets, name))
            check_determined(self.inputs.target, sets, references)
            shift[index] = references.energies[0]
            types = self.config[KEY.TYPE_MAP]
            set_references(self.weights, types, index, shift[index])
            report.update(references.as_dict())
        Logger().writeline(
            f'Added to {self.path}: {", ".join(self.trained)}, from {source!r}'
        )
        return shift, report

    def _fitted(self, sets: Sets, name: str) -> References:
        labelled = sets[TRAIN].subset(sets[TRAIN].rows_of(name))
        given = self.inputs.data.reference_energies
        whole = with_isolated(given, sets[TRAIN].isolated)
        numbers = whole.get(name) if isinstance(whole, dict) else None
        return self.fit(
            labelled,
            name,
            named_elements(self.inputs, sets),
            self.old_name(self.plan.source),
            numbers,
        )

    def _known(self, key: str) -> dict[str, Any]:
        """A part of the checkpoint's provenance, by the names of this run."""
        known = self.origin.provenance.get(key) or {}
        names = {self.old_name(name): name for name in self.old}
        return {names.get(name, name): value for name, value in known.items()}


def make_start(inputs: RunInputs) -> Start | None:
    """Return the checkpoint that a run starts from, or None."""
    if inputs.origin is None:
        return None
    return Extension(inputs) if inputs.added else Start(inputs)
