"""Every published form gives back the labels that were written into it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import published
import pytest
from ase import Atoms

from sevennet_mf.config.paths import data_files
from sevennet_mf.data.reading.notes import Told
from sevennet_mf.data.reading.read import Structure, read_entry
from sevennet_mf.data.reading.stress import as_host
from sevennet_mf.errors import UserError

CRYSTALS = published.crystals(3)
MOLECULES = published.molecules(5)


def read(
    path: Path, told: Told | None = None, key: str | None = None, **entry: Any
) -> list[Structure]:
    if key is None and 'fidelity' not in entry:
        entry['fidelity'] = 'pbe'
    whole = {'file': data_files(str(path)), **entry}
    return list(read_entry(whole, key, ['pbe', 'r2scan'], 4.0, told=told))


def said(told: Told) -> str:
    return '\n'.join(line.text for line in told.lines())


def check(
    found: Sequence[Structure],
    expected: Sequence[Atoms],
    has_forces: bool = True,
    energies: Sequence[float] | None = None,
) -> None:
    assert len(found) == len(expected)
    for k, (own, atoms) in enumerate(zip(found, expected, strict=True)):
        results = atoms.calc.results
        energy = results['energy'] if energies is None else energies[k]
        assert own.energy == pytest.approx(energy, abs=3e-6 * abs(energy) / 100)
        assert (own.numbers == atoms.numbers).all()
        assert own.positions == pytest.approx(atoms.positions, abs=2e-7)
        if has_forces:
            assert own.forces == pytest.approx(results['forces'], abs=1e-5)
        else:
            assert own.forces is None
        if 'stress' in results:
            assert own.cell == pytest.approx(atoms.cell.array)
            assert own.pbc is not None
            assert own.pbc.all()
            # the shear components differ, so that no order is taken for another
            assert np.ptp(results['stress'][3:]) > 1e-3
            assert own.stress == pytest.approx(as_host(results['stress']), abs=1e-7)
        else:
            assert own.stress is None


WITH_STRESS: dict[str, tuple[Callable[[Path], Path], dict[str, Any]]] = {
    'matpes': (lambda p: published.matpes(p / 'a.json.gz', CRYSTALS), {}),
    'matpes plain': (lambda p: published.matpes(p / 'a.json', CRYSTALS), {}),
    'mptrj': (lambda p: published.mptrj(p / 'a.json', CRYSTALS), {}),
    'chgnet': (
        lambda p: published.chgnet(p / 'a.json', CRYSTALS),
        {'format': 'chgnet'},
    ),
    'aselmdb': (lambda p: published.aselmdb(p / 'a.aselmdb', CRYSTALS), {}),
    'omat24': (
        lambda p: published.aselmdb(p / 'a.aselmdb', CRYSTALS),
        {'format': 'omat24'},
    ),
    'deepmd mixed': (
        lambda p: published.deepmd_mixed(p / 'a', CRYSTALS, 10),
        {'format': 'deepmd/mixed'},
    ),
    'mace': (lambda p: published.mace(p / 'a.xyz', CRYSTALS), {'format': 'mace'}),
    'colabfit': (
        lambda p: published.colabfit(p / 'a.parquet', CRYSTALS),
        {'stress_sign': 'tension'},
    ),
    'parquet': (
        lambda p: published.parquet(p / 'a.parquet', CRYSTALS),
        {
            'energy_key': 'energy',
            'energy_unit': 'eV',
            'force_key': 'forces',
            'stress_key': 'stress',
            'stress_unit': 'kbar',
            'stress_sign': 'compression',
        },
    ),
}


@pytest.mark.parametrize('form', WITH_STRESS)
def test_crystals(form: str, tmp_path: Path) -> None:
    write, entry = WITH_STRESS[form]
    found = read(write(tmp_path), **entry)
    check(found, CRYSTALS)
    if form != 'deepmd mixed':  # it has the folder's name
        assert [s.frame for s in found] == [0, 1, 2]


@pytest.mark.parametrize('index', [':', '1', '-1', '::2', '1:3', '-2:', '::-1'])
@pytest.mark.parametrize('form', ['matpes', 'mptrj', 'aselmdb', 'deepmd mixed'])
def test_an_index_picks_frames(form: str, index: str, tmp_path: Path) -> None:
    write, entry = WITH_STRESS[form]
    found = read(write(tmp_path), index=index, **entry)
    parts = [int(x) if x else None for x in index.split(':')]
    one = len(parts) == 1
    frames = [range(3)[parts[0]]] if one else [*range(3)][slice(*parts)]
    assert [s.frame for s in found] == frames
    check(found, [CRYSTALS[k] for k in frames])


def test_spice_has_gradients_in_atomic_units(tmp_path: Path) -> None:
    told = Told()
    found = read(published.spice(tmp_path / 'a.h5', MOLECULES), told)
    check(found, published.in_order(MOLECULES))
    assert 'forces minus `dft_total_gradient` in hartree/bohr' in said(told)


def test_the_units_in_a_file_come_before_those_of_its_form(tmp_path: Path) -> None:
    file = published.spice(tmp_path / 'a.h5', MOLECULES, 'nanometer')
    check(read(file), published.in_order(MOLECULES))
    message = '`units` says nanometer, not length_unit bohr'
    with pytest.raises(UserError, match=message):
        read(file, length_unit='bohr')


def test_qm7x_and_its_levels(tmp_path: Path) -> None:
    file = published.qm7x(tmp_path / 'a.hdf5', MOLECULES)
    check(read(file), MOLECULES)
    bare = read(file, energy_key='ePBE0')
    assert bare[0].energy == pytest.approx(published.energy(MOLECULES[0]) + 0.02)
    assert bare[0].forces == pytest.approx(published.forces(MOLECULES[0]) + 0.25)
    tight = read(file, energy_key='eDFTB+MBD')
    assert [s.energy for s in tight] == [-40.0, -41.0, -42.0, -43.0, -44.0]
    assert all(s.forces is None for s in tight)


def test_aimnet_says_that_charges_differ(tmp_path: Path) -> None:
    told = Told()
    frames = [MOLECULES[0]] * 4
    check(read(published.aimnet(tmp_path / 'a.h5', frames), told), frames)
    assert [line.loud for line in told.lines()] == [False, True]
    message = 'are of charge 0, spin 1, but 1 of charge 1, spin 2: the model'
    assert re.search(message, said(told))


# ---- several levels in one file; what is not computed


def test_ani_levels_of_one_file(tmp_path: Path) -> None:
    upper = [np.nan, -2000.5, -3000.5, np.nan, -5000.5]
    # a group of one level only is among them
    assert all(len(group) == 1 for group in published.groups(MOLECULES).values())
    file = published.ani1x(tmp_path / 'a.h5', MOLECULES, upper)
    ordered = published.in_order(MOLECULES)
    check(read(file), ordered)
    told = Told()
    found = read(file, told, energy_key='ccsd(t)_cbs.energy')
    kept = [a for a in ordered if not np.isnan(upper[MOLECULES.index(a)])]
    energies = [upper[MOLECULES.index(a)] for a in kept]
    check(found, kept, has_forces=False, energies=energies)
    assert '2 structures left out: their energy at this level' in said(told)
    check(read(file, format='ani1ccx'), kept, has_forces=False, energies=energies)


def test_a_level_that_no_structure_has(tmp_path: Path) -> None:
    file = published.ani1x(tmp_path / 'a.h5', MOLECULES, [np.nan] * 5)
    message = 'none of 5 structures can be used.*tz.energy'
    with pytest.raises(UserError, match=message):
        read(file, energy_key='wb97x_tz.energy')
    message = "which forces belong to 'wb97x_dz.enrgy' is not known.*force_key: null"
    with pytest.raises(UserError, match=message):
        read(file, energy_key='wb97x_dz.enrgy')
    with pytest.raises(UserError, match=r"Did you mean 'wb97x_dz\.energy'"):
        read(file, energy_key='wb97x_dz.enrgy', force_key=None)


def test_null_and_nan_are_no_label(tmp_path: Path) -> None:
    """In JSON of Python NaN may stand, which JSON does not know."""
    records = [published.matpes_record(a, k, 'PBE') for k, a in enumerate(CRYSTALS)]
    records[0]['stress'] = [float('nan')] * 6
    records[1]['forces'] = None
    records[2]['energy'] = float('nan')
    (tmp_path / 'a.json').write_text(json.dumps(records))
    assert 'NaN' in (tmp_path / 'a.json').read_text()
    told = Told()
    first, second = read(tmp_path / 'a.json', told)
    assert (first.stress, second.forces) == (None, None)
    assert first.forces is not None
    assert second.stress is not None
    assert '1 structures left out: their energy' in said(told)


def test_a_stress_of_nan_counts_as_missing_and_is_said(tmp_path: Path) -> None:
    frames = [atoms.copy() for atoms in CRYSTALS]
    for own, atoms in zip(frames, CRYSTALS, strict=True):
        own.calc = atoms.calc
        own.calc.atoms = own
    file = published.mace(tmp_path / 'a.xyz', CRYSTALS)
    text = file.read_text()
    start = text.index('REF_stress="') + len('REF_stress="')
    numbers = text[start : text.index('"', start)]
    nan = ' '.join(['NaN'] * len(numbers.split()))
    file.write_text(text.replace(numbers, nan))
    told = Told()
    found = read(file, told, format='mace')
    assert [s.stress is None for s in found] == [True, False, False]
    assert '1 structures have NaN for stress: taken as missing' in said(told)


def test_r2scan_without_stress(tmp_path: Path) -> None:
    frames = published.crystals(3, 'r2scan')
    assert all('stress' not in a.calc.results for a in frames)
    check(read(published.aselmdb(tmp_path / 'a.aselmdb', frames)), frames)
    check(read(published.matpes(tmp_path / 'a.json', frames, 'r2SCAN')), frames)
    file = published.chgnet(tmp_path / 'c.json', CRYSTALS, has_stress=False)
    assert [s.stress for s in read(file, format='chgnet')] == [None] * 3


# ---- an entry's own words come before those of the form


def test_another_energy_of_mptrj(tmp_path: Path) -> None:
    file = published.mptrj(tmp_path / 'a.json', CRYSTALS)
    found = read(file, energy_key='energy_per_atom', energy_unit='eV/atom')
    below = [published.energy(a) - 0.5 * len(a) for a in CRYSTALS]
    check(found, CRYSTALS, energies=below)
    message = 'like an energy per atom.*energy_unit: eV/atom'
    with pytest.raises(UserError, match=message):
        read(file, energy_key='energy_per_atom')


def test_null_leaves_a_label_of_a_form_out(tmp_path: Path) -> None:
    file = published.matpes(tmp_path / 'a.json', CRYSTALS)
    (first, *_) = read(file, force_key=None, stress_key=None)
    assert (first.forces, first.stress) == (None, None)


def test_own_units_and_order(tmp_path: Path) -> None:
    file = published.matpes(tmp_path / 'a.json', CRYSTALS)
    records = json.loads(file.read_text())
    for record in records:
        record['energy'] /= published.HARTREE
        stress = record['stress']
        # as a user's own script may have it: OUTCAR's order, GPa, ASE's sign
        record['stress'] = [-0.1 * stress[k] for k in (0, 1, 2, 5, 3, 4)]
    file.write_text(json.dumps(records))
    units = {'energy_unit': 'Hartree', 'force_unit': 'eV/Å', 'stress_unit': 'GPa'}
    check(read(file, **units, stress_sign='tension', stress_order='vasp'), CRYSTALS)


def test_key_tells_the_fidelity(tmp_path: Path) -> None:
    file = published.json_lines(tmp_path / 'a.jsonl', CRYSTALS, level='pbe')
    lines = file.read_text().splitlines()
    lines[1] = lines[1].replace('"level": "pbe"', '"level": "r2scan"')
    file.write_text('\n'.join(lines))
    general = {'energy_key': 'E', 'energy_unit': 'eV', 'force_key': 'F'}
    found = read(file, key='level', **general)
    assert [s.fidelity for s in found] == ['pbe', 'r2scan', 'pbe']
    data = [{'level': name} for name in ('r2scan', 'pbe', 'pbe')]
    file = published.aselmdb(tmp_path / 'a.aselmdb', CRYSTALS, data)
    found = read(file, key='level')
    assert [s.fidelity for s in found] == ['r2scan', 'pbe', 'pbe']


# ---- ASE-LMDB


def test_a_folder_of_databases(tmp_path: Path) -> None:
    published.aselmdb(tmp_path / 'data.0001.aselmdb', CRYSTALS[2:])
    published.aselmdb(tmp_path / 'data.0000.aselmdb', CRYSTALS[:2])
    np.savez(tmp_path / 'metadata.npz', natoms=[8, 8, 8])
    found = read(tmp_path)
    check(found, CRYSTALS)
    assert [s.file for s in found] == [0, 0, 1]


def test_what_is_in_the_data_of_a_row(tmp_path: Path) -> None:
    """Charge and spin stand there, and labels that come before the row's own."""
    data = [{'charge': 0, 'spin': 1}, {'charge': 0, 'spin': 1}]
    data.append({'charge': 1, 'spin': 2, 'energy': -7.5})
    told = Told()
    found = read(published.aselmdb(tmp_path / 'a.aselmdb', CRYSTALS, data), told)
    expected = [*map(published.energy, CRYSTALS[:2]), -7.5]
    assert [s.energy for s in found] == expected
    assert '1 of charge 1, spin 2' in said(told)


