"""Files that are cut short or of the wrong kind, and records that cannot be used."""

from __future__ import annotations

import gzip
import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

import ase.io
import h5py
import numpy as np
import published
import pytest
from ase.calculators.singlepoint import SinglePointCalculator

from sevennet_mf.config.paths import data_files
from sevennet_mf.data.formats import ase_database, hdf5, json_records
from sevennet_mf.data.reading.files import reader_of
from sevennet_mf.data.reading.notes import Told
from sevennet_mf.data.reading.read import Structure, read_entry
from sevennet_mf.errors import UserError

CRYSTALS = published.crystals(4)


def read(path: Path, told: Told | None = None, **entry: Any) -> list[Structure]:
    whole = {'file': data_files(str(path)), 'fidelity': 'pbe', **entry}
    return list(read_entry(whole, None, ['pbe'], 4.0, told=told))


def loud(told: Told) -> str:
    return '\n'.join(line.text for line in told.lines() if line.loud)


# ---- what is lost after a point of a file


@pytest.mark.parametrize('name', ['a.json', 'a.json.gz'])
def test_a_json_that_ends_early(name: str, tmp_path: Path) -> None:
    file = published.matpes(tmp_path / name, CRYSTALS)
    whole = file.read_bytes()
    if name.endswith('.gz'):
        text = gzip.decompress(whole)
        file.write_bytes(gzip.compress(text[: len(text) * 3 // 5]))
    else:
        file.write_bytes(whole[: len(whole) * 3 // 5])
    message = rf'{name} cannot be read after record 1: it is truncated\. Is it comp'
    with pytest.raises(UserError, match=message) as caught:
        read(file)
    assert '\n' not in str(caught.value)
    told = Told()
    assert len(read(file, told, on_bad='skip')) == 2
    assert 'structures left out (on_bad: skip). The first: ' in loud(told)


def test_a_compressed_file_cut_short(tmp_path: Path) -> None:
    file = published.matpes(tmp_path / 'a.json.gz', CRYSTALS)
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(UserError, match=r'a\.json\.gz cannot be .*is truncated'):
        read(file)


def test_a_database_cut_short(tmp_path: Path) -> None:
    file = published.aselmdb(tmp_path / 'a.aselmdb', CRYSTALS)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match=r'a\.aselmdb cannot be opened.*compl') as e:
        read(file)
    assert '\n' not in str(e.value)
    file.write_bytes(b'')
    with pytest.raises(UserError, match=r'a\.aselmdb cannot be opened'):
        read(file)


def test_a_set_of_colabfit_asks_for_the_sign_of_its_stress(tmp_path: Path) -> None:
    """Its publisher tells the unit only."""
    file = published.colabfit(tmp_path / 'a.parquet', CRYSTALS)
    with pytest.raises(UserError, match=r'a\.parquet: .* sign of its stress'):
        read(file)
    assert all(s.stress is None for s in read(file, stress_key=None))
    of = {'stress_sign': 'tension'}
    file = published.colabfit(file, CRYSTALS, cauchy_stress_volume_normalized=False)
    with pytest.raises(UserError, match=r'parquet:0: .* not divided by the volume'):
        read(file, **of)


def test_a_database_that_another_program_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_: Any, **__: Any) -> None:
        raise sqlite3.OperationalError('database is locked')

    file = tmp_path / 'a.db'
    ase.io.write(file, CRYSTALS[0], format='db')
    monkeypatch.setattr(ase_database, 'rows', locked)  # SQLite would wait for it
    with pytest.raises(UserError, match=r'a\.db cannot .* locked\. Another .* copy'):
        read(file)


def test_a_lock_of_a_writer_does_not_matter(tmp_path: Path) -> None:
    file = published.aselmdb(tmp_path / 'a.aselmdb', CRYSTALS)
    (tmp_path / 'a.aselmdb-lock').write_bytes(b'x' * 8192)
    (tmp_path / 'a.aselmdb.lock').touch()
    assert len(read(file)) == 4


def test_a_row_of_a_database_that_is_broken(tmp_path: Path) -> None:
    import lmdb

    file = published.aselmdb(tmp_path / 'a.aselmdb', CRYSTALS)
    database = lmdb.open(str(file), subdir=False)
    with database.begin(write=True) as change:
        change.put(b'2', b'no row')
    database.close()
    with pytest.raises(UserError, match=r'a\.aselmdb:1 cannot be read'):
        read(file)
    told = Told()
    assert [s.frame for s in read(file, told, on_bad='skip')] == [0, 2, 3]
    assert loud(told).startswith('1 structures left out (on_bad: skip). The first')
    assert 'a.aselmdb:1 cannot be read' in loud(told)


def test_a_file_opened_twice_at_once(tmp_path: Path) -> None:
    """LMDB refuses a second time in one process."""
    file = str(published.aselmdb(tmp_path / 'a.aselmdb', CRYSTALS))
    entry = {'file': [file], 'fidelity': 'pbe'}
    one, two = (read_entry(entry, None, ['pbe'], 4.0) for _ in range(2))
    both = zip(one, two, strict=True)
    assert [(a.frame, b.frame) for a, b in both] == [(k, k) for k in range(4)]


def test_an_hdf5_cut_short(tmp_path: Path) -> None:
    file = published.qm7x(tmp_path / 'a.h5', published.molecules(3))
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(UserError, match=r'a\.h5 cannot be opened as HDF5.*complete'):
        read(file)


def test_a_parquet_cut_short(tmp_path: Path) -> None:
    file = published.parquet(tmp_path / 'a.parquet', CRYSTALS)
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(UserError, match=r'a\.parquet cannot be read as Parquet'):
        read(file, energy_key='energy', energy_unit='eV', force_key=None)


# ---- single records


def records(path: Path) -> list[dict[str, Any]]:
    published.matpes(path, CRYSTALS)
    return json.loads(path.read_text())


def test_a_site_that_is_shared(tmp_path: Path) -> None:
    file = tmp_path / 'a.json'
    made = records(file)
    site = made[2]['structure']['sites'][1]
    site['species'] = [{'element': 'N', 'occu': 0.5}, {'element': 'P', 'occu': 0.5}]
    file.write_text(json.dumps(made))
    message = r'a\.json:2: site 1 is partially occupied \(N 0\.5, P 0\.5\)\. .*_bad'
    with pytest.raises(UserError, match=message):
        read(file)
    told = Told()
    assert [s.frame for s in read(file, told, on_bad='skip')] == [0, 1, 3]
    assert 'site 1 is partially occupied' in loud(told)
    del site['species'][1]
    file.write_text(json.dumps(made))
    with pytest.raises(UserError, match=r'partially occupied \(N 0\.5\)'):
        read(file)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda r: r.pop('structure'), r'a\.json:1 has no structure: it holds buil'),
        (lambda r: r.update(structure={'a': 1}), ':1: its structure is not as pym'),
        (lambda r: r['structure']['sites'][0].pop('species'), ':1 is no structure'),
        (lambda r: r.update(forces=[[0.0, 0, 0]]), r':1 has forces of shape \(1, 3'),
        (lambda r: r.update(stress=[1.0] * 5), r':1 has a stress of shape \(5,\)'),
        (lambda r: r.update(energy='low'), ":1 has energy 'low'"),
    ],
)
def test_a_record_that_cannot_be_used(
    change: Any, message: str, tmp_path: Path
) -> None:
    file = tmp_path / 'a.json'
    made = records(file)
    change(made[1])
    file.write_text(json.dumps(made))
    with pytest.raises(UserError, match=message):
        read(file)
    told = Told()
    assert [s.frame for s in read(file, told, on_bad='skip')] == [0, 2, 3]
    assert loud(told).startswith('1 structures left out')


