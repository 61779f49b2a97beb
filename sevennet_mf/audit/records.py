"""What an audit keeps of every structure, as columns, and subsets of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from sevennet_mf.arrays import Bools, Floats, Ints
from sevennet_mf.data.reading.read import Structure
from sevennet_mf.data.references import Labels
from sevennet_mf.data.same.geometry import Geometry
from sevennet_mf.data.same.identity import partners

CHUNK: Final[int] = 16384  # structures whose compositions are in memory at once
# eV/Å: bins of the histogram of forces
FORCE_EDGES: Final[Floats] = np.logspace(-4, 4, 81)


@dataclass(frozen=True, eq=False)
class Records:
    """Columns over the n structures of all sets, and what they refer to.

    Attributes:
        fidelities: Names; the column `fidelity` has positions in it.
        sets: Names; the column `set` has positions in it.
        paths: Files; the column `file` has positions in it.
        columns: Arrays by name. `fidelity`, `set`, `file`, `frame`, `n_atoms`,
            `kind` (row of `compositions`) and `fingerprint`: (n,) int64.
            `energy`: (n,) in eV, total. `force_max`: (n,) in eV/Å.
            `force_square`: (n,) in (eV/Å)^2, summed over components; both are NaN
            without forces. `stress`: (n, 6) in eV/Å^3 as in SevenNet, NaN if
            missing. `volume`: (n,) in Å^3, NaN unless periodic in three
            directions. `nearest`: (n,) smallest distance over the sum of the
            covalent radii, NaN if it was not measured or is large. `neighbours`:
            (n,) per atom within the cutoff, NaN unless the structure is condensed
            and was measured.
        compositions: (m, 119) int64.
        forces: (n_atoms, 3) float32 in eV/Å by row, for as many structures as fit
            into memory; the order of atoms is the same for all labels of a
            structure.
        alike: Per fidelity, groups of rows with the same atoms.
        whole: The structures of the rows in `alike`.
        force_counts: (n_fidelities, bins) numbers of atoms by FORCE_EDGES.
        linked: Sets in which any two atoms are within the cutoff.
        geometry_of: Returns the atoms and the lattice of a row.
        said: Lines on what was left out of files, or is not seen by the model.
        isolated: {fidelity: {symbol: eV}}, energies of isolated atoms in the
            training data.
    """

    fidelities: tuple[str, ...]
    sets: tuple[str, ...]
    paths: tuple[str, ...]
    columns: dict[str, np.ndarray[Any, Any]]
    compositions: Ints
    forces: dict[int, np.ndarray[Any, np.dtype[np.float32]]]
    alike: dict[str, list[list[int]]]
    whole: dict[int, Structure]
    force_counts: Ints
    linked: frozenset[str]
    geometry_of: Callable[[int], Geometry]
    said: tuple[str, ...]
    isolated: dict[str, dict[str, float]]

    def __len__(self) -> int:
        return len(self.columns['energy'])

    def __getitem__(self, name: str) -> np.ndarray[Any, Any]:
        return self.columns[name]

    def rows(self, fidelity: str | None = None, set: str | None = None) -> Ints:
        """Return the rows of a fidelity and a set; None stands for all."""
        chosen: Bools = np.ones(len(self), bool)
        if fidelity is not None:
            chosen &= self['fidelity'] == self.fidelities.index(fidelity)
        if set is not None:
            known = self.sets.index(set) if set in self.sets else -1
            chosen &= self['set'] == known
        return np.flatnonzero(chosen)

    def part(self, set: str, fidelity: str | None = None) -> RecordedSet:
        """Return a set, or one fidelity of it, in the form that checks take."""
        return RecordedSet(self, self.rows(fidelity, set), set)

    def by_set(self) -> dict[str, RecordedSet]:
        """Return every set in the form that checks take."""
        return {name: self.part(name) for name in self.sets}

    @property
    def fingerprint(self) -> Ints:
        """(n,) int64, equal for all labels of one structure, in any set."""
        return self['fingerprint']

    def partners(self, rows: Ints, wanted: Ints) -> Ints:
        """Return where in `rows` the structure of each wanted row is.

        Of several the nearest is taken, as training pairs them.

        Args:
            rows: (m,) rows to search.
            wanted: (k,) rows.

        Returns:
            (k,) positions in `rows`, -1 where the structure is missing.
        """
        marks = self.fingerprint
        return partners(marks[rows], rows, marks[wanted], wanted, self.geometry_of)

    def pairs(self, low: str, high: str) -> tuple[Ints, Ints]:
        """Return the rows, (k,) each, of structures at both fidelities."""
        below, above = self.rows(low), self.rows(high)
        _, once = np.unique(self.fingerprint[above], return_index=True)
        above = above[np.sort(once)]
        at = self.partners(below, above)
        return below[at[at >= 0]], above[at >= 0]

    def paired_forces(self, first: Ints, second: Ints) -> tuple[Floats, Floats]:
        """Return the forces of pairs of rows, as far as both are kept.

        Args:
            first: (k,) rows.
            second: (k,) rows of the same structures.

        Returns:
            (m,) components each, in eV/Å.
        """
        none: Floats = np.zeros(0)
        x, y = [none], [none]
        for a, b in zip(first.tolist(), second.tolist(), strict=True):
            if a in self.forces and b in self.forces:
                x.append(self.forces[a].ravel().astype(np.float64))
                y.append(self.forces[b].ravel().astype(np.float64))
        return np.concatenate(x), np.concatenate(y)

    def source(self, row: int) -> str:
        """Return 'path:frame'."""
        return f'{self.paths[self["file"][row]]}:{self["frame"][row]}'

    def numbers(self, rows: Ints) -> Ints:
        """Return the atomic numbers of the structures in `rows`, ascending."""
        held = self.compositions[np.unique(self['kind'][rows])].any(axis=0)
        return np.flatnonzero(held)

    def reference_part(self, rows: Ints, energies: Floats) -> Floats:
        """Return the energy of the composition, per atom.

        Args:
            rows: (k,).
            energies: (119,) in eV, by atomic number.

        Returns:
            (k,) in eV/atom.
        """
        total = self.compositions @ energies
        part: Floats = total[self['kind'][rows]] / self['n_atoms'][rows]
        return part

    def labels(
        self, rows: Ints, energy: Floats | None = None, pair: Ints | None = None
    ) -> Iterator[Labels]:
        """Yield chunks of labels for references.fit_references.

        Args:
            rows: (k,).
            energy: (k,) in eV, total; used instead of the recorded energies.
            pair: (k,) position of each row's partner at the base, or -1.
        """
        energy = self['energy'][rows] if energy is None else energy
        for start in range(0, max(len(rows), 1), CHUNK):
            part = slice(start, start + CHUNK)
            yield Labels(
                self.compositions[self['kind'][rows[part]]],
                energy[part],
                None if pair is None else pair[part],
            )


@dataclass(frozen=True, eq=False)
class RecordedSet:
    """Some rows of the records, as a findings.LabelledSet.

    Attributes:
        own: (k,) rows.
        name: The set to which they belong.
    """

    records: Records
    own: Ints
    name: str

    def __len__(self) -> int:
        return len(self.own)

    @property
    def fidelities(self) -> tuple[str, ...]:
        return self.records.fidelities

    @property
    def has(self) -> dict[str, Bools]:
        force = self.records['force_max'][self.own]
        stress = self.records['stress'][self.own]
        return {
            'energy': np.ones(len(self), bool),
            'force': ~np.isnan(force),
            'stress': ~np.isnan(stress).any(axis=1),
        }

    @property
    def has_neighbours(self) -> bool:
        return self.name in self.records.linked

    @property
    def fingerprint(self) -> Ints:
        return self.records.fingerprint[self.own]

    def rows_of(self, fidelity: str) -> Ints:
        number = self.fidelities.index(fidelity)
        return np.flatnonzero(self.records['fidelity'][self.own] == number)

    def compositions(self, rows: Ints | None = None) -> Iterator[tuple[Ints, Ints]]:
        chosen = np.arange(len(self)) if rows is None else rows
        kind = self.records['kind'][self.own]
        for start in range(0, len(chosen), CHUNK):
            part = chosen[start : start + CHUNK]
            yield part, self.records.compositions[kind[part]]

    def source(self, i: int) -> str:
        return self.records.source(int(self.own[i]))
