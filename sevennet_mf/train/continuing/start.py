"""Starting from another checkpoint's weights: `continue` in the YAML.

With `use_statistic_values_of_checkpoint: false` the labels are of another level of
theory than the checkpoint's (transfer learning): its reference energies do not suit
them, and are fitted again, to the difference between the labels and its predictions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import sevenn._keys as KEY
import torch
from sevenn.logger import Logger

from sevennet_mf.checkpoint.origin import names_in
from sevennet_mf.config.run_inputs import RunInputs
from sevennet_mf.data.dataset import FidelityDataset
from sevennet_mf.data.references import References
from sevennet_mf.distributed import Process
from sevennet_mf.errors import UserError
from sevennet_mf.evaluate.predictions import Predictions
from sevennet_mf.model import accelerators
from sevennet_mf.model.load import model_of
from sevennet_mf.model.plain_config import statistics
from sevennet_mf.model.shift import by_atomic_number
from sevennet_mf.train.continuing.residual import fit_residual, predict_own
from sevennet_mf.train.loop.trainer import SHIFT, STEPPED, FidelityTrainer
from sevennet_mf.train.setup import (
    CHEMISTRY,
    TRAIN,
    check_determined,
    known_elements,
    shift_by_name,
    warn_of_zeros,
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
    """The checkpoint that `train.continue` names; its fidelities must be the run's.

    Attributes:
        inputs: the run's.
        loaded: the checkpoint's model, as it was.
        weights: the weights that training starts from.
        old: the checkpoint's fidelities by their index, as this run calls them.
        names: the fidelities of the model that is trained.
        trained: the fidelities that this run is for; with `update: fidelity_only`
            only their weights are trained.

    Raises:
        UserError: The model cannot be built.
    """

    adds_fidelities = False  # extension.py does

    def __init__(self, inputs: RunInputs) -> None:
        assert inputs.origin is not None
        self.inputs = inputs
        self.origin = inputs.origin
        self.path, self.config = self.origin.path, self.origin.config
        self.options: dict[str, Any] = inputs.host[KEY.CONTINUE]
        # as the model of this run is built, so that its state dict fits
        self.loaded = model_of(
            self.path, self.origin.content, accelerators.asked(inputs.host)
        )
        self.fits_references = not self.options[
            KEY.USE_STATISTIC_VALUES_OF_CHECKPOINT
        ]
        # the model's rather than the file's, whose layout may be an old version's
        self.weights = self.loaded.model.state_dict()
        own = () if self.origin.is_plain else names_in(self.config)
        self.old: tuple[str, ...] = own or tuple(inputs.order)
        self.names: tuple[str, ...] = self.old
        self.trained: tuple[str, ...] = (inputs.target,)

    def taken_over(self) -> dict[str, Any]:
        """Return what the trained model's configuration has of the checkpoint's."""
        found = {name: self.config.get(name) for name in TAKEN_OVER}
        return {name: value for name, value in found.items() if value is not None}

    def statistics(self, shift: np.ndarray) -> dict[str, Any]:
        """Return shift, scale and denominators for the configuration of this run.

        Those that were trained are taken from the weights, as the host does it.

        Args:
            shift: (n_fidelities, 119) eV, as `settle` returns it.
        """
        found = statistics(self.config, self.weights)
        if self.fits_references:
            found[KEY.SHIFT] = shift_by_name(self.names, shift)
        return found

    def references(self) -> np.ndarray:
        """Return the checkpoint's reference energies, (n_fidelities, 119) eV."""
        n = len(self.config.get(KEY.MODAL_MAP) or [0])
        shift, type_map = self.weights[SHIFT], self.config[KEY.TYPE_MAP]
        return np.nan_to_num(by_atomic_number(shift, type_map, n))

    def settle(
        self, sets: dict[str, FidelityDataset], process: Process
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Return the run's reference energies, (n_fidelities, 119) eV, and a report.

        They are the checkpoint's, or, if the labels are of another level of theory,
        fitted again.

        Raises:
            UserError: Those of the target are not determined.
        """
        if not self.fits_references:
            shift = self.references()
            warn_of_zeros(self.names, sets, shift)
            return shift, self.reference_report()
        (name,) = self.names
        elements = known_elements(self.inputs, self.config[KEY.TYPE_MAP], sets)
        references = process.share(lambda: self.fit(sets[TRAIN], name, elements))
        check_determined(self.inputs.target, sets, references)
        return references.energies, references.as_dict()

    def state(self) -> dict[str, torch.Tensor]:
        """Return the weights of `loaded` as a state dict of the trained model.

        It is a copy, and stays as it is when `loaded` gets other weights.
        """
        own = self.loaded.model.state_dict()
        return {name: value.clone() for name, value in own.items()}

    def old_name(self, name: str) -> str:
        """Return the name in the checkpoint of one of `old`."""
        return name

    def align(
        self,
        sets: dict[str, FidelityDataset],
        process: Process,
        self_labelled: Mapping[str, np.ndarray],
    ) -> None:
        """Make labels of old fidelities fit the checkpoint: here they do.

        Args:
            self_labelled: for some sets, (n,) bool, which structures have the
                checkpoint's own labels.
        """

    def fit(
        self,
        labelled: FidelityDataset,
        name: str,
        elements: list[str],
        predict_as: str | None = None,
        numbers: dict[str, float] | None = None,
    ) -> References:
        """Fit reference energies as residual.fit_residual does."""
        return fit_residual(
            self.loaded,
            labelled,
            name,
            predict_as,
            elements,
            numbers,
            self.inputs.batch_size,
            self.inputs.host[KEY.DEVICE],
        )

    def predict(
        self, dataset: FidelityDataset, predict_as: str | None = None
    ) -> Predictions:
        """Return the predictions of the checkpoint's own model, as it was."""
        return predict_own(
            self.loaded,
            dataset,
            predict_as,
            self.inputs.batch_size,
            self.inputs.host[KEY.DEVICE],
        )

    def reference_report(self) -> dict[str, Any]:
        """Return the checkpoint's provenance of its reference energies."""
        return dict(self.origin.provenance.get('reference_energies') or {})

    def said_of_weights(self) -> str:
        """Return a line for the log if the checkpoint holds averaged weights."""
        average = self.origin.provenance.get('ema')
        if not average:
            return ''
        return (
            f'{self.path} holds an exponential moving average of weights (decay '
            f'{average["decay"]:g}); training starts from it.'
        )

    def _check_schedule(self, trainer: FidelityTrainer) -> None:
        """Raise UserError if the checkpoint's schedule cannot go on in this run."""
        state = self.origin.content.get('scheduler_state_dict') or {}
        schedule = trainer.schedule
        steps, why = bool(state.get(STEPPED)), ''
        if state.get('last_epoch') and steps is not schedule.by_step:
            units = ('steps', 'epochs') if steps else ('epochs', 'steps')
            why = f'counts {units[0]}, and that of this run {units[1]}'
        left = state.get('total_steps', math.inf) - state.get('last_epoch', 0)
        if not why and left - steps < (schedule.length or 0):
            why = 'ends before this run'
        if why:
            raise UserError(
                f'train.continue: the schedule of {self.path} {why}. Set '
                'reset_scheduler: true.'
            )

    def _state_of(self, part: str, key: str) -> Any:
        """Return what the checkpoint keeps of a part of training, None without."""
        state = self.origin.content.get(f'{part}_state_dict')
        if not state:  # as in published checkpoints, to be smaller
            Logger().writeline(
                f'WARNING: train.continue: {self.path} has no state of the {part}, '
                f'which starts anew, as with {key}: true.'
            )
        return state or None

    def load_into(self, trainer: FidelityTrainer, last_epoch: int) -> int:
        """Load weights and, as the YAML says, the rest; return the epoch reached.

        Args:
            last_epoch: the last one to train.

        Raises:
            UserError: It has been reached already, or the optimiser or scheduler
                is a different one.
        """
        trainer.load_weights(self.weights)
        options = self.options
        optimizer = scheduler = None
        if not options[KEY.RESET_OPTIMIZER]:
            optimizer = self._state_of('optimizer', 'reset_optimizer')
        if not options[KEY.RESET_SCHEDULER]:
            self._check_schedule(trainer)
            scheduler = self._state_of('scheduler', 'reset_scheduler')
        try:
            trainer.load_state_dicts(None, optimizer, scheduler)
        except (ValueError, KeyError) as error:
            raise UserError(
                f'train.continue: the optimiser of {self.path} does not fit '
                f'({error}). Set reset_optimizer and reset_scheduler: true.'
            ) from None
        reached = self.origin.epoch
        if options[KEY.RESET_EPOCH]:
            return 0
        if reached >= last_epoch:
            raise UserError(
                f'train.continue: {self.path} has reached epoch {reached}, and '
                f'train.epoch is {last_epoch}: nothing is left to train. Raise '
                'train.epoch, or set reset_epoch: true.'
            )
        return reached