def test_a_line_that_is_no_record(tmp_path: Path) -> None:
    file = published.json_lines(tmp_path / 'a.jsonl', CRYSTALS)
    lines = file.read_text().splitlines()
    lines[1] = lines[1][:-20]
    file.write_text('\n'.join(lines))
    general = {'energy_key': 'E', 'energy_unit': 'eV', 'force_key': 'F'}
    with pytest.raises(UserError, match=r'a\.jsonl:1 is not a JSON record'):
        read(file, **general)
    assert [s.frame for s in read(file, on_bad='skip', **general)] == [0, 2, 3]


def test_lists_of_different_lengths(tmp_path: Path) -> None:
    file = published.chgnet(tmp_path / 'a.json', CRYSTALS)
    columns = json.loads(file.read_text())
    columns['force'].pop()
    file.write_text(json.dumps(columns))
    with pytest.raises(UserError, match='list `force` ends at 3, others are longer'):
        read(file, format='chgnet')


def test_a_frame_of_extended_xyz(tmp_path: Path) -> None:
    file = tmp_path / 'a.extxyz'
    ase.io.write(file, CRYSTALS, format='extxyz')
    frames = file.read_text()
    at = frames.index('\n', frames.index('Lattice', 3000))  # of a later frame
    after = frames[at:].split('\n', 2)[2]
    file.write_text(f'{frames[:at]}\nGa one two three\n{after}')
    with pytest.raises(UserError, match=r'a\.extxyz, after frame'):
        read(file)
    told = Told()
    found = read(file, told, on_bad='skip')
    assert len(found) == 3
    assert 'cannot be read' in loud(told)
    kept = [CRYSTALS[s.frame].calc.results['energy'] for s in found]
    assert [s.energy for s in found] == pytest.approx(kept)


