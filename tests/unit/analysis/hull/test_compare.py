"""Levels compared, from energies and volumes that are given."""

from __future__ import annotations

import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from sevennet_mf.analysis.hull.compare import Hulls, compare
from sevennet_mf.analysis.hull.picture import subscripts
from sevennet_mf.analysis.hull.relaxations import Relaxation, RelaxedSet
from sevennet_mf.analysis.hull.structures import StartPhase

# formula and volume per atom in Å^3
PHASES = {'Cu': ('Cu', 12.0), 'Au': ('Au', 17.0), 'a': ('CuAu', 14.0)}


def crystal(formula: str, volume: float) -> Atoms:
    atoms = bulk(formula, 'cesiumchloride' if formula == 'CuAu' else 'fcc', a=4.0)
    side = (volume * len(atoms) / atoms.cell.volume) ** (1 / 3)
    atoms.set_cell(side * atoms.cell, scale_atoms=True)
    return atoms


def hulls(
    energies: dict[str, dict[str, float]], **more: tuple[str, float]
) -> Hulls:
    """Of energies per atom, by level and phase; more phases than PHASES."""
    phases = {**PHASES, **more}
    starts = [
        StartPhase(name, name, f'{name}.cif:0', crystal(*what))
        for name, what in phases.items()
    ]
    levels = {}
    for level, own in energies.items():
        found: dict[str, Atoms | str] = {}
        for start in starts:
            atoms = start.atoms.copy()
            atoms.info.update(max_force=0.01, relaxation_steps=3)
            energy = own.get(start.name, 0.0) * len(atoms)
            atoms.calc = SinglePointCalculator(atoms, energy=energy)
            found[start.name] = atoms
        levels[level] = RelaxedSet('model', found)
    return compare(starts, levels, Relaxation(0.02, 10), 0.005)


def test_a_phase_that_is_stable_at_one_level() -> None:
    found = hulls({'low': {'a': -0.1}, 'high': {'a': 0.02}, 'other': {'a': 0.003}})
    [change] = found.changes
    assert (change.name, change.stable_at, change.is_clear) == ('a', ('low',), True)
    assert change.above_hull == pytest.approx({'high': 0.02, 'other': 0.003})
    [close] = hulls({'low': {'a': -0.1}, 'other': {'a': 0.003}}).changes
    assert not close.is_clear
    assert hulls({'low': {'a': -0.1}, 'high': {'a': -0.2}}).changes == []
    assert hulls({'low': {'a': 0.1}, 'high': {'a': 0.2}}).changes == []


def test_the_same_phase_twice_is_no_change() -> None:
    """Which of the two is on the hull is an accident."""
    energies = {'low': {'a': -1.0, 'b': -0.9995}, 'high': {'a': -0.9995, 'b': -1.0}}
    found = hulls(energies, b=('CuAu', 14.1))
    assert [level.phases['b'].same_as for level in found.levels] == ['a', 'a']
    assert 'b' not in {change.name for change in found.changes}
    other = hulls(energies, b=('CuAu', 14.2))  # 1.4 % larger
    assert not any(level.phases['b'].same_as for level in other.levels)
    assert {change.name for change in other.changes} == {'a', 'b'}


def test_tie_lines_are_compared_by_formula() -> None:
    """Another polymorph is no other reaction."""
    energies = {'low': {'a': -1.0, 'b': -0.9}, 'high': {'a': -0.9, 'b': -1.0}}
    low, high = hulls(energies, b=('CuAu', 15.0)).levels
    assert low.tie_lines == [('Au', 'a'), ('Cu', 'a')]
    assert high.tie_lines == [('Au', 'b'), ('Cu', 'b')]
    assert low.coexisting == high.coexisting


@pytest.mark.parametrize(
    ('name', 'drawn'),
    [
        ('Ti2O3', 'Ti$_{2}$O$_{3}$'),
        ('beta-Ti3O5', 'beta-Ti$_{3}$O$_{5}$'),
        ('Ti(OH)4', 'Ti(OH)$_{4}$'),
        ('mp-1234', 'mp-1234'),
    ],
)
def test_numbers_of_formulas_are_lowered(name: str, drawn: str) -> None:
    assert subscripts(name) == drawn
