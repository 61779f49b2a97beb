"""Small models, real structures and checkpoints that several tests share."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import sevenn
import sevenn._keys as KEY
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read
from sevenn.atom_graph_data import AtomGraphData
from sevenn.model_build import build_E3_equivariant_model
from sevenn.nn.node_embedding import OnehotEmbedding
from sevenn.nn.sequential import AtomGraphSequential
from sevenn.train.dataload import unlabeled_atoms_to_graph
from torch_geometric.data import Batch

import sevennet_mf
from sevennet_mf import keys
from sevennet_mf.cli import main
from sevennet_mf.config import inputs
from sevennet_mf.data.reading.read import Structure
from sevennet_mf.model.build import fidelity_layers

DATA = Path(__file__).parent / 'data'
INGAN = DATA / 'ingan'
ENCODINGS = ('bias', 'gain', 'lora')
NAMES = ('pbe', 'r2scan')
CUTOFF = 4.0
ARCHITECTURES = {
    'lmax2': {'lmax': 2, 'is_parity': False, 'self_connection_type': 'linear'},
    'parity': {'lmax': 1, 'is_parity': True, 'self_connection_type': 'nequip'},
}


@contextmanager
def registered() -> Iterator[None]:
    """The plugin is registered within; afterwards as it was before."""
    from sevennet_mf import host

    before = host.is_registered()
    sevennet_mf.register()
    try:
        yield
    finally:
        if not before:
            sevennet_mf.unregister()


def train_here(*words: object, cwd: Path) -> None:
    """`sevennet-mf train` in a folder and within this process, to its end.

    A process of its own would spend four seconds on imports.
    """
    with registered(), chdir(cwd):
        assert main(['train', *map(str, words)]) == 0


def entry(name: str, file: str = 'pbe_valid.extxyz') -> dict[str, Any]:
    """One entry of a `load_*_path`."""
    return {'file': str(INGAN / file), 'fidelity': name}


def sections(*names: str, **fidelity: Any) -> dict[str, Any]:
    """A small valid YAML, before it is read; `fidelity` goes into model.fidelity."""
    return {
        'model': {
            'chemical_species': ['In', 'Ga', 'N'],
            'cutoff': CUTOFF,
            'channel': 4,
            'lmax': 1,
            'num_convolution_layer': 2,
            'weight_nn_hidden_neurons': [8],
            'radial_basis': {'radial_basis_name': 'bessel', 'bessel_basis_num': 4},
            'fidelity': fidelity,
        },
        'train': {'epoch': 1},
        'data': {'load_trainset_path': [entry(name) for name in names or NAMES]},
    }


def model_config(
    encoding: str = 'bias',
    names: tuple[str, ...] = NAMES,
    fidelity: dict[str, Any] | None = None,
    **model: Any,
) -> dict[str, Any]:
    """Everything that building and saving a small model needs."""
    yaml = sections(*names, encoding=encoding, **(fidelity or {}))
    yaml['model'].update(model)
    model_part, train, data = inputs.from_sections(yaml)
    config = {**model_part, **train, **data}
    shift = {name: -3.0 - i for i, name in enumerate(names)}
    config.update(
        {
            KEY.SHIFT: shift if len(names) > 1 else -3.0,
            KEY.SCALE: 10.0,
            KEY.CONV_DENOMINATOR: 3.0,
            'version': sevenn.__version__,
        }
    )
    return config


def host_config(config: dict[str, Any]) -> dict[str, Any]:
    """The same model as the host alone would build it."""
    host = copy.deepcopy(config)
    for key in (keys.FIDELITY_MODEL, keys.FIDELITY_TRAIN, keys.FIDELITY_DATA):
        host.pop(key, None)
    return host


def build(config: dict[str, Any]) -> AtomGraphSequential:
    """The model of a configuration, in evaluation mode; always the same weights."""
    # a deepcopy of a model would be faster, but e3nn names its buffers differently
    torch.manual_seed(0)
    with registered():
        return build_E3_equivariant_model(copy.deepcopy(config)).eval()


def structure_of(atoms: Atoms) -> Structure:
    """What a reader makes of atoms at `pbe`, with an energy of 0 eV."""
    return Structure(
        numbers=atoms.numbers.astype(np.int64),
        positions=atoms.get_positions(),
        cell=np.array(atoms.cell),
        pbc=atoms.pbc,
        atoms=atoms,
        graph=None,
        fidelity='pbe',
        energy=0.0,
        forces=None,
        stress=None,
        source='',
        file=0,
        frame=0,
    )


def randomise(module: torch.nn.Module, size: float = 0.5, seed: int = 1) -> None:
    """Fidelity-owned weights and biases as if they had been trained."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in fidelity_layers(module):
            owned = [
                p
                for fidelity in range(layer.num_modalities)
                for p in layer.theta(fidelity)
            ]
            for parameter in [*owned, layer.common_bias]:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(size * noise)