def test_gaps_in_a_database(tmp_path: Path) -> None:
    from ase_db_backends.aselmdb import LMDBDatabase

    file = published.aselmdb(tmp_path / 'a.aselmdb', CRYSTALS)
    with LMDBDatabase(file, use_lock_file=False) as database:
        database.delete([2])
    check(read(file), [CRYSTALS[0], CRYSTALS[2]])


def test_a_query_of_a_database(tmp_path: Path) -> None:
    file = published.aselmdb(tmp_path / 'a.aselmdb', CRYSTALS)
    found = read(file, index='id>1')
    assert [s.frame for s in found] == [1, 2]


def test_a_database_is_only_read(tmp_path: Path) -> None:
    file = published.aselmdb(tmp_path / 'a.aselmdb', CRYSTALS)
    before = file.read_bytes()
    file.chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        check(read(file), CRYSTALS)
        assert [p.name for p in tmp_path.iterdir()] == ['a.aselmdb']
    finally:
        tmp_path.chmod(0o755)
    assert file.read_bytes() == before


# ---- DeePMD


def same_atoms() -> list[Atoms]:
    frames = published.crystals(40)
    first = frames[0].get_chemical_symbols()
    return [a for a in frames if a.get_chemical_symbols() == first][:5]


def test_systems_and_sets(tmp_path: Path) -> None:
    frames = same_atoms()
    published.deepmd(tmp_path / 'all/one', frames)
    published.deepmd(tmp_path / 'all/two', frames[:1])
    found = read(tmp_path / 'all')
    check(found, [*frames, frames[0]])
    assert [s.frame for s in found] == [0, 1, 2, 3, 4, 0]
    assert found[4].source.endswith('all/one:4')


