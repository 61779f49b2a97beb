"""Compile the pair styles once for this torch, LAMMPS and machine."""

from __future__ import annotations

import contextlib
import math
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from sevennet_mf import files, lock
from sevennet_mf.errors import UserError
from sevennet_mf.lammps import plugin_path
from sevennet_mf.lammps.compile import compile_and_link, compile_flags, link_flags
from sevennet_mf.lammps.toolchain import find_compiler
from sevennet_mf.lammps.tools import (
    INSTALL,
    Lammps,
    find_lammps,
    find_mpi_include,
    find_packages,
    run_quietly,
)
from sevennet_mf.program import last_line

CHOICES: Final = ('CXX', 'CXXFLAGS', 'LDFLAGS')
LOG_FILE: Final[str] = 'build.log'


def build(*, force: bool = False, sources: Path = plugin_path.SOURCES) -> Path:
    """Compile the plugin for LAMMPS if it is not there yet; return its path.

    The plugin is in a cache folder (see plugin_path). An interrupted build leaves
    nothing behind, and of two builds at the same time, the second waits for the
    first and uses its result.

    Args:
        force: Compile even if the plugin exists. This also happens if CXX,
            CXXFLAGS or LDFLAGS have changed.
        sources: Folder with .cpp and .h files.

    Raises:
        UserError: If something is missing, incompatible, or fails. The output of
            the compiler is then in build.log in the cache folder.
    """
    installed = find_packages()
    place = plugin_path.plugin_folder(installed, sources)
    plugin = place / plugin_path.PLUGIN_FILE
    if plugin.is_file() and not (force or _asked_otherwise(plugin)):
        return plugin
    if os.pathsep in str(place):
        raise UserError(
            f'the cache folder {place} has a {os.pathsep!r} in its name, which '
            f'LAMMPS does not support. Choose another one with '
            f'{plugin_path.CACHE_VARIABLE}.'
        )
    if not any(path.suffix == '.cpp' for path in plugin_path.source_files(sources)):
        raise UserError(f'there are no sources in {sources}. Reinstall sevennet_mf.')
    with _writable(place), _locked(place):
        if force or not plugin.is_file() or _asked_otherwise(plugin):
            _build_in(place, installed, sources)
    return plugin


def _chosen() -> dict[str, str]:
    """The user's choices for the compiler, from the usual variables."""
    return {name: os.environ[name] for name in CHOICES if os.environ.get(name)}


def _asked_otherwise(plugin: Path) -> bool:
    """Whether variables are set that the plugin was compiled without."""
    chosen = _chosen()
    return bool(chosen) and chosen != read_record(plugin).get('chosen', {})


@contextlib.contextmanager
def _writable(place: Path) -> Iterator[None]:
    """Make the folder; raise UserError for what cannot be written there."""
    other = f'another folder with the variable {plugin_path.CACHE_VARIABLE}.'
    files.make_folder(place, f'Choose {other}', to_write=True)
    try:
        yield
    except OSError as error:
        remedy = f'Free space, or choose {other}'
        raise files.unwritable(place, error, remedy) from None


