"""Which keys of labels `init` takes by itself, and which it has to be told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from sevennet_mf.draft.label_keys import completed, given
from sevennet_mf.draft.levels import Level
from sevennet_mf.errors import UserError

F = np.array([[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]])
S = np.eye(3) / 100
E = -9.0
REF = {'REF_energy': E, 'REF_forces': F, 'REF_stress': S}


def level(path: Path, labels: dict[str, Any], **results: Any) -> Level:
    """Two structures, of which the first is an atom without forces and stress."""
    lone = Atoms('Ga', [[0, 0, 0]])
    whole = Atoms('GaN', [[0, 0, 0], [1.1, 1.1, 1.2]], cell=[3, 3.1, 3.2], pbc=True)
    for atoms in (lone, whole):
        for name, value in labels.items():
            if np.shape(value) == F.shape:
                atoms.set_array(name, value[: len(atoms)])
            elif atoms.pbc.any() or np.ndim(value) == 0:
                atoms.info[name] = value
        own = results if atoms is whole else {}
        if 'energy' in results:
            own = {'energy': -1.0, **own}
        if own:
            atoms.calc = SinglePointCalculator(atoms, **own)
    write(path / 'a.extxyz', [lone, whole], format='extxyz')
    return Level('pbe', (str(path / 'a.extxyz'),))


REF_KEYS = {
    'energy_key': 'REF_energy',
    'force_key': 'REF_forces',
    'stress_key': 'REF_stress',
}


@pytest.mark.parametrize(
    ('labels', 'results', 'keys'),
    [
        (REF, {}, REF_KEYS),
        ({'force': F, 'virial': S}, {'energy': E}, {
            'force_key': 'force', 'virial_key': 'virial',
        }),
        # of the energy that is named the forces that ASE reads are
        ({'total_energy': E}, {'forces': F}, {
            'energy_key': 'total_energy', 'force_key': 'forces',
        }),
        # nothing to name
        ({}, {'energy': E, 'forces': F}, {}),
        ({'REF_forces': F}, {'energy': E, 'forces': F}, {}),
        ({}, {'energy': E, 'free_energy': 0.0}, {'energy_key': 'energy'}),
        # two of a kind
        ({**REF, 'MACE_energy': -8.0}, {}, {}),
        ({'REF_forces': 2 * F}, {'energy': E, 'forces': F}, {}),
        ({**REF, 'REF_virial': S}, {}, {}),
        ({'virial': S}, {'energy': E, 'stress': np.ones(6)}, {}),
        # of two origins
        ({'REF_energy': E, 'dft_forces': F}, {}, {}),
        ({'REF_energy': E}, {'forces': F}, {}),
        ({'REF_forces': F}, {'energy': E}, {}),
    ],
)
def test_what_alone_can_be_meant_is_taken(
    tmp_path: Path,
    labels: dict[str, Any],
    results: dict[str, Any],
    keys: dict[str, str],
) -> None:
    found = completed(level(tmp_path, labels, **results))
    assert found.keys == keys
    assert found.taken == tuple(keys)


def test_what_was_typed_stays_and_the_rest_is_found(tmp_path: Path) -> None:
    of_two = level(tmp_path, {**REF, 'MACE_energy': -8.0})
    (typed,) = given([of_two], {'energy_key': ['REF_energy']})
    assert completed(typed).keys == REF_KEYS
    assert completed(typed).taken == ('force_key', 'stress_key')
    (typed,) = given([of_two], {'energy_key': ['MACE_energy']})
    assert completed(typed).keys == {'energy_key': 'MACE_energy'}  # another origin
    (typed,) = given([typed], {'force_key': ['none'], 'stress_key': ['none']})
    assert completed(typed).keys == {
        'energy_key': 'MACE_energy',
        'force_key': None,
        'stress_key': None,
    }


def test_files_of_one_level_that_differ_are_left_to_the_user(tmp_path: Path) -> None:
    (tmp_path / 'b').mkdir()
    one, other = level(tmp_path, REF), level(tmp_path / 'b', {'E_energy': E})
    assert completed(Level('pbe', one.files + other.files)).keys == {}


def test_a_key_is_of_all_levels_or_of_one() -> None:
    two = [Level('pbe', ('a',)), Level('r2scan', ('b',))]
    found = given(two, {'energy_key': ['E', 'r2scan=E2'], 'force_key': None})
    assert [x.keys for x in found] == [{'energy_key': 'E'}, {'energy_key': 'E2'}]
    with pytest.raises(UserError, match='--energy_key: .*Did you mean .r2scan'):
        given(two, {'energy_key': ['r2scn=E']})
    with pytest.raises(UserError, match='stress_key and virial_key both'):
        given(two, {'stress_key': ['S'], 'virial_key': ['V']})
