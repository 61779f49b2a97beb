"""What the audit keeps of every structure: one row of numbers, read streaming."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
from ase.data import chemical_symbols
from tqdm import tqdm

from sevennet_mf.arrays import N_SPECIES, Bools, Floats, Ints
from sevennet_mf.audit.distances import closest_pair, edges, nearest
from sevennet_mf.data.dataset import TRAIN
from sevennet_mf.data.files import count_frames, files_of, reader_of
from sevennet_mf.data.identity import Reader
from sevennet_mf.data.labels import Entry
from sevennet_mf.data.read import Structure, read_entry
from sevennet_mf.data.references import Labels
from sevennet_mf.data.unread import UnreadLabel
from sevennet_mf.errors import UserError

CHUNK: Final[int] = 16384  # structures whose compositions are in memory at once
KEPT_ATOMS: Final[int] = 20_000_000  # whose forces are kept for pairs: 240 MB
ALIKE: Final[int] = 16  # structures of one list of atoms kept whole, to compare
ALIKE_ATOMS: Final[int] = 2_000_000
MEASURED: Final[int] = 64  # structures of a file and fidelity: enough for a median
# eV/Å: bins of the histogram of forces
FORCE_EDGES: Final[Floats] = np.logspace(-4, 4, 81)

Report = Callable[[str, str], None]  # kind, message


@dataclass(frozen=True, eq=False)
class Records:
    """Rows over the n structures of all sets, and what they refer to.

    fidelity, set, file: (n,) int64, positions in `fidelities`, `sets` and `paths`;
    frame, n_atoms, kind (row of `compositions`), fingerprint: (n,) int64;
    energy: (n,) eV, total; force_max, force_square: (n,) eV/Å and (eV/Å)^2 summed
    over components, NaN without forces; stress: (n, 6) eV/Å^3 as the host has it,
    NaN without; volume: (n,) Å^3, NaN if not periodic in three directions;
    nearest: (n,) smallest distance over the sum of the covalent radii, NaN where it
    was not measured or is large.
    compositions: (m, 119) int64; forces: (n_atoms, 3) float32 by row, of as many
    structures as fit, atoms in one order for all labels of a structure; alike: per
    fidelity groups of rows with the same atoms, as `whole` holds them; force_counts:
    (F, bins) atoms in FORCE_EDGES; has_neighbours: whether two atoms of the training
    data are within the cutoff.
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
    has_neighbours: bool

    def __len__(self) -> int:
        return len(self.columns['energy'])

    def __getitem__(self, name: str) -> np.ndarray[Any, Any]:
        return self.columns[name]

    def rows(self, fidelity: str | None = None, set: str | None = None) -> Ints:
        """Return the rows of a fidelity and a set; None: of all."""
        chosen: Bools = np.ones(len(self), bool)
        if fidelity is not None:
            chosen &= self['fidelity'] == self.fidelities.index(fidelity)
        if set is not None:
            known = self.sets.index(set) if set in self.sets else -1
            chosen &= self['set'] == known
        return np.flatnonzero(chosen)

    def source(self, row: int) -> str:
        """Return 'path:frame'."""
        return f'{self.paths[self["file"][row]]}:{self["frame"][row]}'

    def formula(self, row: int) -> str:
        """Return the composition as in 'Ga2N2'."""
        count = self.compositions[self['kind'][row]]
        return ''.join(
            f'{chemical_symbols[z]}{count[z] if count[z] > 1 else ""}'
            for z in np.flatnonzero(count)
        )

    def symbols(self, rows: Ints) -> list[str]:
        """Return the elements of `rows`, by atomic number."""
        held = self.compositions[np.unique(self['kind'][rows])].any(axis=0)
        return [chemical_symbols[z] for z in np.flatnonzero(held)]

    def reference_part(self, rows: Ints, energies: Floats) -> Floats:
        """Return (k,) eV/atom: composition times energies (119,), per atom."""
        total = self.compositions @ energies
        part: Floats = total[self['kind'][rows]] / self['n_atoms'][rows]
        return part

    def labels(
        self, rows: Ints, energy: Floats | None = None, pair: Ints | None = None
    ) -> Iterator[Labels]:
        """Yield chunks for references.fit_references; energy: (k,) eV instead."""
        energy = self['energy'][rows] if energy is None else energy
        for start in range(0, max(len(rows), 1), CHUNK):
            part = slice(start, start + CHUNK)
            yield Labels(
                self.compositions[self['kind'][rows[part]]],
                energy[part],
                None if pair is None else pair[part],
            )


def scan(
    entries: Mapping[str, Sequence[Entry]],
    key: str | None,
    fidelities: Sequence[str],
    cutoff: float,
    report: Report,
) -> Records:
    """Read all sets; what cannot be used goes to `report` and is left out.

    entries: per set its entries, as read.read_entry takes them with the other
    arguments. report: called with the kind of the trouble and a message.
    """
    collector = _Collector(tuple(fidelities), tuple(entries), cutoff)
    listed = [(name, entry) for name, group in entries.items() for entry in group]
    with tqdm(
        total=_count(entry for _, entry in listed),
        disable=None,
        desc='reading',
        unit=' structures',
    ) as bar:
        for name, entry in listed:
            structures = read_entry(
                entry,
                key,
                fidelities,
                cutoff,
                on_error=partial(_say, report),
            )
            for structure in structures:
                if trouble := closest_pair(structure):
                    report('close atoms', trouble)
                collector.add(structure, name)
                bar.update()
    return collector.records()


