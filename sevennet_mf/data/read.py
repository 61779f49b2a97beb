"""From files to labelled structures of known fidelity, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from ase import Atoms
from sevenn import _keys as KEY
from sevenn.atom_graph_data import AtomGraphData

from sevennet_mf.arrays import Floats, Ints
from sevennet_mf.data import labels as label_rules
from sevennet_mf.data import names, unread
from sevennet_mf.data.files import files_of, items_of
from sevennet_mf.data.labels import LABEL_KEYS, Entry, StructureLabels
from sevennet_mf.errors import UserError, nearest, unknown


@dataclass(frozen=True, eq=False)
class Structure:
    """A labelled structure.

    numbers: (n_atoms,) int64; positions: (n_atoms, 3) float64, Å; cell: (3, 3)
    float64, Å; pbc: (3,) bool (both None for the host's graphs, which do not keep
    them); atoms, graph: one of them, as read; energy: eV, total; forces:
    (n_atoms, 3) eV/Å or None; stress: (6,) eV/Å^3 in the host's order and sign or
    None.
    file, frame: number of its file in the entry, and its own in that file.
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
) -> Iterator[Structure]:
    """Yield the structures of one entry of a `load_*_path`, streaming.

    entry: config.DataEntry as a dictionary without what is unset, `file` a list of
    paths; key: data.fidelity.key; fidelities: known names; cutoff: Å, which graph
    files must have been made with.
    Raises UserError that names `file:frame` for whatever cannot be used; with
    `on_error` it is handed over instead, and what it is about left out.
    """
    read = _Reader(entry, key, fidelities, on_error)
    for number, path in enumerate(files_of(entry)):
        items = items_of(path, entry, cutoff, key)
        while item := read.tried(partial(next, items, None)):
            read.count += 1
            structure = read.tried(partial(read.structure, number, path, *item))
            if structure is not None:
                yield structure
    read.tried(read.check_whole)


class _Reader:
    """One pass over an entry."""

    def __init__(
        self,
        entry: Entry,
        key: str | None,
        fidelities: Sequence[str],
        on_error: Callable[[UserError], None] | None,
    ) -> None:
        self.entry, self.key, self.fidelities = entry, key, fidelities
        self.on_error = on_error
        self.count = 0
        self.named: set[str] = set()
        self.lost: set[tuple[str, unread.Unread]] = set()  # of a file, said already

    def tried(self, step: Callable[[], Any]) -> Any:
        """What `step` returns, or None after its error was handed over."""
        try:
            return step()
        except UserError as error:
            if self.on_error is None:
                raise
            self.on_error(error)
            return None

    def structure(
        self, number: int, path: str, frame: int, item: Atoms | AtomGraphData
    ) -> Structure:
        where = f'{path}:{frame}'
        info = names.info_of(item)
        fidelity = _fidelity(self.entry, self.key, info, self.fidelities, where)
        make = _from_atoms if isinstance(item, Atoms) else _from_graph
        geometry, labels = make(item, self.entry, where)
        self.named |= labels.named
        if isinstance(item, Atoms):
            self.check_unread(path, item, labels, where)
        return Structure(
            **geometry,
            fidelity=fidelity,
            energy=labels.energy,
            forces=labels.forces,
            stress=labels.stress,
            source=where,
            file=number,
            frame=frame,
        )

    def check_unread(
        self, path: str, atoms: Atoms, labels: StructureLabels, where: str
    ) -> None:
        """Labels that nothing reads: an error, or said once for each file."""
        lost = [
            label
            for label in unread.find(atoms, self.entry, labels)
            if (path, label) not in self.lost
        ]
        if not lost:
            return
        error = unread.error(lost, atoms, where)
        if self.on_error is None:
            raise error
        self.lost.update((path, label) for label in lost)
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
    own = names.fidelity_in(info, key)
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


def _from_atoms(
    atoms: Atoms, entry: Entry, where: str
) -> tuple[dict[str, Any], StructureLabels]:
    geometry = {
        'numbers': atoms.get_atomic_numbers().astype(np.int64),
        'positions': atoms.get_positions(),
        'cell': np.array(atoms.get_cell()),
        'pbc': atoms.get_pbc(),
        'atoms': atoms,
        'graph': None,
    }
    _check_geometry(geometry, where)
    return geometry, label_rules.of_atoms(atoms, entry, where)


def _from_graph(
    graph: AtomGraphData, entry: Entry, where: str
) -> tuple[dict[str, Any], StructureLabels]:
    values = {
        key: graph[key].double().numpy()
        for key in (KEY.POS, KEY.ENERGY, KEY.FORCE, KEY.STRESS)
        if key in graph
    }
    positions = values[KEY.POS].reshape(-1, 3)
    geometry = {
        'numbers': graph[KEY.ATOMIC_NUMBERS].numpy().reshape(-1),
        'positions': positions,
        'cell': None,
        'pbc': None,
        'atoms': None,
        'graph': graph,
    }
    _check_geometry(geometry, where)
    energy = values.get(KEY.ENERGY, np.array(np.nan)).squeeze()
    if np.isnan(energy):
        raise UserError(f'{where} has no energy. Take the structure out.')

    def label(name: str, entry_key: str, shape: tuple[int, ...]) -> Floats | None:
        value = values.get(name)
        if value is None or entry_key in entry:  # there it can only be null
            return None
        # the host fills a missing label with NaN
        return None if np.isnan(value).all() else value.reshape(shape)

    labels = StructureLabels(
        float(energy),
        label(KEY.FORCE, 'force_key', positions.shape),
        label(KEY.STRESS, 'stress_key', (6,)),
    )
    label_rules.check(labels, len(positions), where)
    return geometry, labels


def _check_geometry(geometry: Mapping[str, Any], where: str) -> None:
    numbers, cell = geometry['numbers'], geometry['cell']
    if len(numbers) == 0:
        raise UserError(f'{where} has no atoms. Remove the structure.')
    if numbers.min() < 1:
        raise UserError(
            f'{where}: atom {numbers.argmin()} is of no element (atomic number '
            f'{numbers.min()}). Correct its symbol.'
        )
    wrong = np.argwhere(~np.isfinite(geometry['positions']))
    if len(wrong):
        raise UserError(
            f'{where}: a position of atom {wrong[0][0]} is not a finite number. '
            'Correct or remove the structure.'
        )
    if cell is None:
        return
    periodic = cell[geometry['pbc']]
    finite = np.isfinite(cell).all()
    if not finite or np.linalg.matrix_rank(periodic) < len(periodic):
        raise UserError(
            f'{where} is periodic (pbc {geometry["pbc"].tolist()}), but its cell '
            f'{cell.tolist()} has no volume to repeat. Correct the cell or pbc.'
        )
