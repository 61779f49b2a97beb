"""What a model predicts for a data set, beside its labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import sevenn._keys as KEY
import torch
from sevenn.nn.scale import ModalWiseRescale, Rescale, SpeciesWiseRescale
from sevenn.nn.sequential import AtomGraphSequential
from torch_geometric.loader import DataLoader
from tqdm import tqdm

from sevennet_mf import keys
from sevennet_mf.data.dataset import FidelityDataset, check_elements
from sevennet_mf.data.estimator import N_SPECIES, Bools, Floats, Ints
from sevennet_mf.errors import UserError, nearest, unknown
from sevennet_mf.train.load import UNNAMED, LoadedModel, load_model

__all__ = [
    'LoadedModel',
    'Predictions',
    'load_model',
    'predict',
    'reference_energies',
]

# (quantity, unit of `Predictions.compared`, unit in tables, factor between them)
QUANTITIES: Final[tuple[tuple[str, str, str, float], ...]] = (
    ('energy', 'eV/atom', 'meV/atom', 1000.0),
    ('force', 'eV/Å', 'meV/Å', 1000.0),
    ('stress', 'kbar', 'kbar', 1.0),
)
FLAT: Final[float] = 1e-3  # Å^3: below it a cell has no volume to refer stress to


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions and labels of n structures, in the order of the data set.

    fidelities: names that `fidelity` (n,) int64 indexes: those of the labels, as far
    as they occur; predicted_as: for each of them the fidelity of the model; sources:
    'file:frame'; n_atoms: (n,) int64. energy, label_energy: (n,) float64, total, eV;
    reference: (n,) eV, the part of `energy` that is the model's atomic reference
    energies. forces, label_forces: n arrays (n_atoms, 3), eV/Å. stress,
    label_stress: (n, 6) eV/Å^3 in the host's order and sign. A label that is missing
    is NaN, as is the stress of a cell without volume.
    """

    fidelities: tuple[str, ...]
    predicted_as: tuple[str, ...]
    sources: list[str]
    fidelity: Ints
    n_atoms: Ints
    energy: Floats
    reference: Floats
    forces: list[Floats]
    stress: Floats
    label_energy: Floats
    label_forces: list[Floats]
    label_stress: Floats

    def __len__(self) -> int:
        return len(self.sources)

    def rows(self, fidelity: str) -> Ints:
        """Return the structures whose labels are of a fidelity."""
        if fidelity not in self.fidelities:
            return np.zeros(0, dtype=np.int64)
        return np.flatnonzero(self.fidelity == self.fidelities.index(fidelity))

    def labelled(self, rows: Ints) -> dict[str, Bools]:
        """Return by quantity which of some structures have the label."""
        return {
            'energy': np.isfinite(self.label_energy[rows]),
            'force': np.array(
                [bool(np.isfinite(self.label_forces[i]).all()) for i in rows], bool
            ),
            'stress': np.isfinite(self.label_stress[rows].sum(axis=1)),
        }

    def compared(self, quantity: str, rows: Ints) -> tuple[Floats, Floats]:
        """Return (label, prediction) of every number that has a label, flat.

        quantity: 'energy' in eV/atom, both less the reference part; 'force' in eV/Å
        and 'stress' in kbar, by component.
        """
        if quantity == 'energy':
            pair = [
                (total[rows] - self.reference[rows]) / self.n_atoms[rows]
                for total in (self.label_energy, self.energy)
            ]
        elif quantity == 'force':
            empty = np.zeros((0, 3))
            pair = [
                np.concatenate([empty, *(forces[i] for i in rows)]).reshape(-1)
                for forces in (self.label_forces, self.forces)
            ]
        else:
            pair = [
                values[rows].reshape(-1) * keys.KBAR
                for values in (self.label_stress, self.stress)
            ]
        known = np.isfinite(pair[0])
        return pair[0][known], pair[1][known]


def fidelities_of(model: AtomGraphSequential) -> tuple[str, ...]:
    """Return the names of a model's fidelities by index; one if it has no names."""
    modal_map = model.modal_map or {UNNAMED: 0}
    return tuple(sorted(modal_map, key=modal_map.__getitem__))


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
    shift = shift_of(model).detach().cpu().double().numpy()
    # one number; one for each element; or one for each fidelity and element
    n = len(fidelities_of(model))
    by_type = np.broadcast_to(shift, (n, len(model.type_map)))
    energies = np.full((n, N_SPECIES), np.nan)
    for z, index in model.type_map.items():
        energies[:, z] = by_type[:, index]
    return energies


@contextmanager
def _without_shift(model: AtomGraphSequential) -> Iterator[None]:
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
    check_elements(dataset, list(model.type_map))
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
                'the fidelity to predict as.'
            )
    return tuple(names)


def _device(name: str | torch.device) -> torch.device:
    if name == 'auto':
        name = 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip('.')
        raise UserError(
            f'device {str(name)!r} cannot be used: {reason}. Use cpu.'
        ) from None
    return device


def _run(
    model: AtomGraphSequential,
    dataset: FidelityDataset,
    rows: Ints,
    batch_size: int,
    device: str | torch.device,
    progress: bool,
) -> list[dict[str, Any]]:
    where = _device(device)
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
            _without_shift(model),
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
