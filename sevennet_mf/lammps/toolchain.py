"""A C++ compiler that fits torch, LAMMPS and MPI."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sevennet_mf.errors import UserError
from sevennet_mf.lammps.tools import INSTALL, Lammps, first_error, run_quietly

COMPILERS: Final = ('g++', 'c++', 'clang++')
GET_COMPILER: Final[str] = (
    'Install one: apt install g++, or conda install -c conda-forge cxx-compiler'
)


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler.

    Attributes:
        command: The program with its arguments.
        name: Its name and version.
        standard: Flag of the C++ standard.
    """

    command: tuple[str, ...]
    name: str
    standard: str


def find_compiler(torch: Path, includes: list[str], lammps: Lammps) -> Compiler:
    """Return a working compiler for the C++ standard that torch's headers need.

    It is $CXX, else the first of g++, c++ and clang++.

    Args:
        torch: Folder of the package.
        includes: Flags that find mpi.h.

    Raises:
        UserError: If there is no compiler, if it is too old or broken, or if mpi.h
            is missing or belongs to an MPI other than that of `lammps`.
    """
    command = _command()
    standard = f'-std=c++{_standard(torch)}'
    program = '#include <string>\n#include <mpi.h>\n'
    macros = _preprocess(command, [standard, *includes], program)
    header = 'Open MPI' if 'OMPI_MAJOR_VERSION' in macros else 'MPICH'
    if header != lammps.mpi:
        raise UserError(
            f'mpi.h belongs to {header}, but LAMMPS runs with {lammps.mpi}: a '
            f'plugin compiled with it would crash. Deactivate other MPI modules '
            f'and run: {INSTALL}'
        )
    if macros.get('_GLIBCXX_USE_CXX11_ABI') is None:
        raise UserError(
            f'{command[0]} does not use the C++ library libstdc++, which torch and '
            'LAMMPS use. Set CXX=g++.'
        )
    version = macros.get('__VERSION__', '').strip('"')
    return Compiler(command, f'{Path(command[0]).name} {version}', standard)


def _command() -> tuple[str, ...]:
    chosen = shlex.split(os.environ.get('CXX', ''))
    if chosen:
        if not shutil.which(chosen[0]):
            raise UserError(
                f'the compiler CXX={chosen[0]} does not exist. Unset CXX or correct '
                f'it. {GET_COMPILER}'
            )
        return tuple(chosen)
    found = next(filter(None, map(shutil.which, COMPILERS)), None)
    if not found:
        raise UserError(
            f'there is no C++ compiler (looked for $CXX, {", ".join(COMPILERS)}). '
            f'{GET_COMPILER}'
        )
    return (found,)


def _standard(torch: Path) -> int:
    """The C++ standard that torch's headers require, such as 17."""
    header = torch / 'include' / 'ATen' / 'ATen.h'
    if not header.is_file():
        raise UserError(
            f'torch in {torch} has no C++ headers (ATen/ATen.h). Install torch with '
            'pip.'
        )
    text = header.read_text(encoding='utf-8')
    found = re.search(r'__cplusplus < 20(\d\d)', text)
    return {'17': 17, '20': 20, '23': 23}.get(found[1] if found else '17', 20)


def _preprocess(
    command: tuple[str, ...], flags: list[str], program: str
) -> dict[str, str]:
    """The macros that a program sees, by name; UserError if it has no headers."""
    run = run_quietly(
        [*command, *flags, '-x', 'c++', '-E', '-dM', '-'], given=program
    )
    if run.returncode == 0:
        found = re.findall(r'^#define (\w+) ?(.*)$', run.stdout, re.MULTILINE)
        return dict(found)
    first = first_error(run.stderr)
    if 'mpi.h' in first:
        raise UserError(f'there is no mpi.h. Run: {INSTALL}')
    if '-std=' in run.stderr:
        raise UserError(
            f'{command[0]} is too old: torch needs {flags[0][5:]} ({first}). Choose '
            f'a newer one with CXX. {GET_COMPILER}'
        )
    raise UserError(f'{command[0]} does not work: {first}. {GET_COMPILER}')
