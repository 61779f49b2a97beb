"""One pass over all data, streaming: every structure becomes a row of numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
from tqdm import tqdm

from sevennet_mf.arrays import N_SPECIES, Floats
from sevennet_mf.audit import cutoffs
from sevennet_mf.audit.records import FORCE_EDGES, Records
from sevennet_mf.data.dataset import TRAIN
from sevennet_mf.data.processed.graphs import (
    close_atoms,
    nearest_distance,
    pairs_within,
)
from sevennet_mf.data.reading.files import count_frames, files_of, reader_of
from sevennet_mf.data.reading.labels import Entry
from sevennet_mf.data.reading.notes import Told
from sevennet_mf.data.reading.read import Structure, read_entry
from sevennet_mf.data.reading.unread_labels import UnreadLabel
from sevennet_mf.data.same.identity import Reader
from sevennet_mf.errors import UserError

KEPT_ATOMS: Final[int] = 20_000_000  # whose forces are kept for pairs: 240 MB
ALIKE: Final[int] = 16  # structures of one list of atoms kept whole from each set
ALIKE_ATOMS: Final[int] = 2_000_000
MEASURED: Final[int] = 64  # structures of a file and fidelity: enough for a median
COUNTED: Final[int] = 16  # the same for the mean number of neighbours

Report = Callable[[str, str], None]  # kind, message


def scan(
    entries: Mapping[str, Sequence[Entry]],
    key: str | None,
    fidelities: Sequence[str],
    cutoff: float,
    report: Report,
) -> Records:
    """Read all sets; structures that cannot be used are reported and left out.

    Args:
        entries: Entries of each set, as read.read_entry takes them together with
            the other arguments.
        cutoff: In Å.
        report: Called with the kind of the problem and a message.
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
            told = Told()
            structures = read_entry(
                entry,
                key,
                fidelities,
                cutoff,
                on_error=partial(_say, report),
                told=told,
            )
            for structure in structures:
                if trouble := close_atoms(structure):
                    report('close atoms', trouble)
                collector.add(structure, name)
                bar.update()
            collector.heard(told, entry, name)
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
    kept: Counter[tuple[str, str, bytes]] = field(default_factory=Counter)
    whole: dict[int, Structure] = field(default_factory=dict)
    nearest: list[float] = field(default_factory=list)
    neighbours: list[float] = field(default_factory=list)
    measured: Counter[tuple[int, str]] = field(default_factory=Counter)
    linked: set[str] = field(default_factory=set)
    said: dict[str, None] = field(default_factory=dict)
    isolated: dict[str, dict[str, float]] = field(default_factory=dict)
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
        self._keep(structure, row, name)

    def heard(self, told: Told, entry: Entry, name: str) -> None:
        """Keep the messages from reading an entry of a set."""
        paths = dict(enumerate(files_of(entry)))
        self.said |= {line.said(paths): None for line in told.lines() if line.loud}
        if name == TRAIN:
            for fidelity, energies in told.isolated.items():
                self.isolated.setdefault(fidelity, {}).update(energies)

    def _measure(
        self, structure: Structure, name: str, group: tuple[int, str]
    ) -> None:
        self.measured[group] += 1
        few = self.measured[group] <= MEASURED
        self.nearest.append(nearest_distance(structure) if few else np.nan)
        some = self.measured[group] <= COUNTED
        self.neighbours.append(
            cutoffs.neighbours(structure, _volume(structure), self.cutoff)
            if some
            else np.nan
        )
        if name not in self.linked:
            limits = np.full(len(structure.numbers), 0.5 * self.cutoff)
            if len(pairs_within(structure, limits)[2]):
                self.linked.add(name)

    def _keep(self, structure: Structure, row: int, name: str) -> None:
        """Some structures of the same atoms, to compare energies with forces."""
        if structure.forces is None or structure.cell is None:
            return
        assert structure.pbc is not None
        atoms = structure.numbers.tobytes() + structure.pbc.tobytes()
        key = structure.fidelity, atoms
        kept = self.kept[name, *key]
        if kept < ALIKE and len(structure.numbers) <= self.room_whole:
            self.groups.setdefault(key, []).append(row)
            self.kept[name, *key] += 1
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
        columns['neighbours'] = np.array(self.neighbours)
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
            frozenset(self.linked),
            self.reader.geometry,
            tuple(self.said),
            self.isolated,
        )


def _volume(structure: Structure) -> float:
    if structure.cell is None or structure.pbc is None or not structure.pbc.all():
        return float('nan')
    return float(abs(np.linalg.det(structure.cell)))
