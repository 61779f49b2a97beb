"""Structures on which an exported model must agree with its original."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from sevenn.nn.sequential import AtomGraphSequential

from sevennet_mf.arrays import Floats
from sevennet_mf.data.processed.graphs import host_graph
from sevennet_mf.model.runner import Evaluated, Runner

PER_CELL: Final[int] = 8  # atoms of a probe: 2 x 2 x 2 sites of a simple cubic cell
AT_ONCE: Final[int] = 8  # probes in one batch, which bounds the memory
ENERGY_TOLERANCE: Final[float] = 1e-5  # eV/atom
FORCE_TOLERANCE: Final[float] = 1e-4  # eV/Å
ULPS: Final[float] = 4.0  # of float32, in an energy
_SITES: Final = np.indices((2, 2, 2)).reshape(3, -1).T


def probes(elements: Sequence[int], cutoff: float) -> list[Atoms]:
    """Return small structures in which each element has neighbours.

    They are always the same. Every element occurs once among elements of its own
    size and once among others, at chemically reasonable distances, in rattled and
    sheared periodic cells; a free pair and a lone atom come last.

    Args:
        elements: Atomic numbers.
        cutoff: Å.
    """
    by_size = sorted(elements, key=lambda z: (_radius(z), z))
    n_cells = math.ceil(len(by_size) / PER_CELL)
    alike = [by_size[i * PER_CELL : (i + 1) * PER_CELL] for i in range(n_cells)]
    mixed = [by_size[i::n_cells] for i in range(n_cells)]
    random = np.random.default_rng(7)
    found = [_cell(own, cutoff, random) for own in (*alike, *mixed)]
    pair = [by_size[0], by_size[-1]]
    length = _spacing(pair, cutoff)
    found.append(Atoms(pair, [[0.0, 0.0, 0.0], [0.0, 0.0, length]]))
    found.append(Atoms([by_size[len(by_size) // 2]], [[0.0, 0.0, 0.0]]))
    return found


def _radius(z: int) -> float:
    radius = float(covalent_radii[z]) if z < len(covalent_radii) else 0.0
    return radius if radius > 0.25 else 1.6  # Å; ASE's mark for "not known" is 0.2


def _spacing(elements: Sequence[int], cutoff: float) -> float:
    """Å between neighbours: that of the two largest atoms, within the cutoff."""
    largest = sorted(map(_radius, elements))[-2:]
    return min(max(1.15 * sum(largest) * 2 / len(largest), 1.6), 0.85 * cutoff)


def _cell(
    elements: Sequence[int], cutoff: float, random: np.random.Generator
) -> Atoms:
    spacing = _spacing(elements, cutoff)
    numbers = [elements[i % len(elements)] for i in range(PER_CELL)]
    cell = 2 * spacing * (np.eye(3) + 0.03 * random.normal(size=(3, 3)))
    atoms = Atoms(numbers, scaled_positions=_SITES / 2, cell=cell, pbc=True)
    atoms.positions += 0.04 * spacing * random.normal(size=(PER_CELL, 3))
    return atoms


# ---- what models say about them


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model predicts for the probes, in float64.

    Attributes:
        energy: (n_probes,) eV.
        forces: (N, 3) eV/Å, of all atoms.
        n_atoms: (n_probes,).
    """

    energy: Floats
    forces: Floats
    n_atoms: Floats


def ask(
    model: AtomGraphSequential,
    structures: Sequence[Atoms],
    cutoff: float,
    fidelity: str | None,
) -> Answers:
    """Return what a model predicts for structures; it is left as it was.

    Reference energies are added in float64, so that those of all-electron data hide
    nothing.

    Args:
        model: The model.
        structures: The structures.
        cutoff: Å.
        fidelity: One of the model's; None for a plain one.
    """
    found: list[Evaluated] = []
    with Runner(model) as runner:
        row = 0 if fidelity is None else runner.fidelities.index(fidelity)
        for start in range(0, len(structures), AT_ONCE):
            batch = structures[start : start + AT_ONCE]
            graphs = [host_graph(atoms, cutoff) for atoms in batch]
            found.append(runner.evaluate(graphs, [row] * len(graphs)))
    return Answers(
        energy=np.concatenate([one.energy for one in found]),
        forces=np.concatenate([one.forces for one in found]),
        n_atoms=np.array([float(len(a)) for a in structures]),
    )


@dataclass(frozen=True)
class Deviation:
    """The differences between two models on the probes.

    Attributes:
        energy: The largest, eV/atom.
        forces: The largest, eV/Å.
        holds: Whether both are within the tolerance of docs/export.md; false for
            NaN.
    """

    energy: float
    forces: float
    holds: bool

    def __str__(self) -> str:
        return f'{self.energy:.1e} eV/atom and {self.forces:.1e} eV/Å'


def energy_tolerance(per_atom: Floats) -> Floats:
    """Return eV/atom: what float32 can resolve at such energies, at least 1e-5."""
    ulp = np.spacing(np.abs(per_atom).astype(np.float32)).astype(np.float64)
    return np.maximum(ENERGY_TOLERANCE, ULPS * ulp)


def deviation(found: Answers, wanted: Answers) -> Deviation:
    """Compare what two models predict for the same structures."""
    energy = np.abs(found.energy - wanted.energy) / wanted.n_atoms
    forces = np.abs(found.forces - wanted.forces)
    allowed = energy_tolerance(wanted.energy / wanted.n_atoms)
    return Deviation(
        energy=float(energy.max()),
        forces=float(forces.max()),
        holds=bool((energy <= allowed).all() and (forces <= FORCE_TOLERANCE).all()),
    )


def worst(apart: Sequence[Deviation]) -> Deviation:
    """Return the largest of several deviations; it holds if all of them do."""
    return Deviation(
        energy=float(np.max([one.energy for one in apart])),  # NaN stays NaN
        forces=float(np.max([one.forces for one in apart])),
        holds=all(one.holds for one in apart),
    )
