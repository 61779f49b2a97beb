"""Which structures are left out together, and whether the others can tell."""

import numpy as np
from ase import Atoms

from sevennet_mf.data.inferred.two_body_folds import folds, spans


def numbers(*formulas: str) -> list[np.ndarray]:
    return [Atoms(formula).numbers.astype(np.int64) for formula in formulas]


def square(*formulas: str) -> np.ndarray:
    """The sum of x x^T of compositions, (119, 119)."""
    x = [np.bincount(z, minlength=119) / len(z) for z in numbers(*formulas)]
    return np.transpose(x) @ np.array(x)


def test_whole_stoichiometries_are_left_out_where_there_are_enough() -> None:
    kinds = folds(numbers('GaN', 'Ga2N', 'GaN2', 'Ga3N', 'GaN3', 'Ga2N2'))
    assert kinds[0] == kinds[5]  # one stoichiometry
    assert len(set(kinds)) == 5
    few = folds(numbers(*['GaN'] * 10))
    assert np.bincount(few).tolist() == [2] * 5


def test_compositions_that_follow_from_others() -> None:
    binaries = square('GaN', 'InN')
    assert spans(binaries, square('InGaN2', 'In3GaN4', 'GaN'))
    assert not spans(binaries, square('Ga2N'))  # its elements are known
    assert not spans(binaries, square('AlN'))
    assert not spans(binaries, square('GaN', 'Ga2N'))


def test_one_atom_in_a_hundred_is_enough() -> None:
    doped = square(*['Ga50N50'] * 1000, 'Ga49N51')
    assert spans(doped, square('Ga3N'))
    assert not spans(square(*['Ga50N50'] * 1000), square('Ga49N51'))
