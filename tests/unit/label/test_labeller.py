"""The labels of one structure: what counts as one, and what is a failure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms
from helpers import build, model_config, save_checkpoint, structures
from label_helpers import cells, odd

from sevennet_mf import FidelityCalculator
from sevennet_mf.errors import UserError
from sevennet_mf.label.exchange import Task, Teacher
from sevennet_mf.label.labeller import Labeller
from sevennet_mf.label.labels import labelled
from sevennet_mf.label.teacher import teacher_of


def asked(teacher: Teacher, folder: Path, *structures: Atoms) -> list[Atoms | str]:
    """What comes of structures, one after another, at the first fidelity."""
    labeller = Labeller(teacher, folder)
    names = tuple(teacher.names)
    tasks = [Task(f's{i}', f'x:{i}', one, names) for i, one in enumerate(structures)]
    found = [labeller(task).results[names[0]] for task in tasks]
    labeller.close()
    return [
        one if isinstance(one, str) else checked(atoms, one)
        for atoms, one in zip(structures, found, strict=True)
    ]


def checked(atoms: Atoms, results: Mapping[str, Any]) -> Atoms | str:
    try:
        return labelled(atoms, results)
    except UserError as error:
        return str(error)


def test_labels_are_those_of_the_calculator(tmp_path: Path) -> None:
    [found] = asked(odd(), tmp_path, *cells(5.0))
    assert isinstance(found, Atoms)
    results = found.calc.results
    assert results['energy'] == -5.0  # the free energy, which has these forces
    assert (results['forces'] == 0.25).all()
    np.testing.assert_allclose(results['stress'], np.arange(6) / 100)


def test_without_a_cell_there_is_no_stress(tmp_path: Path) -> None:
    molecule = cells(5.0)[0]
    molecule.pbc = False
    slab = cells(5.0)[0]
    slab.pbc = [True, True, False]
    found = asked(odd(), tmp_path, molecule, slab)
    assert ['stress' in one.calc.results for one in found] == [False, True]


def test_a_calculator_may_have_energies_only(tmp_path: Path) -> None:
    [found] = asked(odd(function='EnergyOnly'), tmp_path, *cells(5.0))
    assert found.calc.results == {'energy': -4.5}


def test_constraints_do_not_touch_the_forces(tmp_path: Path) -> None:
    atoms = cells(5.0)[0]
    atoms.set_constraint(FixAtoms([0, 1]))
    [found] = asked(odd(), tmp_path, atoms)
    assert (found.calc.results['forces'] == 0.25).all()


@pytest.mark.parametrize(
    ('fault', 'words'),
    [
        ('raise', 'RuntimeError: no such pseudopotential'),
        ('unconverged', 'the calculation has not converged'),
        ('energy', 'energy of nan eV.'),
        ('forces', 'forces of nan eV/Å.'),
        ('stress', 'stress of nan kbar.'),
        ('large', 'forces of 100000 eV/Å, beyond 1000.'),
        ('shape', 'forces of shape (1, 3), where it must be (2, 3).'),
    ],
)
def test_a_failure_is_one_line_and_the_next_structure_is_fine(
    fault: str, words: str, tmp_path: Path
) -> None:
    first, bad, last = asked(odd(fault=fault), tmp_path, *cells(5.0, 10.0, 6.0))
    assert bad == words
    assert (first.calc.results['energy'], last.calc.results['energy']) == (-5, -6)


@pytest.mark.parametrize('fault', ['raise', 'unconverged', 'forces'])
def test_nothing_of_a_failed_calculation_is_left(fault: str, tmp_path: Path) -> None:
    """A calculator may keep results after an error, or begin from NaN."""
    labeller = Labeller(odd(fault=fault), tmp_path)
    before = labeller._calculator
    labeller(Task('s', 'x:0', cells(10.0)[0], ('low',)))
    assert labeller._calculator is None
    labeller(Task('s', 'x:0', cells(5.0)[0], ('low',)))
    assert labeller._calculator is not before


def test_elements_that_a_calculator_lacks_are_named(tmp_path: Path) -> None:
    teacher = teacher_of('ase.calculators.emt:EMT', ['emt'])
    [found] = asked(teacher, tmp_path, *cells(5.0))
    assert found == 'NotImplementedError: No EMT-potential for Ar'


@pytest.mark.parametrize(
    ('results', 'words'),
    [
        ({'energy': float('nan')}, 'energy of nan eV.'),
        ({'energy': None}, 'energy of nan eV.'),
        ({'energy': 1e8}, 'energy of 1e+08 eV, beyond 4e+06.'),
        ({'energy': 'low'}, "energy: 'low' are not numbers."),
        ({'energy': -1.0, 'stress': [1.0, 2.0]}, 'stress of shape'),
    ],
)
def test_what_is_no_label(results: dict[str, object], words: str) -> None:
    with pytest.raises(UserError) as error:
        labelled(cells(5.0)[0], results)
    assert words in str(error.value)


def test_a_placeholder_is_not_the_free_energy() -> None:
    found = labelled(cells(5.0)[0], {'energy': -3.0, 'free_energy': 0.0})
    assert found.calc.results['energy'] == -3.0


def test_files_of_a_calculator_are_in_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / 'work' / '1'
    asked(odd(), folder, *cells(5.0))
    assert (folder / 'output.txt').read_text() == '5.0'


def test_an_empty_folder_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / 'work' / '1'
    teacher = teacher_of('ase.calculators.lj:LennardJones', ['lj'])
    asked(teacher, folder, *cells(5.0))
    assert not folder.parent.exists()


def test_all_fidelities_of_a_checkpoint_at_once(tmp_path: Path) -> None:
    config = model_config()
    path = str(save_checkpoint(tmp_path / 'model.pth', build(config), config))
    atoms = structures(1)[0]
    labeller = Labeller(teacher_of(path, ['pbe', 'high=r2scan']), tmp_path / 'none')
    found = labeller(Task('s', 'x:0', atoms, ('pbe', 'high'))).results
    labeller.close()
    for name, own in (('pbe', 'pbe'), ('high', 'r2scan')):
        calculator = FidelityCalculator(path, own)
        for quantity in ('energy', 'forces', 'stress'):
            np.testing.assert_allclose(
                labelled(atoms, found[name]).calc.results[quantity],
                calculator.get_property(quantity, atoms),
                atol=1e-6,
            )
    assert not (tmp_path / 'none').exists()
    foreign = asked(teacher_of(path), tmp_path, *cells(5.0))
    assert 'Ar' in foreign[0]


@pytest.mark.parametrize(
    ('arguments', 'remedy'),
    [
        ({}, 'If it needs arguments, give them with --arguments.'),
        ({'fault': '', 'x': 1}, 'Correct --arguments (given: fault, x).'),
    ],
)
def test_a_calculator_that_cannot_be_made(
    arguments: dict[str, Any], remedy: str, tmp_path: Path
) -> None:
    told = odd(function='make' if arguments else 'needs', **arguments)
    with pytest.raises(UserError) as error:
        Labeller(told, tmp_path)
    said = str(error.value)
    assert 'the calculator cannot be made: TypeError: ' in said
    assert said.endswith(remedy)
