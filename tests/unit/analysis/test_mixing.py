"""Mixing energies of the real data, and R²."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import read

from sevennet_mf.analysis.mixing import mixing_energy, r_squared
from sevennet_mf.errors import UserError

ENDS = ('GaN', 'InN')


def labelled(ingan: Path, method: str) -> tuple[list[Atoms], list[float]]:
    structures = read(ingan / f'mixing_{method}.extxyz', ':')
    return structures, [atoms.get_potential_energy() for atoms in structures]


@pytest.mark.parametrize(('method', 'half'), [('pbe', 113), ('r2scan', 134)])
def test_indium_gallium_nitride(ingan: Path, method: str, half: int) -> None:
    """113 and 134 meV/atom at x = 0.5, as tests/data/README.md says."""
    structures, energies = labelled(ingan, method)
    found = mixing_energy(structures, energies, ENDS)
    assert found.x.tolist() == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert round(found.energy[2]) == half
    assert found.energy[[0, 4]].tolist() == pytest.approx([0, 0], abs=1e-9)
    assert found.is_mixed.tolist() == [False, True, True, True, False]
    # the other way round, and with formulas of several units
    mirrored = mixing_energy(structures, energies, ('In2N2', 'Ga2N2'))
    np.testing.assert_allclose(mirrored.x, 1 - found.x)
    np.testing.assert_allclose(mirrored.energy, found.energy, atol=1e-9)


def test_sizes_and_formula_units_may_differ() -> None:
    """1 MgO + 1 Mg2SiO4 = 9 atoms; energies per unit -2 and -7."""
    structures = [Atoms('Mg2O2'), Atoms('Mg2SiO4'), Atoms('Mg3SiO5')]
    found = mixing_energy(structures, [-4.0, -7.0, -8.1], ('MgO', 'Mg2SiO4'))
    assert found.x.tolist() == pytest.approx([0, 1, 0.5])
    assert found.energy.tolist() == pytest.approx([0, 0, 100])


def test_the_lowest_of_several_end_members_counts() -> None:
    structures = [Atoms('GaN'), Atoms('Ga2N2'), Atoms('InN'), Atoms('GaInN2')]
    found = mixing_energy(structures, [-5.0, -12.0, -4.0, -9.6], ENDS)
    assert found.energy.tolist() == pytest.approx([500, 0, 0, 100])


@pytest.mark.parametrize(
    ('structures', 'energies', 'ends', 'message'),
    [
        (['GaN'], [1.0], ENDS, 'none of the structures is InN'),
        (['GaN', 'InN', 'AlN'], [1.0] * 3, ENDS, '2, AlN, is not a mixture'),
        (['GaN', 'InN', 'Ga2N'], [1.0] * 3, ENDS, '2, Ga2N, is not a mixture'),
        (['GaN', 'InN'], [1.0], ENDS, '2 structures and energies of shape'),
        (['GaN', 'InN'], [1.0, float('inf')], ENDS, 'energy of structure 1 is inf'),
        (['GaN'], [1.0], ('GaN', 'Ga2N2'), 'GaN and Ga2N2 are the same'),
        (['GaN'], [1.0], ('GaN', 'indium'), "such as 'GaN', got 'indium'"),
    ],
)
def test_misuse(
    structures: list[str], energies: list[float], ends: tuple, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        mixing_energy([Atoms(formula) for formula in structures], energies, ends)


def test_r_squared() -> None:
    assert r_squared([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) == 1
    assert r_squared([1.0, 2.0, 3.0], [2.0, 2.0, 2.0]) == 0
    # residuals 1, 0, 1 against a spread of 2
    assert r_squared([1.0, 2.0, 3.0], [2.0, 2.0, 4.0]) == pytest.approx(0)
    assert r_squared([0.0, 4.0], [1.0, 5.0]) == pytest.approx(1 - 2 / 8)
    assert r_squared([1.0, 2.0], [2.0, 1.0]) == pytest.approx(-3)
    with pytest.raises(UserError, match='two different reference values'):
        r_squared([1.0, 1.0], [1.0, 2.0])
    with pytest.raises(UserError, match='two different reference values'):
        r_squared([], [])
    with pytest.raises(UserError, match='as many predictions'):
        r_squared([1.0, 2.0], [1.0])
