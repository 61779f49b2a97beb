"""Running the compiler: flags, objects and the shared library."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from sevennet_mf.errors import UserError
from sevennet_mf.lammps import plugin_path
from sevennet_mf.lammps.toolchain import Compiler
from sevennet_mf.lammps.tools import Lammps, first_error

FLAGS: Final = (
    '-O3',
    '-fPIC',
    '-Wall',
    '-pipe',  # nothing in /tmp
    # of the kernel: a product and a sum in one instruction
    '-ffp-contract=fast',
    '-Wno-psabi',  # vectors in registers are passed to inlined functions only
)
# of torch, where it has them; the CUDA ones register themselves when loaded
LIBRARIES: Final = ('torch', 'torch_cpu', 'c10', 'torch_cuda', 'c10_cuda')
NEW_ABI: Final[bytes] = b'NSt7__cxx1112basic_string'  # std::string in a symbol
NO_MEMORY: Final = ('Killed signal', 'virtual memory exhausted', 'out of memory')

# ---- flags


def common_abi(torch: Path, lammps: Lammps) -> int:
    """Return _GLIBCXX_USE_CXX11_ABI of torch and LAMMPS, 0 or 1.

    Args:
        torch: Folder of the package.

    Raises:
        UserError: If they differ.
    """
    own = int(has_new_abi(torch / 'lib' / 'libc10.so'))
    other = int(has_new_abi(lammps.binary.parent / 'liblammps.so'))
    if own != other:
        raise UserError(
            f'torch is compiled with _GLIBCXX_USE_CXX11_ABI={own} and LAMMPS with '
            f'{other}: they cannot be linked. Install torch from another source: '
            'since version 2.7, torch from pip has 1, like LAMMPS from pip.'
        )
    return own


def has_new_abi(library: Path) -> bool:
    """Return whether functions of a library use the std::string of C++11."""
    with (
        library.open('rb') as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        return content.find(NEW_ABI) >= 0


def compile_flags(
    torch: Path, lammps: Lammps, compiler: Compiler, includes: Sequence[str]
) -> list[str]:
    """Return the compiler's flags; those of $CXXFLAGS override our own.

    Args:
        torch: Folder of the package.
        includes: Flags that find mpi.h.

    Raises:
        UserError: As `common_abi`.
    """
    own = shlex.split(os.environ.get('CXXFLAGS', ''))
    headers = [
        torch / 'include',
        torch / 'include' / 'torch' / 'csrc' / 'api' / 'include',
        lammps.include,
    ]
    system = [part for path in headers for part in ('-isystem', str(path))]
    return [
        *FLAGS,
        *own,
        compiler.standard,
        f'-D_GLIBCXX_USE_CXX11_ABI={common_abi(torch, lammps)}',
        *lammps.flags,
        f'-I{plugin_path.KERNEL}',
        *system,
        *includes,
    ]


def link_flags(torch: Path) -> list[str]:
    """Return the linker's flags for the libraries that this torch has."""
    folder = torch / 'lib'
    present = [n for n in LIBRARIES if (folder / f'lib{n}.so').is_file()]
    return [
        *shlex.split(os.environ.get('LDFLAGS', '')),
        f'-L{folder}',
        '-Wl,--no-as-needed',
        *(f'-l{name}' for name in present),
        # an rpath of the old kind precedes LD_LIBRARY_PATH, which may have
        # another torch
        '-Wl,--disable-new-dtags',
        *('-Xlinker', '-rpath', '-Xlinker', str(folder)),
    ]


# ---- programs


def compile_and_link(
    files: Sequence[Path],
    plugin: Path,
    command: Sequence[str],
    libraries: Sequence[str],
    log: Path,
    bar: tqdm[Any],
) -> None:
    """Make a shared library from source files, in the folder of `plugin`.

    Args:
        plugin: Path of the library.
        command: The compiler with its flags.
        libraries: Flags of the linker.
        log: File that the compiler's output is added to.
        bar: Advanced by each finished step.

    Raises:
        UserError: If a step fails.
        OSError: If the disk is full.
    """
    work = plugin.parent
    objects = {path: work / f'{path.stem}.o' for path in files}
    commands = {
        f'compiling {path.name}': [*command, '-c', str(path), '-o', str(made)]
        for path, made in objects.items()
    }
    _run_all(commands, work, log, bar)
    made = map(str, objects.values())
    link = [*command, '-shared', *made, '-o', str(plugin), *libraries]
    _run_all({'linking': link}, work, log, bar)


def _run_all(
    commands: dict[str, list[str]], work: Path, log: Path, bar: tqdm[Any]
) -> None:
    """Run commands, as many at a time as there are cores (or MAX_JOBS says).

    Each goes to the log with its output. UserError for the first that fails;
    the others are then killed.
    """
    waiting = list(commands.items())
    running: dict[subprocess.Popen[bytes], tuple[str, Path]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs():
                what, command = waiting.pop(0)
                output = work / f'{len(waiting)}.out'
                output.write_text(f'$ {shlex.join(command)}\n', encoding='utf-8')
                with output.open('ab') as stream:
                    process = subprocess.Popen(
                        command,
                        stdin=subprocess.DEVNULL,
                        stdout=stream,
                        stderr=stream,
                        env={**os.environ, 'LC_ALL': 'C'},
                        start_new_session=True,  # to end the compiler's own child
                    )
                running[process] = what, output
            for process in [p for p in running if p.poll() is not None]:
                what, output = running.pop(process)
                text = output.read_text(encoding='utf-8', errors='replace')
                with log.open('a', encoding='utf-8') as stream:
                    stream.write(text)
                if process.returncode:
                    raise _failure(what, text.partition('\n')[2], log)
                bar.update()
            bar.refresh()
            time.sleep(0.05)
    finally:
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def jobs() -> int:
    """Return how many compilers may run at a time: the cores, or MAX_JOBS."""
    chosen = os.environ.get('MAX_JOBS', '')
    if chosen.isdigit():
        return max(1, int(chosen))
    return len(os.sched_getaffinity(0))


def _failure(what: str, output: str, log: Path) -> Exception:
    first = first_error(output)
    if os.strerror(errno.ENOSPC) in output:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if any(words in output for words in NO_MEMORY):
        return UserError(
            f'{what} ran out of memory: it needs about 1 GB for each file. Compile '
            'one at a time: MAX_JOBS=1 sevennet-mf lammps build'
        )
    return UserError(
        f'{what} failed: {first}. The whole output of the compiler is in {log}'
    )
