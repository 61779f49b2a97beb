"""One structure at several fidelities: one neighbour list, one batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import sevenn._keys as KEY
import torch
from ase import Atoms
from sevenn.atom_graph_data import AtomGraphData

from sevennet_mf.arrays import Floats
from sevennet_mf.calculators.structure import check_structure, not_finite
from sevennet_mf.data.graphs import host_graph
from sevennet_mf.data.labels import FLAT, as_ase
from sevennet_mf.distributed import usable_device
from sevennet_mf.evaluate.predict import reference_energies, shift_of
from sevennet_mf.model.load import LoadedModel

# what a calculator of ASE calls its results; see `Evaluator.evaluate`
Properties = dict[str, Any]

# Node features of all edges of a batch. On a CPU a larger batch is slower than
# two (7net-mf-0, 72 atoms: 1.3 times as slow): the memory that it needs anew each
# time has to be cleared. On a GPU, 5 GB or so.
BATCH_CPU: Final = 1e6
BATCH_GPU: Final = 1e8


class Evaluator:
    """A model that is asked for several fidelities of one structure at once.

    It takes `loaded.model` for itself: moved to `device`, and without its reference
    energies, which are added in float64. Raises UserError for a device that is not
    there.
    """

    def __init__(self, loaded: LoadedModel, device: str | torch.device) -> None:
        self.device = usable_device(device)
        self.fidelities = loaded.fidelities
        self.cutoff = loaded.cutoff
        self.model = loaded.model
        # (n_fidelities, 119) eV, NaN for an element that the model does not know
        self.references: Floats = reference_energies(self.model)
        with torch.no_grad():
            shift_of(self.model).zero_()
        width = loaded.config[KEY.NODE_FEATURE_MULTIPLICITY]
        width *= (loaded.config[KEY.LMAX] + 1) ** 2
        limit = BATCH_CPU if self.device.type == 'cpu' else BATCH_GPU
        self.edges_at_once = int(limit / width)
        self.model.to(self.device).eval()
        self.model.set_is_batch_data(True)

    def evaluate(self, atoms: Atoms, names: Sequence[str]) -> dict[str, Properties]:
        """Return what the model predicts at each of `names`, of its fidelities.

        energy and free_energy, the same: eV; energies: (n_atoms,) eV; forces:
        (n_atoms, 3) eV/Å; stress: (6,) eV/Å^3 in ASE's order and sign, left out for
        a structure without a volume. All float64. Raises UserError for a structure
        that has no energy in this model.
        """
        check_structure(atoms, self.references[0])
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
        """One batch: `graph`, the host's of `atoms`, at each of `names`."""
        n, n_atoms = len(names), len(atoms)
        batch = self._batch(graph, names)
        with torch.enable_grad():  # the user may have turned it off
            output = self.model(batch).to_dict()
        rows = [self.fidelities.index(name) for name in names]
        atomic = _numpy(output[KEY.ATOMIC_ENERGY]).reshape(n, n_atoms)
        atomic = atomic + self.references[rows][:, atoms.numbers]
        # without a single edge the host gives neither
        forces, stress = np.zeros((n, n_atoms, 3)), np.zeros((n, 6))
        if KEY.PRED_FORCE in output:
            forces = _numpy(output[KEY.PRED_FORCE]).reshape(n, n_atoms, 3)
            stress = as_ase(_numpy(output[KEY.PRED_STRESS]))
        if not (np.isfinite(atomic).all() and np.isfinite(forces).all()):
            raise not_finite(atoms, graph)
        energies = atomic.sum(axis=1).tolist()
        found: dict[str, Properties] = {
            name: {
                'energy': energies[i],
                'free_energy': energies[i],
                'energies': atomic[i],
                'forces': forces[i],
                'stress': stress[i],
            }
            for i, name in enumerate(names)
        }
        if atoms.cell.volume < FLAT:
            for properties in found.values():
                del properties['stress']
        return found

    def _batch(self, graph: dict[str, Any], names: Sequence[str]) -> AtomGraphData:
        """A structure's graph, once for each of `names`."""
        n, n_atoms = len(names), len(graph[KEY.ATOMIC_NUMBERS])
        where, dtype = self.device, next(self.model.parameters()).dtype
        edges = torch.from_numpy(graph[KEY.EDGE_IDX]).to(where)
        vectors = torch.from_numpy(graph[KEY.EDGE_VEC]).to(where, dtype)
        numbers = torch.from_numpy(graph[KEY.ATOMIC_NUMBERS]).to(where).long()
        # (2, n_edges) -> (2, n, n_edges): the atoms of each copy follow the last's
        first = n_atoms * torch.arange(n, device=where).view(1, n, 1)
        values: dict[str, Any] = {
            KEY.ATOMIC_NUMBERS: numbers.repeat(n),
            KEY.EDGE_IDX: (edges.unsqueeze(1) + first).view(2, -1),
            KEY.EDGE_VEC: vectors.repeat(n, 1),
            KEY.BATCH: torch.arange(n, device=where).repeat_interleave(n_atoms),
            KEY.NUM_ATOMS: torch.full((n,), n_atoms, device=where),
            KEY.CELL_VOLUME: torch.full(
                (n,), float(graph[KEY.CELL_VOLUME]), device=where, dtype=dtype
            ),
        }
        if self.model.eval_modal_map:
            values[KEY.DATA_MODALITY] = list(names)
        return AtomGraphData(x=values[KEY.ATOMIC_NUMBERS], **values)


def _numpy(values: torch.Tensor) -> Floats:
    return values.detach().cpu().double().numpy()
