"""What is compared: one architecture built by the host and by sevennet_mf.

`host`: the plain single-fidelity model; `modality`: the host's own model of two
fidelities; `bias`, `gain`, `lora`: ours. All see the same batch: cells of
In(x)Ga(1-x)N with PBE labels and as many with r2SCAN labels.
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import sevenn._keys as KEY
import torch
from sevenn._const import (
    DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG,
    NUM_UNIV_ELEMENT,
)
from sevenn.model_build import build_E3_equivariant_model
from sevenn.train.loss import get_loss_functions_from_config
from sevenn.train.optim import optim_dict
from sevenn.train.trainer import Trainer
from sevenn.util import load_checkpoint

import sevennet_mf
from sevennet_mf import inputs, keys
from sevennet_mf.data.dataset import FidelityDataset, build_datasets
from sevennet_mf.data.sampler import eval_loader
from sevennet_mf.train import setup
from sevennet_mf.train.distributed import Process
from sevennet_mf.train.loss import losses_from
from sevennet_mf.train.trainer import FidelityTrainer

INGAN = Path(__file__).resolve().parent.parent / 'example_inputs' / 'ingan'
FILES = {'pbe': 'pbe_train.extxyz', 'r2scan': 'r2scan_binaries_train.extxyz'}
# the plain host twice: how far from 1 the ratio of two equal models is
HOST, AGAIN, MODALITY = 'host', 'host, again', 'modality'
ENCODINGS = ('bias', 'gain', 'lora')
VARIANTS = (HOST, AGAIN, MODALITY, *ENCODINGS)
# not for a YAML: from older versions, set by the data, or added by the plugin
NOT_FOR_YAML = (
    KEY.CONV_DENOMINATOR,
    KEY._NORMALIZE_SPH,
    KEY.CUEQUIVARIANCE_CONFIG,
    keys.FIDELITY_MODEL,
    *keys.SITE_SWITCH.values(),
)


def _model_section(architecture: str) -> dict[str, Any]:
    if architecture == 'small':
        return {
            'chemical_species': ['Ga', 'In', 'N'],
            'cutoff': 4.5,
            'channel': 16,
            'lmax': 2,
            'num_convolution_layer': 3,
        }
    found = load_checkpoint(architecture).config
    return {
        key: found[key]
        for key in (*DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG, KEY.CHEMICAL_SPECIES)
        if key not in NOT_FOR_YAML and found.get(key) is not None
    }


def _config(architecture: str, batch_size: int, device: str) -> dict[str, Any]:
    """The merged configuration of a run with the encoding `bias`."""
    sections = {
        'model': {**_model_section(architecture), 'fidelity': {}},
        'train': {
            'optimizer': 'adam',
            # small, so that the weights stay those of an ordinary model
            'optim_param': {'lr': 1e-5},
            'loss': 'huber',
            'loss_param': {'delta': 0.01},
            'is_train_stress': True,
            'stress_loss_weight': 0.01,
            'device': device,
        },
        'data': {
            'batch_size': batch_size,
            'load_trainset_path': [
                {'file': str(INGAN / file), 'fidelity': name, 'index': ':16'}
                for name, file in FILES.items()
            ]
        },
    }
    with warnings.catch_warnings():  # a checkpoint holds keys of older versions
        warnings.simplefilter('ignore', UserWarning)
        model, train, data = inputs.from_sections(sections)
    return {**model, **train, **data}


def _subtract_references(dataset: FidelityDataset) -> np.ndarray:
    """Fit energies of the elements by fidelity, (n_fidelities, 119) eV."""
    shift = np.zeros((len(FILES), NUM_UNIV_ELEMENT))
    for i, name in enumerate(FILES):
        rows = dataset.rows_of(name)
        shift[i] = np.linalg.lstsq(
            dataset.composition[rows].astype(float), dataset.energy[rows], rcond=None
        )[0]
    dataset.set_reference(shift)
    return shift


class Case:
    """An architecture and a batch; makes each variant."""

    def __init__(self, architecture: str, batch_size: int, device: str) -> None:
        self.device = torch.device(device)
        self.config = _config(architecture, batch_size, device)
        with tempfile.TemporaryDirectory() as folder:
            dataset = build_datasets(self.config, folder)[setup.TRAIN]
            shift = _subtract_references(dataset)
            setup.set_statistics(self.config, dataset, shift)
            chosen = self._largest(dataset, batch_size)
            batch = next(iter(eval_loader(chosen, batch_size)))
            # nothing on disk may be needed afterwards
            self._batch = batch.clone().to(self.device)
        self.n_atoms = int(batch[KEY.NUM_ATOMS].sum())
        self.n_edges = int(batch[KEY.EDGE_IDX].shape[1])
        # labels come without reference energies, so no model has any
        zero = [0.0] * NUM_UNIV_ELEMENT
        self.config[KEY.SHIFT] = dict.fromkeys(FILES, zero)

    @staticmethod
    def _largest(dataset: FidelityDataset, batch_size: int) -> FidelityDataset:
        """The largest cells, the fidelities in turn."""
        rows = []
        for name in FILES:
            own = dataset.rows_of(name)
            size = dataset.composition[own].sum(axis=1)
            rows.append(own[np.argsort(-size, kind='stable')])
        n = -(-batch_size // len(rows))
        mixed = np.stack([own[:n] for own in rows], axis=1).reshape(-1)
        return dataset.subset(mixed[:batch_size])

    def batch(self) -> Any:
        """A fresh copy of the batch: a model writes into what it is given."""
        return self._batch.clone()

    def variant(self, name: str) -> Variant:
        return Variant(name, self)

    def model(self, name: str) -> torch.nn.Module:
        config = copy.deepcopy(self.config)
        torch.manual_seed(0)
        if name in ENCODINGS:
            config[keys.FIDELITY_MODEL]['encoding'] = name
            sevennet_mf.register()
            return build_E3_equivariant_model(config)
        for key in (keys.FIDELITY_MODEL, keys.FIDELITY_TRAIN, keys.FIDELITY_DATA):
            config.pop(key)
        if name != MODALITY:
            config[KEY.USE_MODALITY] = False
            config[KEY.SHIFT] = config[KEY.SHIFT]['pbe']
            for switch in keys.SITE_SWITCH.values():
                config[switch] = False
        return build_E3_equivariant_model(config)


class Variant:
    """One of VARIANTS, ready to train by the host's Trainer and, ours, by ours."""

    def __init__(self, name: str, case: Case) -> None:
        self.name = name
        self.device = case.device
        self.model = case.model(name)
        self.n_parameters = sum(p.numel() for p in self.model.parameters())
        config = case.config
        self.trainer = Trainer(
            self.model,
            get_loss_functions_from_config(copy.deepcopy(config)),
            optim_dict[config[KEY.OPTIMIZER]],
            config[KEY.OPTIM_PARAM],
            device=case.device,
        )
        self.own_trainer: FidelityTrainer | None = None
        if name in ENCODINGS:
            n = len(FILES)
            labelled = {
                'energy': np.ones(n),
                'force': np.ones(n),
                'stress': np.array([1.0, 0.0]),  # none at r2SCAN
            }
            losses = losses_from(
                config, list(FILES), np.full(n, 1 / n), labelled
            )
            self.own_trainer = FidelityTrainer(
                self.model, losses, config, Process()
            )
