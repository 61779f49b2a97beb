"""Pieces that survive an interruption, and the files of a study."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import ase.io
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from sevennet_mf.errors import UserError
from sevennet_mf.label.pieces import in_pieces, noted, rng_of, write_parts


@dataclass(frozen=True)
class Named:
    name: str


ONE, TWO = Named('one'), Named('two')


def pair(distance: float) -> Atoms:
    return Atoms('Cu2', [[0, 0, 0], [0, 0, distance]], cell=[9] * 3, pbc=True)


def test_only_missing_pieces_are_made(tmp_path: Path) -> None:
    said: list[str] = []
    made: list[str] = []

    def make(piece: Named) -> list[Atoms]:
        made.append(piece.name)
        if piece == TWO and len(made) == 2:
            raise UserError('it falls apart.')
        return [noted(pair(2.5 + len(piece.name)), part=piece.name, high=True)]

    with pytest.raises(UserError, match='^two: it falls apart'):
        in_pieces(tmp_path / 'p', [ONE, TWO], make, said.append)
    found = in_pieces(tmp_path / 'p', [ONE, TWO], make, said.append)
    assert made == ['one', 'two', 'two']
    assert said == ['1 of 2: one', '2 of 2: two']
    assert [atoms.info for atoms in found] == [
        {'part': 'one', 'high': 1},
        {'part': 'two', 'high': 1},
    ]


def test_random_numbers_are_of_the_piece() -> None:
    first = rng_of(ONE, 1).random()
    assert first == rng_of(ONE, 1).random()
    assert len({first, rng_of(TWO, 1).random(), rng_of(ONE, 2).random()}) == 3


def test_parts_go_into_files(tmp_path: Path) -> None:
    parts = {
        'train': ('low', lambda info: info['part'] == 'train'),
        'test': ('low', lambda info: info['part'] == 'test'),
    }
    with pytest.raises(UserError, match=r'no such file: .*low\.extxyz'):
        write_parts(tmp_path, parts)
    frames = []
    for i in range(3):
        atoms = pair(2.5 + i)
        atoms.info['part'] = 'train'
        atoms.calc = SinglePointCalculator(atoms, energy=float(i))
        frames.append(atoms)
    (tmp_path / 'labels').mkdir()
    ase.io.write(tmp_path / 'labels' / 'low.extxyz', frames)
    with pytest.raises(UserError, match='no structure for test'):
        write_parts(tmp_path, parts)
    frames[1].info['part'] = 'test'
    ase.io.write(tmp_path / 'labels' / 'low.extxyz', frames)
    written = write_parts(tmp_path, parts)
    assert written == {tmp_path / 'train.extxyz': 2, tmp_path / 'test.extxyz': 1}
    assert ase.io.read(tmp_path / 'test.extxyz').get_potential_energy() == 1.0
