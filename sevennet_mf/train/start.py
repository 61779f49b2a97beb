"""Starting from another checkpoint's weights: `continue` in the YAML."""

from __future__ import annotations

from typing import Any

import numpy as np
import sevenn._keys as KEY
from sevenn._const import NUM_UNIV_ELEMENT
from sevenn.scripts.processing_continue import check_config_compatible
from sevenn.util import load_checkpoint

from sevennet_mf import keys
from sevennet_mf.errors import UserError
from sevennet_mf.train import checkpoint
from sevennet_mf.train.provenance import fidelity_names
from sevennet_mf.train.trainer import SHIFT, FidelityTrainer

CHEMISTRY = (
    KEY.TYPE_MAP,
    KEY.NUM_SPECIES,
    KEY.CHEMICAL_SPECIES,
    KEY.CHEMICAL_SPECIES_BY_ATOMIC_NUMBER,
)


class Start:
    """The checkpoint that `train.continue` names; its fidelities must be ours."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.options = config[KEY.CONTINUE]
        self.path = str(self.options[KEY.CHECKPOINT])
        self.content = checkpoint.load(self.path)
        self.config = load_checkpoint(self.path).config
        self._check(config)
        # the model's indices are the checkpoint's, and so are its elements
        for name in (KEY.MODAL_MAP, *CHEMISTRY):
            if self.config.get(name) is not None:
                config[name] = self.config[name]
        config[KEY._NORMALIZE_SPH] = self.config[KEY._NORMALIZE_SPH]
        for name in (KEY.SHIFT, KEY.SCALE, KEY.CONV_DENOMINATOR):
            config[name] = self.config[name]
        config[KEY.USE_MODAL_WISE_SCALE] = self.config[KEY.USE_MODAL_WISE_SCALE]

    def _check(self, config: dict[str, Any]) -> None:
        ours = set(fidelity_names(config))
        several = self.config.get(KEY.USE_MODALITY, False)
        theirs = set(self.config[KEY.MODAL_MAP]) if several else set()
        if ours != theirs and (several or len(ours) > 1):
            raise UserError(
                f'train.continue: {self.path} knows the fidelities '
                f'{sorted(theirs) or "none"}, the YAML names {sorted(ours)}. They '
                'must be the same to continue.'
            )
        try:
            check_config_compatible(config, self.config)
        except ValueError as error:
            raise UserError(f'train.continue: {self.path}: {error}') from None
        encodings = [
            c[keys.FIDELITY_MODEL]['encoding'] if c.get(keys.FIDELITY_MODEL) else 'bias'
            for c in (config, self.config)
        ]
        if several and encodings[0] != encodings[1]:
            raise UserError(
                f'train.continue: {self.path} has the encoding {encodings[1]!r}, '
                f'model.fidelity.encoding is {encodings[0]!r}. Make them equal.'
            )
        for switch in keys.SITE_SWITCH.values():
            if several and config[switch] != self.config.get(switch, False):
                raise UserError(
                    f'train.continue: {self.path} was trained with other '
                    'model.fidelity.sites. Make them equal.'
                )

    def references(self) -> np.ndarray:
        """Reference energies by fidelity and element, (n_fidelities, 119) eV."""
        shift = self.content['model_state_dict'][SHIFT].double().numpy()
        shift = np.atleast_2d(shift)  # one row where there is one fidelity
        if shift.shape[1] == 1:  # one number for all elements
            shift = np.repeat(shift, len(self.config[KEY.TYPE_MAP]), axis=1)
        rows = len(self.config.get(KEY.MODAL_MAP) or [0])
        full = np.zeros((rows, NUM_UNIV_ELEMENT))
        for z, column in self.config[KEY.TYPE_MAP].items():
            full[:, z] = shift[:, column]
        return full

    def load_into(self, trainer: FidelityTrainer) -> int:
        """Load weights and, as the YAML says, the rest; return the epoch reached."""
        trainer.load_weights(self.content['model_state_dict'])
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
        if options[KEY.RESET_EPOCH]:
            return 0
        return int(self.content.get('epoch') or 0)