def trained(
    encoding: str = 'bias', names: tuple[str, ...] = NAMES, **model: Any
) -> tuple[AtomGraphSequential, dict[str, Any]]:
    """A small model with random theta_T, and its configuration."""
    config = model_config(encoding, names, **model)
    result = build(config)
    randomise(result)
    return result, config


def structures(n: int = 3, file: str = 'pbe_valid.extxyz') -> list[Atoms]:
    """Real rattled In(x)Ga(1-x)N cells, those with three elements first."""
    found = read(INGAN / file, ':')
    found.sort(key=lambda atoms: -len(set(atoms.numbers)))
    return found[:n]


def ase_keeps_all(atoms: Atoms, names: Sequence[str]) -> None:
    """Every way of ASE to keep what its calculator found keeps these properties."""
    wanted = {name: atoms.calc.get_property(name, atoms) for name in names}
    single = SinglePointCalculator(atoms, **atoms.calc.results)
    for kept in (
        atoms.get_properties(list(names)),
        atoms.calc.export_properties(),
        single.results,
    ):
        for name in names:
            np.testing.assert_array_equal(kept[name], wanted[name])


def rewritten(atoms: Atoms, seed: int = 0, noise: float = 0.0) -> Atoms:
    """The same structure: shifted, wrapped, its atoms in another order.

    noise: Å, by which each atom is moved. Labels go with the atoms.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(atoms))
    moved = rng.standard_normal((len(atoms), 3))
    moved *= noise / np.linalg.norm(moved, axis=1, keepdims=True)
    other = atoms.copy()
    other.positions += rng.uniform(-5, 5, 3) + moved
    other.wrap()  # along what is periodic
    other = other[order]
    if atoms.calc is not None:
        results = dict(atoms.calc.results)
        if 'forces' in results:
            results['forces'] = results['forces'][order]
        other.calc = SinglePointCalculator(other, **results)
    return other


def graph(
    atoms: Atoms,
    fidelity: str | None,
    cutoff: float = CUTOFF,
    dtype: torch.dtype = torch.float32,
) -> AtomGraphData:
    """One host graph without labels."""
    arrays = unlabeled_atoms_to_graph(atoms, cutoff)
    data = AtomGraphData.from_numpy_dict(dict(arrays))
    for key in (KEY.POS, KEY.EDGE_VEC, KEY.CELL_VOLUME):  # the host makes float32
        data[key] = torch.as_tensor(arrays[key], dtype=dtype)
    if fidelity is not None:
        data[KEY.DATA_MODALITY] = fidelity
    return data


def evaluate(
    model: AtomGraphSequential,
    atoms: list[Atoms],
    fidelities: list[str] | list[None],
    cutoff: float = CUTOFF,
) -> dict[str, torch.Tensor]:
    """Energies (n,), forces (all atoms, 3), stresses (n, 6) of one batch."""
    dtype = next(model.parameters()).dtype
    graphs = [
        graph(a, f, cutoff, dtype) for a, f in zip(atoms, fidelities, strict=True)
    ]
    model.set_is_batch_data(True)
    output = model(Batch.from_data_list(graphs))
    return {
        'energy': output[KEY.PRED_TOTAL_ENERGY].detach(),
        'forces': output[KEY.PRED_FORCE].detach(),
        'stress': output[KEY.PRED_STRESS].detach(),
    }


def no_derivatives(module: torch.nn.Module, inputs: Any, data: Any) -> None:
    """A hook of `force_output`: the host where no edge leads to the energy."""
    del data[KEY.PRED_FORCE], data[KEY.PRED_STRESS]


def to_double(model: AtomGraphSequential) -> AtomGraphSequential:
    """`model` in float64, so that rounding hides nothing."""

    def cast(module: torch.nn.Module, inputs: Any, data: Any) -> Any:
        for key in (module.key_output, module.key_additional_output):
            if key:
                data[key] = data[key].double()
        return data

    for module in model.double():
        if isinstance(module, OnehotEmbedding):  # it casts to float32
            module.register_forward_hook(cast)
    return model


def save_checkpoint(
    path: Path, model: torch.nn.Module, config: dict[str, Any]
) -> Path:
    """Write a checkpoint in the host's format."""
    content = {
        'config': config,
        'epoch': 1,
        'model_state_dict': model.state_dict(),
        'optimizer_state_dict': {},
        'scheduler_state_dict': {},
        'time': '2026-01-01 00:00',
        'hash': '0' * 32,
    }
    torch.save(content, path)
    return path


def assert_close(
    result: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], **tol: float
) -> None:
    """Energies, forces and stresses agree; float32 rounding by default."""
    tol = tol or {'atol': 2e-5, 'rtol': 1e-5}
    for name, value in wanted.items():
        np.testing.assert_allclose(
            result[name].numpy(), value.numpy(), err_msg=name, **tol
        )
