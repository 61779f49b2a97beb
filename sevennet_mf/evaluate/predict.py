"""What a model predicts for a data set, beside its labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import sevenn._keys as KEY
import torch
from sevenn.nn.scale import ModalWiseRescale, Rescale, SpeciesWiseRescale
from sevenn.nn.sequential import AtomGraphSequential
from torch_geometric.loader import DataLoader
from tqdm import tqdm

from sevennet_mf import keys
from sevennet_mf.arrays import N_SPECIES, Floats, Ints
from sevennet_mf.data.checks import unknown_elements
from sevennet_mf.data.dataset import FidelityDataset
from sevennet_mf.data.findings import refuse
from sevennet_mf.data.labels import FLAT
from sevennet_mf.distributed import usable_device
from sevennet_mf.errors import UserError, nearest, unknown
from sevennet_mf.evaluate.predictions import Predictions
from sevennet_mf.model.load import UNNAMED, LoadedModel, load_model

__all__ = [
    'LoadedModel',
    'Predictions',
    'load_model',
    'predict',
    'reference_energies',
]


def fidelities_of(model: AtomGraphSequential) -> tuple[str, ...]:
    """Return the names of a model's fidelities by index; one if it has no names."""
    return tuple(keys.by_index(model.modal_map or {UNNAMED: 0}))


def shift_of(model: AtomGraphSequential) -> torch.nn.Parameter:
    """Return the atomic reference energies of a model, as it holds them."""
    kinds = (Rescale, SpeciesWiseRescale, ModalWiseRescale)
    found = [m for m in model.modules() if isinstance(m, kinds)]
    assert len(found) == 1, f'{len(found)} rescaling layers'
    shift = found[0].shift
    assert isinstance(shift, torch.nn.Parameter)
    return shift


def reference_energies(model: AtomGraphSequential) -> Floats:
    """Return (n_fidelities, 119) eV, the model's atomic shift by atomic number.

    float64 copies of the float32 numbers in the checkpoint; NaN for an element
    that the model does not know.
    """
    assert model.type_map is not None
    shift = shift_of(model).detach().cpu()
    return by_atomic_number(shift, model.type_map, len(fidelities_of(model)))


def by_atomic_number(
    shift: torch.Tensor, type_map: Mapping[int, int], n: int
) -> Floats:
    """Return an atomic shift of n fidelities as (n, 119) float64, NaN for the rest.

    shift: one number; one for each element; or one for each fidelity and element.
    """
    by_type = np.broadcast_to(shift.double().numpy(), (n, len(type_map)))
    energies = np.full((n, N_SPECIES), np.nan)
    for z, index in type_map.items():
        energies[:, z] = by_type[:, index]
    return energies


@contextmanager
def without_shift(model: AtomGraphSequential) -> Iterator[None]:
    """Within, the model predicts residuals: its reference energies are zero."""
    shift = shift_of(model)
    before = shift.detach().clone()
    with torch.no_grad():
        shift.zero_()
    try:
        yield
    finally:
        with torch.no_grad():
            shift.copy_(before)


def predict(
    model: AtomGraphSequential,
    dataset: FidelityDataset,
    batch_size: int = 8,
    device: str | torch.device = 'cpu',
    progress: bool = True,
    predict_as: str | None = None,
) -> Predictions:
    """Predict energy, forces and stress of every structure of a data set.

    Each structure is predicted at the fidelity of its label, or at `predict_as`; a
    model of one fidelity predicts at that one. Reference energies are taken out of
    the model and added in float64, so that all-electron energies lose nothing.
    The model is left as it was. Raises UserError for a fidelity or an element that
    the model does not know, and for a device that is not there. device: 'cpu',
    'cuda', or 'auto' for a GPU if there is one.
    """
    assert model.type_map is not None
    own = fidelities_of(model)
    present, fidelity = np.unique(dataset.fidelity_index, return_inverse=True)
    names = tuple(dataset.fidelities[i] for i in present)
    targets = match_fidelities(own, names, predict_as)
    rows = np.array([own.index(name) for name in targets], dtype=np.int64)[fidelity]
    composition = dataset.composition
    refuse(next(unknown_elements(dataset, list(model.type_map)), None))
    energies = np.nan_to_num(reference_energies(model))
    reference = np.einsum('ij,ij->i', composition, energies[rows])
    parts = _run(model, dataset, rows, batch_size, device, progress)
    residual = _joined(parts, 'energy')
    return Predictions(
        fidelities=names,
        predicted_as=targets,
        sources=[dataset.source(i) for i in range(len(dataset))],
        fidelity=fidelity,
        n_atoms=dataset.n_atoms,
        energy=residual + reference,
        reference=reference,
        forces=[forces for part in parts for forces in part['forces']],
        stress=_joined(parts, 'stress').reshape(-1, 6),
        label_energy=dataset.energy,  # float64 totals
        label_forces=[forces for part in parts for forces in part['label_forces']],
        label_stress=_joined(parts, 'label_stress').reshape(-1, 6),
    )


