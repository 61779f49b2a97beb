"""Predictions of a model for a data set, with its labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import sevenn._keys as KEY
import torch
from sevenn.nn.sequential import AtomGraphSequential
from tqdm import tqdm

from sevennet_mf.arrays import Floats
from sevennet_mf.data.checks import unknown_elements
from sevennet_mf.data.dataset import FidelityDataset
from sevennet_mf.data.findings import refuse
from sevennet_mf.errors import UserError, nearest, unknown
from sevennet_mf.evaluate.predictions import Predictions
from sevennet_mf.model.runner import Evaluated, Runner
from sevennet_mf.model.shift import fidelities_of


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
    model with one fidelity predicts at that one. Reference energies are taken out of
    the model and added in float64, so that all-electron energies lose no digits.
    The model is left as it was.

    Args:
        device: 'cpu', 'cuda', or 'auto' for a GPU if there is one.

    Raises:
        UserError: The model does not know a fidelity or an element, or the device
            does not exist.
    """
    assert model.type_map is not None
    own = fidelities_of(model)
    present, fidelity = np.unique(dataset.fidelity_index, return_inverse=True)
    names = tuple(dataset.fidelities[i] for i in present)
    targets = match_fidelities(own, names, predict_as)
    rows = np.array([own.index(name) for name in targets], dtype=np.int64)[fidelity]
    refuse(next(unknown_elements(dataset, list(model.type_map)), None))
    found: list[Evaluated] = []
    label_forces: list[Floats] = []
    label_stress: list[Floats] = []
    with (
        Runner(model, device) as runner,
        tqdm(
            desc='predict',
            total=len(dataset),
            unit=' structures',
            disable=None if progress else True,
        ) as bar,
    ):
        for start in range(0, len(dataset), batch_size):
            batch = rows[start : start + batch_size]
            graphs = [dataset[start + i] for i in range(len(batch))]
            found.append(runner.evaluate(graphs, batch))
            label_forces += [g[KEY.FORCE].double().numpy() for g in graphs]
            label_stress += [g[KEY.STRESS].double().numpy() for g in graphs]
            bar.update(len(graphs))
    return Predictions(
        fidelities=names,
        predicted_as=targets,
        sources=[dataset.source(i) for i in range(len(dataset))],
        fidelity=fidelity,
        n_atoms=dataset.n_atoms,
        energy=_joined([part.energy for part in found]),
        reference=_joined([part.reference for part in found]),
        forces=[f for part in found for f in part.by_structure(part.forces)],
        stress=_joined([part.stress for part in found]).reshape(-1, 6),
        label_energy=dataset.energy,  # float64 totals
        label_forces=label_forces,
        label_stress=_joined(label_stress).reshape(-1, 6),
    )


def _joined(parts: list[Floats]) -> Floats:
    return np.concatenate([np.zeros(0), *(part.reshape(-1) for part in parts)])


def match_fidelities(
    known: Sequence[str],
    names: Sequence[str],
    predict_as: str | None = None,
    model: str = 'the model',
) -> tuple[str, ...]:
    """Return, for each fidelity of the data, the model's that predicts it.

    Args:
        known: the model's fidelities; a single one predicts all data.
        names: the fidelities of the data.
        predict_as: the model's fidelity for all data.
        model: what errors call the model.

    Raises:
        UserError: The model does not have a fidelity.
    """
    if predict_as is not None and predict_as not in known:
        raise unknown('predict_as', predict_as, known)
    if predict_as is not None or len(known) == 1:
        return (predict_as or known[0],) * len(names)
    for name in names:
        if name not in known:
            raise UserError(
                f'{model} has no fidelity {name!r}, which the data have; it has '
                f'{list(known)}.{nearest(name, known)} Correct the name, or choose '
                'the fidelity to predict as (--predict_as).'
            )
    return tuple(names)
