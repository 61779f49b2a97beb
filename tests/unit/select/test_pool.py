"""Structures are read in a stream, found again, and told apart."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from helpers import INGAN, rewritten, structures

from sevennet_mf.data.same.identity import Reader
from sevennet_mf.errors import UserError
from sevennet_mf.select.pool import distinct, files_of, read_again, survey

FILE = str(INGAN / 'r2scan_valid.extxyz')
ALL = np.zeros(119)  # knows every element


def test_what_is_kept_of_a_structure() -> None:
    def cost(atoms: Atoms, where: str) -> float:
        return len(atoms) * 2.0

    found = survey([FILE], [('model', ALL)], Reader(), cost)
    given = ase.io.read(FILE, ':')
    assert [c.formula for c in found] == [a.get_chemical_formula() for a in given]
    assert [c.frame for c in found] == list(range(13))
    assert {c.source for c in found} == {FILE}
    assert [c.cost for c in found] == [2.0 * len(a) for a in given]


def test_chosen_structures_are_found_again() -> None:
    found = survey([FILE], [('model', ALL)], Reader())
    given = ase.io.read(FILE, ':')
    again = list(read_again([found[2], found[7]]))
    for structure, k in zip(again, (2, 7), strict=True):
        np.testing.assert_array_equal(structure.positions, given[k].positions)


def test_a_file_that_changes_meanwhile_is_not_used(tmp_path: Path) -> None:
    path = str(tmp_path / 'a.extxyz')
    ase.io.write(path, structures(3))
    found = survey([path], [('model', ALL)], Reader())
    for changed in (structures(3)[::-1], structures(1)):
        ase.io.write(path, changed)
        with pytest.raises(UserError, match=r'a.extxyz changed while it was'):
            list(read_again(found))


def test_copies_are_left_out_whatever_file_they_are_in(tmp_path: Path) -> None:
    path = str(tmp_path / 'a.extxyz')
    one, two, three = structures(3)
    ase.io.write(path, [one, two, one, three])
    reader = Reader()
    found = survey([path, path], [('model', ALL)], reader)
    labelled = survey([FILE], [('model', ALL)], reader)[:0]
    assert [c.frame for c in distinct(found, labelled)] == [0, 1, 3]
    assert [c.frame for c in distinct(found, found[1:2])] == [0, 3]


def test_copies_are_left_out_however_they_are_written(tmp_path: Path) -> None:
    path = str(tmp_path / 'a.extxyz')
    given = structures(3)
    ase.io.write(path, [*given, *(rewritten(a, 1, 1e-5) for a in given)])
    found = survey([path], [('model', ALL)], Reader())
    assert [c.frame for c in distinct(found)] == [0, 1, 2]


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'no such file: .*r2scan_vald.extxyz'):
        files_of([str(INGAN / 'r2scan_vald.extxyz')])
    empty = tmp_path / 'empty.extxyz'
    empty.write_text('')
    with pytest.raises(UserError, match=r'empty.extxyz'):
        survey([str(empty)], [('model', ALL)], Reader())


def test_an_element_that_a_model_lacks_is_named() -> None:
    only = np.full(119, np.nan)
    only[[7, 31]] = 0.0
    said = r'valid.extxyz:\d+, small.pth: the model does not know In; it knows'
    with pytest.raises(UserError, match=said):
        survey([FILE], [('small.pth', only)], Reader())
