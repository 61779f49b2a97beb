"""From files to labelled structures of known fidelity, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np
from ase import Atoms
from sevenn.atom_graph_data import AtomGraphData

from sevennet_mf.arrays import Floats, Ints
from sevennet_mf.data.formats import known, mace
from sevennet_mf.data.reading import convention, fidelity_names, unread_labels
from sevennet_mf.data.reading.files import SKIP, completed, files_of, records_of
from sevennet_mf.data.reading.items import from_atoms, from_graph
from sevennet_mf.data.reading.labels import (
    LABEL_KEYS,
    Entry,
    NotComputed,
    StructureLabels,
)
from sevennet_mf.data.reading.notes import Told
from sevennet_mf.errors import UserError, nearest, unknown

SAME: Final[float] = 1e-6  # eV, of the energy of an isolated atom


@dataclass(frozen=True, eq=False)
class Structure:
    """A labelled structure.

    Attributes:
        numbers: (n_atoms,) int64.
        positions: (n_atoms, 3) float64, in Å.
        cell: (3, 3) float64, in Å; None for the host's graphs, which do not store
            it.
        pbc: (3,) bool; None for the host's graphs.
        atoms, graph: one of them, as read.
        energy: in eV, total.
        forces: (n_atoms, 3) in eV/Å, or None.
        stress: (6,) in eV/Å^3 in the host's order and sign, or None.
        file: number of its file in the entry.
        frame: its number in that file.
    """

    numbers: Ints
    positions: Floats
    cell: Floats | None
    pbc: np.ndarray[Any, np.dtype[np.bool_]] | None
    atoms: Atoms | None
    graph: AtomGraphData | None
    fidelity: str
    energy: float
    forces: Floats | None
    stress: Floats | None
    source: str
    file: int
    frame: int


def read_entry(
    entry: Entry,
    key: str | None,
    fidelities: Sequence[str],
    cutoff: float,
    on_error: Callable[[UserError], None] | None = None,
    told: Told | None = None,
) -> Iterator[Structure]:
    """Yield the structures of one entry of a `load_*_path`, streaming.

    An entry with `on_bad: skip` leaves out single structures that cannot be used.

    Args:
        entry: config.DataEntry as a dictionary without unset keys, `file` a list of
            paths.
        key: data.fidelity.key.
        fidelities: known names.
        cutoff: in Å; graph files must have been made with it.
        on_error: is called with each error instead of raising it; what the error is
            about is left out.
        told: collects what there is to say of the files.

    Raises:
        UserError: Something cannot be used; the message names `file:frame`.
    """
    read = _Reader(entry, key, fidelities, on_error, told or Told())
    for number, path in enumerate(files_of(entry)):
        file = read.tried(partial(read.begin, number, path))
        if file is None:
            continue
        items = records_of(path, file.entry, cutoff, read.key)
        while item := read.tried(partial(next, items, None), file):
            read.count += 1
            structure = read.tried(partial(read.structure, file, *item), file)
            if structure is not None:
                read.kept += 1
                yield structure
    read.tried(read.check_whole)


@dataclass(frozen=True)
class _EntryFile:
    """A file of an entry: its place in it, and what its form makes of the entry."""

    number: int
    path: str
    entry: Entry
    form: known.Form | None


class _Reader:
    """One pass over an entry."""

    def __init__(
        self,
        entry: Entry,
        key: str | None,
        fidelities: Sequence[str],
        on_error: Callable[[UserError], None] | None,
        told: Told,
    ) -> None:
        self.entry, self.key, self.fidelities = entry, key, fidelities
        self.on_error, self.told = on_error, told
        self.skips = entry.get('on_bad') == SKIP
        self.count = self.kept = 0
        self.first: UserError | None = None  # why a structure was left out
        self.named: set[str] = set()
        # of a file, said already
        self.lost: set[tuple[str, unread_labels.Unread]] = set()

    def tried(self, step: Callable[[], Any], file: _EntryFile | None = None) -> Any:
        """What `step` returns, or None after its error was dealt with.

        file: that of a single structure, which may be left out.
        """
        try:
            return step()
        except UserError as error:
            if file is not None and self.is_left_out(error, file):
                return None
            if self.on_error is None:
                raise
            self.on_error(error)
            return None

    def is_left_out(self, error: UserError, file: _EntryFile) -> bool:
        """Whether a structure is left out by the user's word; it is counted."""
        seen = self.told.of(file.number)
        if isinstance(error, NotComputed):
            seen.missing += 1
        elif self.skips and not isinstance(error, unread_labels.UnreadLabel):
            seen.bad += 1
            seen.first_bad = seen.first_bad or str(error)
        else:
            return False
        self.first = self.first or error
        return True

    def begin(self, number: int, path: str) -> _EntryFile:
        """A file with its entry; what its form sets is to be said."""
        entry = completed(path, self.entry)
        form = known.form_of(entry.get('format', ''))
        if form is not None or any(entry.get(k) for k in convention.UNIT_KEYS):
            name = '' if form is None else f'as {entry["format"]}, '
            words = f'read {name}{convention.in_words(entry)}'
            self.told.of(number).form = words
        if form is known.MACE and self.key is None and 'fidelity' not in entry:
            self.key = mace.HEAD
        return _EntryFile(number, path, entry, form)

    def structure(
        self, file: _EntryFile, frame: int, item: Atoms | AtomGraphData | UserError
    ) -> Structure | None:
        """One structure; None for an isolated atom of MACE's."""
        if isinstance(item, UserError):
            raise item
        where = f'{file.path}:{frame}'
        info = fidelity_names.info_of(item)
        fidelity = _fidelity(file.entry, self.key, info, self.fidelities, where)
        make = from_atoms if isinstance(item, Atoms) else from_graph
        geometry, labels = make(item, file.entry, where)
        self.named |= labels.named
        if isinstance(item, Atoms):
            self.check_unread(file, item, labels, where)
            if self.is_reference(file, item, labels, fidelity):
                return None
            labels = self.weighed(file, info, labels, where)
            self.told.structure(file.number, item, labels)
        return Structure(
            **geometry,
            fidelity=fidelity,
            energy=labels.energy,
            forces=labels.forces,
            stress=labels.stress,
            source=where,
            file=file.number,
            frame=frame,
        )

    def is_reference(
        self, file: _EntryFile, atoms: Atoms, labels: StructureLabels, fidelity: str
    ) -> bool:
        """Whether a structure only tells what an atom weighs; it is kept then."""
        if file.form is not known.MACE or not mace.is_isolated(atoms):
            return False
        symbol = atoms.get_chemical_symbols()[0]
        own = self.told.isolated.setdefault(fidelity, {})
        if abs(own.setdefault(symbol, labels.energy) - labels.energy) > SAME:
            raise UserError(
                f'{file.path}: two isolated atoms of {symbol} at {fidelity}, with '
                f'{own[symbol]:.6g} and {labels.energy:.6g} eV. Keep one.'
            )
        self.told.of(file.number).isolated.add(symbol)
        return True

    def weighed(
        self,
        file: _EntryFile,
        info: Mapping[str, Any],
        labels: StructureLabels,
        where: str,
    ) -> StructureLabels:
        """The labels without those of weight 0, where a form knows of weights."""
        if file.form is None or not file.form.weights:
            return labels
        absent = mace.weightless(info, file.entry, where)
        count = self.told.of(file.number).unweighed
        if 'force_key' in absent and labels.forces is not None:
            count['forces'] += 1
            labels = replace(labels, forces=None)
        if absent & {'stress_key', 'virial_key'} and labels.stress is not None:
            count['stress'] += 1
            labels = replace(labels, stress=None)
        return labels

    def check_unread(
        self, file: _EntryFile, atoms: Atoms, labels: StructureLabels, where: str
    ) -> None:
        """Labels that nothing reads: an error, or said once for each file."""
        lost = [
            label
            for label in unread_labels.find(atoms, file.entry, labels)
            if (file.path, label) not in self.lost
        ]
        if not lost:
            return
        error = unread_labels.error(lost, atoms, where)
        if self.on_error is None:
            raise error
        self.lost.update((file.path, label) for label in lost)
        self.on_error(error)

    def check_whole(self) -> None:
        """What only the end of an entry tells."""
        files = files_of(self.entry)
        name = files[0] if len(files) == 1 else f'{files[0]} and others'
        if self.count == 0:
            raise UserError(
                f'{name}: no structures with index '
                f'{self.entry.get("index", ":")!r}. Correct the index, or take '
                'the file out of the list.'
            )
        if self.kept == 0 and self.first is not None:
            raise UserError(
                f'{name}: none of {self.count} structures can be used. The first: '
                f'{self.first}'
            )
        for key in LABEL_KEYS:
            if self.entry.get(key) is not None and key not in self.named:
                raise UserError(
                    f'{name}: no structure has {key} {self.entry[key]!r}. Correct '
                    f'{key}, or write `{key}: null` if there are none.'
                )


def require_known(name: str, fidelities: Sequence[str], where: str) -> None:
    """Raise UserError unless `name` is one of `fidelities`."""
    if name not in fidelities:
        raise unknown(
            f'{where}: its fidelity',
            name,
            fidelities,
            'Correct it, or add it to data.fidelity.order.',
        )


def _fidelity(
    entry: Entry,
    key: str | None,
    info: Mapping[str, Any],
    fidelities: Sequence[str],
    where: str,
) -> str:
    given = entry.get('fidelity')
    own = fidelity_names.fidelity_in(info, key)
    if given is not None and own is not None and given != own:
        raise UserError(
            f'{where}: its info has {key}={own!r}, but its entry says fidelity: '
            f'{given}. Correct one of the two.'
        )
    name = given if given is not None else own
    if name is None:
        looked = f'its info has no {key!r}.{nearest(key, info)}' if key else ''
        raise UserError(
            f'{where} has no fidelity: {looked or "its entry names none."} Write '
            '`fidelity: <name>` in its entry, or the name under data.fidelity.key '
            'in its info.'
        )
    require_known(name, fidelities, where)
    return name
