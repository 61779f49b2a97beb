"""One structure at several fidelities: one neighbour list, one batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import sevenn._keys as KEY
import torch
from ase import Atoms

from sevennet_mf.data.processed.graphs import check_structure, host_graph, not_finite
from sevennet_mf.data.reading.stress import as_ase
from sevennet_mf.keys import FLAT
from sevennet_mf.model.load import LoadedModel
from sevennet_mf.model.runner import Runner

# what a calculator of ASE calls its results; see `Evaluator.evaluate`
Properties = dict[str, Any]

# Node features of all edges of a batch. On a CPU a larger batch is slower than
# two (7net-mf-0, 72 atoms: 1.3 times as slow): the memory that it needs anew each
# time has to be cleared. On a GPU, 5 GB or so.
BATCH_CPU: Final = 1e6
BATCH_GPU: Final = 1e8


class Evaluator:
    """A model that evaluates one structure at several fidelities at once.

    It takes over `loaded.model` until `runner.close`.

    Raises:
        UserError: The device is not available.
    """

    def __init__(self, loaded: LoadedModel, device: str | torch.device) -> None:
        self.runner = Runner(loaded.model, device)
        self.fidelities = loaded.fidelities
        self.cutoff = loaded.cutoff
        width = loaded.config[KEY.NODE_FEATURE_MULTIPLICITY]
        width *= (loaded.config[KEY.LMAX] + 1) ** 2
        limit = BATCH_CPU if self.runner.device.type == 'cpu' else BATCH_GPU
        self.edges_at_once = int(limit / width)

    def evaluate(self, atoms: Atoms, names: Sequence[str]) -> dict[str, Properties]:
        """Return what the model predicts at some of its fidelities.

        Args:
            atoms: The structure.
            names: Of the fidelities.

        Returns:
            By fidelity: energy and free_energy (the same), eV; energies, (n_atoms,)
            eV; forces, (n_atoms, 3) eV/Å; stress, (6,) eV/Å^3 in ASE's order and
            sign, absent for a structure without a volume. All float64.

        Raises:
            UserError: The structure has no energy in this model.
        """
        check_structure(atoms, self.runner.references[0])
        graph = host_graph(atoms, self.cutoff)
        n_edges = graph[KEY.EDGE_IDX].shape[1]
        at_once = max(1, self.edges_at_once // max(1, n_edges))
        found: dict[str, Properties] = {}
        for first in range(0, len(names), at_once):
            found |= self._evaluate(atoms, graph, names[first : first + at_once])
        return found

    def _evaluate(
        self, atoms: Atoms, graph: dict[str, Any], names: Sequence[str]
    ) -> dict[str, Properties]:
        """Evaluate one batch: `graph`, of `atoms`, at each of `names`."""
        rows = [self.fidelities.index(name) for name in names]
        found = self.runner.evaluate([graph] * len(rows), rows)
        if found.not_finite() is not None:
            raise not_finite(atoms, graph)
        arrays = zip(
            names,
            found.energy.tolist(),
            found.by_structure(found.energies),
            found.by_structure(found.forces),
            as_ase(found.stress),
            strict=True,
        )
        properties: dict[str, Properties] = {
            name: {
                'energy': energy,
                'free_energy': energy,
                'energies': energies,
                'forces': forces,
                'stress': stress,
            }
            for name, energy, energies, forces, stress in arrays
        }
        if graph[KEY.CELL_VOLUME] < FLAT:
            for one in properties.values():
                del one['stress']
        return properties
