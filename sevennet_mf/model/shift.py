"""The reference energies of a model: SevenNet's atomic shift, by atomic number."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from sevenn.nn.scale import ModalWiseRescale, Rescale, SpeciesWiseRescale
from sevenn.nn.sequential import AtomGraphSequential

from sevennet_mf import keys
from sevennet_mf.arrays import N_SPECIES, Floats
from sevennet_mf.model.load import UNNAMED


def fidelities_of(model: AtomGraphSequential) -> tuple[str, ...]:
    """Return the names of a model's fidelities by index; one if it has no names."""
    return tuple(keys.by_index(model.modal_map or {UNNAMED: 0}))


def shift_of(model: AtomGraphSequential) -> torch.nn.Parameter:
    """Return the atomic reference energies of a model as it stores them.

    Returns:
        (1,), (n_species,) or (n_fidelities, n_species) eV.
    """
    kinds = (Rescale, SpeciesWiseRescale, ModalWiseRescale)
    found = [m for m in model.modules() if isinstance(m, kinds)]
    assert len(found) == 1, f'{len(found)} rescaling layers'
    shift = found[0].shift
    assert isinstance(shift, torch.nn.Parameter)
    return shift


def reference_energies(model: AtomGraphSequential) -> Floats:
    """Return the atomic shift of a model by atomic number.

    Returns:
        (n_fidelities, 119) eV: float64 copies of the float32 numbers in the
        checkpoint; NaN for an element that the model does not know.
    """
    assert model.type_map is not None
    shift = shift_of(model).detach().cpu()
    return by_atomic_number(shift, model.type_map, len(fidelities_of(model)))


def by_atomic_number(
    shift: torch.Tensor, type_map: Mapping[int, int], n: int
) -> Floats:
    """Return an atomic shift by atomic number.

    Args:
        shift: One number; one for each element; or one for each fidelity and
            element.
        type_map: Atomic number -> index of the element.
        n: Number of fidelities.

    Returns:
        (n, 119) float64, in the unit of `shift`; NaN for elements without one.
    """
    by_type = np.broadcast_to(shift.double().numpy(), (n, len(type_map)))
    energies = np.full((n, N_SPECIES), np.nan)
    for z, index in type_map.items():
        energies[:, z] = by_type[:, index]
    return energies
