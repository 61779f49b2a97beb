"""The one evaluation of a model: graphs in, energies and their derivatives out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Protocol

import numpy as np
import sevenn._keys as KEY
import torch
from numpy.typing import NDArray
from sevenn.atom_graph_data import AtomGraphData
from sevenn.nn.sequential import AtomGraphSequential

from sevennet_mf import keys
from sevennet_mf.arrays import Floats, Ints
from sevennet_mf.distributed import usable_device
from sevennet_mf.model.shift import fidelities_of, reference_energies, shift_of

Values = NDArray[np.float32]


class HostGraph(Protocol):
    """A structure by the host's keys, with arrays or tensors on the CPU as values.

    Needed are `atomic_numbers` (n_atoms,), `edge_index` (2, n_edges), `edge_vec`
    (n_edges, 3) in Å and `cell_volume` () in Å^3. Anything else is ignored.
    """

    def __getitem__(self, key: str, /) -> Any: ...


@dataclass(frozen=True, eq=False)
class Evaluated:
    """What a model predicts for n structures with N atoms in total, in float64.

    Forces and stress of a structure without neighbours are zero.

    Attributes:
        n_atoms: (n,) int64.
        residuals: (N,) eV, the energies of the atoms minus the model's reference
            energies.
        references: (N,) eV, these reference energies.
        forces: (N, 3) eV/Å.
        stress: (n, 6) eV/Å^3 in the host's order and sign; NaN for a structure
            without a volume.
        features: (N, width) float32, if they were requested.
    """

    n_atoms: Ints
    residuals: Floats
    references: Floats
    forces: Floats
    stress: Floats
    features: Values | None = None

    @property
    def energies(self) -> Floats:
        """Energies of the atoms, (N,) eV."""
        return self.residuals + self.references

    @property
    def energy(self) -> Floats:
        """Total energies, (n,) eV."""
        return self._sums(self.residuals) + self.reference

    @property
    def reference(self) -> Floats:
        """The model's reference energies within `energy`, (n,) eV."""
        return self._sums(self.references)

    def by_structure(self, values: Floats) -> list[Floats]:
        """Split an array over all atoms, (N, ...), into n arrays (n_atoms, ...)."""
        places = pairwise(accumulate(self.n_atoms.tolist(), initial=0))
        return [values[start:end] for start, end in places]

    def not_finite(self) -> int | None:
        """Return the first structure with NaN or infinity among its results."""
        good = np.isfinite(self.residuals) & np.isfinite(self.references)
        good &= np.isfinite(self.forces).all(axis=1)
        if self.features is not None:
            good &= np.isfinite(self.features).all(axis=1)
        return structure_of(self.n_atoms, ~good)

    def _sums(self, values: Floats) -> Floats:
        first = list(accumulate(self.n_atoms[:-1].tolist(), initial=0))
        return np.add.reduceat(values, first)


def structure_of(n_atoms: Sequence[int] | Ints, marked: Any) -> int | None:
    """Return the structure of the first marked atom, or None.

    Args:
        n_atoms: (n,).
        marked: (N,) bool.
    """
    if not marked.any():
        return None
    ends = np.cumsum(n_atoms)
    return int(np.searchsorted(ends, int(marked.argmax()), side='right'))


