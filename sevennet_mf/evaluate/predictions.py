"""Predictions with their labels, and the pairs of numbers that are compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from sevennet_mf import keys
from sevennet_mf.arrays import Bools, Floats, Ints

# (quantity, unit of `Predictions.compared`, unit in tables, factor between them)
QUANTITIES: Final[tuple[tuple[str, str, str, float], ...]] = (
    ('energy', 'eV/atom', 'meV/atom', 1000.0),
    ('force', 'eV/Å', 'meV/Å', 1000.0),
    ('stress', 'kbar', 'kbar', 1.0),
)


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions and labels of n structures, in the order of the data set.

    A label that is missing is NaN, as is the stress of a cell without volume.

    Attributes:
        fidelities: Names that `fidelity` indexes: those of the labels, as far as
            they occur.
        predicted_as: For each of them the fidelity of the model.
        sources: `'file:frame'` of each structure.
        fidelity: (n,) int64.
        n_atoms: (n,) int64.
        energy: (n,) float64, total energies, eV.
        reference: (n,) eV, the part of `energy` that is the model's atomic
            reference energies.
        forces: n arrays (n_atoms, 3), eV/Å.
        stress: (n, 6) eV/Å^3, in SevenNet's order and sign.
        label_energy: As `energy`.
        label_forces: As `forces`.
        label_stress: As `stress`.
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
        """Return the indices of structures whose labels have a fidelity."""
        if fidelity not in self.fidelities:
            return np.zeros(0, dtype=np.int64)
        return np.flatnonzero(self.fidelity == self.fidelities.index(fidelity))

    def labelled(self, rows: Ints) -> dict[str, Bools]:
        """Return, by quantity, which structures of `rows` have the label."""
        return {
            'energy': np.isfinite(self.label_energy[rows]),
            'force': np.array(
                [bool(np.isfinite(self.label_forces[i]).all()) for i in rows], bool
            ),
            'stress': np.isfinite(self.label_stress[rows].sum(axis=1)),
        }

    def compared(self, quantity: str, rows: Ints) -> tuple[Floats, Floats]:
        """Return (label, prediction) of every number that has a label, flat.

        Args:
            quantity: 'energy' in eV/atom, both minus the reference part; 'force' in
                eV/Å and 'stress' in kbar, by component.
            rows: indices of the structures.
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