def test_as_dpdata_writes_and_reads(tmp_path: Path) -> None:
    dpdata = pytest.importorskip('dpdata')
    frames = same_atoms()
    published.deepmd(tmp_path / 'one', frames)
    theirs = dpdata.LabeledSystem(str(tmp_path / 'one'), fmt='deepmd/npy')
    found = read(tmp_path / 'one')
    for k, own in enumerate(found):
        assert own.energy == theirs['energies'][k]
        assert own.forces == pytest.approx(theirs['forces'][k])
        assert own.stress is not None
        stress = -theirs['virials'][k] / np.linalg.det(theirs['cells'][k])
        six = stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
        assert own.stress == pytest.approx(as_host(six))
    theirs.to('deepmd/npy', str(tmp_path / 'again'), prec=np.float64, set_size=3)
    check(read(tmp_path / 'again'), frames)


def test_molecules_without_a_box(tmp_path: Path) -> None:
    frames = [MOLECULES[0], MOLECULES[0]]
    folder = published.deepmd(tmp_path / 'a', frames, periodic=False)
    check(read(folder), frames)
    np.save(folder / 'set.000/box.npy', np.zeros((2, 9)))  # as dpdata has it
    check(read(folder), frames)
    (folder / 'nopbc').unlink()
    (folder / 'set.000/box.npy').unlink()
    with pytest.raises(UserError, match='neither `box.npy` nor a file `nopbc`'):
        read(folder)