def test_all_of_them_bad(tmp_path: Path) -> None:
    file = tmp_path / 'a.json'
    made = records(file)
    for record in made:
        record['energy'] = 'low'
    file.write_text(json.dumps(made))
    message = r"none of 4 structures can be used\. The first: .*:0 has energy 'low'"
    with pytest.raises(UserError, match=message):
        read(file, on_bad='skip')


def test_what_nothing_reads_is_no_bad_record(tmp_path: Path) -> None:
    atoms = CRYSTALS[0].copy()
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0)
    atoms.arrays['REF_forces'] = np.ones((len(atoms), 3))
    ase.io.write(tmp_path / 'a.extxyz', atoms, format='extxyz')
    with pytest.raises(UserError, match='`REF_forces` is named like a label'):
        read(tmp_path / 'a.extxyz', on_bad='skip')


# ---- which form a file is of


@pytest.mark.parametrize(
    ('write', 'form'),
    [
        (lambda p: published.matpes(p / 'a.json', CRYSTALS), 'matpes'),
        (lambda p: published.mptrj(p / 'a.json', CRYSTALS), 'mptrj'),
        (lambda p: published.json_lines(p / 'a.jsonl', CRYSTALS), 'pymatgen'),
        (lambda p: published.aselmdb(p / 'a.aselmdb', CRYSTALS), 'aselmdb'),
        (lambda p: published.parquet(p / 'a.parquet', CRYSTALS), 'parquet'),
        (lambda p: published.colabfit(p / 'a.parquet', CRYSTALS), 'colabfit'),
        (lambda p: published.deepmd_mixed(p / 'a', CRYSTALS, 9), 'deepmd'),
        (lambda p: published.spice(p / 'a.h5', published.molecules()), 'spice'),
        (lambda p: published.qm7x(p / 'a.hdf5', published.molecules()), 'qm7x'),
        (lambda p: published.aimnet(p / 'a.h5', published.molecules()), 'aimnet'),
        (
            lambda p: published.ani1x(p / 'a.h5', published.molecules(), [-1.0] * 3),
            'ani1x',
        ),
    ],
)
def test_what_a_file_is(write: Any, form: str, tmp_path: Path) -> None:
    assert reader_of(str(write(tmp_path))) == form


def test_an_ase_database_in_json_stays_one(tmp_path: Path) -> None:
    ase.io.write(tmp_path / 'a.json', CRYSTALS[0])
    assert reader_of(str(tmp_path / 'a.json')) == 'json'


def test_an_unknown_format(tmp_path: Path) -> None:
    file = published.matpes(tmp_path / 'a.json', CRYSTALS)
    with pytest.raises(UserError, match=r"'matpse' is neither .*'matpes'\?"):
        read(file, format='matpse')
    message = "no energy: energy_key 'uncorrected_total_energy' is not in its info"
    with pytest.raises(UserError, match=message):
        read(file, format='mptrj')


# ---- general forms leave things open


def test_a_general_json_asks_for_units(tmp_path: Path) -> None:
    file = published.json_lines(tmp_path / 'a.jsonl', CRYSTALS, S=[1.0] * 6)
    entry: dict[str, Any] = {}
    for message, more in (
        ('say which number is the energy.*`energy_key:`', {'energy_key': 'E'}),
        ('say the unit of the energy.*`energy_unit: eV`', {'energy_unit': 'eV'}),
    ):
        with pytest.raises(UserError, match=message):
            read(file, **entry)
        entry |= more
    assert len(read(file, **entry, force_key='F')) == 4
    message = 'the unit and sign of its stress.*kbar.*compression'
    with pytest.raises(UserError, match=message):
        read(file, **entry, stress_key='S')


