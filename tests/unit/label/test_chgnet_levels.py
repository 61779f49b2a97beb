"""example_inputs/label: the corrections in CHGNet's energies are taken off."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.lj import LennardJones

from sevennet_mf.label.calculators import imported, made

EXAMPLE = Path(__file__).parents[3] / 'example_inputs' / 'label' / 'chgnet_levels.py'


@pytest.mark.parametrize(
    ('formula', 'structure', 'length', 'energy'),
    [
        ('MgO', 'rocksalt', 4.25, -0.687),
        ('MgS', 'rocksalt', 5.23, -0.503),
        ('LiF', 'rocksalt', 4.07, -0.462),
        ('NaCl', 'rocksalt', 5.69, -0.614),
        ('GaN', 'zincblende', 4.5, -0.361),
        ('GaAs', 'zincblende', 5.65, 0.0),
    ],
)
def test_corrections_are_those_of_the_materials_project(
    formula: str, structure: str, length: float, energy: float
) -> None:
    """As of A. Wang et al., Sci. Rep. 11, 15496 (2021), by pymatgen."""
    correction = imported(f'{EXAMPLE}:correction')
    assert correction(bulk(formula, structure, length)) == pytest.approx(energy)


def test_a_hubbard_u_is_another_level() -> None:
    correction = imported(f'{EXAMPLE}:correction')
    with pytest.raises(ValueError, match=r'FeO: CHGNet was trained on PBE\+U'):
        correction(bulk('FeO', 'rocksalt', 4.33))


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the models that are loaded; a pair potential stands for CHGNet."""
    names: list[str] = []

    class CHGNetCalculator(LennardJones):
        def __init__(self, model: Any, use_device: str) -> None:
            super().__init__()

    dynamics, model = ModuleType('chgnet.model.dynamics'), ModuleType('chgnet.model')
    dynamics.CHGNetCalculator = CHGNetCalculator  # type: ignore[attr-defined]
    model.CHGNet = SimpleNamespace(  # type: ignore[attr-defined]
        load=lambda model_name, **options: names.append(model_name)
    )
    for name, module in {
        'chgnet': ModuleType('chgnet'),
        'chgnet.model': ModuleType('chgnet.model'),
        'chgnet.model.dynamics': dynamics,
        'chgnet.model.model': model,
    }.items():
        monkeypatch.setitem(sys.modules, name, module)
    return names


def test_only_energies_of_pbe_lose_the_corrections(loaded: list[str]) -> None:
    atoms: Atoms = bulk('MgO', 'rocksalt', 4.25)
    plain = LennardJones()
    wanted = plain.get_potential_energy(atoms)
    energies = {}
    for name, arguments in (
        ('pbe', {}),
        ('pbe', {'corrections': True}),
        ('r2scan', {}),
    ):
        calculator = made(f'{EXAMPLE}:{name}', arguments)
        atoms.calc = calculator
        energies[name, bool(arguments)] = atoms.get_potential_energy() - wanted
        assert calculator.results['free_energy'] == calculator.results['energy']
        assert (atoms.get_forces() == plain.get_forces(atoms)).all()
    assert energies['pbe', False] == pytest.approx(0.687)
    assert energies['pbe', True] == pytest.approx(0.0)
    assert energies['r2scan', False] == pytest.approx(0.0)
    assert loaded == ['0.3.0', '0.3.0', 'r2scan']