class Runner:
    """A model that evaluates batches of structures, each at a fidelity.

    It takes over `model` until `close`, or for the duration of a `with` block: on
    `device`, in batch mode, and without its reference energies, which are added in
    float64 so that all-electron energies lose nothing. Afterwards the model is as it
    was.

    Args:
        model: The model.
        device: Where to run it.
        differentiable: Whether `output` can be differentiated once more, with
            respect to weights.

    Attributes:
        fidelities: Names by index.
        references: (n_fidelities, 119) eV, NaN for an element that the model does
            not know.

    Raises:
        UserError: The device is not available.
    """

    def __init__(
        self,
        model: AtomGraphSequential,
        device: str | torch.device = 'cpu',
        *,
        differentiable: bool = False,
    ) -> None:
        self.device = usable_device(device)
        self.model = model
        self.fidelities = fidelities_of(model)
        self.references = reference_energies(model)
        self._shift = shift_of(model)
        self._before = self._shift.detach().clone()
        self._was = model.training, model.is_batch_data
        model.to(self.device).train(differentiable)
        model.set_is_batch_data(True)
        with torch.no_grad():
            self._shift.zero_()

    def close(self) -> None:
        """Return the model to the state it was in."""
        training, is_batch_data = self._was
        self.model.to(self._before.device).train(training)
        self.model.set_is_batch_data(is_batch_data)
        with torch.no_grad():
            self._shift.copy_(self._before)

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def evaluate(
        self,
        graphs: Sequence[HostGraph],
        rows: Sequence[int] | Ints,
        features_at: str | None = None,
    ) -> Evaluated:
        """Return what the model predicts for structures, each at its fidelity.

        Args:
            graphs: One batch.
            rows: (n,) indices of fidelities.
            features_at: Name of a layer; the node features that it receives are
                returned too.
        """
        kept: list[torch.Tensor] = []
        if features_at is None:
            output = self.output(graphs, rows)
        else:
            layer = self.model.get_submodule(features_at)
            handle = layer.register_forward_pre_hook(
                lambda module, inputs: kept.append(inputs[0][KEY.NODE_FEATURE])
            )
            try:
                output = self.output(graphs, rows)
            finally:
                handle.remove()
        numbers = [np.asarray(graph[KEY.ATOMIC_NUMBERS]) for graph in graphs]
        n_atoms = np.array([len(z) for z in numbers])
        stress = _double(output[KEY.PRED_STRESS])
        volumes = np.array([float(graph[KEY.CELL_VOLUME]) for graph in graphs])
        stress[volumes < keys.FLAT] = np.nan
        return Evaluated(
            n_atoms=n_atoms,
            residuals=_double(output[KEY.ATOMIC_ENERGY]).reshape(-1),
            references=self.references[
                np.repeat(rows, n_atoms), np.concatenate(numbers)
            ],
            forces=_double(output[KEY.PRED_FORCE]),
            stress=stress,
            features=_single(kept[0]) if kept else None,
        )

    def features(
        self, graphs: Sequence[HostGraph], rows: Sequence[int] | Ints, at: str
    ) -> Values:
        """Return the node features that a layer receives; later layers are not run.

        Args:
            graphs: As of `evaluate`.
            rows: As of `evaluate`.
            at: Name of the layer.

        Returns:
            (N, width) float32.
        """
        with torch.no_grad():
            data = _until(self.model, self._batch(graphs, rows), at)
        return _single(data[KEY.NODE_FEATURE])

    def output(self, graphs: Sequence[HostGraph], rows: Sequence[int] | Ints) -> Any:
        """Return the output of the host's layers for a batch, by the host's keys.

        Energies are without reference energies; forces and stress are always
        present.

        Args:
            graphs: As of `evaluate`.
            rows: As of `evaluate`.
        """
        batch = self._batch(graphs, rows)
        with torch.enable_grad():  # the user may have turned it off
            output = self.model(batch)
        if KEY.PRED_FORCE not in output:  # the host, if no edge contributes
            atomic = output[KEY.ATOMIC_ENERGY]
            output[KEY.PRED_FORCE] = atomic.new_zeros(len(atomic), 3)
            output[KEY.PRED_STRESS] = atomic.new_zeros(len(graphs), 6)
        return output

    def _batch(
        self, graphs: Sequence[HostGraph], rows: Sequence[int] | Ints
    ) -> AtomGraphData:
        """What the model needs of some graphs, on its device."""
        where, dtype = self.device, next(self.model.parameters()).dtype
        # a structure at several fidelities goes to the device once
        once = {id(graph): graph for graph in graphs}
        moved = {
            name: (
                torch.as_tensor(graph[KEY.ATOMIC_NUMBERS]).to(where, torch.int64),
                torch.as_tensor(graph[KEY.EDGE_IDX]).to(where, torch.int64),
                torch.as_tensor(graph[KEY.EDGE_VEC]).to(where, dtype),
            )
            for name, graph in once.items()
        }
        numbers, edges, vectors = zip(*(moved[id(g)] for g in graphs), strict=True)
        n_atoms = [len(z) for z in numbers]
        first = list(accumulate(n_atoms[:-1], initial=0))
        index = torch.from_numpy(np.repeat(np.arange(len(graphs)), n_atoms))
        values: dict[str, Any] = {
            KEY.ATOMIC_NUMBERS: torch.cat(numbers),
            KEY.EDGE_IDX: torch.cat(
                [e + f for e, f in zip(edges, first, strict=True)], dim=1
            ),
            KEY.EDGE_VEC: torch.cat(vectors),
            KEY.BATCH: index.to(where),
            KEY.NUM_ATOMS: torch.tensor(n_atoms, device=where),
            # a tensor of its own: the host writes into it
            KEY.CELL_VOLUME: torch.tensor(
                [float(graph[KEY.CELL_VOLUME]) for graph in graphs],
                device=where,
                dtype=dtype,
            ),
        }
        if self.model.eval_modal_map:
            values[KEY.DATA_MODALITY] = [self.fidelities[row] for row in rows]
        return AtomGraphData(x=values[KEY.ATOMIC_NUMBERS], **values)


def total_energy(model: AtomGraphSequential, batch: Any) -> torch.Tensor:
    """Return the energies of a batch; everything is computed except derivatives.

    The model stays in its mode, with the reference energies that it has.

    Args:
        model: The model.
        batch: The host's, on the model's device.

    Returns:
        (n_graphs,) eV.
    """
    return _until(model, batch, 'force_output')[KEY.PRED_TOTAL_ENERGY]


def _until(model: AtomGraphSequential, batch: Any, stop: str) -> Any:
    """Return a batch as the layer `stop` receives it."""
    data = model._preprocess(batch)
    for name, layer in model.named_children():
        if name == stop:
            return data
        data = layer(data)
    raise AssertionError(f'no layer {stop}')


def _double(values: torch.Tensor) -> Floats:
    return values.detach().cpu().double().numpy()


def _single(values: torch.Tensor) -> Values:
    return values.detach().cpu().float().numpy()
