"""Runs of LAMMPS: writing the input, and reading the results."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from ase import Atoms, units
from ase.io.lammpsdata import write_lammps_data

from sevennet_mf.arrays import Floats
from sevennet_mf.lammps.dump import Dump, read_dump
from sevennet_mf.lammps.tools import Lammps
from sevennet_mf.program import bound

__all__ = [
    'Dump',
    'Result',
    'end',
    'error_in',
    'lammps_frame',
    'read_dump',
    'read_thermo',
    'run_lammps',
    'start_lammps',
    'write_data',
]

BAR: Final[float] = 1e5 * units.Pascal  # eV/Å^3
LOG_FILE: Final[str] = 'log.lammps'
# columns of `thermo_style custom` that make up ASE's stress
STRESS_COLUMNS: Final = ('Pxx', 'Pyy', 'Pzz', 'Pyz', 'Pxz', 'Pxy')


@dataclass(frozen=True, eq=False)
class Result:
    """The outcome of one run of LAMMPS.

    Attributes:
        log: Text of log.lammps, '' if there is none.
        thermo: One dictionary of columns for each line of thermodynamic output, of
            all `run` commands in order, in the units of the script.
    """

    returncode: int
    stdout: str
    stderr: str
    log: str
    thermo: list[dict[str, float]]

    @property
    def stress(self) -> Floats:
        """Stress of the last line of output, (6,) in eV/Å^3.

        In the order xx, yy, zz, yz, xz, xy, positive under tension. Needs
        thermo_style with pxx pyy pzz pyz pxz pxy, and atoms at rest.
        """
        last = self.thermo[-1]
        return -BAR * np.array([last[name] for name in STRESS_COLUMNS])

    @property
    def error(self) -> str:
        """The error message of LAMMPS, one line; else the last line of output."""
        text = f'{self.stdout}\n{self.stderr}'
        lines = text.split('\n')
        return error_in(text) or next((s for s in lines[::-1] if s.strip()), '')


def run_lammps(
    lammps: Lammps,
    script: str,
    folder: Path,
    env: Mapping[str, str],
    ranks: int = 1,
    timeout: float = 600.0,
    mpiexec: bool | None = None,
) -> Result:
    """Run an input script in `folder`, on several ranks with mpiexec.

    Args:
        env: The whole environment of the process.
        timeout: In seconds.
        mpiexec: Whether to use mpiexec. Default: for more than one rank.

    Raises:
        subprocess.TimeoutExpired: After all processes were ended.
    """
    with start_lammps(lammps, script, folder, env, ranks, mpiexec) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            end(process)
            raise
    file = folder / LOG_FILE
    log = file.read_text(encoding='utf-8') if file.is_file() else ''
    return Result(process.returncode, out, err, log, read_thermo(log))


def start_lammps(
    lammps: Lammps,
    script: str,
    folder: Path,
    env: Mapping[str, str],
    ranks: int = 1,
    mpiexec: bool | None = None,
    quiet: bool = False,
) -> subprocess.Popen[str]:
    """Start what `run_lammps` runs, and return the process.

    It gets SIGTERM when this process dies, even by `kill -9`.

    Args:
        quiet: Write the log file alone, for runs whose output nobody collects.
    """
    (folder / 'in.lmp').write_text(script, encoding='utf-8')
    (folder / LOG_FILE).unlink(missing_ok=True)
    start: list[str] = []
    if ranks > 1 if mpiexec is None else mpiexec:
        start = [str(lammps.mpiexec), '-n', str(ranks)]
    command = [*start, str(lammps.binary), '-in', 'in.lmp', '-log', LOG_FILE]
    command += ['-screen', 'none'] if quiet else []
    return subprocess.Popen(
        bound([*command, '-nocite']),
        cwd=folder,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL if quiet else subprocess.PIPE,
        stderr=subprocess.DEVNULL if quiet else subprocess.PIPE,
        text=True,
    )


def error_in(text: str) -> str:
    """Return the error message of LAMMPS in its output, one line; '' if none."""
    own = re.search(r'^ERROR.*', text, re.MULTILINE)
    return own[0] if own else ''


def end(process: subprocess.Popen[str]) -> None:
    """End LAMMPS, at once if it does not listen."""
    process.terminate()  # mpiexec then ends its ranks
    try:
        process.wait(10.0)
    except subprocess.TimeoutExpired:
        process.kill()


def read_thermo(log: str) -> list[dict[str, float]]:
    """Read all lines of `thermo_style one` or `custom` output in a log."""
    found = []
    names: list[str] | None = None
    for line in log.splitlines():
        words = line.split()
        if words[:1] == ['Step']:
            names = words
        elif line.startswith('Loop time'):
            names = None
        elif names and len(words) == len(names) and _is_number(words[0]):
            found.append(dict(zip(names, map(float, words), strict=True)))
    return found


def _is_number(word: str) -> bool:
    return word.lstrip('-').isdigit()


def lammps_frame(atoms: Atoms) -> Atoms:
    """Return a copy rotated as LAMMPS requires it: a along x, b in the xy plane.

    Energies are the same, forces and stress rotate with it: compare on the copy.
    Without a cell it gets a box around it, for `boundary f f f`.
    """
    turned = atoms.copy()
    turned.calc = None
    if atoms.cell.rank < 3:
        turned.center(vacuum=10.0)
    cell, rotation = turned.cell.standard_form()
    turned.set_cell(cell, scale_atoms=False)
    turned.positions = turned.positions @ rotation.T
    if turned.has('momenta'):
        turned.set_momenta(turned.get_momenta() @ rotation.T)
    return turned


def write_data(
    atoms: Atoms, path: Path, symbols: Sequence[str], velocities: bool = False
) -> Atoms:
    """Write a data file for units metal and atom_style atomic.

    Args:
        symbols: Elements of types 1, 2, ..., in the order of `pair_coeff`.
        velocities: Write those of the structure as well.

    Returns:
        The structure in the file, from `lammps_frame`; atom i has the id i + 1.
    """
    turned = lammps_frame(atoms)
    with path.open('w', encoding='utf-8') as stream:
        write_lammps_data(
            stream,
            turned,
            specorder=list(symbols),
            masses=True,
            velocities=velocities,
        )
    return turned
