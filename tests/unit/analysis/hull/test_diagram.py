"""Energies above hull against numbers worked out by hand."""

from __future__ import annotations

import sys

import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from sevennet_mf.analysis.hull import Phase, energies_above_hull
from sevennet_mf.errors import UserError


def phases(**energies: float) -> dict[str, Phase]:
    """Of energies per atom, by the formulas that names begin with: 'TiO2_rutile'."""
    structures = [Atoms(name.split('_')[0]) for name in energies]
    totals = [e * len(a) for e, a in zip(energies.values(), structures, strict=True)]
    found = energies_above_hull(structures, totals, list(energies))
    return {phase.name: phase for phase in found}


def test_two_elements() -> None:
    """Mg at -1, O at -4: MgO forms at -1.5; Mg3O is above the tie line from it."""
    found = phases(
        Mg=-1.0, Mg2_bcc=-0.9, O2=-4.0, MgO=-4.0, Mg2O2=-3.8, Mg3O=-2.25, MgO3=-3.0
    )
    forms = {name: phase.formation_energy for name, phase in found.items()}
    wanted = {'MgO': -1.5, 'Mg2O2': -1.3, 'Mg3O': -0.5, 'MgO3': 0.25, 'Mg2_bcc': 0.1}
    for name, energy in wanted.items():
        assert forms[name] == pytest.approx(energy), name
    assert [name for name, phase in found.items() if phase.is_stable] == [
        'Mg',
        'O2',
        'MgO',
    ]
    above = {'Mg3O': 0.25, 'MgO3': 1.0, 'Mg2O2': 0.2, 'Mg2_bcc': 0.1, 'MgO': 0.0}
    for name, energy in above.items():
        assert found[name].above_hull == pytest.approx(energy), name
    # as many Mg atoms in Mg as in MgO
    assert found['Mg3O'].decays_to == pytest.approx({'Mg': 0.5, 'MgO': 0.5})
    assert found['Mg2O2'].decays_to == pytest.approx({'MgO': 1.0})
    references = {n: p.reference_of for n, p in found.items() if p.reference_of}
    assert references == {'Mg': 'Mg', 'O2': 'O'}
    assert found['Mg2O2'].formula == 'MgO'
    assert found['Mg3O'].fractions == pytest.approx({'Mg': 0.75, 'O': 0.25})
    assert found['Mg3O'].energy == -2.25


def test_three_elements() -> None:
    """MgTiO3 against MgO + TiO2: 5 atoms of -2 against 2 of -1.5 and 3 of -2."""
    found = phases(Mg=0.0, Ti=0.0, O=0.0, MgO=-1.5, TiO2=-2.0, MgTiO3=-1.7)
    assert found['MgTiO3'].above_hull == pytest.approx(0.1)
    assert found['MgTiO3'].decays_to == pytest.approx({'MgO': 0.4, 'TiO2': 0.6})


def test_a_constant_for_each_atom_of_an_element_changes_nothing() -> None:
    """What two fidelities differ by, most of all."""
    plain = {'Mg': -1.0, 'O2': -4.0, 'MgO': -4.0, 'Mg3O': -2.0}
    shifted = {'Mg': -6.0, 'O2': -4.0, 'MgO': -6.5, 'Mg3O': -5.75}
    for a, b in zip(
        phases(**plain).values(), phases(**shifted).values(), strict=True
    ):
        assert a.formation_energy == pytest.approx(b.formation_energy)
        assert a.above_hull == pytest.approx(b.above_hull)


def test_energies_of_a_calculator() -> None:
    structures = [bulk('Cu'), bulk('Au'), bulk('CuAu', 'rocksalt', a=5.0)]
    energies = []
    for structure in structures:
        copy = structure.copy()
        copy.calc = EMT()
        energies.append(copy.get_potential_energy())
    computed = energies_above_hull(structures, EMT())
    assert computed == energies_above_hull(structures, energies)
    assert [phase.name for phase in computed] == ['Cu (0)', 'Au (1)', 'AuCu (2)']
    assert computed[2].above_hull > 0.1
    assert structures[0].calc is None


def test_one_element_has_a_hull_too() -> None:
    found = phases(Ti_hcp=-7.8, Ti_bcc=-7.7)
    assert found['Ti_bcc'].above_hull == pytest.approx(0.1)
    assert found['Ti_hcp'].is_stable


def test_misuse() -> None:
    with pytest.raises(UserError, match='no structure of elemental O: formation'):
        phases(Ti=0.0, TiO2=-3.0)
    with pytest.raises(UserError, match='elemental O, Ti: '):
        phases(TiO2=-3.0)
    with pytest.raises(UserError, match='energy of structure 1, TiO, is nan'):
        phases(Ti=0.0, TiO=float('nan'), O2=0.0)
    with pytest.raises(UserError, match='2 structures and 1 energies'):
        energies_above_hull([Atoms('Ti'), Atoms('O2')], [0.0])
    with pytest.raises(UserError, match='names must be 2 different names'):
        energies_above_hull([Atoms('Ti'), Atoms('O2')], [0.0, 0.0], ['a', 'a'])
    with pytest.raises(UserError, match='none was given'):
        energies_above_hull([], [])
    with pytest.raises(UserError, match='structure 1 of the phase diagram has no'):
        energies_above_hull([Atoms('Ti'), Atoms()], [0.0, 0.0])


def test_without_pymatgen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'pymatgen.analysis.phase_diagram', None)
    with pytest.raises(UserError, match=r"pip install 'sevennet_mf\[analysis\]'"):
        phases(Ti=0.0)
