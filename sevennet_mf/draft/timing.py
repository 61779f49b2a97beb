"""How long a training step takes here, measured on some of the structures."""

from __future__ import annotations

import copy
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from itertools import islice
from statistics import median
from typing import Any, Final

import torch
from sevenn.model_build import build_E3_equivariant_model

import sevennet_mf
from sevennet_mf.checkpoint.origin import Origin
from sevennet_mf.config import inputs
from sevennet_mf.distributed import Process
from sevennet_mf.train.continuing.extension import make_start
from sevennet_mf.train.loop.fit import Fit
from sevennet_mf.train.prepare import prepare_data, prepare_fit

Config = dict[str, Any]
KEPT: Final[int] = 24  # structures of each level, spread over its files
# TorchScript, which e3nn compiles, settles within the first calls
WARM_UP, TIMED = 3, 5


def seconds_per_step(
    sections: Config, counts: Mapping[str, int], origin: Origin | None = None
) -> float:
    """Return the median duration of a few steps of a training YAML, in seconds.

    Files are written only into a temporary folder.

    Args:
        sections: The sections of the YAML.
        counts: Number of structures of each level.
        origin: The checkpoint to start from, opened.
    """
    sevennet_mf.register()
    process = Process()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter('ignore')  # about the few structures
        asked = inputs.read(thinned(sections, counts), opened=origin)
        start = make_start(asked)
        settled = prepare_data(asked, folder, process, start)
        model = build_E3_equivariant_model(settled.config)
        fit = prepare_fit(settled, model, folder, process, start)
        return median(_times(fit))


def thinned(sections: Config, counts: Mapping[str, int]) -> Config:
    """Return the YAML for a few structures of each level, without validation."""
    few = copy.deepcopy(sections)
    data, train = few['data'], few['train']
    data.pop('data_divide_ratio', None)
    data['fidelity'] = {**data.get('fidelity', {}), 'inferred_labels': 'never'}
    for entry in data['load_trainset_path']:
        named = entry.get('fidelity')  # none: heads of a file name them
        count = sum(counts.values()) if named is None else counts[named]
        step = max(1, count // KEPT)
        entry['index'] = f'::{step}'
    train['fidelity'].pop('replay', None)
    train['fidelity']['steps_per_epoch'] = WARM_UP + TIMED
    return few


def _times(fit: Fit) -> Iterator[float]:
    trainer = fit.trainer
    trainer.model.train()
    loader = fit.sets['trainset'].loader
    for number, batch in enumerate(islice(loader, WARM_UP + TIMED)):
        begun = time.perf_counter()
        trainer.step(batch)
        if trainer.device.type == 'cuda':
            torch.cuda.synchronize(trainer.device)
        if number >= WARM_UP:
            yield time.perf_counter() - begun
