"""Whose energies labels of the target tell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from sevennet_mf.data.reading.read import Structure
from sevennet_mf.study.plan.determined import undetermined
from sevennet_mf.study.plan.label_set import LabelSet


def labels(*formulas: str) -> LabelSet:
    return LabelSet([structure(f) for f in formulas], list(range(len(formulas))))


def structure(formula: str) -> Structure:
    atoms = Atoms(formula)
    return Structure(
        numbers=atoms.numbers.astype(np.int64),
        positions=atoms.positions,
        cell=None,
        pbc=None,
        atoms=atoms,
        graph=None,
        fidelity='r2scan',
        energy=0.0,
        forces=None,
        stress=None,
        source=formula,
        file=0,
        frame=0,
    )


def unknown(
    tested: Sequence[str], trained: Sequence[str], given: Sequence[str] = ()
) -> list[str]:
    rows = undetermined(labels(*tested), labels(*trained), given)
    return [formula for formula, far in zip(tested, rows, strict=True) if far]


def test_mixtures_of_what_is_labelled_are_told() -> None:
    tested = ['Ga2InN3', 'GaN', 'Ga3N', 'AlN']
    assert unknown(tested, ['GaN', 'InN']) == ['Ga3N', 'AlN']
    assert unknown(tested, ['GaN']) == ['Ga2InN3', 'Ga3N', 'AlN']
    assert unknown(tested, ['GaN', 'InN', 'Al', 'N2']) == []


def test_a_number_is_as_good_as_a_label() -> None:
    """As in training: it speaks for every composition with its element."""
    assert unknown(['AlN', 'Al', 'BN'], ['GaN'], given=['Al']) == ['BN']


def test_a_vacancy_in_a_hundred_atoms_is_near_enough() -> None:
    assert unknown(['Ga49N50', 'Ga30N50'], ['GaN']) == ['Ga30N50']


def test_nothing_to_test() -> None:
    assert unknown([], ['GaN']) == []
