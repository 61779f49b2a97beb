"""A checkpoint at one fidelity: node features, energies and forces of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sevenn._keys as KEY
import torch
from numpy.typing import NDArray
from sevenn.atom_graph_data import AtomGraphData
from sevenn.nn.equivariant_gate import EquivariantGate
from sevenn.nn.sequential import AtomGraphSequential
from torch_geometric.data import Batch

from sevennet_mf.arrays import Floats
from sevennet_mf.data.graphs import edges_of
from sevennet_mf.data.read import Structure
from sevennet_mf.distributed import usable_device
from sevennet_mf.errors import UserError, unknown
from sevennet_mf.evaluate.predict import reference_energies, shift_of
from sevennet_mf.model.load import UNNAMED, LoadedModel

Values = NDArray[np.float32]
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


class _Reached(Exception):
    """The features are known; the layers after them are not needed."""


class Network:
    """A model at one of its fidelities.

    It takes `loaded.model` for itself: moved to `device`, without its reference
    energies, which are added in float64. name: its file; references: (119,) eV,
    NaN for an element it lacks; cutoff: Å. Raises UserError for a fidelity that the
    model does not have, for none if it has several, and for a device that is not
    there.
    """

    def __init__(
        self, loaded: LoadedModel, fidelity: str | None, device: str | torch.device
    ) -> None:
        self.name, self.cutoff = loaded.path, loaded.cutoff
        self.fidelity = fidelity_of(loaded, fidelity)
        self.device = usable_device(device)
        row = loaded.fidelities.index(self.fidelity)
        self.references: Floats = reference_energies(loaded.model)[row]
        self._model = loaded.model
        with torch.no_grad():
            shift_of(self._model).zero_()
        self._model.to(self.device).eval()
        self._model.set_is_batch_data(True)
        self._last = last_gate(self._model)
        self._scalars = [
            column
            for part, place in _slices(self._last.gate.irreps_out)
            if part.l == 0 and part.p == 1
            for column in range(place.start, place.stop)
        ]

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
        modal = self.fidelity if self._model.eval_modal_map else None
        pairs = zip(structures, edges, strict=True)
        batch = Batch.from_data_list([_graph(s, e, modal) for s, e in pairs])
        found: list[torch.Tensor] = []

        def keep(module: Any, inputs: Any, output: Any) -> None:
            found.append(output[KEY.NODE_FEATURE].detach()[:, self._scalars])
            if not forces:
                raise _Reached

        handle = self._last.register_forward_hook(keep)
        try:
            with torch.set_grad_enabled(forces):
                output = self._model(batch.to(self.device)).to_dict()
        except _Reached:
            output = {}
        finally:
            handle.remove()
        result = Predicted(found[0].cpu().float().numpy())
        if forces:
            result = self._with_forces(result, output, structures)
        _check_finite(result, structures)
        return result

    def _with_forces(
        self,
        result: Predicted,
        output: dict[str, Any],
        structures: Sequence[Structure],
    ) -> Predicted:
        sizes = [len(s.numbers) for s in structures]
        atomic = _double(output[KEY.ATOMIC_ENERGY]).reshape(-1)
        atomic += self.references[np.concatenate([s.numbers for s in structures])]
        energy = np.add.reduceat(atomic, np.cumsum([0, *sizes[:-1]]))
        # without a single edge the host gives no forces
        zeros = torch.zeros(len(atomic), 3)
        forces = _double(output.get(KEY.PRED_FORCE, zeros))
        return Predicted(result.features, energy, forces)


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


def last_gate(model: AtomGraphSequential) -> EquivariantGate:
    """Return the last layer before the readout: its output are the features."""
    gates = [layer for layer in model if isinstance(layer, EquivariantGate)]
    assert gates, 'no interaction layer'
    return gates[-1]


def batch_edges(structures: Sequence[Structure], cutoff: float) -> list[Edges]:
    """Return the host's edges of structures; UserError for atoms that overlap."""
    return [edges_of(structure, cutoff) for structure in structures]


def _slices(irreps: Any) -> Any:
    return zip((part.ir for part in irreps), irreps.slices(), strict=True)


def _graph(structure: Structure, edges: Edges, modal: str | None) -> AtomGraphData:
    numbers = torch.from_numpy(structure.numbers.copy())
    values: dict[str, Any] = {
        KEY.ATOMIC_NUMBERS: numbers,
        KEY.EDGE_IDX: torch.from_numpy(edges[KEY.EDGE_IDX]).long(),
        KEY.EDGE_VEC: torch.from_numpy(edges[KEY.EDGE_VEC].copy()),
        KEY.POS: torch.from_numpy(structure.positions.astype(np.float32)),
        KEY.CELL_VOLUME: torch.tensor(float(edges[KEY.CELL_VOLUME])),
        KEY.NUM_ATOMS: torch.tensor(len(numbers)),
    }
    if modal is not None:
        values[KEY.DATA_MODALITY] = modal
    return AtomGraphData(x=numbers.clone(), **values)


def _double(values: torch.Tensor) -> Floats:
    return values.detach().cpu().double().numpy()


def _check_finite(result: Predicted, structures: Sequence[Structure]) -> None:
    bad = ~np.isfinite(result.features).all(axis=1)
    if result.forces is not None:
        bad |= ~np.isfinite(result.forces).all(axis=1)
    if not bad.any():
        return
    ends = np.cumsum([len(s.numbers) for s in structures])
    number = int(np.searchsorted(ends, int(bad.argmax()), side='right'))
    raise UserError(
        f'{structures[number].source}: what the model says of it is not a number. '
        'Look at the structure, and for weights that are not numbers: sevennet-mf '
        'info CHECKPOINT.'
    )
