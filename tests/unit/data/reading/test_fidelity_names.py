"""Names of fidelities: what stands in the file, whatever ASE makes of it."""

from pathlib import Path
from typing import Any

import pytest

from sevennet_mf.data.reading.fidelity_names import parse_comment
from sevennet_mf.data.reading.read import Structure, read_entry
from sevennet_mf.errors import UserError
from sevennet_mf.evaluate.entries import names_in

NAMES = ['T', 'F', 'true', 'TRUE', '1e3', '2', '02', '1.0', 'pbe']


def read(entry: dict[str, Any], order: list[str]) -> list[Structure]:
    return list(read_entry({**entry, 'file': [entry['file']]}, 'method', order, 4.0))


def xyz(path: Path, *comments: str) -> str:
    path.write_text(''.join(f'1\n{line}\nH 0 0 0\n' for line in comments))
    return str(path)


def test_names_of_an_xyz_file(tmp_path: Path) -> None:
    file = xyz(tmp_path / 'a.extxyz', *(f'energy=-1.0 method={n}' for n in NAMES))
    assert [s.fidelity for s in read({'file': file}, NAMES)] == NAMES
    entry = {'file': [file]}
    assert names_in([entry], 'method', 4.0) == NAMES
    (one,) = read({'file': file, 'index': '4'}, NAMES)
    assert one.fidelity == '1e3'
    with pytest.raises(UserError, match=r"must be one of \['pbe'\], got 'T'"):
        read({'file': file}, ['pbe'])


def test_names_of_a_structure_list(tmp_path: Path) -> None:
    xyz(tmp_path / 'a.extxyz', 'energy=-1.0 method=T')
    (tmp_path / 'structure_list').write_text('[a]\na.extxyz\n')
    (one,) = read({'file': str(tmp_path / 'structure_list')}, ['T'])
    assert one.fidelity == 'T'


@pytest.mark.parametrize(
    ('line', 'name'),
    [
        ('method=T pbc="T T T"', 'T'),
        ('pbc="T T T" method="true"', 'true'),
        ("method = '1e3'", '1e3'),
        ('"method"=F', 'F'),
        ('note="a method=T in it" method=1e3', '1e3'),
        ('method=1e3 note="a method=T in it"', '1e3'),
        ('other_method=F method=T', 'T'),
        ('method', True),  # no name at all
        ('method=r2SCAN', 'r2SCAN'),
    ],
)
def test_ways_to_write_a_name(line: str, name: Any) -> None:
    assert parse_comment(line, 'method')['method'] == name


def test_the_rest_is_as_ase_has_it() -> None:
    line = 'Lattice="1 0 0 0 1 0 0 0 1" n=3 flag=T x="1 2 3" method=T energy=-1.5'
    found = parse_comment(line, 'method')
    assert found.pop('method') == 'T'
    assert (found['n'], found['flag'], found['energy']) == (3, True, -1.5)
    assert found['Lattice'].shape == (3, 3)
    assert (found['x'] == [1, 2, 3]).all()
