"""Labels minus a checkpoint's predictions, and reference energies fitted to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from sevennet_mf.data.dataset import FidelityDataset, labels_in
from sevennet_mf.data.references import References, fit_to_model
from sevennet_mf.evaluate.predict import predict
from sevennet_mf.evaluate.predictions import Predictions
from sevennet_mf.model.load import LoadedModel
from sevennet_mf.model.shift import reference_energies


def predict_own(
    loaded: LoadedModel,
    dataset: FidelityDataset,
    fidelity: str | None = None,
    batch_size: int = 8,
    device: str | torch.device = 'cpu',
    progress: bool = False,
) -> Predictions:
    """Return a checkpoint's predictions, at one of its fidelities.

    Args:
        fidelity: as the checkpoint calls it; not needed if it has only one.

    Raises:
        UserError: The checkpoint lacks an element.
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
    """Fit reference energies to labels minus a checkpoint's predictions.

    The network's part stays what it was, so the first step starts from the
    checkpoint's own forces.

    Args:
        labelled: structures of the fidelity `name`.
        fidelity: the checkpoint's, which predicts them.
        elements: those that the model must know.
        numbers: explicit energies by element, eV.

    Raises:
        UserError: The checkpoint lacks an element.
    """
    found = predict_own(loaded, labelled, fidelity, batch_size, device, progress)
    row = loaded.fidelities.index(fidelity) if len(loaded.fidelities) > 1 else 0
    return fit_to_model(
        name,
        labels_in(labelled, model_energy=found.energy),
        np.nan_to_num(reference_energies(loaded.model))[row],
        elements,
        numbers,
    )
