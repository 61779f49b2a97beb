"""ASE databases: rows, pairs and queries, and what ASE would misread."""

import sys
from pathlib import Path
from typing import Any

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from sevennet_mf.data.reading.read import Structure, read_entry
from sevennet_mf.errors import UserError
from sevennet_mf.evaluate.entries import names_in

ORDER = ['pbe', 'r2scan']


def read(file: str, key: str | None = 'method', **more: Any) -> list[Structure]:
    entry = {'file': [file], **more}
    return list(read_entry(entry, key, ORDER, 4.0))


def row(number: int, n_atoms: int = 2) -> Atoms:
    atoms = Atoms(f'N{n_atoms}', [[0, 0, 2.0 * i] for i in range(n_atoms)])
    forces = np.arange(3.0 * n_atoms).reshape(-1, 3)
    atoms.calc = SinglePointCalculator(atoms, energy=-3.0 - number, forces=forces)
    return atoms


def in_single_precision(atoms: Atoms) -> Atoms:
    """With results as a calculator such as SevenNet's has them."""
    for name, value in atoms.calc.results.items():
        atoms.calc.results[name] = np.float32(value)
    return atoms


@pytest.fixture(params=['a.db', 'a.json', 'a?b#.db'])
def database(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    path = tmp_path / request.param
    with ase.db.connect(path) as rows:
        for number, name in enumerate(['pbe', 'r2scan', 'pbe', 'pbe']):
            pairs = {'method': name, 'relaxed': number == 2, 'hse': -1.0 - number}
            rows.write(row(number), **pairs)
    return str(path)


def test_pairs_are_keys(database: str) -> None:
    structures = read(database)
    assert [s.fidelity for s in structures] == ['pbe', 'r2scan', 'pbe', 'pbe']
    assert (structures[1].forces == np.arange(6.0).reshape(2, 3)).all()
    assert names_in([{'file': [database]}], 'method', 4.0) == ORDER
    found = read(database, energy_key='hse', force_key=None)
    assert [s.energy for s in found] == [-1.0, -2.0, -3.0, -4.0]


@pytest.mark.parametrize(
    'index', [':', '1', '-1', '::2', '1:3', '-2:', '::-1', '7:']
)
def test_frames_are_those_of_a_list(index: str, database: str) -> None:
    chosen = ase.io.formats.string2index(index)
    frames = np.arange(4)[chosen]
    if not np.size(frames):
        with pytest.raises(UserError, match='no structures with index'):
            read(database, index=index)
        return
    found = [(s.frame, s.energy) for s in read(database, index=index)]
    assert found == [(int(k), -3.0 - k) for k in np.atleast_1d(frames)]


@pytest.mark.parametrize(
    ('query', 'energies'),
    [
        ('method=pbe', [-3.0, -5.0, -6.0]),
        ('method=pbe,relaxed=True', [-5.0]),
        ('N=2,energy<-5', [-6.0]),
    ],
)
def test_a_query(query: str, energies: list[float], database: str) -> None:
    assert [s.energy for s in read(database, index=query)] == energies


def test_a_key_that_is_near_is_named(database: str) -> None:
    with pytest.raises(UserError, match=r"has no 'methode'\. Did you mean 'method'"):
        read(database, 'methode')


@pytest.mark.parametrize('n_atoms', [1, 2, 3])
def test_results_in_single_precision(n_atoms: int, tmp_path: Path) -> None:
    """ASE takes the bytes of two numbers for one: half of the forces, all wrong."""
    path = tmp_path / 'a.db'
    with ase.db.connect(path) as rows:
        rows.write(row(0, 4))
        rows.write(in_single_precision(row(1, n_atoms)))
    words = r'a\.db:1 \(id 2\) has its forces or stress in single precision.*float64'
    with pytest.raises(UserError, match=words):
        read(str(path), None, fidelity='pbe')


def test_a_stress_in_single_precision(tmp_path: Path) -> None:
    atoms = Atoms('N', cell=[3, 3, 3], pbc=True)
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, stress=np.zeros(6))
    with ase.db.connect(tmp_path / 'a.db') as rows:
        rows.write(in_single_precision(atoms))
    with pytest.raises(UserError, match=r'a\.db:0 \(id 1\) has its .*single'):
        read(str(tmp_path / 'a.db'), None, fidelity='pbe')


def test_lmdb_without_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the module itself too: another test may have imported it
    for module in ('ase_db_backends', 'ase_db_backends.aselmdb'):
        monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / 'a.aselmdb').write_bytes(b'')
    words = r"a\.aselmdb is read with.*pip install 'sevennet_mf\[formats\]'"
    with pytest.raises(UserError, match=words) as caught:
        read(str(tmp_path / 'a.aselmdb'), None, fidelity='pbe')
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('name', ['a.db', 'a.json'])
def test_no_database(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text('hello, no database\n')
    with pytest.raises(UserError, match=f'{name} cannot be read'):
        read(str(tmp_path / name), None, fidelity='pbe')