def match_fidelities(
    known: Sequence[str],
    names: Sequence[str],
    predict_as: str | None = None,
    model: str = 'the model',
) -> tuple[str, ...]:
    """Return for each of `names`, of data, the one of a model that predicts it.

    known: the model's fidelities; a single one predicts all data. model: what to
    call it in the UserError for a name that it does not have.
    """
    if predict_as is not None and predict_as not in known:
        raise unknown('the fidelity to predict as', predict_as, known)
    if predict_as is not None or len(known) == 1:
        return (predict_as or known[0],) * len(names)
    for name in names:
        if name not in known:
            raise UserError(
                f'{model} has no fidelity {name!r}, which the data is of; it has '
                f'{list(known)}.{nearest(name, known)} Correct the name, or choose '
                'the fidelity to predict as (--predict_as).'
            )
    return tuple(names)


def _run(
    model: AtomGraphSequential,
    dataset: FidelityDataset,
    rows: Ints,
    batch_size: int,
    device: str | torch.device,
    progress: bool,
) -> list[dict[str, Any]]:
    where = usable_device(device)
    own = fidelities_of(model)
    loader = DataLoader(dataset, batch_size=batch_size, shuffle=False)
    was_training, was_batch = model.training, model.is_batch_data
    was_on = shift_of(model).device
    model.to(where).eval()
    model.set_is_batch_data(True)
    parts = []
    start = 0
    try:
        with (
            without_shift(model),
            tqdm(
                desc='predict',
                total=len(dataset),
                unit=' structures',
                disable=None if progress else True,
            ) as bar,
        ):
            for batch in loader:
                n = int(batch.num_graphs)
                if model.eval_modal_map:
                    names = [own[i] for i in rows[start : start + n]]
                    batch[KEY.DATA_MODALITY] = names
                parts.append(_predict_batch(model, batch.to(where)))
                start += n
                bar.update(n)
    finally:
        model.to(was_on).train(was_training)
        model.set_is_batch_data(was_batch)
    return parts


def _predict_batch(model: AtomGraphSequential, batch: Any) -> dict[str, Any]:
    n_atoms = batch[KEY.NUM_ATOMS].reshape(-1)
    flat = batch[KEY.CELL_VOLUME].reshape(-1) < FLAT  # the host writes into it
    labels = batch[KEY.FORCE], batch[KEY.STRESS].reshape(-1, 6)
    output = model(batch)
    atomic = output[KEY.ATOMIC_ENERGY].detach().double().reshape(-1)
    energy = atomic.new_zeros(len(n_atoms)).index_add(0, output[KEY.BATCH], atomic)
    # without a single edge the host gives neither
    forces = output.to_dict().get(KEY.PRED_FORCE, torch.zeros_like(labels[0]))
    stress = output.to_dict().get(KEY.PRED_STRESS, torch.zeros_like(labels[1]))
    stress = stress.detach().masked_fill(flat.unsqueeze(1), torch.nan)
    sizes = n_atoms.tolist()
    return {
        'energy': _numpy(energy),
        'forces': [_numpy(f) for f in forces.detach().split(sizes)],
        'stress': _numpy(stress),
        'label_forces': [_numpy(f) for f in labels[0].split(sizes)],
        'label_stress': _numpy(labels[1]),
    }


def _numpy(values: torch.Tensor) -> Floats:
    return values.cpu().double().numpy()


def _joined(parts: list[dict[str, Any]], name: str) -> Floats:
    return np.concatenate([np.zeros(0), *(part[name].reshape(-1) for part in parts)])
