"""The folder of the plugin: found by every lmp, quickly and without a fault."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sevennet_mf.lammps import plugin_path
from sevennet_mf.lammps.plugin_path import (
    CACHE_VARIABLE,
    PLUGIN_FILE,
    RANKS,
    RECORD_FILE,
    Installed,
    cache_root,
    find_installed,
    folder,
    plugin_folder,
)

HEAVY = {'torch', 'sevenn', 'numpy', 'ase', 'rich', 'lammps', 'subprocess', 'tqdm'}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, in a process of no MPI."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    for name in RANKS:
        monkeypatch.delenv(name, raising=False)
    return tmp_path / 'lammps'


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    """torch and LAMMPS, as far as anybody looks at them."""
    for name in ('torch', 'lammps'):
        (tmp_path / name).mkdir(exist_ok=True)
    (tmp_path / 'torch' / 'version.py').write_text('cuda = None\n')
    (tmp_path / 'lammps' / 'liblammps.so').write_text('12345')
    versions = {'torch': '2.13.0', 'lammps': '1', 'mpich': '5'}
    return Installed(tmp_path / 'torch', tmp_path / 'lammps', versions)


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Two files that are compiled, one that is not."""
    place = tmp_path / 'cpp'
    place.mkdir()
    (place / 'a.cpp').write_text('int a;')
    (place / 'a.h').write_text('int b;')
    (place / 'README.md').write_text('c')
    return place


def built(place: Path, **versions: str) -> None:
    """What a build for these versions leaves."""
    place.mkdir(parents=True)
    record = {'prefix': sys.prefix, 'versions': versions}
    (place / RECORD_FILE).write_text(json.dumps(record))


# ---- the folder


def test_there_is_one_for_each_state_of_the_packages(
    installed: Installed, sources: Path
) -> None:
    seen = [plugin_folder(installed, sources)]
    assert seen[0].name.startswith('torch2.13.0-lammps1-')
    (installed.torch / 'version.py').write_text("cuda = '13.0'\n")
    seen.append(plugin_folder(installed, sources))
    (installed.lammps / 'liblammps.so').write_text('of another build')
    seen.append(plugin_folder(installed, sources))
    for name in ('lammps', 'mpich'):
        versions = {**installed.versions, name: '9'}
        seen.append(plugin_folder(installed._replace(versions=versions), sources))
    (sources / 'a.h').write_text('int c;')
    seen.append(plugin_folder(installed, sources))
    (sources / 'a.h').rename(sources / 'b.h')
    seen.append(plugin_folder(installed, sources))
    assert len(set(seen)) == len(seen)
    (sources / 'README.md').write_text('d')
    assert plugin_folder(installed, sources) == seen[-1]


def test_two_environments_share_nothing(
    installed: Installed, sources: Path, tmp_path: Path
) -> None:
    # the plugin finds torch's libraries by their path
    moved = tmp_path / 'elsewhere'
    installed.torch.rename(moved)
    there = plugin_folder(installed._replace(torch=moved), sources)
    moved.rename(installed.torch)
    assert there != plugin_folder(installed, sources)


def test_the_cache_is_where_a_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, '~/mine')
    assert cache_root() == Path.home() / 'mine' / 'lammps'
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setenv('XDG_CACHE_HOME', '/xdg')
    assert cache_root() == Path('/xdg/sevennet_mf/lammps')
    monkeypatch.setenv('XDG_CACHE_HOME', 'relative')  # to be ignored: its standard
    assert cache_root() == Path.home() / '.cache' / 'sevennet_mf' / 'lammps'


def test_torch_is_known_without_importing_it() -> None:
    import torch

    found = find_installed()
    assert found.versions['torch'] == torch.__version__
    assert found.torch == Path(torch.__file__).parent


# ---- what LAMMPS calls


def test_it_is_light() -> None:
    code = (
        'import sys; before = set(sys.modules)\n'
        'from sevennet_mf.lammps.plugin_path import folder\n'
        'place = folder()\n'
        'print(place, *(set(sys.modules) - before))'
    )
    run = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True
    )
    place, *loaded = run.stdout.split()
    assert place == str(plugin_folder())
    assert not HEAVY & {name.split('.')[0] for name in loaded}
    assert not run.stderr


def test_nothing_is_said_before_the_first_build(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert folder() == str(plugin_folder())
    assert capsys.readouterr() == ('', '')
    assert not cache.exists()  # asking leaves nothing


def test_a_plugin_for_other_versions_is_told(
    cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = find_installed().versions
    built(cache / 'old', **{**now, 'torch': '2.0.0'})
    assert folder() == str(plugin_folder())
    out, err = capsys.readouterr()
    assert out == ''
    assert err.count('\n') == 1
    assert f'torch 2.0.0 is now {now["torch"]}' in err
    assert 'sevennet-mf lammps build' in err
    monkeypatch.setenv('PMI_RANK', '1')  # one line for all ranks
    folder()
    assert capsys.readouterr().err == ''


def test_changed_sources_are_told(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built(cache / 'old', **find_installed().versions)
    folder()
    assert 'their sources changed' in capsys.readouterr().err


def test_nothing_is_said_where_the_plugin_is(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built(cache / 'old', torch='2.0.0')
    place = plugin_folder()
    place.mkdir()
    (place / PLUGIN_FILE).write_text('')
    assert folder() == str(place)
    assert capsys.readouterr().err == ''


def test_builds_of_other_environments_are_no_news(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built(cache / 'old', torch='2.0.0')
    file = cache / 'old' / RECORD_FILE
    file.write_text(file.read_text().replace(sys.prefix, '/another/environment'))
    folder()
    assert capsys.readouterr().err == ''


def test_nothing_ends_lmp(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / 'old').mkdir(parents=True)
    (cache / 'old' / RECORD_FILE).write_text('{ broken')
    assert folder() in ('', str(plugin_folder()))
    monkeypatch.setattr(plugin_path.util, 'find_spec', lambda name: None)
    assert folder() == ''  # torch is missing


def test_a_user_without_a_home_can_run_lmp(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError('Could not determine home directory.')

    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
    monkeypatch.setattr(Path, 'home', nowhere)
    assert folder() == ''
