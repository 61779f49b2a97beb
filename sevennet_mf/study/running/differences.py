"""The difference between target labels and a lower fidelity, as labels.

For training, it is the difference of the labels if a structure has both; otherwise,
and for validation, the difference to the prediction of the low model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from sevennet_mf.arrays import Floats
from sevennet_mf.data import extxyz
from sevennet_mf.data.dataset import FOLDER, FidelityDataset
from sevennet_mf.data.processed.build import load_or_build
from sevennet_mf.data.reading.read import Structure, read_entry
from sevennet_mf.data.same.identity import Reader, Same, order_between
from sevennet_mf.evaluate.predict import predict
from sevennet_mf.evaluate.predictions import Predictions
from sevennet_mf.files import make_folder
from sevennet_mf.model.load import LoadedModel

Entry = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Energies:
    """Energy, forces and stress of a structure, as in `read.Structure`.

    A missing label is NaN.

    Attributes:
        energy: Total energy in eV.
        forces: (n_atoms, 3) in eV/Å.
        stress: (6,) in eV/Å^3.
    """

    energy: float
    forces: Floats
    stress: Floats


def predicted(
    loaded: LoadedModel, entry: Entry, fidelity: str, out: Path, device: str
) -> Predictions:
    """Predict the structures of an entry at one fidelity of a model.

    Args:
        entry: Names the fidelity of its labels.
        fidelity: The fidelity to predict.
        out: Folder of the study, where graphs are kept.

    Raises:
        UserError: For elements that the model does not know.
    """
    names = [entry['fidelity']]
    cached = load_or_build(entry, None, names, loaded.cutoff, graph_folder(out))
    dataset = FidelityDataset([cached], names)
    as_name = fidelity if len(loaded.fidelities) > 1 else None
    return predict(
        loaded.model, dataset, device=device, progress=False, predict_as=as_name
    )


def graph_folder(out: Path) -> Path:
    """Return the folder of processed structures for all runs of a study."""
    return out / 'data' / FOLDER


def write(
    loaded: LoadedModel,
    entry: Entry,
    fidelity: str,
    paired: Paired,
    path: Path,
    device: str = 'cpu',
) -> dict[str, int]:
    """Write the structures of an entry with differences as labels.

    Args:
        loaded: The low model.
        fidelity: The fidelity of that model to subtract.
        paired: Labels of that fidelity.
        path: OUT/runs/NAME/.../file.

    Returns:
        The number of structures that are 'paired' and 'predicted'.
    """
    out = _out_of(path)
    structures = list(read_entry(entry, None, [entry['fidelity']], loaded.cutoff))
    found = predicted(loaded, entry, fidelity, out, device)
    assert found.sources == [s.source for s in structures]
    labels = [paired.label_of(structure) for structure in structures]
    lower = [_lower(found, i, label) for i, label in enumerate(labels)]
    make_folder(path.parent)
    extxyz.write(path, _frames(structures, lower))
    n = sum(label is not None for label in labels)
    return {'paired': n, 'predicted': len(labels) - n}


def _out_of(path: Path) -> Path:
    """The folder of the study that a file below OUT/runs belongs to."""
    return next(folder for folder in path.parents if folder.name == 'runs').parent


def _lower(found: Predictions, i: int, label: Energies | None) -> Energies:
    """The low side of a difference: labels, and predictions where there is none."""
    own = Energies(float(found.energy[i]), found.forces[i], found.stress[i])
    if label is None:
        return own
    return Energies(
        label.energy,
        np.where(np.isnan(label.forces), own.forces, label.forces),
        np.where(np.isnan(label.stress), own.stress, label.stress),
    )


def _frames(
    structures: Sequence[Structure], lower: Sequence[Energies]
) -> Iterator[Atoms]:
    for structure, low in zip(structures, lower, strict=True):
        forces, stress = structure.forces, structure.stress
        yield extxyz.with_labels(
            extxyz.to_atoms(structure),
            structure.energy - low.energy,
            None if forces is None else forces - low.forces,
            None if stress is None else _finite(stress - low.stress),
        )


def _finite(stress: Floats) -> Floats | None:
    return stress if np.isfinite(stress).all() else None  # for a flat cell


def total(low: Predictions, difference: Predictions, target: str) -> Predictions:
    """Return the sum of two models' predictions for the same structures."""
    assert low.sources == difference.sources
    forces = [a + b for a, b in zip(low.forces, difference.forces, strict=True)]
    return replace(
        low,
        predicted_as=(target,) * len(low.fidelities),
        energy=low.energy + difference.energy,
        reference=low.reference + difference.reference,
        forces=forces,
        stress=low.stress + difference.stress,
    )


class Paired:
    """Labels of a lower fidelity, for the structures that have them."""

    def __init__(self, structures: Iterable[Structure] = ()) -> None:
        self._reader = Reader()
        self._labels: dict[int, tuple[Structure, Same]] = {}
        for structure in structures:
            same = self._reader.same(structure)
            self._labels[same.mark] = structure, same

    def label_of(self, structure: Structure) -> Energies | None:
        """Return the label of a structure in the order of its atoms, or None."""
        same = self._reader.same(structure)
        if same.mark not in self._labels:
            return None
        label, as_written = self._labels[same.mark]
        forces, stress = label.forces, label.stress
        if forces is None:
            forces = np.full((len(label.numbers), 3), np.nan)
        order = order_between(as_written.order, same.order)
        # the cell of a structure that is not periodic may have any volume
        if stress is None or not np.isclose(_volume(label), _volume(structure)):
            stress = np.full(6, np.nan)
        forces = forces if order is None else forces[order]
        return Energies(label.energy, forces, stress)


def _volume(structure: Structure) -> float:
    return 0.0 if structure.cell is None else abs(np.linalg.det(structure.cell))


def read_paired(path: str, fidelity: str, cutoff: float) -> Paired:
    """Return the labels in a file.

    Args:
        cutoff: In Å.
    """
    if not Path(path).is_file() or Path(path).stat().st_size == 0:
        return Paired()
    entry = {'file': [path], 'fidelity': fidelity}
    return Paired(read_entry(entry, None, [fidelity], cutoff))
