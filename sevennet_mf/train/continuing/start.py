"""Starting from another checkpoint's weights: `continue` in the YAML.

With `use_statistic_values_of_checkpoint: false` the labels are of another level of
theory than the checkpoint's (transfer learning): its reference energies do not fit
them, and are fitted anew to what the labels differ by from its predictions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import sevenn._keys as KEY
import torch
from sevenn.scripts.processing_continue import check_config_compatible

from sevennet_mf import keys
from sevennet_mf.checkpoint.file import read_checkpoint
from sevennet_mf.data.dataset import FidelityDataset
from sevennet_mf.data.references import References
from sevennet_mf.distributed import Process
from sevennet_mf.errors import UserError
from sevennet_mf.evaluate.predictions import Predictions
from sevennet_mf.model import accelerators
from sevennet_mf.model.load import load_model
from sevennet_mf.model.plain_config import statistics
from sevennet_mf.model.runner import by_atomic_number
from sevennet_mf.train.continuing.residual import fit_residual, predict_own
from sevennet_mf.train.loop.provenance import fidelity_names
from sevennet_mf.train.loop.trainer import SHIFT, FidelityTrainer
from sevennet_mf.train.setup import (
    TRAIN,
    check_determined,
    known_elements,
    set_shift,
    warn_of_zeros,
)

CHEMISTRY = (
    KEY.TYPE_MAP,
    KEY.NUM_SPECIES,
    KEY.CHEMICAL_SPECIES,
    KEY.CHEMICAL_SPECIES_BY_ATOMIC_NUMBER,
)
# the model's indices are the checkpoint's, and so are its elements
TAKEN_OVER = (
    KEY.MODAL_MAP,
    *CHEMISTRY,
    KEY._NORMALIZE_SPH,
    KEY.USE_MODAL_WISE_SHIFT,
    KEY.USE_MODAL_WISE_SCALE,
)


class Start:
    """The checkpoint that `train.continue` names; its fidelities must be ours.

    loaded: its model, as it was; weights: what training starts from; old: its
    fidelities by their index, as this run calls them; trained: those that this run
    is for, whose weights alone train with `update: fidelity_only`. Completes
    `config` with what the model takes over. Raises UserError for a file that cannot
    be read and a model that is not the YAML's.
    """

    must_be_same = True  # extension.py adds fidelities

    def __init__(self, config: dict[str, Any]) -> None:
        self.options = config[KEY.CONTINUE]
        self.path, self.content = read_checkpoint(str(self.options[KEY.CHECKPOINT]))
        # as the model of this run is built, so that its state dict fits
        self.loaded = load_model(self.path, **accelerators.asked(config))
        self.config = self.loaded.config
        self.fits_references = not self.options[
            KEY.USE_STATISTIC_VALUES_OF_CHECKPOINT
        ]
        # the model's rather than the file's, whose layout may be an old version's
        self.weights = self.loaded.model.state_dict()
        self.old: tuple[str, ...] = tuple(fidelity_names(self.config)) if (
            self.config.get(KEY.USE_MODALITY)
        ) else tuple(fidelity_names(config))
        self.trained: tuple[str, ...] = (config[keys.FIDELITY_TRAIN]['target'],)
        self._check(config)
        self._refuse_ignored(config)
        for name in TAKEN_OVER:
            if self.config.get(name) is not None:
                config[name] = self.config[name]
        # as they were trained, where they were; as the host does it
        config.update(statistics(self.config, self.weights))

    def _check(self, config: dict[str, Any]) -> None:
        ours = set(fidelity_names(config))
        several = self.config.get(KEY.USE_MODALITY, False)
        theirs = set(self.config[KEY.MODAL_MAP]) if several else set()
        if self.fits_references and (several or len(ours) > 1):
            raise UserError(
                'train.continue.use_statistic_values_of_checkpoint: false means to '
                'train a model of one fidelity on labels of another level of '
                f'theory; {self.path} has the fidelities '
                f'{sorted(theirs) or "none"}, the YAML names {sorted(ours)}. Leave '
                'it out to continue.'
            )
        if self.must_be_same and ours != theirs and (several or len(ours) > 1):
            raise UserError(
                f'train.continue: {self.path} knows the fidelities '
                f'{sorted(theirs) or "none"}, the YAML names {sorted(ours)}. They '
                'must be the same to continue.'
            )
        try:
            check_config_compatible(config, self.config)
        except ValueError as error:
            raise UserError(f'train.continue: {self.path}: {error}') from None
        if several:
            self._check_layers(config)

    def _check_layers(self, config: dict[str, Any]) -> None:
        """UserError unless the fidelity-owned weights are of the same form."""
        ours = config[keys.FIDELITY_MODEL]
        theirs = self.config.get(keys.FIDELITY_MODEL) or {'encoding': 'bias'}
        names = ['encoding', 'rank'] if ours['encoding'] == 'lora' else ['encoding']
        for name in names:
            if ours[name] != theirs.get(name):
                raise UserError(
                    f'train.continue: {self.path} has the {name} '
                    f'{theirs.get(name)!r}, model.fidelity.{name} is '
                    f'{ours[name]!r}. Make them equal.'
                )
        sites = [
            [s for s, switch in keys.SITE_SWITCH.items() if c.get(switch, False)]
            for c in (self.config, config)
        ]
        if sites[0] != sites[1]:
            raise UserError(
                f'train.continue: {self.path} was trained with the sites '
                f'{sites[0]}, model.fidelity.sites has {sites[1]}. Make them equal.'
            )

    def references(self) -> np.ndarray:
        """Reference energies by fidelity and element, (n_fidelities, 119) eV."""
        n = len(self.config.get(KEY.MODAL_MAP) or [0])
        shift, type_map = self.weights[SHIFT], self.config[KEY.TYPE_MAP]
        return np.nan_to_num(by_atomic_number(shift, type_map, n))

    def settle(
        self,
        config: dict[str, Any],
        sets: dict[str, FidelityDataset],
        process: Process,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Return the run's reference energies, (n_fidelities, 119) eV, and a report.

        They are the checkpoint's, or, if the labels are of another level of theory,
        fitted anew. Raises UserError if the target is not determined.
        """
        if not self.fits_references:
            shift = self.references()
            warn_of_zeros(config, sets, shift)
            return shift, self.reference_report()
        (name,) = fidelity_names(config)
        elements = known_elements(config, sets)
        references = process.share(
            lambda: self.fit(config, sets[TRAIN], name, elements)
        )
        check_determined(config, sets, references)
        set_shift(config, references.energies)
        return references.energies, references.as_dict()

    def state(self) -> dict[str, torch.Tensor]:
        """The weights of `loaded` as a state dict of the model that is trained.

        A copy: it stays as it is when `loaded` is given other weights.
        """
        own = self.loaded.model.state_dict()
        return {name: value.clone() for name, value in own.items()}

    def old_name(self, name: str) -> str:
        """What the checkpoint itself calls one of `old`."""
        return name

    def align(
        self,
        config: dict[str, Any],
        sets: dict[str, FidelityDataset],
        process: Process,
        self_labelled: Mapping[str, np.ndarray],
    ) -> None:
        """Make labels of old fidelities fit the checkpoint: here they do.

        self_labelled: of some sets, (n,) bool, which structures have the labels
        that the checkpoint gave them.
        """

    def fit(
        self,
        config: dict[str, Any],
        labelled: FidelityDataset,
        name: str,
        elements: list[str],
        predict_as: str | None = None,
        numbers: dict[str, float] | None = None,
    ) -> References:
        """Fit reference energies to what labels differ by: residual.fit_residual."""
        return fit_residual(
            self.loaded,
            labelled,
            name,
            predict_as,
            elements,
            numbers,
            config[KEY.BATCH_SIZE],
            config[KEY.DEVICE],
        )

    def predict(
        self,
        config: dict[str, Any],
        dataset: FidelityDataset,
        predict_as: str | None = None,
    ) -> Predictions:
        """Return what the checkpoint's own model predicts, as it was."""
        return predict_own(
            self.loaded,
            dataset,
            predict_as,
            config[KEY.BATCH_SIZE],
            config[KEY.DEVICE],
        )

    def reference_report(self) -> dict[str, Any]:
        """What the checkpoint's provenance says of its reference energies."""
        return dict(
            (self.config.get(keys.PROVENANCE) or {}).get('reference_energies') or {}
        )

    def _refuse_ignored(self, config: dict[str, Any]) -> None:
        """UserError for what the checkpoint brings along and the YAML gives too."""
        given = {
            'data.fidelity.reference_energies': isinstance(
                config[keys.FIDELITY_DATA]['reference_energies'], dict
            ),
            'data.scale': not isinstance(config[KEY.SCALE], str),
            'model.conv_denominator': not isinstance(
                config[KEY.CONV_DENOMINATOR], str
            ),
            'model.chemical_species': config[KEY.TYPE_MAP]
            not in ('auto', self.config[KEY.TYPE_MAP]),
        }
        for name, is_given in given.items():
            if is_given:
                raise UserError(
                    f'{name} comes from {self.path} when training continues from '
                    'it. Take it out of the YAML.'
                )

    def load_into(self, trainer: FidelityTrainer, last_epoch: int) -> int:
        """Load weights and, as the YAML says, the rest; return the epoch reached.

        last_epoch: the one to train to. UserError if that is reached already, or
        the optimiser or scheduler is another.
        """
        trainer.load_weights(self.weights)
        options = self.options
        optimizer = None if options[KEY.RESET_OPTIMIZER] else 'optimizer_state_dict'
        scheduler = None if options[KEY.RESET_SCHEDULER] else 'scheduler_state_dict'
        try:
            trainer.load_state_dicts(
                None,
                self.content.get(optimizer) if optimizer else None,
                self.content.get(scheduler) if scheduler else None,
            )
        except (ValueError, KeyError) as error:
            raise UserError(
                f'train.continue: the optimiser of {self.path} does not fit '
                f'({error}). Set reset_optimizer and reset_scheduler: true.'
            ) from None
        reached = int(self.content.get('epoch') or 0)
        if options[KEY.RESET_EPOCH]:
            return 0
        if reached >= last_epoch:
            raise UserError(
                f'train.continue: {self.path} has reached epoch {reached}, and '
                f'train.epoch is {last_epoch}: nothing is left to train. Raise '
                'train.epoch, or set reset_epoch: true.'
            )
        return reached
