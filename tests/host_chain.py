"""Everything the host makes of one YAML, in one process, with or without us.

    python host_chain.py FOLDER MODALITY [registered]

FOLDER holds input.yaml; MODALITY is '' without one. Nothing here is ours: what
came out is written to FOLDER/result.pt, for integration/test_host_suite.py to
compare.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.io import read

STRUCTURES = Path(__file__).parent / 'data' / 'ingan' / 'pbe_valid.extxyz'
CHECKPOINT = 'checkpoint_best.pth'


def train() -> dict[str, Any]:
    """The host's command line, from reading the YAML to the last file."""
    from sevenn.main.sevenn import main

    sys.argv = ['sevenn', 'train', 'input.yaml', '-w', '.']
    main()
    content = torch.load(CHECKPOINT, weights_only=False)
    del content['config']['when']  # the time
    parts = ('model_state_dict', 'optimizer_state_dict', 'scheduler_state_dict')
    return {
        'lc.csv': Path('lc.csv').read_bytes(),
        'config': content['config'],
        **{part: content[part] for part in parts},
    }


def build() -> dict[str, Any]:
    """A new model of the same configuration."""
    from sevenn.model_build import build_E3_equivariant_model

    config = torch.load(CHECKPOINT, weights_only=False)['config']
    torch.manual_seed(0)
    model = build_E3_equivariant_model(config)
    return {
        'layers': [f'{name}: {type(m)}' for name, m in model.named_modules()],
        'weights': dict(model.state_dict()),
    }


def deploy(modality: str | None) -> dict[str, Any]:
    """What both kinds of files for LAMMPS hold and compute.

    Not their bytes: TorchScript names what it folds differently in every process.
    """
    from sevenn.scripts.deploy import deploy, deploy_parallel

    deploy(CHECKPOINT, 'serial.pt', modality)
    deploy_parallel(CHECKPOINT, 'parallel', modality)
    segments = sorted(map(str, Path('parallel').iterdir()))
    return {'serial': computed(['serial.pt']), 'parallel': computed(segments)}


def computed(files: list[str]) -> dict[str, Any]:
    """Segments one after the other, as LAMMPS runs them, without ghost atoms."""
    from sevenn import _keys as KEY
    from sevenn.train.dataload import unlabeled_atoms_to_graph

    models, said = [], []
    for name in files:
        extra = {'chemical_symbols_to_index': '', 'cutoff': '', 'version': ''}
        models.append(torch.jit.load(name, _extra_files=extra))
        said.append(extra)
    symbols = said[0]['chemical_symbols_to_index'].decode().split()  # type: ignore

    atoms = read(STRUCTURES, 0)
    assert isinstance(atoms, Atoms)
    graph = unlabeled_atoms_to_graph(atoms, float(said[0]['cutoff']))
    edges = torch.as_tensor(graph[KEY.EDGE_VEC], dtype=torch.float32)
    data = {
        KEY.NODE_FEATURE: torch.tensor([symbols.index(s) for s in atoms.symbols]),
        KEY.EDGE_IDX: torch.as_tensor(graph[KEY.EDGE_IDX]),
        KEY.EDGE_VEC: edges.requires_grad_(),
        KEY.NUM_ATOMS: torch.tensor(len(atoms)),
        KEY.NLOCAL: torch.tensor([len(atoms)]),
    }
    for model in models:
        data[KEY.NODE_FEATURE_GHOST] = data[KEY.NODE_FEATURE][:0]
        data = model(data)
    (gradient,) = torch.autograd.grad(data[KEY.PRED_TOTAL_ENERGY], [edges])
    values = {name: value.detach() for name, value in data.items()}
    return {'said': said, 'gradient': gradient, **values}


def calculate(modality: str | None) -> dict[str, Any]:
    """ASE results of real structures."""
    from sevenn.calculator import SevenNetCalculator

    calculator = SevenNetCalculator(CHECKPOINT, device='cpu', modal=modality)
    results = {}
    for i, atoms in enumerate(read(STRUCTURES, ':3')):
        assert isinstance(atoms, Atoms)
        calculator.calculate(atoms)
        for name, value in calculator.results.items():
            results[f'{i} {name}'] = torch.as_tensor(np.asarray(value))
    return results


def infer(modality: str | None) -> dict[str, bytes]:
    """The tables that the host's inference writes."""
    from sevenn.scripts.inference import inference

    inference(CHECKPOINT, str(STRUCTURES), 'inferred', modal=modality)
    return {path.name: path.read_bytes() for path in Path('inferred').glob('*.*')}


def main(folder: str, modality: str | None, registered: bool) -> None:
    """Run all of it in `folder`."""
    if registered:
        import sevennet_mf

        sevennet_mf.register()
    os.chdir(folder)
    torch.use_deterministic_algorithms(True)
    result = {
        'training': train(),
        'model': build(),
        'deployed': deploy(modality),
        'calculator': calculate(modality),
        'inference': infer(modality),
    }
    assert ('sevennet_mf' in sys.modules) is registered
    torch.save(result, 'result.pt')


if __name__ == '__main__':
    main(sys.argv[1], sys.argv[2] or None, sys.argv[3:] == ['registered'])