def test_a_set_without_virial_or_forces(tmp_path: Path) -> None:
    folder = published.deepmd(tmp_path / 'a', same_atoms())
    (folder / 'set.001/virial.npy').unlink()
    (folder / 'set.002/force.npy').unlink()
    found = read(folder)
    assert [s.stress is None for s in found] == [False, False, True, True, False]
    assert [s.forces is None for s in found] == [False] * 4 + [True]


@pytest.mark.parametrize(
    ('name', 'text', 'message'),
    [
        ('type_map.raw', None, 'no type_map.raw, so the elements of its'),
        ('type_map.raw', 'Ga\n', 'no line 2 for the type 1'),
        ('type_map.raw', 'Ga\nNN\n', "'NN' is no chemical symbol"),
        ('type.raw', 'a b\n', 'does not list the type of each atom'),
    ],
)
def test_types_without_a_name(
    name: str, text: str | None, message: str, tmp_path: Path
) -> None:
    folder = published.deepmd(tmp_path / 'a', same_atoms())
    (folder / name).unlink()
    if text is not None:
        (folder / name).write_text(text)
    with pytest.raises(UserError, match=message):
        read(folder)


def test_weights_of_single_atoms(tmp_path: Path) -> None:
    folder = published.deepmd(tmp_path / 'a', same_atoms(), set_size=5)
    weights = np.ones((5, len(same_atoms()[0])))
    weights[3] = 0.5
    np.save(folder / 'set.000/atom_pref.npy', weights)
    message = r'a:3 has atom_pref 0\.5: .*weight_key: null'
    with pytest.raises(UserError, match=message):
        read(folder)
    check(read(folder, weight_key=None), same_atoms())


