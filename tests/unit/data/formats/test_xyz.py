"""Extended XYZ is read as ASE reads it, to the last type, but a frame at a time."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.io import read
from ase.io.extxyz import key_val_str_to_dict

from sevennet_mf.data.formats import xyz

COMMENTS = [
    'Lattice="4.0 0.0 0.0 0.0 4.0 0.0 0.0 0.0 4.0" energy=-1.5 pbc="T T F"',
    'energy=-1 x="1 2.0" y=3',
    'a="" b=2.0',
    "q='a b' c=1.0",
    'x={1 2}',
    'a=1,2.5 b="1.0, 2.0"',
    'virial="1. 2. 3. 4. 5. 6. 7. 8. 9." name=1.0e5 k=1e5',
    'n=nan m="nan 1.0" uid=1.0 UID=1.0',
    'a=b=c x="a=b c" y=1.0"z"',
    'a.b=2.0 a-b=3.0 _x=.5 y=5. z=+1.0e-3 w=1.5d0 0a=1.0',
    'a =1.0',
    'a= 1.0',
    'a="  1.0 " b="1.0\t2.0" a="2.5 1.0"',
    'j="_JSON [1, 2]" c="T,F" d=true x=1_0.5 é=1.5',
    'a="1.0',
    'Properties="species:S:1" a',
    'Properties=1.5',
    r'a=\"1.0 b=2.0',
    'free_energy',
]
FRAMES = {
    'usual': '2\nProperties=species:S:1:pos:R:3:forces:R:3:tag:I:1 energy=-1.0\n'
    'GA 0.0 0.0 0.5 1e-3 0 0 7 more\nn 1 2 3 .1 .2 .3 8\n',
    'numbers': '1\nProperties=Z:I:1:pos:R:3:q:R:1:name:S:2 a=1.5\n7 0 0 0 2 a b\n',
    'flags': '1\nProperties=species:S:1:pos:R:3:keep:L:1 a=1.5\nH 0 0 0 T\n',
    'fixed': '1\nProperties=species:S:1:pos:R:3:move_mask:L:1 a=1.5\nH 0 0 0 T\n',
    'plain': '1\nan old comment\nH 0 0 0\n',
    'no comment': '1\n\nH 0 0 0\n',
    'vectors': '1\nx\nH 0 0 0\nVEC1 3.0 0 0\nVEC2 0 4.0 0\n1\n\nHe 1 1 1\n',
    'two': '1\n\nH 0 0 0\n1\nenergy=2.5 stress="1 0 0 0 1 0 0 0 1"\nHe 1 1 1\n\nend',
}


def assert_same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for name, value in one.items():
            assert_same(value, other[name])
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
        assert one.flags.c_contiguous == other.flags.c_contiguous
    else:
        assert one == other or (one != one and other != other)  # noqa: PLR0124


def assert_same_atoms(one: Atoms, other: Atoms) -> None:
    assert_same(dict(one.arrays), dict(other.arrays))
    assert_same(one.info, other.info)
    assert_same(one.cell.array, other.cell.array)
    assert_same(one.pbc, other.pbc)
    assert str(one.constraints) == str(other.constraints)
    results = [None if a.calc is None else a.calc.results for a in (one, other)]
    assert_same(*results)


@pytest.mark.parametrize('line', COMMENTS)
def test_comments(line: str) -> None:
    assert_same(xyz.parsed(line), key_val_str_to_dict(line))


def test_a_stress_that_is_none() -> None:
    messages = []
    for parse in (key_val_str_to_dict, xyz.parsed):
        with pytest.raises(ValueError, match='Got info item stress') as raised:
            parse('stress="1.0 2.0"')
        messages.append(str(raised.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize('name', FRAMES)
def test_frames(name: str, tmp_path: Path) -> None:
    path = tmp_path / 'a.extxyz'
    path.write_text(FRAMES[name])
    found = list(xyz.frames(str(path), xyz.parsed))
    wanted = read(io.StringIO(FRAMES[name]), ':', format='extxyz')
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert_same_atoms(one, other)


def test_real_files(ingan: Path, molecules: Path) -> None:
    for folder, name in ((ingan, 'pbe_valid'), (molecules, 'ccsdt_valid')):
        file = str(folder / f'{name}.extxyz')
        found = xyz.frames(file, xyz.parsed)
        for one, other in zip(found, read(file, ':'), strict=True):
            assert_same_atoms(one, other)


def test_a_frame_is_read_as_it_comes(tmp_path: Path) -> None:
    """What is wrong further on does not matter yet, as it does to ASE."""
    path = tmp_path / 'a.extxyz'
    path.write_text(f'{FRAMES["usual"]}nonsense\n')
    frames = xyz.frames(str(path), xyz.parsed)
    assert len(next(frames)) == 2  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="frame 1 begins with 'nonsense'"):
        next(frames)
