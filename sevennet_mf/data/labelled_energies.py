"""Labelled energies, and what of them the fits of reference energies need: sums.

Structures may come in parts, each of which is read once; beside the sums, two
numbers of each structure of the base are kept, which pairs refer to. `references.py`
says what is fitted to what.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from sevennet_mf.arrays import N_SPECIES, Floats, Ints
from sevennet_mf.data.estimator import KINDS, NormalEquations
from sevennet_mf.errors import UserError


@dataclass(frozen=True, eq=False)
class Labels:
    """Labelled structures of one fidelity, or a chunk of them.

    Attributes:
        composition: (n, 119) int64, number of atoms of each atomic number.
        energy: (n,) float64, total energies in eV.
        pair: (n,) int64, index of the same structure among *all* of the base's
            (counted through its chunks), -1 where there is none. None: no pairs.
        model_energy: (n,) float64, total energies in eV that a pretrained model
            predicts at the base's level, NaN where there is none. None: no model.

    Raises:
        UserError: An energy is not finite, or a structure has no atoms.
    """

    composition: Ints
    energy: Floats
    pair: Ints | None = None
    model_energy: Floats | None = None

    def __post_init__(self) -> None:
        n = len(self.energy)
        assert self.composition.shape == (n, N_SPECIES), self.composition.shape
        assert self.energy.dtype == np.float64, self.energy.dtype  # not float32
        assert self.pair is None or self.pair.shape == (n,)
        assert self.model_energy is None or self.model_energy.shape == (n,)
        bad = np.flatnonzero(~np.isfinite(self.energy))
        if bad.size:
            raise UserError(
                f'structure {bad[0]} has energy {self.energy[bad[0]]}: it '
                'must be a finite number of eV; correct or remove the structure.'
            )
        empty = np.flatnonzero(self.composition.sum(axis=1) <= 0)
        if empty.size:
            raise UserError(f'structure {empty[0]} has no atoms; remove it.')

    @property
    def n_atoms(self) -> Floats:
        """Return (n,) atoms per structure, as float64."""
        total: Floats = self.composition.sum(axis=1).astype(np.float64)
        return total


LabelSource: TypeAlias = Labels | Iterable[Labels]


def _chunks(source: LabelSource) -> Iterable[Labels]:
    return [source] if isinstance(source, Labels) else source


# Tells two compositions apart in one number: a pair must be one structure.
_FINGERPRINT: Final[Ints] = np.arange(N_SPECIES, dtype=np.int64) ** 3 + 1


class BaseLabels:
    """The base's sums, and of each structure the energy its pairs ask for.

    Attributes:
        sums: of energies per atom.
        energy: (n,) float64 in eV, total.
        fingerprint: (n,) int64, of compositions.
    """

    def __init__(self, source: LabelSource) -> None:
        self.sums = NormalEquations()
        energies, prints = [np.zeros(0)], [np.zeros(0, dtype=np.int64)]
        for chunk in _chunks(source):
            n_atoms = chunk.n_atoms
            fractions = chunk.composition / n_atoms[:, None]
            self.sums.add(fractions, chunk.energy / n_atoms)
            energies.append(chunk.energy)
            prints.append(chunk.composition @ _FINGERPRINT)
        self.energy: Floats = np.concatenate(energies)
        self.fingerprint: Ints = np.concatenate(prints)

    def paired_energy(self, chunk: Labels, rows: Ints, fidelity: str) -> Floats:
        """Return the energies of the structures that `rows` of a chunk pair with.

        Raises:
            UserError: They have other atoms.
        """
        assert chunk.pair is not None
        index = chunk.pair[rows]
        assert index.size == 0 or index.max() < len(self.energy), index.max()
        print_ = chunk.composition[rows] @ _FINGERPRINT
        wrong = np.flatnonzero(self.fingerprint[index] != print_)
        if wrong.size:
            raise UserError(
                f'structure {rows[wrong[0]]} of fidelity {fidelity!r} is paired '
                f'with structure {index[wrong[0]]} of the base, which has '
                'different atoms; correct what identifies the same structure in '
                'the two files.'
            )
        return self.energy[index]


def differences(
    source: LabelSource, base: BaseLabels, e_base: Floats, fidelity: str
) -> dict[str, NormalEquations]:
    """Return per kind the sums of (E - B) / N, B the best known base energy."""
    sums = {kind: NormalEquations() for kind in KINDS}
    for chunk in _chunks(source):
        n_atoms = chunk.n_atoms
        below = chunk.composition @ e_base
        kind = np.full(len(n_atoms), 'unpaired')
        if chunk.model_energy is not None:
            rows = np.flatnonzero(np.isfinite(chunk.model_energy))
            kind[rows] = 'model'
            below[rows] = chunk.model_energy[rows]
        if chunk.pair is not None:  # a label is better than a prediction
            rows = np.flatnonzero(chunk.pair >= 0)
            kind[rows] = 'paired'
            below[rows] = base.paired_energy(chunk, rows, fidelity)
        fractions = chunk.composition / n_atoms[:, None]
        gap = (chunk.energy - below) / n_atoms
        for name in KINDS:
            sums[name].add(fractions[kind == name], gap[kind == name])
    return sums
