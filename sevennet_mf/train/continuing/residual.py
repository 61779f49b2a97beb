"""What labels differ by from a checkpoint's predictions, and references of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from sevennet_mf.data.dataset import FidelityDataset
from sevennet_mf.data.references import Labels, References, fit_to_model
from sevennet_mf.evaluate.predict import predict
from sevennet_mf.evaluate.predictions import Predictions
from sevennet_mf.model.load import LoadedModel
from sevennet_mf.model.runner import reference_energies


def predict_own(
    loaded: LoadedModel,
    dataset: FidelityDataset,
    fidelity: str | None = None,
    batch_size: int = 8,
    device: str | torch.device = 'cpu',
    progress: bool = False,
) -> Predictions:
    """Return what a checkpoint predicts, at one of its fidelities if it has several.

    fidelity: as the checkpoint calls it. Raises UserError for elements it lacks.
    """
    several = len(loaded.fidelities) > 1
    return predict(
        loaded.model,
        dataset,
        batch_size,
        device=device,
        progress=progress,
        predict_as=fidelity if several else None,
    )


def fit_residual(
    loaded: LoadedModel,
    labelled: FidelityDataset,
    name: str,
    fidelity: str | None,
    elements: Sequence[str],
    numbers: Mapping[str, float] | None = None,
    batch_size: int = 8,
    device: str | torch.device = 'cpu',
    progress: bool = False,
) -> References:
    """Fit reference energies to labels less what a checkpoint predicts of them.

    The network's part stays what it was, so the first step starts from the
    checkpoint's own forces. labelled: structures of the fidelity `name`; fidelity:
    the checkpoint's, that predicts them; elements: those the model must know;
    numbers: explicit energies, eV. Raises UserError for elements it lacks.
    """
    found = predict_own(loaded, labelled, fidelity, batch_size, device, progress)
    row = loaded.fidelities.index(fidelity) if len(loaded.fidelities) > 1 else 0
    return fit_to_model(
        name,
        Labels(labelled.composition, labelled.energy, model_energy=found.energy),
        np.nan_to_num(reference_energies(loaded.model))[row],
        elements,
        numbers,
    )
