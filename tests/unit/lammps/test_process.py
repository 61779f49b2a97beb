"""What goes into LAMMPS and what is read back."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import read

from sevennet_mf.lammps.process import (
    Result,
    lammps_frame,
    read_dump,
    read_thermo,
    run_lammps,
    write_data,
)
from sevennet_mf.lammps.tools import Lammps

LOG = """\
run 0
WARNING: No fixes with time integration, atoms won't move (src/src/verlet.cpp:60)
   Step         PotEng          Pxx     \n\
         0  -12.5            1
Loop time of 1e-6 on 1 procs for 0 steps with 2 atoms
7 8 9
   Step          PotEng         Pxx
         0  -12.5            1
        10  -12.25          -2.5e3
Loop time of 1 on 1 procs for 10 steps with 2 atoms
"""
DUMP = """\
ITEM: TIMESTEP
0
ITEM: NUMBER OF ATOMS
3
ITEM: BOX BOUNDS pp pp pp
0 1
0 1
0 1
ITEM: ATOMS fx id c_each
0.5 30 -3
0.25 2 -2
0.125 7 -1
"""


def test_every_line_of_thermo_is_read() -> None:
    found = read_thermo(LOG)
    assert found == [
        {'Step': 0.0, 'PotEng': -12.5, 'Pxx': 1.0},
        {'Step': 0.0, 'PotEng': -12.5, 'Pxx': 1.0},
        {'Step': 10.0, 'PotEng': -12.25, 'Pxx': -2500.0},
    ]
    assert read_thermo('') == []


def test_a_dump_is_in_order_of_ids(tmp_path: Path) -> None:
    (tmp_path / 'dump').write_text(DUMP * 2)
    frames = read_dump(tmp_path / 'dump')
    assert len(frames) == 2
    assert frames[1].ids.tolist() == [2, 7, 30]
    assert frames[1].columns('c_each', 'fx').tolist() == [
        [-2, 0.25],
        [-1, 0.125],
        [-3, 0.5],
    ]


def test_pressure_in_bar_is_the_stress_of_ase() -> None:
    names = ('Pxx', 'Pyy', 'Pzz', 'Pxy', 'Pxz', 'Pyz')
    thermo = [dict(zip(names, (1e4, 2e4, 3e4, 4e4, 5e4, 6e4), strict=True))]
    stress = Result(0, '', '', '', thermo).stress
    # 1 GPa is 1e4 bar; 160.21766 GPa is 1 eV/Å^3 (CODATA 2014, as in ASE)
    wanted = -np.array([1, 2, 3, 6, 5, 4]) / 160.21766208
    np.testing.assert_allclose(stress, wanted, rtol=1e-8)


def test_the_frame_is_a_rotation() -> None:
    atoms = bulk('NaCl', 'rocksalt', a=5.6)  # none of its vectors is along x
    atoms.rattle(0.1, seed=1)
    turned = lammps_frame(atoms)
    assert turned.cell[0, 1] == turned.cell[0, 2] == turned.cell[1, 2] == 0
    for mic in (False, True):
        np.testing.assert_allclose(
            turned.get_all_distances(mic=mic), atoms.get_all_distances(mic=mic)
        )
    assert turned.get_volume() == pytest.approx(atoms.get_volume())


def test_a_molecule_gets_a_box(tmp_path: Path) -> None:
    atoms = Atoms('OH2', [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    turned = write_data(atoms, tmp_path / 'data', ['H', 'O'])
    assert turned.cell.rank == 3
    assert turned.get_distance(0, 1) == pytest.approx(0.96)
    assert not atoms.cell.any()  # the user's own stays


def test_the_data_file_holds_the_frame(tmp_path: Path) -> None:
    atoms = bulk('NaCl', 'rocksalt', a=5.6) * (2, 1, 1)
    atoms.rattle(0.1, seed=1)
    turned = write_data(atoms, tmp_path / 'data', ['Cl', 'Na'])
    back = read(tmp_path / 'data', format='lammps-data')
    assert back.symbols.get_chemical_formula() == 'Cl2Na2'
    np.testing.assert_allclose(back.positions, turned.positions, atol=1e-9)
    np.testing.assert_allclose(back.cell, turned.cell, atol=1e-9)


def test_the_error_is_lammpss_own() -> None:
    out = 'LAMMPS\nERROR: no such thing (src/x.cpp:1)\nLast input line: x\n'
    assert Result(1, out, '', '', []).error.startswith('ERROR: no such thing')
    assert Result(9, '', 'a\nkilled\n\n', '', []).error == 'killed'


# stands for LAMMPS: says which signal it gets when its parent dies
STAND_IN = f"""#!{sys.executable} -S
import ctypes
number = ctypes.c_int()
ctypes.CDLL(None).prctl(2, ctypes.byref(number))
print(number.value)
"""


def test_lammps_does_not_outlive_its_parent(tmp_path: Path) -> None:
    """It would go on writing the trajectory that a resumed run writes as well."""
    program = tmp_path / 'lmp'
    program.write_text(STAND_IN)
    program.chmod(0o755)
    lammps = Lammps(program, tmp_path, {}, (), 'MPICH', tmp_path)
    run = run_lammps(lammps, 'run 0', tmp_path, os.environ)
    assert run.returncode == 0
    assert int(run.stdout) == signal.SIGTERM
