"""`pair_style e3gnn/parallel` gives on any number of ranks what ASE gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from helpers import NAMES
from lammps_helpers import read_dump
from pair_models import (
    CELLS,
    Deployed,
    assert_agrees,
    bulk,
    close,
    deploy_both,
    deployed,
    evaluate,
    parity,
    slab,
    two_modalities,
)


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """A plain model of the host."""
    return deployed(tmp_path_factory.mktemp('plain'))


def check(
    atoms: Atoms,
    model: Deployed,
    folder: Path,
    env: dict[str, str],
    ranks: int,
    **part: str,
) -> str:
    """Compare one run with ASE; returns what it wrote to the screen."""
    pair = model.pair('e3gnn/parallel')
    turned, result = evaluate(atoms, pair, folder, env, ranks, **part)
    assert_agrees(turned, model.reference(turned), folder, result)
    return result.stdout


@pytest.mark.parametrize('ranks', [1, 2, 4])
@pytest.mark.parametrize('cell', CELLS)
def test_every_cell_as_in_ase(
    cell: str, ranks: int, model: Deployed, tmp_path: Path, lmp_env: dict[str, str]
) -> None:
    # slab: along z, so that two of four ranks have nothing but vacuum
    grid = 'processors 1 1 *' if cell == 'slab' else ''
    shown = check(CELLS[cell](), model, tmp_path, lmp_env, ranks, before=grid)
    if ranks == 4 and cell != 'bulk':  # a rank without atoms takes part
        (line,) = [s for s in shown.split('\n') if s.startswith('Nlocal:')]
        assert line.split()[-2] == '0'


@pytest.mark.parametrize('setting', ['tiled', 'shifted', 'surface', 'parity'])
def test_every_decomposition_as_in_ase(
    setting: str, model: Deployed, tmp_path: Path, lmp_env: dict[str, str]
) -> None:
    atoms, part = bulk((3, 2, 2)), dict[str, str]()
    if setting == 'tiled':
        part = {
            'before': 'comm_style tiled',
            'after': 'balance 1.0 rcb\nfix even all balance 1 1.0 rcb',
        }
    elif setting == 'shifted':
        part = {'before': 'processors 1 1 4', 'after': 'balance 1.0 shift z 10 1.0'}
    elif setting == 'surface':
        part = {'boundary': 'p p s'}
        atoms = slab()
        atoms.pbc = [True, True, False]
    else:
        model = parity(tmp_path)
    ranks = 2 if setting in ('surface', 'parity') else 4
    check(atoms, model, tmp_path, lmp_env, ranks, **part)


def test_files_named_one_by_one(
    model: Deployed, tmp_path: Path, lmp_env: dict[str, str]
) -> None:
    files = [str(model.folder / f'deployed_parallel_{k}.pt') for k in range(3)]
    pair = (
        'pair_style e3gnn/parallel\n'
        f'pair_coeff * * 3 {" ".join(files)} In Ga N'
    )
    atoms, result = evaluate(bulk((1, 1, 1)), pair, tmp_path, lmp_env, 2)
    assert_agrees(atoms, model.reference(atoms), tmp_path, result)


def test_dynamics_over_two_ranks(
    model: Deployed, tmp_path: Path, lmp_env: dict[str, str]
) -> None:
    dynamics = (
        'velocity all create 1500 1 loop geom\nfix move all nve\ntimestep 0.001\n'
        'thermo 1\nrun 60'
    )
    pair = model.pair('e3gnn/parallel')
    after = 'neigh_modify every 5 delay 0 check no'  # atoms change ranks on the way
    atoms, result = evaluate(
        bulk((2, 2, 1)), pair, tmp_path, lmp_env, 2, after=after, run=dynamics
    )
    assert np.ptp([line['PotEng'] for line in result.thermo]) > 0.1
    assert np.ptp([line['TotEng'] for line in result.thermo]) < 0.01
    for step in (7, 60):  # between two neighbour lists, and at the end
        frame = read_dump(tmp_path / 'dump')[step]
        atoms.positions = frame.columns('x', 'y', 'z')
        wanted = model.reference(atoms)
        close(frame.columns('fx', 'fy', 'fz'), wanted['forces'], 'forces')
        energy = result.thermo[step]['PotEng']
        assert energy == pytest.approx(wanted['energy'], abs=1e-4)


def test_fidelities_mix_in_hybrid(tmp_path: Path, lmp_env: dict[str, str]) -> None:
    path = two_modalities(tmp_path)
    modal = [deploy_both(path, tmp_path, name) for name in NAMES]
    style = 'e3gnn/parallel'
    pair = f'pair_style hybrid/scaled 0.3 {style} 0.7 {style}\n' + '\n'.join(
        f'pair_coeff * * {style} {i} {part.segments} {part.folder} In Ga N'
        for i, part in enumerate(modal, 1)
    )
    atoms, result = evaluate(bulk((2, 2, 1)), pair, tmp_path, lmp_env, 2)
    found = [part.reference(atoms) for part in modal]
    mixed = {
        key: 0.3 * found[0][key] + 0.7 * found[1][key]
        for key in ('energy', 'energies', 'forces', 'stress', 'stresses')
    }
    assert_agrees(atoms, mixed, tmp_path, result)
