"""Node features of many structures, by element, and how models disagree on them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from sevennet_mf.arrays import Floats, Ints
from sevennet_mf.data.reading.read import Structure
from sevennet_mf.model.runner import Values
from sevennet_mf.select.network import Network, Predicted, batch_edges

FORCE: Final[str] = 'force'
ENERGY: Final[str] = 'energy'
UNITS: Final[dict[str, str]] = {FORCE: 'eV/Å', ENERGY: 'eV/atom'}
CHUNK: Final[int] = 65536  # atoms whose features are float64 at once


@dataclass(frozen=True, eq=False)
class NodeFeatures:
    """Node features of the atoms of n structures.

    Attributes:
        n: Number of structures.
        values: (atoms of the element, width) float32, by atomic number.
        owner: (atoms of the element,) int64, by atomic number: the structure that
            each atom belongs to, ascending.
    """

    n: int
    values: dict[int, Values]
    owner: dict[int, Ints]

    def of(self, structure: int) -> dict[int, Values]:
        """Return the features of one structure, (atoms, width), by atomic number."""
        found = {}
        for z, owner in self.owner.items():
            start, end = np.searchsorted(owner, [structure, structure + 1])
            if end > start:
                found[z] = self.values[z][start:end]
        return found

    def means(self, z: int) -> tuple[Ints, Floats]:
        """Return the structures with an element, and their mean features of it.

        Args:
            z: Atomic number.

        Returns:
            (m,) indices of structures, and (m, width) means over their atoms of
            the element.
        """
        rows, starts = np.unique(self.owner[z], return_index=True)
        counts = np.diff([*starts, len(self.owner[z])])
        sums = np.add.reduceat(self.values[z], starts, axis=0, dtype=np.float64)
        return rows, sums / counts[:, None]


@dataclass(frozen=True, eq=False)
class Described:
    """What models say about n structures; see `describe`.

    Attributes:
        disagreement: (n,) in the unit of `UNITS`, None for a single model.
    """

    features: NodeFeatures
    disagreement: Floats | None


def describe(
    structures: Iterable[Structure],
    network: Network,
    others: Sequence[Network] = (),
    disagreement_of: str = FORCE,
    batch_size: int = 8,
    bar: Any = None,
) -> Described:
    """Return the node features of structures in `network`, in one stream.

    Memory: 4 bytes for each atom and feature.

    Args:
        others: Further models. If there are any, the disagreement of all models
            is measured: the standard deviation over the models.
        disagreement_of: 'force' (root mean square over the atoms of the standard
            deviation of the force vector, eV/Å) or 'energy' (eV/atom).
        bar: A tqdm bar to advance.
    """
    values: dict[int, list[Values]] = {}
    owner: dict[int, list[Ints]] = {}
    spread: list[Floats] = []
    n = 0
    for batch in _batches(structures, batch_size):
        found = _predict(batch, [network, *others])
        numbers = np.concatenate([s.numbers for s in batch])
        sizes = [len(s.numbers) for s in batch]
        index = n + np.repeat(np.arange(len(batch)), sizes)
        for z in np.unique(numbers).tolist():
            mine = numbers == z
            values.setdefault(z, []).append(found[0].features[mine])
            owner.setdefault(z, []).append(index[mine])
        if others:
            spread.append(_disagreement(found, np.array(sizes), disagreement_of))
        n += len(batch)
        if bar is not None:
            bar.update(len(batch))
    features = NodeFeatures(
        n,
        # element by element, so that no more than one is in memory twice
        {z: np.concatenate(values.pop(z)) for z in sorted(values)},
        {z: np.concatenate(owner.pop(z)) for z in sorted(owner)},
    )
    return Described(features, np.concatenate(spread) if others else None)


def _batches(
    structures: Iterable[Structure], size: int
) -> Iterator[tuple[Structure, ...]]:
    iterator = iter(structures)
    while batch := tuple(itertools.islice(iterator, size)):
        yield batch


def _predict(
    batch: Sequence[Structure], networks: Sequence[Network]
) -> list[Predicted]:
    cutoffs = {network.cutoff for network in networks}
    edges = {cutoff: batch_edges(batch, cutoff) for cutoff in cutoffs}
    several = len(networks) > 1
    return [net(batch, edges[net.cutoff], several) for net in networks]


def _disagreement(found: Sequence[Predicted], sizes: Ints, of: str) -> Floats:
    """(n,) for the structures of a batch; sizes: (n,) their numbers of atoms."""
    if of == ENERGY:
        energies = np.stack([p.energy for p in found if p.energy is not None])
        return np.asarray(energies.std(axis=0) / sizes)
    forces = np.stack([p.forces for p in found if p.forces is not None])
    squared = forces.var(axis=0).sum(axis=1)  # (models, N, 3) -> (N,)
    sums = np.add.reduceat(squared, np.cumsum([0, *sizes[:-1]]))
    return np.sqrt(sums / sizes)


def standardise(features: NodeFeatures, others: Sequence[NodeFeatures] = ()) -> None:
    """Shift and scale the values in place: by element, mean 0 and spread 1.

    The spread of an element is the root mean square distance of its atoms in
    `features` from their mean; if it is mere rounding, the values are only shifted.

    Args:
        others: Shifted and scaled in the same way as `features`.
    """
    for z, values in features.values.items():
        mean = values.mean(axis=0, dtype=np.float64)
        squares = sum(
            float(np.square(values[i : i + CHUNK] - mean).sum())
            for i in range(0, len(values), CHUNK)
        )
        spread = np.sqrt(squares / len(values))
        if spread <= 1e-4 * np.linalg.norm(mean):  # features are float32
            spread = 1.0
        for each in (features, *others):
            if z in each.values:
                for i in range(0, len(each.values[z]), CHUNK):
                    part = each.values[z][i : i + CHUNK]
                    part[...] = (part - mean) / spread
