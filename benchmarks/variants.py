"""What is compared: one architecture built by the host and by sevennet_mf.

`host`: the plain single-fidelity model; `modality`: the host's own model of two
fidelities; `bias`, `gain`, `lora`: ours, with e3nn's convolution; `fused`: `bias` as
the package runs it on a CPU; `folded`: one fidelity of `bias` as a plain model. All
see the same batch: cells of In(x)Ga(1-x)N with PBE labels and as
many with r2SCAN labels.
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import sevenn
import sevenn._keys as KEY
import torch
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from sevenn._const import (
    DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG,
    NUM_UNIV_ELEMENT,
)
from sevenn.model_build import build_E3_equivariant_model
from sevenn.scripts.deploy import deploy as host_deploy
from sevenn.train.loss import get_loss_functions_from_config
from sevenn.train.optim import optim_dict
from sevenn.train.trainer import Trainer
from sevenn.util import load_checkpoint

import sevennet_mf
from sevennet_mf import keys
from sevennet_mf.config import inputs
from sevennet_mf.config.run_inputs import RunInputs
from sevennet_mf.data.batches.loader import eval_batches, make_loader
from sevennet_mf.data.dataset import FidelityDataset, build_datasets
from sevennet_mf.deploy.folded import build_alone, quiet
from sevennet_mf.deploy.torchscript import deploy
from sevennet_mf.distributed import Process
from sevennet_mf.model.fold import chosen, fold
from sevennet_mf.model.fused import fuse
from sevennet_mf.model.load import load_model
from sevennet_mf.train import setup
from sevennet_mf.train.loop.loss import losses_from
from sevennet_mf.train.loop.trainer import FidelityTrainer

INGAN = Path(__file__).resolve().parent.parent / 'example_inputs' / 'ingan'
FILES = {'pbe': 'pbe_train.extxyz', 'r2scan': 'r2scan_binaries_train.extxyz'}
# the plain host twice: how far from 1 the ratio of two equal models is
HOST, AGAIN, MODALITY = 'host', 'host, again', 'modality'
ENCODINGS = ('bias', 'gain', 'lora')
FUSED, FOLDED = 'fused', 'folded'
VARIANTS = (HOST, AGAIN, MODALITY, *ENCODINGS, FUSED, FOLDED)
DEPLOYABLE = (HOST, AGAIN, MODALITY, FOLDED)  # those of one fidelity
# not for a YAML: from older versions, set by the data, or added by the plugin
NOT_FOR_YAML = (
    KEY.CONV_DENOMINATOR,
    KEY._NORMALIZE_SPH,
    KEY.CUEQUIVARIANCE_CONFIG,
    keys.FIDELITY_MODEL,
    *keys.SITE_SWITCH.values(),
)


def model_section(architecture: str) -> dict[str, Any]:
    """The section `model` of a YAML for an architecture."""
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


def _inputs(
    architecture: str, batch_size: int, device: str, folder: Path
) -> RunInputs:
    """What a run with the encoding `bias` is asked for.

    folder: where FILES are.
    """
    sections = {
        'model': {**model_section(architecture), 'fidelity': {}},
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
                {'file': str(folder / file), 'fidelity': name, 'index': ':16'}
                for name, file in FILES.items()
            ]
        },
    }
    with warnings.catch_warnings():  # a checkpoint holds keys of older versions
        warnings.simplefilter('ignore', UserWarning)
        return inputs.read(sections)


def _repeat(folder: Path, repeat: Sequence[int]) -> None:
    """Write the first cells of FILES, repeated, with the labels that follow."""
    for file in FILES.values():
        cells = []
        for atoms in read(INGAN / file, ':2'):
            cell, n = atoms.repeat(repeat), int(np.prod(repeat))
            labels = dict(atoms.calc.results)
            for name in ('energy', 'free_energy'):
                if name in labels:
                    labels[name] = n * labels[name]
            if 'forces' in labels:
                labels['forces'] = np.tile(labels['forces'], (n, 1))
            cell.calc = SinglePointCalculator(cell, **labels)
            cells.append(cell)
        write(folder / file, cells)


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
    """An architecture and a batch; makes each variant.

    repeat: how often each cell stands along its vectors.
    """

    def __init__(
        self,
        architecture: str,
        batch_size: int,
        device: str,
        repeat: Sequence[int] = (1, 1, 1),
    ) -> None:
        self.device = torch.device(device)
        with tempfile.TemporaryDirectory() as folder:
            files = INGAN
            if max(repeat) > 1:
                files = Path(folder)
                _repeat(files, repeat)
            self.inputs = _inputs(architecture, batch_size, device, files)
            self.config = self.inputs.merged()
            dataset = build_datasets(self.config, folder)[setup.TRAIN]
            shift = _subtract_references(dataset)
            self.config |= setup.statistics_of(self.inputs, dataset, shift)
            chosen = self._largest(dataset, batch_size)
            batches = eval_batches(len(chosen), batch_size)
            batch = next(iter(make_loader(chosen, batches)))
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

    def graph(self) -> dict[str, torch.Tensor]:
        """The batch as one graph, as a pair style hands it to a deployed model."""
        batch = self._batch
        number = {z: i for i, z in enumerate(self.config[KEY.TYPE_MAP])}
        types = [number[int(z)] for z in batch[KEY.ATOMIC_NUMBERS]]
        n_atoms = torch.tensor([self.n_atoms])
        return {
            KEY.NODE_FEATURE: torch.tensor(types, device=self.device),
            KEY.EDGE_IDX: batch[KEY.EDGE_IDX],
            KEY.EDGE_VEC: batch[KEY.EDGE_VEC].detach().clone().requires_grad_(),
            KEY.NUM_ATOMS: n_atoms.to(self.device),
            KEY.NLOCAL: n_atoms,
        }

    def variant(self, name: str) -> Variant:
        return Variant(name, self)

    def model(self, name: str) -> torch.nn.Module:
        if name == FOLDED:
            return build_alone(self.checkpoint(FOLDED))
        torch.manual_seed(0)
        built = build_E3_equivariant_model(self._model_config(name))
        return fuse(built) if name == FUSED else built

    def checkpoint(self, name: str) -> dict[str, Any]:
        """What a checkpoint file of one of VARIANTS holds."""
        if name == FOLDED:
            config, state = self._fold()
        else:
            config, state = self._model_config(name), self.model(name).state_dict()
        return {
            'config': {**config, 'version': sevenn.__version__},
            'model_state_dict': state,
            'epoch': 0,
            'hash': name,
            'time': '',
        }

    def deployed(self, name: str) -> torch.jit.ScriptModule:
        """One of DEPLOYABLE as LAMMPS has it, folded by us, else by the host."""
        with tempfile.TemporaryDirectory() as folder, quiet():
            path, made = f'{folder}/checkpoint.pth', f'{folder}/deployed.pt'
            if name == FOLDED:
                torch.save(self.checkpoint('bias'), path)
                deploy(path, made, 'pbe')
            else:
                torch.save(self.checkpoint(name), path)
                host_deploy(path, made, modal='pbe' if name == MODALITY else None)
            return torch.jit.load(made, map_location=self.device)

    def _fold(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        with tempfile.TemporaryDirectory() as folder, quiet():
            path = f'{folder}/checkpoint.pth'
            torch.save(self.checkpoint('bias'), path)
            loaded = load_model(path, fused=False)
        return fold(loaded.model, loaded.config, chosen(loaded.fidelities, 'pbe'))

    def _model_config(self, name: str) -> dict[str, Any]:
        if name not in (*ENCODINGS, FUSED):
            return self._host_config(name)
        config = copy.deepcopy(self.config)
        config[keys.FIDELITY_MODEL]['encoding'] = 'bias' if name == FUSED else name
        sevennet_mf.register()
        return config

    def _host_config(self, name: str) -> dict[str, Any]:
        """The configuration of one of the models that the host alone builds."""
        config = copy.deepcopy(self.config)
        for key in (keys.FIDELITY_MODEL, keys.FIDELITY_TRAIN, keys.FIDELITY_DATA):
            config.pop(key)
        if name != MODALITY:
            config[KEY.USE_MODALITY] = False
            config.pop(KEY.MODAL_MAP)
            config[KEY.SHIFT] = config[KEY.SHIFT]['pbe']
            for switch in keys.SITE_SWITCH.values():
                config[switch] = False
        return config


class Variant:
    """One of VARIANTS, ready to train by the host's Trainer and, ours, by ours.

    A folded model is not trained. deployed: what LAMMPS runs, for DEPLOYABLE.
    """

    def __init__(self, name: str, case: Case) -> None:
        self.name = name
        self.case = case
        self.device = case.device
        self.model = case.model(name).to(case.device)
        self.n_parameters = sum(p.numel() for p in self.model.parameters())
        self.trainer = None if name == FOLDED else self._host_trainer(case.config)
        ours = name in (*ENCODINGS, FUSED)
        self.own_trainer = self._own_trainer(case) if ours else None

    @cached_property  # not made where the memory of training is measured
    def deployed(self) -> torch.jit.ScriptModule:
        return self.case.deployed(self.name)

    def _host_trainer(self, config: dict[str, Any]) -> Trainer:
        return Trainer(
            self.model,
            get_loss_functions_from_config(copy.deepcopy(config)),
            optim_dict[config[KEY.OPTIMIZER]],
            config[KEY.OPTIM_PARAM],
            device=self.device,
        )

    def _own_trainer(self, case: Case) -> FidelityTrainer:
        n = len(FILES)
        labelled = {
            'energy': np.ones(n),
            'force': np.ones(n),
            'stress': np.array([1.0, 0.0]),  # none at r2SCAN
        }
        losses = losses_from(case.inputs, list(FILES), np.full(n, 1 / n), labelled)
        return FidelityTrainer(self.model, losses, case.config, Process(), n)
