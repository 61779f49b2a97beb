"""A checkpoint at one fidelity: node features, energies and forces of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sevenn._keys as KEY
import torch
from sevenn.nn.equivariant_gate import EquivariantGate
from sevenn.nn.sequential import AtomGraphSequential

from sevennet_mf.arrays import Floats
from sevennet_mf.data.processed.graphs import edges_of
from sevennet_mf.data.reading.read import Structure
from sevennet_mf.errors import UserError, unknown
from sevennet_mf.model.load import UNNAMED, LoadedModel
from sevennet_mf.model.runner import Runner, Values, structure_of

Edges = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True, eq=False)
class Predicted:
    """Predictions for a batch of n structures with N atoms in total.

    Attributes:
        features: (N, width) float32.
        energy: (n,) float64 total energies in eV, None if not requested.
        forces: (N, 3) float64 in eV/Å, None if not requested.
    """

    features: Values
    energy: Floats | None = None
    forces: Floats | None = None


class Network:
    """A model at one of its fidelities.

    It takes over `loaded.model`, which must not be used otherwise.

    Attributes:
        name: The file of the model.
        cutoff: In Å.
        fidelity: Name of the fidelity.
        references: (119,) reference energies in eV, NaN for unknown elements.

    Raises:
        UserError: For a fidelity that the model does not have, for a missing
            fidelity if it has several, and for a device that is not available.
    """

    def __init__(
        self, loaded: LoadedModel, fidelity: str | None, device: str | torch.device
    ) -> None:
        self.name, self.cutoff = loaded.path, loaded.cutoff
        self.fidelity = fidelity_of(loaded, fidelity)
        self._row = loaded.fidelities.index(self.fidelity)
        self._readout, self._scalars = readout_of(loaded.model)
        self._runner = Runner(loaded.model, device)
        self.references: Floats = self._runner.references[self._row]

    def __call__(
        self,
        structures: Sequence[Structure],
        edges: Sequence[Edges],
        forces: bool = False,
    ) -> Predicted:
        """Return the scalar node features, and with `forces` the rest.

        The features are what the last interaction layer passes to the readout:
        (N, width), invariant under rotation, translation and the order of the
        atoms.

        Args:
            edges: Of each structure, `edges_of` at `cutoff`.
            forces: Whether to predict energies and forces as well.

        Raises:
            UserError: Names a structure whose predictions are not finite.
        """
        graphs = [
            {**own, KEY.ATOMIC_NUMBERS: structure.numbers}
            for structure, own in zip(structures, edges, strict=True)
        ]
        rows = [self._row] * len(graphs)
        if forces:
            found = self._runner.evaluate(graphs, rows, self._readout)
            bad = found.not_finite()
            assert found.features is not None
            result = Predicted(
                found.features[:, self._scalars], found.energy, found.forces
            )
        else:
            features = self._runner.features(graphs, rows, self._readout)
            bad = structure_of(
                [len(s.numbers) for s in structures],
                ~np.isfinite(features).all(axis=1),
            )
            result = Predicted(features[:, self._scalars])
        if bad is not None:
            raise UserError(
                f"{structures[bad].source}: the model's prediction for it is not a "
                'number. Check the structure, and check the weights of the model '
                'with sevennet-mf info CHECKPOINT.'
            )
        return result


def fidelity_of(loaded: LoadedModel, name: str | None) -> str:
    """Return the fidelity of a model that a user means by `name`, or by None.

    A model whose only fidelity has no name accepts any name.

    Raises:
        UserError: If the model has several fidelities and `name` is not one of
            them.
    """
    known = loaded.fidelities
    if len(known) == 1 and (name is None or known[0] == UNNAMED):
        return known[0]
    if name is None:
        raise UserError(
            f'{loaded.path} has the fidelities {list(known)}: select one with '
            '--fidelity, for example that of the structures.'
        )
    if name not in known:
        raise unknown('--fidelity', name, known, f'{loaded.path} has no other.')
    return name


def readout_of(model: AtomGraphSequential) -> tuple[str, list[int]]:
    """Return the first layer of the readout, and which of its inputs are invariant.

    Returns:
        Name of the layer, and the columns of the 0e components in its input, the
        output of the last gate.
    """
    layers = list(model.named_children())
    gates = [i for i, (_, m) in enumerate(layers) if isinstance(m, EquivariantGate)]
    assert gates, 'no interaction layer'
    irreps = layers[gates[-1]][1].gate.irreps_out
    parts = zip((part.ir for part in irreps), irreps.slices(), strict=True)
    scalars = [
        column
        for ir, place in parts
        if ir.l == 0 and ir.p == 1
        for column in range(place.start, place.stop)
    ]
    return layers[gates[-1] + 1][0], scalars


def batch_edges(structures: Sequence[Structure], cutoff: float) -> list[Edges]:
    """Return SevenNet's edges of each structure.

    Args:
        cutoff: In Å.

    Raises:
        UserError: For atoms that overlap.
    """
    return [edges_of(structure, cutoff) for structure in structures]