# ---- MACE


def test_isolated_atoms_are_references(tmp_path: Path) -> None:
    file = published.mace(tmp_path / 'a.xyz', CRYSTALS, {'Ga': -0.3, 'N': -3.1})
    told = Told()
    check(read(file, told, format='mace'), CRYSTALS)
    assert told.isolated == {'pbe': {'Ga': -0.3, 'N': -3.1}}
    assert 'isolated atoms of Ga, N: reference energies, not trained' in said(told)


def test_heads_are_fidelities(tmp_path: Path) -> None:
    heads = ['pbe', 'r2scan', 'pbe']
    file = published.mace(tmp_path / 'a.xyz', CRYSTALS, {'Ga': -0.3}, heads)
    entry = {'file': [str(file)], 'format': 'mace'}
    told = Told()
    found = list(read_entry(entry, None, ['pbe', 'r2scan'], 4.0, told=told))
    assert [s.fidelity for s in found] == heads
    assert told.isolated == {'pbe': {'Ga': -0.3}}


def test_isolated_atoms_that_contradict(tmp_path: Path) -> None:
    first = published.mace(tmp_path / 'a.xyz', CRYSTALS[:1], {'Ga': -0.3})
    second = published.mace(tmp_path / 'b.xyz', CRYSTALS[1:], {'Ga': -0.4})
    entry = {'file': [str(first), str(second)], 'format': 'mace', 'fidelity': 'pbe'}
    with pytest.raises(UserError, match='two isolated atoms of Ga at pbe'):
        list(read_entry(entry, None, ['pbe'], 4.0))


@pytest.mark.parametrize(
    ('info', 'message'),
    [
        ({'config_weight': 2.0}, r'a\.xyz:0 has config_weight 2: .*loss_weight'),
        ({'config_forces_weight': 0.1}, '_forces_weight 0.1.*weight_key: null'),
        ({'config_weight': 0.0}, 'excludes it from training.*on_bad: skip'),
        ({'config_energy_weight': 0.0}, 'needs its energy'),
    ],
)
def test_weights_are_never_ignored(
    info: dict[str, float], message: str, tmp_path: Path
) -> None:
    file = published.mace(tmp_path / 'a.xyz', CRYSTALS, **info)
    with pytest.raises(UserError, match=message):
        read(file, format='mace')
    check(read(file, format='mace', weight_key=None), CRYSTALS)


def test_a_label_of_weight_zero_is_missing(tmp_path: Path) -> None:
    zero = {'config_forces_weight': 0.0, 'config_stress_weight': 0.0}
    file = published.mace(tmp_path / 'a.xyz', CRYSTALS, config_weight=1.0, **zero)
    told = Told()
    found = read(file, told, format='mace')
    assert [(s.forces, s.stress) for s in found] == [(None, None)] * 3
    assert '3 structures have weight 0 for forces: taken as missing' in said(told)


def test_virials_where_there_is_no_stress(tmp_path: Path) -> None:
    file = published.mace(tmp_path / 'a.xyz', CRYSTALS)
    frames = published.ase.io.read(file, ':')
    for own, atoms in zip(frames[1:], CRYSTALS[1:], strict=True):
        del own.info['REF_stress']
        own.info['REF_virials'] = published.virial(atoms)
    published.ase.io.write(file, frames, format='extxyz')
    check(read(file, format='mace'), CRYSTALS)


def test_the_form_is_named_where_it_would_help(tmp_path: Path) -> None:
    file = published.mace(tmp_path / 'a.xyz', CRYSTALS)
    with pytest.raises(UserError, match='`format: mace` names all that MACE reads'):
        read(file)
