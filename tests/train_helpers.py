"""Small training runs on real data, assembled as `sevennet-mf train` does it."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from helpers import DATA, INGAN, build

from sevennet_mf.config import inputs
from sevennet_mf.data.batches.loader import make_loader
from sevennet_mf.data.dataset import FidelityDataset
from sevennet_mf.distributed import Process
from sevennet_mf.train.loop import run_folder
from sevennet_mf.train.loop.fit import Fit
from sevennet_mf.train.loop.settled import Settled
from sevennet_mf.train.prepare import prepare_data, prepare_fit

MOLECULES = DATA / 'molecules'
MODEL = {
    'cutoff': 4.0,
    'channel': 4,
    'lmax': 1,
    'num_convolution_layer': 1,
    'weight_nn_hidden_neurons': [8],
    'radial_basis': {'radial_basis_name': 'bessel', 'bessel_basis_num': 4},
}
TRAIN = {
    'epoch': 2,
    'optim_param': {'lr': 0.01},
    'scheduler_param': {'gamma': 0.9},
    'force_loss_weight': 0.1,
}


def entry(
    file: str, fidelity: str, index: str = ':', folder: Path = INGAN, **more: Any
) -> dict[str, Any]:
    """One entry of a `load_*_path`: structures `index` of a real file."""
    path = str(folder / f'{file}.extxyz')
    return {'file': path, 'fidelity': fidelity, 'index': index, **more}


PBE = entry('pbe_train', 'pbe', ':6')  # energy, forces, stress
R2SCAN = entry('r2scan_pool', 'r2scan', ':4')  # no stress
VALID = entry('r2scan_valid', 'r2scan', ':3')


def yaml_of(
    train: list[dict] | None = None,
    valid: list[dict] | None = None,
    fidelity: dict[str, dict] | None = None,
    model: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    **training: Any,
) -> dict[str, Any]:
    """The sections of a YAML that trains on a few InGaN cells.

    fidelity: `fidelity` blocks by section; data: more keys of that section;
    training: keys of the section train.
    """
    sections: dict[str, Any] = {
        'model': {**MODEL, **(model or {})},
        'train': {**TRAIN, **training},
        'data': {
            'batch_size': 4,
            'load_trainset_path': [PBE, R2SCAN] if train is None else train,
            **(data or {}),
        },
    }
    if valid is None or valid:
        sections['data']['load_validset_path'] = [VALID] if valid is None else valid
    for section, block in (fidelity or {}).items():
        sections[section]['fidelity'] = block
    return copy.deepcopy(sections)


def settled_of(
    sections: dict[str, Any],
    folder: Path,
    process: Process | None = None,
    began: dict[str, Any] | None = None,
) -> Settled:
    """What a YAML without `continue` settles, references subtracted."""
    asked = inputs.read(sections, began)
    return prepare_data(asked, str(folder), process or Process(), None)


def data_of(
    sections: dict[str, Any], folder: Path, process: Process | None = None
) -> tuple[dict[str, Any], dict[str, FidelityDataset]]:
    """(configuration, data sets) of the same."""
    settled = settled_of(sections, folder, process)
    return settled.config, settled.sets


def fit_of(
    sections: dict[str, Any],
    folder: Path,
    process: Process | None = None,
    began: dict[str, Any] | None = None,
) -> Fit:
    """All that a run is before its first step; always from the same weights.

    began: the configuration of the run that is resumed.
    """
    process = process or Process()
    settled = settled_of(sections, folder, process, began)
    return prepare_fit(
        settled, build(settled.config).train(), str(folder), process
    )


def batch_of(dataset: FidelityDataset, numbers: list[int]) -> Any:
    """One batch; -1 - i is structure i with weight 0, as the sampler writes it."""
    return next(iter(make_loader(dataset, [numbers])))


def gradients(module: torch.nn.Module) -> dict[str, np.ndarray]:
    """Every gradient there is, in float64, by name."""
    return {
        name: p.grad.double().numpy().copy()
        for name, p in module.named_parameters()
        if p.grad is not None
    }


def weights(fit: Fit) -> dict[str, torch.Tensor]:
    """Copies of every weight."""
    return {k: v.clone() for k, v in fit.trainer.module.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether two sets of weights are equal to the last bit."""
    return a.keys() == b.keys() and all(torch.equal(v, b[k]) for k, v in a.items())


def lines(fit: Fit) -> list[dict[str, float]]:
    """The rows of lc.csv, by column."""
    path = Path(fit.path(fit.state.curve))
    head, *rows = [row.split(',') for row in path.read_text().splitlines()]
    return [dict(zip(head, map(float, row), strict=True)) for row in rows]


def learning_rate(fit: Fit) -> float:
    return float(fit.trainer.optimizer.param_groups[0]['lr'])


def resumed(sections: dict[str, Any], folder: Path) -> Fit:
    """A new run that takes up where the one in `folder` stopped."""
    random.seed(5)  # whatever happened since
    np.random.seed(5)
    torch.manual_seed(5)
    fit = fit_of(sections, folder)
    fit.resume(run_folder.load_training_state(str(folder / run_folder.RESUME_FILE)))
    return fit