def _say(report: Report, error: UserError) -> None:
    if isinstance(error, UnreadLabel):
        report('unread', str(error))
    else:
        report('unusable', str(error))


def _count(entries: Iterator[Entry]) -> int | None:
    total = 0
    for entry in entries:
        for path in files_of(entry):
            try:
                reader = reader_of(path, entry.get('format'))
            except UserError:  # reading it will tell
                return None
            count = count_frames(path, reader, entry.get('index', ':'))
            if count is None:
                return None
            total += count
    return total


@dataclass
class _Collector:
    fidelities: tuple[str, ...]
    sets: tuple[str, ...]
    cutoff: float
    paths: dict[str, int] = field(default_factory=dict)
    kinds: dict[bytes, int] = field(default_factory=dict)
    rows: list[tuple[float, ...]] = field(default_factory=list)
    reader: Reader = field(default_factory=Reader)
    marks: list[int] = field(default_factory=list)
    stress: list[Floats] = field(default_factory=list)
    forces: dict[int, Any] = field(default_factory=dict)
    groups: dict[tuple[str, bytes], list[int]] = field(default_factory=dict)
    whole: dict[int, Structure] = field(default_factory=dict)
    nearest: list[float] = field(default_factory=list)
    measured: Counter[tuple[int, str]] = field(default_factory=Counter)
    has_neighbours: bool = False
    room: int = KEPT_ATOMS
    room_whole: int = ALIKE_ATOMS

    def __post_init__(self) -> None:
        shape = (len(self.fidelities), len(FORCE_EDGES) - 1)
        self.force_counts = np.zeros(shape, np.int64)

    def add(self, structure: Structure, name: str) -> None:
        row, same = len(self.rows), self.reader.same(structure)
        count = np.bincount(structure.numbers, minlength=N_SPECIES).astype(np.int64)
        kind = self.kinds.setdefault(count.tobytes(), len(self.kinds))
        path = structure.source.rsplit(':', 1)[0]
        fidelity = self.fidelities.index(structure.fidelity)
        largest = square = np.nan
        if structure.forces is not None:
            size = np.linalg.norm(structure.forces, axis=1)
            largest, square = float(size.max()), float(np.sum(size**2))
            # beyond the ends: into the first and last bin
            inside = np.clip(size, FORCE_EDGES[0], FORCE_EDGES[-1])
            self.force_counts[fidelity] += np.histogram(inside, FORCE_EDGES)[0]
            if len(size) <= self.room:
                forces = same.in_first_order(structure.forces)
                self.forces[row] = forces.astype(np.float32)
                self.room -= len(size)
        self.rows.append((
            fidelity,
            self.sets.index(name),
            self.paths.setdefault(path, len(self.paths)),
            structure.frame,
            len(structure.numbers),
            kind,
            structure.energy,
            largest,
            square,
            _volume(structure),
        ))
        self.marks.append(same.mark)
        self._measure(structure, name, (fidelity, path))
        none = np.full(6, np.nan)
        self.stress.append(none if structure.stress is None else structure.stress)
        self._keep(structure, row)

    def _measure(
        self, structure: Structure, name: str, group: tuple[int, str]
    ) -> None:
        self.measured[group] += 1
        few = self.measured[group] <= MEASURED
        self.nearest.append(nearest(structure) if few else np.nan)
        if not self.has_neighbours and name == TRAIN:
            limits = np.full(len(structure.numbers), 0.5 * self.cutoff)
            self.has_neighbours = len(edges(structure, limits)[2]) > 0

    def _keep(self, structure: Structure, row: int) -> None:
        """Some structures of the same atoms, to compare energies with forces."""
        if structure.forces is None or structure.cell is None:
            return
        assert structure.pbc is not None
        atoms = structure.numbers.tobytes() + structure.pbc.tobytes()
        group = self.groups.setdefault((structure.fidelity, atoms), [])
        if len(group) < ALIKE and len(structure.numbers) <= self.room_whole:
            group.append(row)
            self.whole[row] = structure
            self.room_whole -= len(structure.numbers)

    def records(self) -> Records:
        table = np.array(self.rows, dtype=np.float64).reshape(len(self.rows), 10)
        names = ('fidelity', 'set', 'file', 'frame', 'n_atoms', 'kind')
        columns: dict[str, Any] = {
            name: table[:, k].astype(np.int64) for k, name in enumerate(names)
        }
        for k, name in enumerate(('energy', 'force_max', 'force_square', 'volume')):
            columns[name] = table[:, len(names) + k].copy()
        columns['fingerprint'] = np.array(self.marks, np.int64)
        columns['nearest'] = np.array(self.nearest)
        columns['stress'] = np.array(self.stress).reshape(len(self.rows), 6)
        kinds = [np.frombuffer(k, np.int64) for k in self.kinds]
        alike: dict[str, list[list[int]]] = {name: [] for name in self.fidelities}
        for (name, _), group in self.groups.items():
            alike[name].append(group)
        return Records(
            self.fidelities,
            self.sets,
            tuple(self.paths),
            columns,
            np.array(kinds, np.int64).reshape(len(kinds), N_SPECIES),
            self.forces,
            alike,
            self.whole,
            self.force_counts,
            self.has_neighbours,
        )


def _volume(structure: Structure) -> float:
    if structure.cell is None or structure.pbc is None or not structure.pbc.all():
        return float('nan')
    return float(abs(np.linalg.det(structure.cell)))
