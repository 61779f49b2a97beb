"""`lammps check`: LAMMPS against ASE, and every lmp has the pair styles."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest
from commandline import run
from helpers import NAMES, build, model_config, save_checkpoint, trained
from lammps_helpers import lammps
from rich.console import Console

import sevennet_mf
from sevennet_mf import keys
from sevennet_mf.cli import main
from sevennet_mf.deploy.folded import Folded, prepare
from sevennet_mf.errors import UserError
from sevennet_mf.lammps import check as lammps_check
from sevennet_mf.lammps.check import check, example
from sevennet_mf.lammps.commands import run_check
from sevennet_mf.lammps.plugin_path import CACHE_VARIABLE

ROOT = Path(sevennet_mf.__file__).parents[1]
LMP = [sys.executable, '-c', 'from lammps.executable import lmp; lmp()']
INPUT = ('-in', 'in.lmp', '-log', 'none')


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small model of two fidelities."""
    model, config = trained('lora')
    config[keys.PROVENANCE] = {'fidelities': list(NAMES), 'target': 'r2scan'}
    path = tmp_path_factory.mktemp('trained') / 'checkpoint_best.pth'
    return str(save_checkpoint(path, model, config))


@pytest.fixture
def here(lmp_env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """This process uses the plugin of the tests."""
    monkeypatch.setenv(CACHE_VARIABLE, lmp_env[CACHE_VARIABLE])


def shown(args: argparse.Namespace) -> str:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(run_check(args))
    return capture.get()


# ---- check


@pytest.mark.usefixtures('here')
def test_lammps_agrees_with_ase(checkpoint: str) -> None:
    found = check(checkpoint, 'r2scan')
    assert list(found.lammps) == ['e3gnn', 'e3gnn/parallel']
    for style in found.lammps:
        for name, (difference, allowed) in found.differences(style).items():
            assert difference <= allowed, (style, name)
    # something was compared: atoms are not at rest, and no two of a kind are alike
    assert abs(found.ase.forces).max() > 0.01
    assert abs(found.ase.stress).min() > 0
    assert len(set(found.ase.energies.round(6))) == len(found.atoms)


@pytest.mark.usefixtures('here')
def test_the_command_prints_a_table(
    checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['lammps', 'check', checkpoint, '--fidelity', 'pbe']) == 0
    said = capsys.readouterr().out
    for word in ('e3gnn/parallel', 'energy per atom', 'forces', 'ASE agree'):
        assert word in said


@pytest.mark.usefixtures('here')
def test_a_difference_is_an_error(
    checkpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(checkpoint: str, *_: object) -> Folded:
        return prepare(checkpoint, 'pbe', None)

    monkeypatch.setattr(lammps_check, 'prepare', wrong)
    with pytest.raises(UserError, match=r'e3gnn in LAMMPS and ASE differ .*energy'):
        check(checkpoint, 'r2scan')


@pytest.mark.usefixtures('here')
def test_a_fidelity_must_be_named(checkpoint: str) -> None:
    with pytest.raises(UserError, match='pbe.*r2scan'):
        check(checkpoint)


@pytest.mark.usefixtures('here')
def test_what_stops_lammps_is_told(
    checkpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lammps_check, 'deploy_folded', lambda *a, **k: [])
    monkeypatch.setattr(lammps_check, 'SCRIPT', 'pair_style nosuch\n')
    with pytest.raises(UserError, match=r"stopped \(lmp\): ERROR: .*'nosuch'"):
        check(checkpoint, 'pbe')


def test_without_a_plugin_the_remedy_is_told(
    checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    with pytest.raises(UserError, match='not compiled .*sevennet-mf lammps build'):
        check(checkpoint, 'pbe')


@pytest.mark.usefixtures('here')
def test_a_plain_model_of_one_element(tmp_path: Path) -> None:
    config = model_config(names=('pbe',), chemical_species=['Ga'])
    path = save_checkpoint(tmp_path / 'one.pth', build(config), config)
    args = argparse.Namespace(checkpoint=str(path), fidelity=None)
    assert 'LAMMPS and ASE agree' in shown(args)


@pytest.mark.parametrize(
    'elements', [[11, 17, 8], [7, 31, 49], [1], list(range(1, 90))]
)
def test_the_example_has_neighbours_of_the_models_elements(
    elements: list[int],
) -> None:
    atoms = example(elements, cutoff=5.0)
    assert set(atoms.numbers) <= set(elements)
    assert len(set(atoms.numbers)) == min(len(elements), 2 if 11 in elements else 4)
    distances = atoms.get_all_distances(mic=True)
    nearest = (distances + 99 * (distances == 0)).min(axis=1)
    assert nearest.min() > 0.4
    assert nearest.max() < 5.0


# ---- every lmp


@pytest.fixture
def entry_point(
    tmp_path: Path, lmp_env: dict[str, str]
) -> dict[str, str]:
    """An environment in which the package is installed, as pip would do it."""
    folder = tmp_path / f'sevennet_mf-{sevennet_mf.__version__}.dist-info'
    folder.mkdir()
    (folder / 'METADATA').write_text(
        'Metadata-Version: 2.1\nName: sevennet_mf\n'
        f'Version: {sevennet_mf.__version__}\n'
    )
    (folder / 'entry_points.txt').write_text(
        '[lammps.plugins]\n'
        'sevennet_mf = sevennet_mf.lammps.plugin_path:folder\n'
    )
    (tmp_path / 'in.lmp').write_text('plugin list\npair_style e3gnn\n')
    environment = {**lmp_env, 'PYTHONPATH': f'{tmp_path}:{ROOT}'}
    del environment['LAMMPS_PLUGIN_PATH']
    return environment


@pytest.mark.parametrize('ranks', [0, 1, 2])
def test_lmp_has_the_pair_styles_by_itself(
    ranks: int, entry_point: dict[str, str], tmp_path: Path
) -> None:
    start = [str(lammps().mpiexec), '-n', str(ranks)] if ranks else []
    done = run(*INPUT, command=[*start, *LMP], cwd=tmp_path, env=entry_point)
    # a pair style that is not there would have ended it; so does no box
    assert 'pair style plugin e3gnn\n' in done.stdout
    assert 'pair style plugin e3gnn/parallel\n' in done.stdout
    assert 'Unrecognized pair style' not in done.stdout


def test_lammps_in_python_has_them_too(
    entry_point: dict[str, str], tmp_path: Path
) -> None:
    code = (
        'from lammps import lammps\n'
        "lmp = lammps(cmdargs=['-log', 'none', '-screen', 'none'])\n"
        "print('e3gnn/parallel' in lmp.available_styles('pair'))"
    )
    command = [sys.executable, '-c', code]
    done = run(command=command, cwd=tmp_path, env=entry_point)
    assert done.stdout.split()[-1:] == ['True'], done.stderr


def test_lmp_runs_where_nothing_is_compiled(
    entry_point: dict[str, str], tmp_path: Path
) -> None:
    environment = {**entry_point, CACHE_VARIABLE: str(tmp_path / 'empty')}
    (tmp_path / 'in.lmp').write_text('units metal\npair_style zero 3.0\n')
    done = run(*INPUT, command=LMP, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stdout
    assert done.stderr == ''
