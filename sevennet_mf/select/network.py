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
from sevennet_mf.data.graphs import edges_of
from sevennet_mf.data.read import Structure
from sevennet_mf.errors import UserError, unknown
from sevennet_mf.model.load import UNNAMED, LoadedModel
from sevennet_mf.model.runner import Runner, Values, structure_of

Edges = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True, eq=False)
class Predicted:
    """Of a batch of n structures with N atoms together.

    features: (N, width) float32; energy: (n,) float64, eV, total; forces: (N, 3)
    float64, eV/Å. energy and forces are None where they were not asked for.
    """

    features: Values
    energy: Floats | None = None
    forces: Floats | None = None


class Network:
    """A model at one of its fidelities.

    It takes `loaded.model` for itself. name: its file; references: (119,) eV, NaN
    for an element it lacks; cutoff: Å. Raises UserError for a fidelity that the
    model does not have, for none if it has several, and for a device that is not
    there.
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

        edges: of each structure, `edges_of` at `cutoff`. The features are what the
        last interaction layer hands to the readout: (N, width), invariant under
        rotation, translation and the order of the atoms. Raises UserError that
        names a structure whose numbers are not finite.
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
                f'{structures[bad].source}: what the model says of it is not a '
                'number. Look at the structure, and for weights that are not '
                'numbers: sevennet-mf info CHECKPOINT.'
            )
        return result


def fidelity_of(loaded: LoadedModel, name: str | None) -> str:
    """Return the fidelity of a model that a user means by `name`, or by None.

    A model whose only fidelity has no name is taken at any. Raises UserError.
    """
    known = loaded.fidelities
    if len(known) == 1 and (name is None or known[0] == UNNAMED):
        return known[0]
    if name is None:
        raise UserError(
            f'{loaded.path} has the fidelities {list(known)}: name one with '
            '--fidelity, that of the structures, say.'
        )
    if name not in known:
        raise unknown('--fidelity', name, known, f'{loaded.path} has no other.')
    return name


def readout_of(model: AtomGraphSequential) -> tuple[str, list[int]]:
    """Return the first layer of the readout, and which of its inputs are invariant.

    Its input is the output of the last gate, whose 0e components are numbered.
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
    """Return the host's edges of structures; UserError for atoms that overlap."""
    return [edges_of(structure, cutoff) for structure in structures]
