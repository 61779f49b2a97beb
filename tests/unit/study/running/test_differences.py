"""Labels of the low fidelity find the structures that they belong to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import write
from helpers import rewritten, structures

from sevennet_mf.data.reading.read import Structure, read_entry
from sevennet_mf.study.running.differences import read_paired


def read(path: Path, frames: list[Atoms]) -> list[Structure]:
    write(path, frames)
    entry = {'file': [str(path)], 'fidelity': 'pbe'}
    return list(read_entry(entry, None, ['pbe'], 4.0))


def test_labels_go_with_the_atoms(tmp_path: Path) -> None:
    frames = structures(4)
    low = tmp_path / 'low.extxyz'
    write(low, frames[:3])
    paired = read_paired(str(low), 'pbe', 4.0)
    others = [rewritten(atoms, k, 1e-5) for k, atoms in enumerate(frames)]
    found = read(tmp_path / 'a.extxyz', others)
    for structure in found[:3]:
        label = paired.label_of(structure)
        assert label is not None
        assert label.energy == pytest.approx(structure.energy)
        np.testing.assert_allclose(label.forces, structure.forces, atol=1e-7)
        np.testing.assert_allclose(label.stress, structure.stress, atol=1e-7)
    assert paired.label_of(found[3]) is None
    assert read_paired(str(tmp_path / 'none.extxyz'), 'pbe', 4.0).label_of(
        found[0]
    ) is None


def test_stress_is_of_a_volume(tmp_path: Path) -> None:
    """Vacuum may be wider: forces and energy remain, stress does not."""
    slab = structures(1)[0]
    slab.pbc = [True, True, False]
    wide = slab.copy()
    wide.calc = slab.calc
    wide.cell[2] *= 1.5
    low = tmp_path / 'low.extxyz'
    write(low, slab)
    label = read_paired(str(low), 'pbe', 4.0).label_of(
        read(tmp_path / 'a.extxyz', [wide])[0]
    )
    assert label is not None
    assert np.isfinite(label.forces).all()
    assert np.isnan(label.stress).all()
