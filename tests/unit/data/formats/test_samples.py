"""Real files, where they lie beside the checkout; skipped elsewhere.

What must come out is known without the package: from other fields of the same
record, from the same frames in another form, or from plain arithmetic.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest

from sevennet_mf.config.paths import data_files
from sevennet_mf.data.reading.notes import Told
from sevennet_mf.data.reading.read import Structure, read_entry
from sevennet_mf.data.reading.stress import as_ase
from sevennet_mf.errors import UserError

SAMPLES = Path(__file__).parents[5] / 'shared' / 'data' / 'formats'
KBAR = 1602.1766208
pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason='no samples here')


def read(name: str, told: Told | None = None, **entry: Any) -> list[Structure]:
    files = data_files(str(SAMPLES / name))
    assert files, name
    whole = {'file': files, 'fidelity': 'a', **entry}
    return list(read_entry(whole, None, ['a'], 4.0, told=told))


def kbar(structure: Structure) -> np.ndarray:
    """xx yy zz yz xz xy, positive under compression."""
    assert structure.stress is not None
    return -KBAR * as_ase(structure.stress)


def test_matpes() -> None:
    (own,) = read('matpes/MatPES-PBE-2025.1.sample.json.gz')
    assert own.energy == -13.19442081
    expected = [-5.71186022, -9.34590239, 13.64346365, 22.84178803, 23.6719352]
    assert kbar(own)[:5] == pytest.approx(expected, rel=1e-6)
    for level in ('PBE', 'r2SCAN'):
        name = f'matpes/elemental-{level}.json.gz'
        records = json.loads(gzip.decompress((SAMPLES / name).read_bytes()))
        for one, record in zip(read(name), records, strict=True):
            assert one.energy == record['energy']
            assert kbar(one) == pytest.approx(record['stress'], abs=1e-5)
            assert one.forces == pytest.approx(np.array(record['forces']))
    atoms = read('matpes/MatPES-PBE-atoms.sample.json.gz', format='matpes')
    assert len(atoms) == 15
    assert all(one.forces is None and one.stress is None for one in atoms)


def test_mptrj_in_two_forms() -> None:
    from_json = read('mptrj/MPtrj_2022.9.rebuilt.json')
    from_xyz = read('mptrj/mptrj_mattersim.extxyz')
    assert len(from_json) == len(from_xyz) == 11
    for one, other in zip(from_json, from_xyz, strict=True):
        assert one.energy == pytest.approx(other.energy, abs=1e-7)
        assert one.forces == pytest.approx(other.forces)
        assert one.stress == pytest.approx(other.stress, abs=1e-8)
        assert one.positions == pytest.approx(other.positions, abs=1e-6)


def test_chgnet() -> None:
    (own,) = read('chgnet_vasp_json/chgnet_dataset.json', format='chgnet')
    assert own.energy == -153.0123588
    # OUTCAR has xx yy zz xy yz zx
    outcar = np.array([-18.496, -8.420, -14.210, -0.308, 1.092, -1.284])
    assert kbar(own) == pytest.approx(outcar[[0, 1, 2, 4, 5, 3]], abs=1e-3)


def test_fairchem() -> None:
    pbe, r2scan = read('fairchem_aselmdb/pbe'), read('fairchem_aselmdb/r2scan')
    assert len(pbe) == len(r2scan) == 5
    assert all(one.stress is not None for one in pbe)
    assert all(one.stress is None for one in r2scan)
    assert pbe[0].energy == -38.50755634053016
    assert pbe[0].positions == pytest.approx(r2scan[0].positions)
    assert len(read('fairchem_aselmdb/molecules')) == 4


def test_ani() -> None:
    name, told = 'ani1x_h5/ani1x-form.h5', Told()
    low = read(name)
    high = read(name, told, energy_key='ccsd(t)_cbs.energy')
    assert (len(low), len(high)) == (5, 3)
    assert any('2 structures left out' in line.text for line in told.lines())
    assert low[0].energy == pytest.approx(-40.48662725 * 27.211386, rel=1e-7)
    assert low[0].forces is not None
    assert low[0].forces[0, 0] == pytest.approx(0.10941051 * 27.211386, rel=1e-6)
    with pytest.raises(UserError, match='none of 5 structures'):
        read(name, energy_key='wb97x_tz.energy')


def test_spice_is_ani_in_other_units() -> None:
    """Water in both files is the same."""
    told = Told()
    spice = read('spice_h5/SPICE-form.hdf5', told)[2:]
    ani = read('ani1x_h5/ani1x-form.h5')[2:]
    assert any('2 of charge 1' in line.text for line in told.lines())
    for one, other in zip(spice, ani, strict=True):
        assert one.energy == pytest.approx(other.energy, abs=1e-6)
        assert one.positions == pytest.approx(other.positions, abs=1e-6)
        assert one.forces == pytest.approx(other.forces, abs=2e-5)


def test_qm7x_and_aimnet() -> None:
    found = read('qm7x_h5/1000-form.hdf5')
    assert len(found) == 5
    bare = read('qm7x_h5/1000-form.hdf5', energy_key='ePBE0')
    gaps = [a.energy - b.energy for a, b in zip(found, bare, strict=True)]
    assert gaps == pytest.approx([-0.02, -0.01, -0.02, -0.03, -0.01])
    told = Told()
    assert len(read('aimnet_h5/dataset.h5', told)) == 195
    assert any('charge -1, spin 2' in line.text for line in told.lines())


def test_deepmd_in_two_forms() -> None:
    plain, mixed = read('deepmd/npy'), read('deepmd/mixed')
    assert (len(plain), len(mixed)) == (8, 6)
    pairs = [
        (a, b)
        for a in plain
        for b in mixed
        if (a.numbers == b.numbers).all() and np.allclose(a.positions, b.positions)
    ]
    assert len(pairs) == 4
    for one, other in pairs:
        assert one.energy == other.energy
        assert one.stress == pytest.approx(other.stress)
    free = read('deepmd/npy_nopbc')
    assert all(s.pbc is not None and not s.pbc.any() for s in free)


def test_mace() -> None:
    told = Told()
    (own,) = read('mace_extxyz/tiny_train.xyz', told, format='mace')
    frames = ase.io.read(SAMPLES / 'mace_extxyz/tiny_train.xyz', ':')
    assert own.energy == frames[3].info['REF_energy']
    assert as_ase(own.stress) == pytest.approx(frames[3].info['REF_stress'])
    energies = [one.info['REF_energy'] for one in frames[:3]]
    assert told.isolated == {'a': dict(zip('HCO', energies, strict=True))}
    assert len(read('mace_extxyz/regression_train.xyz', format='mace')) == 2


def test_metatrain() -> None:
    keys = {'force_key': 'force', 'virial_key': 'virial'}
    carbon = read('metatrain_xyz/carbon_reduced.xyz', **keys)
    assert carbon[0].stress is not None
    volume = abs(np.linalg.det(carbon[0].cell))
    assert carbon[0].stress[0] * volume == pytest.approx(17.67401361)
    ethanol = read('metatrain_xyz/ethanol_reduced.xyz', energy_unit='kcal/mol')
    assert ethanol[0].energy / 27.211386 == pytest.approx(-154.71, abs=0.01)
