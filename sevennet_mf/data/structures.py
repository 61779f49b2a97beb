"""Structures of all fidelities as the host's graphs, with residual energies."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import torch
from ase.stress import full_3x3_to_voigt_6_stress
from sevenn import _keys as KEY
from sevenn.atom_graph_data import AtomGraphData
from torch.utils.data import Dataset

from sevennet_mf import keys
from sevennet_mf.arrays import N_SPECIES, Bools, Floats, Ints
from sevennet_mf.data.inferred.two_body import TwoBody, edges_of
from sevennet_mf.data.processed.cache import Cached
from sevennet_mf.data.processed.rows import Rows
from sevennet_mf.data.reading.stress import as_host
from sevennet_mf.data.same.geometry import Geometry
from sevennet_mf.data.same.identity import order_between
from sevennet_mf.data.same.repeated import Identity, identify

OWN_INDICES: Final = (keys.FIDELITY_INDEX, keys.STRUCTURE_INDEX)
# arrays of FidelityDataset beside its masks of labels
OVER_STRUCTURES: Final = (
    'n_atoms',
    'energy',
    'fidelity_index',
    'residual',
    'inferred',
    'inferred_by',
)


class FidelityGraph(AtomGraphData):
    """A graph whose fidelity and structure numbers are unchanged by batching.

    torch_geometric adds the number of preceding atoms to every key that has 'index'
    in its name.
    """

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        if key in OWN_INDICES:
            return 0
        return super().__inc__(key, value, *args, **kwargs)

    def __cat_dim__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        if key in OWN_INDICES:
            return 0
        return super().__cat_dim__(key, value, *args, **kwargs)


class FidelityDataset(Dataset[FidelityGraph]):
    """n labelled structures of several fidelities; their graphs stay on disk.

    Attributes:
        fidelities: names, in the order of the modal map.
        fidelity_index, n_atoms: (n,) int64.
        energy: (n,) float64, in eV, total.
        residual: (n,) float64, in eV, energy minus the reference energies.
        has: {'energy', 'force', 'stress'}, (n,) bool each.
        inferred: (n,) bool, whether the labels are those of a lower fidelity plus a
            two-body difference.
        inferred_by: (n,) int64, index of that difference.
    """

    def __init__(self, parts: Sequence[Cached], fidelities: Sequence[str]) -> None:
        """Join processed entries; UserError for a fidelity none knows."""
        self.fidelities = tuple(fidelities)
        self._rows = Rows.of(parts)
        self.n_atoms: Ints = self._rows.column('n_atoms', np.int64)
        self.energy: Floats = self._rows.column('energy', np.float64)
        self.has: dict[str, Bools] = {
            'energy': np.ones(len(self), bool),  # read.py sees to it
            'force': self._rows.column('has_force', np.bool_),
            'stress': self._rows.column('has_stress', np.bool_),
        }
        self.fidelity_index: Ints = self._rows.fidelity_index(self.fidelities)
        self.residual: Floats = self.energy.copy()
        self.inferred: Bools = np.zeros(len(self), bool)
        self.inferred_by: Ints = np.full(len(self), -1)
        self._differences: tuple[TwoBody, ...] = ()
        self._identity: Identity | None = None

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def fingerprint(self) -> Ints:
        """(n,) int64, equal for labels of one structure, however it is written."""
        return self._identities().marks

    def order_between(self, i: int, j: int) -> Ints | None:
        """Return (n_atoms,): atom k of structure j is atom result[k] of i; None: k.

        Args:
            i, j: two labels of one structure.
        """
        orders = self._identities().orders
        return order_between(orders[i], orders[j])

    def geometry(self, i: int) -> Geometry:
        """Return the atoms of structure i and its lattice."""
        return self._rows.geometry(i)

    def _identities(self) -> Identity:
        if self._identity is None:
            rows = self._rows
            self._identity = identify(
                lambda name: rows.column(name, np.int64),
                lambda chosen: rows.at(chosen).column('signature', np.float32),
                self.geometry,
            )
        return self._identity

    def source(self, i: int) -> str:
        """Return 'path:frame' of structure i, for messages."""
        return self._rows.source(i)

    def sources(self) -> list[str]:
        """Return 'path:frame' of all structures."""
        return self._rows.sources()

    def lines(self, only_loud: bool = False) -> list[str]:
        """Return the log lines on the files; only_loud: only those on lost data."""
        parts = self._rows.parts
        return [line for part in parts for line in part.lines(only_loud)]

    @property
    def isolated(self) -> dict[str, dict[str, float]]:
        """Energies of isolated atoms in the files, {fidelity: {symbol: eV}}."""
        found: dict[str, dict[str, float]] = {}
        for part in self._rows.parts:
            for name, energies in part.isolated.items():
                found.setdefault(name, {}).update(energies)
        return found

    @property
    def file_hashes(self) -> dict[str, str]:
        """Return the sha256 of the content of each file, by its path."""
        used = self._rows.used()
        return {given.path: given.sha256 for part in used for given in part.inputs}

    @property
    def composition(self) -> Ints:
        """(n, 119) int64, atoms of each atomic number; for few structures."""
        parts = [count for _, count in self.compositions()]
        return np.concatenate([np.zeros((0, N_SPECIES), np.int64), *parts])

    def compositions(self, rows: Ints | None = None) -> Iterator[tuple[Ints, Ints]]:
        """Yield (k,) structures and their (k, 119) atoms of each atomic number.

        Args:
            rows: the structures; None: all of them.
        """
        return self._rows.compositions(rows)

    def elements(self) -> Ints:
        """Return the atomic numbers in the data, ascending."""
        return self._rows.elements()

    def set_reference(self, energies: Floats) -> None:
        """Subtract reference energies, in float64 before anything is cast.

        Total energies may be -1e5 eV, where float32 has a resolution of 8e-3 eV.

        Args:
            energies: (n_fidelities, 119) float64, in eV per atom.
        """
        assert energies.shape == (len(self.fidelities), N_SPECIES), energies.shape
        assert energies.dtype == np.float64, energies.dtype
        self.residual = self.energy - self.sums_of(energies)

    def sums_of(self, energies: Floats) -> Floats:
        """Return (n,) float64 in eV: energies of the elements summed over the atoms.

        Args:
            energies: (n_fidelities, 119) float64, in eV per atom.
        """
        return self._rows.sums_of(energies, self.fidelity_index)

    def __getitem__(self, i: int) -> FidelityGraph:
        """Return structure i with fresh tensors; labels it lacks are NaN.

        As the host's graph, but that its energy is the residual. Keys of ours:
        keys.FIDELITY_INDEX, STRUCTURE_INDEX, SAMPLE_WEIGHT, each ().
        """
        if not 0 <= i < len(self):
            raise IndexError(i)
        values = self._rows.graph(i)
        numbers = values[KEY.ATOMIC_NUMBERS]
        f = int(self.fidelity_index[i])
        graph = FidelityGraph(x=numbers.clone(), **values)
        graph[KEY.NODE_ATTR] = numbers.clone()
        graph[KEY.NUM_ATOMS] = _scalar(len(numbers), np.int64)
        graph[KEY.ENERGY] = _scalar(self.residual[i])
        graph[KEY.PER_ATOM_ENERGY] = _scalar(self.residual[i] / self.n_atoms[i])
        if len(self.fidelities) > 1:  # the host crashes on one modality
            graph[KEY.DATA_MODALITY] = self.fidelities[f]
        graph[keys.FIDELITY_INDEX] = _scalar(f, np.int64)
        graph[keys.STRUCTURE_INDEX] = _scalar(i, np.int64)
        graph[keys.SAMPLE_WEIGHT] = _scalar(1.0)
        if self.inferred[i]:
            self._infer(graph, int(i))
        return graph

    def _infer(self, graph: FidelityGraph, i: int) -> None:
        """Turn labels of another fidelity into inferred ones; NaN without."""
        difference = self._differences[self.inferred_by[i]]
        forces = np.full(graph[KEY.FORCE].shape, np.nan)
        stress = np.full(graph[KEY.STRESS].shape, np.nan)
        has_force, has_stress = (self.has[label][i] for label in ('force', 'stress'))
        if has_force or has_stress:
            pulls, virial = difference.derivatives(edges_of(graph))
            if has_force:
                forces = pulls
            if has_stress:
                whole = virial / float(graph[KEY.CELL_VOLUME])
                stress[0] = as_host(full_3x3_to_voigt_6_stress(whole))
        for key, more in ((KEY.FORCE, forces), (KEY.STRESS, stress)):
            graph[key] = graph[key] + torch.from_numpy(more.astype(np.float32))

    def rows_of(self, fidelity: str) -> Ints:
        """Return the structures of a fidelity."""
        number = self.fidelities.index(fidelity)
        return np.flatnonzero(self.fidelity_index == number)

    def of_entries(self, first: int) -> Bools:
        """Return (n,) which structures are of the entries from number `first` on."""
        return self._rows.of_entries(first)

    def add_energies(self, rows: Ints, energies: Floats) -> None:
        """Add energies of the elements to the labels of some structures.

        This is done before references are subtracted and before labels are inferred.

        Args:
            energies: (119,) in eV.
        """
        for chosen, count in self.compositions(rows):
            self.energy[chosen] += count @ energies
        self.residual = self.energy.copy()

    def joined(self, other: FidelityDataset) -> FidelityDataset:
        """Return the structures of both, before any are inferred.

        Args:
            other: a data set of the same fidelities.
        """
        assert self.fidelities == other.fidelities
        both = copy.copy(self)
        both._rows = self._rows.followed_by(other._rows)
        both.has = {
            label: np.concatenate([mask, other.has[label]])
            for label, mask in self.has.items()
        }
        for name in OVER_STRUCTURES:
            pair = getattr(self, name), getattr(other, name)
            setattr(both, name, np.concatenate(pair))
        both._identity = None  # what is the same in both is not known yet
        return both

    def subset(self, indices: Sequence[int] | Ints) -> FidelityDataset:
        """Return the structures at `indices`, with the current references."""
        chosen = np.asarray(indices, np.int64)
        other = copy.copy(self)
        other.has = {label: mask[chosen] for label, mask in self.has.items()}
        other._rows = self._rows.at(chosen)
        for name in OVER_STRUCTURES:
            setattr(other, name, getattr(self, name)[chosen])
        # from the whole set, so that parts of it agree
        other._identity = self._identities().at(chosen)
        return other

    def with_inferred(
        self,
        rows: Ints,
        fidelity: str,
        energy: Floats,
        difference: TwoBody,
        has_forces: bool,
    ) -> FidelityDataset:
        """Return the data set with copies of some of its structures at `fidelity`.

        Args:
            rows: structures to copy.
            energy: (len(rows),) float64, in eV, total, of the copies.
            difference: is added to the forces and stress of `rows`.
            has_forces: whether the copies have forces and stress.
        """
        n = len(self)
        other = self.subset(np.concatenate([np.arange(n), rows]))
        other.fidelity_index[n:] = self.fidelities.index(fidelity)
        other.energy[n:] = other.residual[n:] = energy
        for label in ('force', 'stress'):
            other.has[label][n:] &= has_forces
        other.inferred[n:] = True
        other.inferred_by[n:] = len(self._differences)
        other._differences = (*self._differences, difference)
        return other

    @property
    def n_edges(self) -> Ints:
        """(n,) int64, edges of each graph; read from disk at each call."""
        found: Ints = self._rows.column('n_edges', np.int64)
        return found

    @property
    def has_neighbours(self) -> bool:
        """Return whether any two atoms of a structure are within the cutoff."""
        return not np.isnan(self.average_neighbours())

    def average_neighbours(self) -> float:
        """Return edges per atom, over atoms that have any, as the host counts."""
        centres = self._rows.column('n_centres', np.int64).sum()
        edges = self.n_edges.sum()
        return float(edges / centres) if centres else float('nan')

    def force_rms(self, fidelity: int | str | None = None) -> float:
        """Return the RMS of force components, eV/Å; NaN if no structure has any."""
        rows = self._chosen(fidelity) & self.has['force']
        components = 3 * self.n_atoms[rows].sum()
        square = self._rows.column('force_square', np.float64)[rows].sum()
        return float(np.sqrt(square / components)) if components else float('nan')

    def residual_energy_std(self, fidelity: int | str | None = None) -> float:
        """Return the standard deviation of residual energies, eV/atom; or NaN."""
        rows = self._chosen(fidelity)
        per_atom = self.residual[rows] / self.n_atoms[rows]
        return float(per_atom.std()) if len(per_atom) else float('nan')

    def _chosen(self, fidelity: int | str | None) -> Bools:
        """Which structures are of a fidelity, given by number or name."""
        if fidelity is None:
            return np.ones(len(self), bool)
        if isinstance(fidelity, str):
            fidelity = self.fidelities.index(fidelity)
        return self.fidelity_index == fidelity


def _scalar(value: Any, dtype: type[np.generic] = np.float32) -> torch.Tensor:
    """A tensor of shape (), several times as fast as torch.tensor."""
    return torch.from_numpy(np.array(value, dtype))
