"""Labels in a file that nothing would read, and virials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from sevennet_mf.config.blocks import DataEntry, validate
from sevennet_mf.data.reading import unread_labels
from sevennet_mf.data.reading.read import Structure, read_entry
from sevennet_mf.data.reading.stress import as_host, of_virial
from sevennet_mf.errors import UserError

FORCES = np.array([[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]])
STRESS = np.array([1.0, 2, 3, 4, 5, 6]) / 100  # xx yy zz yz xz xy
VOLUME = 3 * 3.1 * 3.2


def full(stress: np.ndarray) -> np.ndarray:
    xx, yy, zz, yz, xz, xy = stress
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


VIRIAL = -VOLUME * full(STRESS)


def structure(
    info: dict[str, Any] | None = None,
    arrays: dict[str, np.ndarray] | None = None,
    pbc: bool = True,
    **results: Any,
) -> Atoms:
    atoms = Atoms('GaN', [[0, 0, 0], [1.1, 1.1, 1.2]], cell=[3, 3.1, 3.2], pbc=pbc)
    atoms.info.update(info or {})
    for name, value in (arrays or {}).items():
        atoms.set_array(name, value)
    atoms.calc = SinglePointCalculator(atoms, **{'energy': -9.0, **results})
    return atoms


def read(path: Path, atoms: Atoms, **entry: Any) -> Structure:
    ase.io.write(path / 'a.extxyz', atoms, format='extxyz')
    whole = {'file': [str(path / 'a.extxyz')], 'fidelity': 'pbe', **entry}
    return next(read_entry(whole, None, ['pbe'], 4.0))


@pytest.mark.parametrize(
    'name',
    ['force', 'Forces', 'REF_forces', 'dft_force', 'DFT_forces', 'mace_forces']
    + ['forces_dft', 'DFTforces'],
)
def test_forces_by_any_name(tmp_path: Path, name: str) -> None:
    atoms = structure(arrays={name: FORCES})
    message = f':0: `{name}` is named like a label.*`force_key: {name}`, or `force'
    with pytest.raises(unread_labels.UnreadLabel, match=message):
        read(tmp_path, atoms)
    assert read(tmp_path, atoms, force_key=name).forces == pytest.approx(FORCES)
    assert read(tmp_path, atoms, force_key=None).forces is None


@pytest.mark.parametrize(
    ('name', 'value', 'key'),
    [
        ('REF_stress', full(STRESS), 'stress_key'),
        ('dft_stress', STRESS, 'stress_key'),
        ('virial_stress', STRESS, 'stress_key'),
        ('virial', VIRIAL, 'virial_key'),
        ('REF_virials', VIRIAL.ravel(), 'virial_key'),
        ('DFT_energy', -7.0, 'energy_key'),
        ('TotEnergy', -7.0, 'energy_key'),
    ],
)
def test_what_the_info_holds(
    tmp_path: Path, name: str, value: Any, key: str
) -> None:
    words = f'`{name}` .*`{key}: {name}`'
    with pytest.raises(unread_labels.UnreadLabel, match=words):
        read(tmp_path, structure({name: value}))
    own = read(tmp_path, structure({name: value}), **{key: name})
    if key == 'energy_key':
        assert own.energy == -7.0
    else:
        assert own.stress == pytest.approx(as_host(STRESS))
    own = read(tmp_path, structure({name: value}), **{key: None})
    assert (own.energy, own.stress) == (-9.0, None)


def test_all_of_a_structure_are_named_at_once(tmp_path: Path) -> None:
    atoms = structure({'REF_stress': STRESS}, {'REF_forces': FORCES})
    with pytest.raises(UserError, match='`REF_stress` are named like labels'):
        read(tmp_path, atoms)


def test_what_ase_reads_is_a_choice(tmp_path: Path) -> None:
    atoms = structure(arrays={'REF_forces': FORCES}, forces=2 * FORCES)
    message = '`force_key: REF_forces` or `force_key: forces`'
    with pytest.raises(UserError, match=message):
        read(tmp_path, atoms)
    own = read(tmp_path, atoms, force_key='forces')
    assert own.forces == pytest.approx(2 * FORCES)


@pytest.mark.parametrize(
    ('info', 'arrays'),
    [
        ({'energy_above_hull': 0.1, 'formation_energy': -1.0}, {}),
        ({'config_energy_weight': 1.0, 'energy_sigma': 0.01}, {}),
        ({'max_force': 0.3, 'energy_unit': 'eV', 'stress_level': 'low'}, {}),
        ({}, {'force_constants': FORCES, 'velo': FORCES}),
        ({}, {'forced': np.array([1, 0])}),
        # the same numbers twice are not lost
        ({'REF_energy': -9.0}, {'REF_forces': FORCES}),
        ({'virial': VIRIAL, 'REF_stress': STRESS}, {}),
    ],
)
def test_what_is_no_label_or_read_already(
    tmp_path: Path, info: dict[str, Any], arrays: dict[str, np.ndarray]
) -> None:
    atoms = structure(info, arrays, forces=FORCES, stress=STRESS)
    assert read(tmp_path, atoms).energy == -9.0


def test_a_molecule_has_no_stress_to_lose(tmp_path: Path) -> None:
    atoms = structure({'REF_stress': STRESS, 'virial': VIRIAL}, pbc=False)
    assert read(tmp_path, atoms).stress is None


def test_in_the_block_of_a_database() -> None:
    atoms = structure({'data': {'REF_forces': FORCES}})
    found = unread_labels.find(atoms, {}, unread_labels.StructureLabels(-9.0))
    assert found == [unread_labels.Unread('REF_forces', 'forces')]


def test_a_placeholder_for_a_free_energy(tmp_path: Path) -> None:
    atoms = structure(free_energy=0.0)
    message = r'its free_energy is 0, its energy -9 eV.*`energy_key: energy`'
    with pytest.raises(UserError, match=message):
        read(tmp_path, atoms)
    assert read(tmp_path, atoms, energy_key='energy').energy == -9.0
    assert read(tmp_path, atoms, energy_key='free_energy').energy == 0.0


def test_said_once_for_each_file_and_read_on(tmp_path: Path) -> None:
    frames = [structure(arrays={'force': k * FORCES}) for k in (1, 2, 3)]
    ase.io.write(tmp_path / 'a.extxyz', frames, format='extxyz')
    entry = {'file': [str(tmp_path / 'a.extxyz')], 'fidelity': 'pbe'}
    errors: list[UserError] = []
    assert len(list(read_entry(entry, None, ['pbe'], 4.0, errors.append))) == 3
    assert len(errors) == 1
    assert isinstance(errors[0], unread_labels.UnreadLabel)


# ---------------------------------------------------------------------- virials


def test_virials_of_atoms_are_summed(tmp_path: Path) -> None:
    columns = np.stack([0.25 * VIRIAL, 0.75 * VIRIAL])
    atoms = structure(arrays={'virial': columns.reshape(2, 9)})
    with pytest.raises(UserError, match='`virial` is named .*`virial_key: virial`'):
        read(tmp_path, atoms)
    own = read(tmp_path, atoms, virial_key='virial')
    assert own.stress == pytest.approx(as_host(STRESS))
    assert of_virial(columns, atoms, '') == pytest.approx(as_host(STRESS))


def test_a_virial_in_place_of_ases_stress(tmp_path: Path) -> None:
    atoms = structure({'virial': 2 * VIRIAL}, stress=STRESS)
    message = '`virial_key: virial` or `stress_key: stress`'
    with pytest.raises(UserError, match=message):
        read(tmp_path, atoms)
    own = read(tmp_path, atoms, virial_key='virial')
    assert own.stress == pytest.approx(2 * as_host(STRESS))
    for left_out in ({'virial_key': None}, {'stress_key': 'stress'}):
        own = read(tmp_path, atoms, **left_out)
        assert own.stress == pytest.approx(as_host(STRESS))


def test_a_virial_is_no_stress(tmp_path: Path) -> None:
    atoms = structure({'virial': VIRIAL})
    with pytest.raises(UserError, match=r'named like a virial .*Write `virial_'):
        read(tmp_path, atoms, stress_key='virial')
    keys = {'stress_key': 'a', 'virial_key': 'b'}
    with pytest.raises(UserError, match='both give the stress; take one out'):
        validate(DataEntry, {'file': 'a', **keys}, 'entry')


def test_a_virial_key_that_no_structure_has(tmp_path: Path) -> None:
    entry = {'file': [str(tmp_path / 'a.extxyz')], 'virial_key': 'w'}
    ase.io.write(tmp_path / 'a.extxyz', structure(), format='extxyz')
    with pytest.raises(UserError, match=r"no structure has virial_key 'w'.*null"):
        list(read_entry({**entry, 'fidelity': 'pbe'}, None, ['pbe'], 4.0))
