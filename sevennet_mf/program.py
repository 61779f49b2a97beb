"""The process of `sevennet-mf`: what it sets and prints, and how it ends."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from sevennet_mf.errors import UserError
from sevennet_mf.files import read_json, write_json

# mallopt's names for them, from malloc.h
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
NEVER, INT_MAX = -1, 2**31 - 1
# by which users configure glibc: then nothing is changed
CHOICES: Final[tuple[str, ...]] = (
    'MALLOC_TRIM_THRESHOLD_',
    'MALLOC_MMAP_THRESHOLD_',
    'GLIBC_TUNABLES',
)
MANY: Final[int] = 100  # modules, as torch and SevenNet are: they stay to the end


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory for the next step of a simulation.

    Else it gives the large arrays of each step back to the system, which has to
    clear them again. Nothing is changed where the environment has one of
    `MALLOC_TRIM_THRESHOLD_`, `MALLOC_MMAP_THRESHOLD_` and `GLIBC_TUNABLES`, and
    where the C library is another one.

    Returns:
        Whether memory is kept from now on.
    """
    # lammps/cpp/node.cpp does the same
    if any(name in os.environ for name in CHOICES):
        return False
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 - others lack it
        mallopt = library.mallopt
    except (AttributeError, OSError, TypeError):
        return False
    # before glibc 2.35 or so that is more than it takes
    kept = mallopt(MMAP_THRESHOLD, INT_MAX) or mallopt(MMAP_MAX, 0)
    return bool(kept and mallopt(TRIM_THRESHOLD, NEVER))


@contextmanager
def quiet_bars() -> Iterator[None]:
    """Within, progress bars of others are not written into files and pipes.

    Ours check for that themselves; SevenNet's do not. tqdm checks when it is
    imported.
    """
    name = 'TQDM_DISABLE'
    if sys.stderr.isatty() or name in os.environ:
        yield
        return
    os.environ[name] = '1'
    try:
        yield
    finally:
        os.environ.pop(name, None)


@contextmanager
def importing() -> Iterator[None]:
    """Within, no garbage is collected: for imports, whose objects all stay.

    Searching them again and again takes a fifth of the time of imports. Afterwards
    the collector ignores them.
    """
    was_on, before = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) - before >= MANY:
            gc.freeze()
        if was_on:
            gc.enable()


def show(what: Any) -> None:
    """Print a text or a rich table."""
    from rich.console import Console

    console = Console(soft_wrap=isinstance(what, str))
    if not console.is_terminal:
        console.width = 100  # a file or a pipe has no width; our tables need this
    console.print(what, markup=False, highlight=False)


# ---- for a process that another one started with --failure FILE


def write_failure(path: str, error: Exception, message: str) -> None:
    """Write to a JSON file the error that a command ends with, for its parent."""
    with suppress(UserError):  # the parent learns how it ended, at least
        write_json(path, {'kind': type(error).__name__, 'message': message})


def why_it_failed(code: int, path: str | Path) -> str:
    """Return the message of a command that failed, or else how it ended.

    Args:
        code: Its exit code, as subprocess has it.
        path: What followed --failure.
    """
    message = read_json(path).get('message')
    if message and code > 0:
        return str(message)
    return f'the process {how_it_ended(code)}'


def how_it_ended(code: int) -> str:
    """Return 'ended by SIGKILL (out of memory?)' or 'ended with exit code 3'."""
    if code >= 0:
        return f'ended with exit code {code}'
    name = signal.Signals(-code).name
    return f'ended by {name}{" (out of memory?)" * (name == "SIGKILL")}'


def last_line(output: str) -> str:
    """Return the last line that is not empty, '' if there is none."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else ''


# ---- for a process that another one starts

# Replaces itself by the command, and makes the kernel send SIGTERM to it when the
# process that started it dies, even by `kill -9`: nothing else would stop the
# worker. prctl(PR_SET_PDEATHSIG) survives exec; a function that Popen calls between
# fork and exec would not be safe with the threads of a live table.
_LAUNCH: Final[str] = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, int(signal.SIGTERM), 0, 0, 0)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""


def bound(command: Sequence[str]) -> list[str]:
    """Return a command that gets SIGTERM when the process that starts it dies.

    It must be started by this process, in the thread that waits for it.
    """
    start = [sys.executable, '-I', '-S', '-c', _LAUNCH, str(os.getpid())]
    return [*start, *command]


def threads(number: int) -> dict[str, str]:
    """Return the environment variables that set a worker's threads."""
    return {'OMP_NUM_THREADS': str(number), 'MKL_NUM_THREADS': str(number)}
