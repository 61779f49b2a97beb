"""Runs of real LAMMPS that the tests of the pair styles share.

    atoms = write_data(atoms, tmp_path / 'data.lmp', ['Ga', 'N'])
    result = run_lmp(script, tmp_path, lmp_env, ranks=2)
    forces = read_dump(tmp_path / 'dump')[-1].columns('fx', 'fy', 'fz')

`write_data` returns the structure turned into LAMMPS's frame: compare with ASE on
that one. Rows of a dump are by ascending id.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from sevennet_mf.lammps.process import (
    BAR,
    Dump,
    Result,
    lammps_frame,
    read_dump,
    run_lammps,
    write_data,
)
from sevennet_mf.lammps.tools import Lammps, find_lammps

__all__ = [
    'BAR',
    'Dump',
    'Result',
    'lammps',
    'lammps_frame',
    'read_dump',
    'run_lmp',
    'write_data',
]


@cache
def lammps() -> Lammps:
    """LAMMPS of this environment."""
    return find_lammps()


def run_lmp(
    script: str,
    folder: Path,
    env: Mapping[str, str],
    ranks: int = 1,
    timeout: float = 120,
    mpiexec: bool | None = None,
) -> Result:
    """Run an input script in a folder; its exit status is not checked.

    env: the fixture `lmp_env`. mpiexec: for one rank as well (True). The log is
    log.lammps. Raises subprocess.TimeoutExpired if it hangs.
    """
    return run_lammps(lammps(), script, folder, env, ranks, timeout, mpiexec)
