"""The sum of a model and a model of the difference, as a calculator of ASE."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import (
    calculate_numerical_forces,
    calculate_numerical_stress,
)
from helpers import (
    ase_keeps_all,
    randomise,
    save_checkpoint,
    structures,
    to_double,
    trained,
)

import sevennet_mf
from sevennet_mf import keys
from sevennet_mf.calculators.delta import DeltaCalculator
from sevennet_mf.calculators.fidelity import FidelityCalculator
from sevennet_mf.calculators.reference_warnings import reference_doubts
from sevennet_mf.errors import UserError
from sevennet_mf.model.load import load_model

QUANTITIES = ('energy', 'free_energy', 'energies', 'forces', 'stress')


@pytest.fixture(scope='module')
def files(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """low: pbe and r2scan; difference: to pbe; other: of elements low lacks."""
    folder = tmp_path_factory.mktemp('delta')
    model, config = trained(names=('gap',), lmax=2)
    randomise(model, 1.0, seed=2)
    config[keys.PROVENANCE] = {
        'fidelities': ['gap'],
        'about': {'gap': {'difference_to': 'pbe'}},
    }
    kinds = {
        'low': trained('gain'),
        'difference': (model, config),
        'other': trained(names=('pbe',), chemical_species=['C', 'H']),
        'partly': trained(names=('pbe',), chemical_species=['C', 'N', 'Ga']),
    }
    return {k: save_checkpoint(folder / f'{k}.pth', *v) for k, v in kinds.items()}


def delta(files: Mapping[str, Path], **changes: object) -> DeltaCalculator:
    how = {'low': files['low'], 'difference': files['difference']}
    return DeltaCalculator(**{**how, 'fidelity': 'pbe', 'device': 'cpu', **changes})  # type: ignore[arg-type]


def cell() -> Atoms:
    (atoms,) = structures(1)
    atoms.calc = None
    return atoms


def test_it_is_the_sum_of_both(files: Mapping[str, Path]) -> None:
    found = delta(files)
    parts = [
        FidelityCalculator(files['low'], 'pbe', device='cpu'),
        FidelityCalculator(files['difference'], device='cpu'),
    ]
    parts[1].differences.clear()  # used as one
    first = cell()
    second = first.copy()
    del second[1]
    for atoms in (first, second, first):
        for name in QUANTITIES:
            low, difference = (p.get_property(name, atoms) for p in parts)
            result = found.get_property(name, atoms)
            np.testing.assert_allclose(result, low + difference, atol=1e-6)
            assert np.abs(difference).max() > 1e-5
            parts_of = found.contributions[name]
            assert found.results[f'{name}_contributions'] is parts_of
            np.testing.assert_allclose(parts_of, [low, difference], atol=1e-6)
        first.calc = found
        ase_keeps_all(first, QUANTITIES)
        assert set(found.results) == set(found.contributions) == set(QUANTITIES)
    assert found.get_forces(first).shape == (len(first), 3)
    assert found.get_stress(first).shape == (6,)


def test_forces_and_stress_are_derivatives(files: Mapping[str, Path]) -> None:
    atoms = cell()
    atoms.calc = found = delta(files)
    for model in (found.low, found.difference):
        to_double(model._evaluator.runner.model)
    forces, stress = atoms.get_forces(), atoms.get_stress()
    few = [0, 3]
    numerical = calculate_numerical_forces(atoms, 1e-4, few)
    np.testing.assert_allclose(forces[few], numerical, atol=1e-5)
    assert np.abs(forces).max() > 0.01
    numerical = calculate_numerical_stress(atoms, 1e-4)
    np.testing.assert_allclose(stress, numerical, atol=1e-6)


def test_one_calculation_gives_everything(files: Mapping[str, Path]) -> None:
    atoms = cell()
    atoms.calc = found = delta(files)
    runs: list[int] = []
    found.difference._evaluator.runner.model.register_forward_pre_hook(
        lambda module, inputs: runs.append(1)
    )
    atoms.get_potential_energy()
    atoms.get_forces()
    atoms.get_stress()
    atoms.get_potential_energies()
    assert len(runs) == 1
    atoms.rattle(0.01)
    atoms.get_forces()
    assert len(runs) == 2


def test_what_ase_writes(files: Mapping[str, Path], tmp_path: Path) -> None:
    atoms = cell()
    atoms.calc = found = delta(files)
    energy = atoms.get_potential_energy()
    for name in ('a.extxyz', 'a.traj'):
        ase.io.write(tmp_path / name, atoms)
        read = ase.io.read(tmp_path / name)
        assert read.get_potential_energy() == pytest.approx(energy)
        np.testing.assert_allclose(read.get_forces(), atoms.get_forces(), atol=1e-8)
    assert found.todict() == {
        'low': str(files['low']),
        'difference': str(files['difference']),
        'fidelity': 'pbe',
    }


def test_structures_that_have_no_energy(files: Mapping[str, Path]) -> None:
    found = delta(files, difference=files['partly'])
    assert found.elements == ['N', 'Ga']
    atoms = Atoms('GaN', [[0, 0, 0], [0, 0, 1.9]])
    energy = found.get_potential_energy(atoms)
    with pytest.raises(PropertyNotImplementedError, match='has no volume'):
        found.get_stress(atoms)
    with pytest.raises(UserError, match=r'\(difference\) does not know In; both'):
        found.get_potential_energy(cell())
    with pytest.raises(UserError, match=r'low\.pth \(low\) does not know C; both'):
        found.get_potential_energy(Atoms('CN', [[0, 0, 0], [0, 0, 1.2]]))
    with pytest.raises(UserError, match='no atoms'):
        found.get_potential_energy(Atoms())
    assert found.get_potential_energy(atoms) == energy


def test_misuse(files: Mapping[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match='has the fidelities .* choose one'):
        delta(files, fidelity=None)
    with pytest.raises(UserError, match="got 'r2scna'. Did you mean 'r2scan'"):
        delta(files, fidelity='r2scna')
    with pytest.raises(UserError, match='must be a single name'):
        delta(files, fidelity={'pbe': 0.5, 'r2scan': 0.5})
    with pytest.raises(UserError, match='a model of the difference must have one'):
        delta(files, low=files['other'], difference=files['low'], fidelity=None)
    with pytest.raises(UserError, match='are the same file'):
        delta(files, low=files['other'], difference=files['other'], fidelity=None)
    with pytest.raises(UserError, match='no element in common.* knows N, Ga, In'):
        delta(files, low=files['other'], fidelity=None)
    with pytest.raises(UserError, match="difference to 'pbe', .* added to 'r2scan'"):
        delta(files, fidelity='r2scan')
    swapped = {'low': files['difference'], 'difference': files['partly']}
    with pytest.raises(UserError, match='which is a model of a difference'):
        delta(files, fidelity=None, **swapped)
    with pytest.raises(UserError, match='no such file'):
        delta(files, difference=tmp_path / 'none.pth')
    with pytest.raises(UserError, match="device 'cuda:99' cannot be used"):
        delta(files, device='cuda:99')
    with pytest.raises(TypeError, match='enable_cuq'):
        delta(files, enable_cuq=True)


def test_the_difference_alone_is_no_potential(files: Mapping[str, Path]) -> None:
    alone = FidelityCalculator(files['difference'], device='cpu')
    with pytest.warns(UserWarning, match='gap of .* difference to pbe: it is not'):
        alone.get_potential_energy(cell())
    alone.get_potential_energy(structures(2)[1])  # said once
    (line,) = reference_doubts(load_model(str(files['difference'])))['gap']
    assert 'it is not a potential on its own' in line


def test_names_that_are_none_are_no_mismatch(files: Mapping[str, Path]) -> None:
    """A low model without a name; and PBE for pbe."""
    found = DeltaCalculator('7net-0', files['difference'], device='cpu')
    assert found.elements == ['N', 'Ga', 'In']
    DeltaCalculator('7net-mf-0', files['difference'], 'PBE', device='cpu')


def test_the_package_offers_it() -> None:
    assert sevennet_mf.DeltaCalculator is DeltaCalculator
