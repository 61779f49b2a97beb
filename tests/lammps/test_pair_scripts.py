"""What scripts do beside one run: several models, limits, partitions, a GPU."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from commandline import run
from lammps_helpers import lammps, read_dump, run_lmp, write_data
from pair_models import (
    SPECIES,
    Deployed,
    assert_agrees,
    bulk,
    deployed,
    evaluate,
    parity,
)

HEAD = 'units metal\natom_style atomic\nread_data data.lmp\n'
END = 'thermo_style custom step pe\nthermo_modify format float %.12g\nrun 0\n'


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    return deployed(tmp_path_factory.mktemp('plain'))


@pytest.mark.parametrize('style', ['e3gnn', 'e3gnn/parallel'])
def test_clear_a_second_model_and_a_restart(
    style: str, model: Deployed, tmp_path: Path, lmp_env: dict[str, str]
) -> None:
    write_data(bulk((2, 2, 1)), tmp_path / 'data.lmp', SPECIES)
    other = parity(tmp_path)
    script = (
        f'{HEAD}{model.pair(style)}\n{END}write_restart saved\n'
        f'clear\n{HEAD}{other.pair(style)}\n{END}'
        f'clear\nread_restart saved\n{model.pair(style)}\n{END}'
    )
    ranks = 1 if style == 'e3gnn' else 2
    found = run_lmp(script, tmp_path, lmp_env, ranks)
    assert found.returncode == 0, found.error
    # the first run and the third are of one model
    energies = [line['PotEng'] for line in found.thermo]
    assert energies[2] == pytest.approx(energies[0], abs=1e-5)
    assert abs(energies[1] - energies[0]) > 0.1


def test_a_small_stack_is_enough(
    model: Deployed, tmp_path: Path, lmp_env: dict[str, str]
) -> None:
    """The host keeps its edges on the stack, and large cells overflow it."""
    write_data(bulk((4, 4, 2)), tmp_path / 'data.lmp', SPECIES)
    (tmp_path / 'in.lmp').write_text(f'{HEAD}{model.pair("e3gnn")}\n{END}')
    command = f'ulimit -s 256; exec {lammps().binary} -in in.lmp -log none'
    done = run(command=['bash', '-c', command], cwd=tmp_path, env=lmp_env)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize('style', ['e3gnn', 'e3gnn/parallel'])
def test_an_energy_that_is_no_number_ends_the_run(
    style: str, model: Deployed, tmp_path: Path, lmp_env: dict[str, str]
) -> None:
    atoms = bulk((2, 2, 1))
    atoms.positions[1] = atoms.positions[0]
    write_data(atoms, tmp_path / 'data.lmp', SPECIES)
    script = f'{HEAD}{model.pair(style)}\n{END}'
    found = run_lmp(script, tmp_path, lmp_env, 1 if style == 'e3gnn' else 2)
    assert found.returncode != 0
    assert 'the energy is not a number' in found.error


def test_a_heat_flux_is_refused(
    model: Deployed, tmp_path: Path, lmp_env: dict[str, str]
) -> None:
    """No virial of an atom gives that of a message-passing model."""
    write_data(bulk((2, 2, 1)), tmp_path / 'data.lmp', SPECIES)
    compute = (
        'compute s all centroid/stress/atom NULL virial\n'
        'dump d all custom 1 dump id c_s[1]'
    )
    script = f'{HEAD}{model.pair("e3gnn")}\n{compute}\n{END}'
    found = run_lmp(script, tmp_path, lmp_env)
    assert found.returncode != 0
    assert 'centroid' in found.error


def test_partitions_share_the_cores(
    model: Deployed, tmp_path: Path, lmp_env: dict[str, str]
) -> None:
    """As many runs as NEB has images do not take every core each."""
    write_data(bulk((1, 1, 1)), tmp_path / 'data.lmp', SPECIES)
    (tmp_path / 'in.lmp').write_text(f'{HEAD}{model.pair("e3gnn")}\n{END}')
    env = {k: v for k, v in lmp_env.items() if k != 'OMP_NUM_THREADS'}
    found = lammps()
    start = [str(found.mpiexec), '-n', '2', str(found.binary), '-partition', '2x1']
    subprocess.run(
        [*start, '-in', 'in.lmp'], cwd=tmp_path, env=env, timeout=120, check=True
    )
    alone = run_lmp((tmp_path / 'in.lmp').read_text(), tmp_path, env)
    (whole,) = re.findall(r'threads per rank (\d+)', alone.log)
    for number in (0, 1):
        log = (tmp_path / f'log.lammps.{number}').read_text()
        (threads,) = re.findall(r'threads per rank (\d+)', log)
        assert int(threads) == max(1, int(whole) // 2)


def test_types_left_to_others_on_two_ranks(
    model: Deployed, tmp_path: Path, lmp_env: dict[str, str]
) -> None:
    files = f'{model.segments} {model.folder}'
    lines = (
        'pair_style hybrid/overlay e3gnn/parallel zero 4.0\n'
        f'pair_coeff * * e3gnn/parallel {files} In Ga NULL\npair_coeff * * zero'
    )
    found = []
    for ranks in (1, 2):
        _, result = evaluate(bulk((2, 2, 1)), lines, tmp_path, lmp_env, ranks)
        dump = read_dump(tmp_path / 'dump')[-1]
        found.append((result.thermo[-1]['PotEng'], dump.columns('fx', 'fy', 'fz')))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-5)
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize(('style', 'ranks'), [('e3gnn', 1), ('e3gnn/parallel', 2)])
def test_on_a_gpu_as_in_ase(
    style: str, ranks: int, model: Deployed, tmp_path: Path, lmp_env: dict[str, str]
) -> None:
    atoms, result = evaluate(bulk(), model.pair(style), tmp_path, lmp_env, ranks)
    assert 'device cuda' in result.log
    assert_agrees(atoms, model.reference(atoms), tmp_path, result)
