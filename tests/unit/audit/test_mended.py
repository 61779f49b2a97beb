"""What `inspect` says of units: the line of YAML that would mend them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import published
import pytest
import yaml

from sevennet_mf.audit import between_fidelities as between
from sevennet_mf.audit import derivatives
from sevennet_mf.audit.inspect import inspect
from sevennet_mf.audit.likely_units import ENERGY_UNITS
from sevennet_mf.audit.remedies import either


@pytest.mark.parametrize(
    ('name', 'unit', 'known', 'factor', 'words'),
    [
        ('forces', 'eV/Å', between.FORCE_UNITS, 23.06,
         '`force_unit: kcal/mol/Å` in the entry of high'),
        ('forces', 'eV/Å', between.FORCE_UNITS, -1.0, '`gradient_key:` instead of'),
        ('stresses', 'eV/Å^3', between.STRESS_UNITS, 1602.18,
         '`stress_unit: kbar` in the entry of high'),
        ('stresses', 'eV/Å^3', between.STRESS_UNITS, 1 / 160.2,
         '`stress_unit: GPa` in the entry of low'),
        ('stresses', 'eV/Å^3', between.STRESS_UNITS, -1.0,
         '`stress_sign: compression` in the entry whose sign is wrong'),
        ('stresses', 'eV/Å^3', {'eV as a virial': 57.0}, 57.0,
         '`virial_key:` instead of `stress_key:` in the entry of high'),
    ],
)  # fmt: skip
def test_lines_for_paired_labels(
    name: str, unit: str, known: dict[str, float], factor: float, words: str
) -> None:
    x = np.linspace(-1.0, 1.0, 40)
    pair = ('low', 'high', name, unit, x)
    (found,) = between._components(*pair, factor * x, known)
    assert words in found.message
    assert not list(between._components(*pair, 1.1 * x, known))


def test_lines_for_energies() -> None:
    found = between._lines('energy_unit', 1 / 96.485, 'high', 'low', ENERGY_UNITS)
    assert either(found) == ' Write `energy_unit: kJ/mol` in the entry of low.'
    found = between._lines('energy_unit', 1 / 27.2114, 'high', 'low', ENERGY_UNITS)
    assert either(found) == (
        ' Write `energy_unit: Hartree` in the entry of high, or `energy_unit: '
        'kcal/mol` in the entry of low.'
    )


def test_lines_for_energies_against_forces() -> None:
    table = np.zeros((10, 8))
    found = derivatives._of_force('pbe', 1 / 27.2114, 0.01, table)
    assert found is not None
    lines = ' Write `energy_unit: Hartree` or `force_unit: kcal/mol/Å` in its entry.'
    assert found.message.endswith(lines)
    found = derivatives._of_force('pbe', -1.0, 0.01, table)
    assert found is not None
    assert '`gradient_key:` instead of `force_key:`' in found.message
    found = derivatives._of_stress('pbe', -1 / 1602.18, 0.01)
    assert found is not None
    lines = ' Write `stress_unit: kbar` and `stress_sign: compression` in its entry.'
    assert found.message.endswith(lines)


def test_what_was_left_out_is_a_note(tmp_path: Path) -> None:
    molecules = published.molecules(5)
    high = [np.nan, -2000.5, -3000.5, -4000.5, -5000.5]
    file = published.ani1x(tmp_path / 'a.h5', molecules, high)
    entries = [
        {'file': str(file), 'fidelity': 'dft'},
        {'file': str(file), 'fidelity': 'cc', 'format': 'ani1ccx'},
    ]
    path = tmp_path / 'input.yaml'
    data = {'load_trainset_path': entries}
    path.write_text(yaml.safe_dump({'model': {'cutoff': 4.0}, 'data': data}))
    found = [p for p in inspect(str(path)).problems if p.kind == 'files']
    assert [(p.severity, p.message) for p in found] == [
        ('note', f'{file}: 1 structures left out: their energy at this level was '
         'not computed'),
    ]  # fmt: skip