def general(path: Path) -> Path:
    with h5py.File(path, 'w') as file:
        group = file.create_group('data/GaN')
        group['Z'] = CRYSTALS[0].numbers
        group['R'] = np.array([CRYSTALS[0].positions] * 2) / 10.0
        group['R'].attrs['units'] = 'nm'
        group['box'] = CRYSTALS[0].cell.array / 10.0
        group['E'] = np.array([-1.0, -2.0])
        group['dE'] = np.array([-published.forces(CRYSTALS[0])] * 2)
        group['level'] = np.array([b'pbe', b'pbe'])
    return path


NAMED = {'positions_key': 'R', 'numbers_key': 'Z', 'cell_key': 'box'}


def test_a_general_hdf5(tmp_path: Path) -> None:
    file = general(tmp_path / 'a.h5')
    entry = {'file': [str(file)], 'energy_key': 'E', 'gradient_key': 'dE', **NAMED}
    entry |= {'energy_unit': 'Hartree', 'force_unit': 'eV/Å'}
    first, second = read_entry(entry, 'level', ['pbe'], 4.0)
    assert second.energy == pytest.approx(-2 * published.HARTREE)
    assert first.positions == pytest.approx(CRYSTALS[0].positions)
    assert first.cell == pytest.approx(CRYSTALS[0].cell.array)
    assert first.forces == pytest.approx(published.forces(CRYSTALS[0]))
    assert first.fidelity == 'pbe'


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'positions_key': None}, 'do not say which data set has the positions'),
        ({'positions_key': 'r'}, r"no data set 'r' \(E, R, Z, box, .*mean 'R'"),
        ({'numbers_key': 'z'}, r"group /data/GaN: it has no 'z', only"),
        ({'energy_key': 'e'}, r"no energy 'e' in its group /data/GaN \(E, R.*'E'"),
        ({'energy_unit': None}, 'do not say the unit of the energy'),
        ({'length_unit': 'Å'}, '`units` says nm, not length_unit Å'),
    ],
)
def test_an_hdf5_without_the_named_keys(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    entry = {'energy_key': 'E', 'energy_unit': 'eV', 'gradient_key': 'dE', **NAMED}
    with pytest.raises(UserError, match=message):
        read(general(tmp_path / 'a.h5'), **{**entry, **change})


def test_groups_in_different_units(tmp_path: Path) -> None:
    file = published.spice(tmp_path / 'a.h5', published.molecules(3))
    with h5py.File(file, 'a') as opened:
        last = sorted(opened)[-1]
        opened[last]['conformations'].attrs['units'] = 'nanometer'
    message = rf'group /{last}: its attribute .*nanometer'
    with pytest.raises(UserError, match=message):
        read(file)


def test_charges_in_a_smiles() -> None:
    charges = {
        '[N+:1]([H:2])([H:3])([H:4])[H:5]': 1,
        '[O-:1][C:2](=[O:3])[C@@H:4]([N+:5])[H:6]': 0,
        '[Ca+2:1].[Cl-:2]': 1,
        '[Fe+++]': 3,
        '[C:1]-[C:2]': 0,
    }
    assert {smiles: hdf5.charge_of(smiles) for smiles in charges} == charges


def test_nan_of_python_in_any_place() -> None:
    class Slow:
        """Gives a text in parts of any size."""

        def __init__(self, text: bytes, size: int) -> None:
            self.text, self.size = text, size

        def read(self, size: int) -> bytes:
            part, self.text = self.text[: self.size], self.text[self.size :]
            return part

    text = b'[{"a": NaN, "NaN": [NaN,-Infinity, 1.5e3 ,Infinity], "b": "x NaN"}]'
    for size in range(1, 40):
        stream = json_records._Stream(Slow(text, size))  # type: ignore[arg-type]
        parts = iter(lambda s=stream: s.read(64), b'')
        found = json.loads(b''.join(parts))
        expected = {'a': None, 'NaN': [None, None, 1.5e3, None], 'b': 'x NaN'}
        assert found == [expected]


@pytest.mark.parametrize(
    ('name', 'package'),
    [('a.json', 'ijson'), ('a.h5', 'h5py'), ('a.parquet', 'pyarrow.parquet')],
)
def test_a_package_that_is_absent(
    name: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / name
    published.matpes(file, CRYSTALS) if name == 'a.json' else file.touch()
    monkeypatch.setitem(sys.modules, package, None)
    words = rf"{name} is read with .*pip install 'sevennet_mf\[formats\]'"
    with pytest.raises(UserError, match=words) as caught:
        read(file, energy_key='energy', energy_unit='eV')
    assert '\n' not in str(caught.value)