@contextlib.contextmanager
def _locked(place: Path) -> Iterator[None]:
    """One build at a time in a folder; the kernel unlocks what is killed."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # a file system without locks
            held = lock.take(place / 'lock', 0.0, needed=True)
            if held is None:
                text = 'waiting for another build'
                with tqdm(desc=text, bar_format='{desc}', disable=None):
                    held = lock.take(place / 'lock', math.inf, needed=True)
            assert held is not None
            stack.enter_context(held)
            for left in place.glob('.building-*'):  # from a killed build
                shutil.rmtree(left, ignore_errors=True)
        yield


def _units(sources: Sequence[Path]) -> list[Path]:
    """The files to compile: those that no other one includes."""
    texts = (path.read_text(encoding='utf-8') for path in sources)
    found = (re.findall(r'^#include "(\w+\.cpp)"$', t, re.MULTILINE) for t in texts)
    included = {name for names in found for name in names}
    return [p for p in sources if p.suffix == '.cpp' and p.name not in included]


def _build_in(
    place: Path, installed: plugin_path.Installed, sources: Path
) -> None:
    """Find the tools, compile in a folder of its own, try, and move into place."""
    started = time.monotonic()
    units = _units(plugin_path.source_files(sources))
    with (
        tqdm(
            total=len(units) + 2,
            desc='compiling the pair styles',
            bar_format='{desc}: {n_fmt}/{total_fmt} steps, {elapsed}',
            disable=None,
        ) as bar,
        tempfile.TemporaryDirectory(dir=place, prefix='.building-') as name,
    ):
        work, log = Path(name), place / LOG_FILE
        log.unlink(missing_ok=True)
        lammps = find_lammps()
        includes = find_mpi_include()
        compiler = find_compiler(installed.torch, includes, lammps)
        flags = compile_flags(installed.torch, lammps, compiler, includes)
        plugin = work / plugin_path.PLUGIN_FILE
        compile_and_link(
            units,
            plugin,
            [*compiler.command, *flags],
            link_flags(installed.torch),
            log,
            bar,
        )
        styles = try_plugin(plugin, lammps)
        bar.update()
        record = {
            'versions': installed.versions,
            'prefix': sys.prefix,
            'compiler': compiler.name,
            'chosen': _chosen(),
            'mpi': lammps.mpi,
            'flags': flags,
            'styles': styles,
            'seconds': round(time.monotonic() - started, 1),
        }
        files.write_json(work / plugin_path.RECORD_FILE, record)
        if plugin_path.plugin_folder(installed, sources) != place:
            raise UserError(f'{sources} changed during compilation. Try again.')
        # the plugin last: if it exists, so does the rest
        for name in (plugin_path.RECORD_FILE, plugin_path.PLUGIN_FILE):
            os.replace(work / name, place / name)


def read_record(plugin: Path) -> dict[str, Any]:
    """Return the record of a built plugin: versions, compiler, styles, ..."""
    return files.read_json(plugin.parent / plugin_path.RECORD_FILE)


# ---- does LAMMPS load it?


def try_plugin(plugin: Path, lammps: Lammps) -> list[str]:
    """Load a plugin in a new LAMMPS process; return the styles it adds.

    Raises:
        UserError: If there are none, with the message of the loader.
    """
    folder = plugin.parent
    script = folder / 'in.lmp'
    script.write_text('plugin list\n', encoding='utf-8')
    environment = {**lammps.environment, 'LAMMPS_PLUGIN_PATH': str(folder)}
    environment['OMP_NUM_THREADS'] = '1'
    command = [str(lammps.binary), '-in', str(script), '-log', 'none']
    run = run_quietly(command, env=environment)
    styles = re.findall(r'^ *\d+: \w+ style plugin (\S+)', run.stdout, re.MULTILINE)
    if styles and run.returncode == 0:
        return sorted(styles)
    failed = re.search(r'^.*failed: (.*)', run.stdout, re.MULTILINE)
    reason = failed[1] if failed else (
        last_line(run.stderr or run.stdout) or 'no output'
    )
    raise UserError(f'LAMMPS cannot load the compiled plugin: {_why(reason)}')


def _why(reason: str) -> str:
    if 'GLIBCXX_' in reason or 'CXXABI_' in reason:
        remedy = (
            'the compiler is newer than the C++ library that LAMMPS uses. Use the '
            'compiler of the system: CXX=/usr/bin/g++ sevennet-mf lammps build'
        )
    elif 'failed to map segment' in reason:
        remedy = (
            'programs cannot be run from its folder. Choose another one with '
            f'{plugin_path.CACHE_VARIABLE}'
        )
    elif 'undefined symbol' in reason:
        remedy = (
            'the version of LAMMPS or torch differs from that of its headers. '
            f'Reinstall them: {INSTALL} --force-reinstall'
        )
    else:
        return f'{reason}.'
    return f'{reason}: {remedy}.'
