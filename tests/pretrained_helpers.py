"""Small pretrained models, labels that they give, and runs that go on from them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import sevenn._keys as KEY
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from helpers import (
    build,
    host_config,
    model_config,
    randomise,
    save_checkpoint,
    structures,
)
from train_helpers import MODEL, TRAIN

from sevennet_mf.config import inputs
from sevennet_mf.data import extxyz
from sevennet_mf.data.dataset import FidelityDataset
from sevennet_mf.deploy.probe import Answers, ask, deviation, probes
from sevennet_mf.distributed import Process
from sevennet_mf.model.load import LoadedModel, load_model
from sevennet_mf.train import finish, run
from sevennet_mf.train.continuing.extension import make_start
from sevennet_mf.train.continuing.start import Start
from sevennet_mf.train.prepare import prepare_data

SHIFT = {'In': -2.5, 'Ga': -2.9, 'N': -8.3}
OFFSETS = {'In': 1.5, 'Ga': -0.75, 'N': 3.0}
SELF_LABEL = {'self_label': {'per_structure': 1}, 'held_out': 0.25}
# eV/atom and eV/Å: what is left of float32 weights that are rounded once more
SAME = {'energy': 1e-6, 'forces': 5e-6}


def pretrained(
    folder: Path, names: Sequence[str] = (), encoding: str = 'bias', **fidelity: Any
) -> Path:
    """A checkpoint with random weights and reference energies for each element.

    names: its fidelities; without any it is a plain one, as the host writes it.
    """
    config = model_config(encoding, tuple(names) or ('any',), fidelity, **MODEL)
    own = [SHIFT[symbol] for symbol in sorted(SHIFT)]  # as the type map has them
    config[KEY.SHIFT] = own
    if names:
        config[KEY.SHIFT] = [
            [value - 0.5 * i for value in own] for i in range(len(names))
        ]
    if not names:
        config = host_config(config)
    model = build(config)
    randomise(model)
    path = folder / 'pretrained.pth'
    return save_checkpoint(path, model, config)


def mixed(n: int, seed: int = 0) -> list[Atoms]:
    """Real cells whose sites hold In, Ga and N at random: energies of each element
    can be told apart."""
    rng = np.random.default_rng(seed)
    found = structures(n)
    for atoms in found:
        atoms.numbers = rng.choice([49, 31, 7], len(atoms))
        atoms.calc = None
    return found


def labelled(
    file: Path,
    atoms: Sequence[Atoms],
    checkpoint: Path,
    fidelity: str | None = None,
    offsets: Mapping[str, float] | None = None,
) -> str:
    """Write structures with a model's energies and forces; offsets: eV."""
    loaded = load_model(str(checkpoint))
    answers = ask(loaded.model, atoms, loaded.cutoff, fidelity)
    ends = np.cumsum([len(a) for a in atoms])[:-1]
    forces = np.split(answers.forces, ends)
    frames = []
    for structure, energy, force in zip(atoms, answers.energy, forces, strict=True):
        own = copy.deepcopy(structure)
        more = sum((offsets or {}).get(s, 0.0) for s in own.symbols)
        own.calc = SinglePointCalculator(own, energy=energy + more, forces=force)
        frames.append(own)
    extxyz.write(file, frames)
    return str(file)


def extending(
    checkpoint: Path | str,
    file: str,
    valid: str | None = None,
    fidelity: str = 'r2scan',
    model: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    blocks: dict[str, Any] | None = None,
    **train: Any,
) -> dict[str, Any]:
    """A YAML that gives a checkpoint one more fidelity; train: keys of
    train.fidelity; blocks: those of the section train."""
    sections: dict[str, Any] = {
        'model': dict(model or {}),
        'train': {
            **TRAIN,
            'epoch': 1,
            **(blocks or {}),
            'continue': {'checkpoint': str(checkpoint)},
            'fidelity': train,
        },
        'data': {
            'batch_size': 4,
            'load_trainset_path': [{'file': file, 'fidelity': fidelity}],
            **(data or {}),
        },
    }
    if valid:
        own = {'file': valid, 'fidelity': fidelity}
        sections['data']['load_validset_path'] = [own]
    return sections


def prepared(
    folder: Path, sections: dict[str, Any]
) -> tuple[dict[str, Any], Start, dict[str, FidelityDataset]]:
    """(configuration, checkpoint, data sets) of a run before its model is built."""
    start = make_start(inputs.read(sections))
    assert start is not None
    settled = prepare_data(start.inputs, str(folder), Process(), start)
    return settled.config, start, settled.sets


def trained_in(
    folder: Path, sections: dict[str, Any], pictures: bool = False, **kwargs: Any
) -> Path:
    """Run a YAML as the command line does; the folder with what it wrote.

    pictures: draw all; otherwise that of the drift only, since they take a while.
    """
    asked = inputs.read(sections)
    with ExitStack() as stack:
        if not pictures:
            for name in ('learning_curves', 'parity'):
                stack.enter_context(mock.patch.object(finish, name, return_value=[]))
        run.train(asked, str(folder), **kwargs)
    return folder


def answers_of(
    model: LoadedModel | Path,
    fidelity: str | None,
    atoms: Sequence[Atoms] | None = None,
) -> Answers:
    """What a model says about small structures of its elements."""
    loaded = model if isinstance(model, LoadedModel) else load_model(str(model))
    if atoms is None:
        atoms = probes(sorted(loaded.type_map), loaded.cutoff)
    return ask(loaded.model, atoms, loaded.cutoff, fidelity)


def assert_same(found: Answers, wanted: Answers) -> None:
    """Two models agree as well as float32 can."""
    apart = deviation(found, wanted)
    assert apart.energy <= SAME['energy'], str(apart)
    assert apart.forces <= SAME['forces'], str(apart)


