"""Structures and teachers that the tests of labelling share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase.io
from ase import Atoms

from sevennet_mf.label.teacher import Teacher, teacher_of

ODD = Path(__file__).with_name('odd_calculators.py')


def cells(*lengths: float) -> list[Atoms]:
    """A pair of Ar atoms in a cell of each length."""
    return [
        Atoms('Ar2', [[0, 0, 0], [0, 0, 3.5]], cell=[length] * 3, pbc=True)
        for length in lengths
    ]


def write_cells(path: Path, *lengths: float) -> str:
    ase.io.write(path, cells(*lengths))
    return str(path)


def odd(name: str = 'low', function: str = 'make', **arguments: Any) -> Teacher:
    return teacher_of(f'{ODD}:{function}', [name], arguments)
