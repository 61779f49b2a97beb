"""Which structures there are, and their ids."""

from __future__ import annotations

from pathlib import Path

import ase.io
import pytest
from helpers import INGAN
from label_helpers import cells, write_cells

from sevennet_mf.errors import UserError
from sevennet_mf.label.structures import files_of, mark_of, structures, survey


def test_an_id_survives_writing_and_reading(tmp_path: Path) -> None:
    path = str(INGAN / 'r2scan_valid.extxyz')
    bare = {mark: atoms for mark, _, atoms in structures([path], ())}
    ase.io.write(tmp_path / 'a.extxyz', list(bare.values()))
    again = [mark for mark, _, _ in structures([str(tmp_path / 'a.extxyz')], ())]
    assert again == list(bare)


def test_an_id_is_of_all_that_goes_into_a_calculation() -> None:
    atoms = cells(5.0)[0]
    others = [atoms.copy() for _ in range(5)]
    others[0].positions[0, 0] += 1e-4
    others[1].set_cell([5.0, 5.0, 5.001])
    others[2].pbc = [True, True, False]
    others[3].set_initial_magnetic_moments([1, -1])
    others[4].symbols[0] = 'Kr'
    marks = {mark_of(one) for one in (atoms, *others)}
    assert len(marks) == 6
    assert mark_of(atoms.copy()) in marks
    assert all(not mark.isdigit() for mark in marks)


def test_labels_and_notes_are_left_behind() -> None:
    path = str(INGAN / 'r2scan_valid.extxyz')
    _, source, atoms = next(structures([path], ()))
    assert source == f'{path}:0'
    assert atoms.calc is None
    assert set(atoms.info) == {'structure_id', 'source'}


def test_copies_are_counted_once(tmp_path: Path) -> None:
    path = write_cells(tmp_path / 'a.extxyz', 5.0, 6.0, 5.0)
    found = survey([path])
    assert list(found.sources.values()) == [f'{path}:0', f'{path}:1']
    assert (found.repeats, found.symbols) == (1, {'Ar'})


@pytest.mark.parametrize(
    ('keep', 'words'),
    [
        (['source'], '--keep source: structure_id, source, fidelity are written'),
        (['REF_energy'], '--keep REF_energy is named like a label'),
        (['temperature'], "--keep 'temperature' is not in its info"),
    ],
)
def test_keys_that_cannot_be_kept(
    keep: list[str], words: str, tmp_path: Path
) -> None:
    path = write_cells(tmp_path / 'a.extxyz', 5.0)
    with pytest.raises(UserError, match=words):
        survey([path], keep)


def test_files_must_exist_and_hold_structures(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='no such file'):
        files_of([str(tmp_path / 'none.extxyz')])
    (tmp_path / 'empty.extxyz').write_text('')
    with pytest.raises(UserError, match='empty'):
        survey([str(tmp_path / 'empty.extxyz')])
