"""`pair_style e3gnn` gives what ASE gives, whatever the cell and the script."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sevenn.util
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
from sevenn.calculator import SevenNetCalculator
from sevenn.scripts.deploy import deploy


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """A plain model of the host."""
    return deployed(tmp_path_factory.mktemp('plain'), parallel=False)


@pytest.fixture(scope='module')
def modal(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Deployed]:
    """Both modalities of a multi-modal model of the host."""
    folder = tmp_path_factory.mktemp('modal')
    path = two_modalities(folder)
    return {name: deploy_both(path, folder, name, parallel=False) for name in NAMES}


@pytest.mark.parametrize('cell', CELLS)
def test_every_cell_as_in_ase(
    cell: str, model: Deployed, tmp_path: Path, lmp_env: dict[str, str]
) -> None:
    atoms, result = evaluate(CELLS[cell](), model.pair('e3gnn'), tmp_path, lmp_env)
    assert_agrees(atoms, model.reference(atoms), tmp_path, result)


@pytest.mark.parametrize('setting', ['newton off', 'a free surface', 'parity'])
def test_every_setting_as_in_ase(
    setting: str, model: Deployed, tmp_path: Path, lmp_env: dict[str, str]
) -> None:
    atoms, part = bulk(), dict[str, str]()
    if setting == 'newton off':
        part = {'newton': 'off'}
    elif setting == 'a free surface':
        part = {'boundary': 'p p f'}
        atoms = slab()
        atoms.pbc = [True, True, False]
    else:
        model = parity(tmp_path, parallel=False)
    pair = model.pair('e3gnn')
    turned, result = evaluate(atoms, pair, tmp_path, lmp_env, 1, **part)
    assert_agrees(turned, model.reference(turned), tmp_path, result)


def test_ids_with_gaps_and_types_that_change_between_runs(
    model: Deployed, tmp_path: Path, lmp_env: dict[str, str]
) -> None:
    change = (
        'run 0\ngroup gone id 3 7\n'
        'delete_atoms group gone compress no\nset atom 1 type 2'
    )
    atoms, result = evaluate(
        bulk(), model.pair('e3gnn'), tmp_path, lmp_env, after=change, run='run 1'
    )
    assert read_dump(tmp_path / 'dump')[-1].ids[:5].tolist() == [1, 2, 4, 5, 6]
    atoms.symbols[0] = 'Ga'
    del atoms[[2, 6]]
    assert_agrees(atoms, model.reference(atoms), tmp_path, result)


def test_large_ids(
    model: Deployed, tmp_path: Path, lmp_env: dict[str, str]
) -> None:
    again = 'delete_atoms group all\nread_data data.lmp add 2000000000'
    atoms, result = evaluate(
        bulk((2, 2, 1)), model.pair('e3gnn'), tmp_path, lmp_env, after=again
    )
    assert read_dump(tmp_path / 'dump')[-1].ids[0] == 2000000001
    assert_agrees(atoms, model.reference(atoms), tmp_path, result)


def test_dynamics_conserves_energy_and_rerun_repeats_it(
    model: Deployed, tmp_path: Path, lmp_env: dict[str, str]
) -> None:
    start = bulk((2, 2, 1))
    dynamics = (
        'velocity all create 900 1 loop geom\nfix move all nve\ntimestep 0.001\n'
        'thermo 1\nrun 30\nunfix move\n'
        'undump all\nrerun ./dump first 20 last 30 dump x y z box no'
    )
    atoms, result = evaluate(
        start, model.pair('e3gnn'), tmp_path, lmp_env, run=dynamics
    )
    total = [line['TotEng'] for line in result.thermo[:31]]
    assert np.ptp([line['PotEng'] for line in result.thermo[:31]]) > 0.05
    assert np.ptp(total) < 5e-3
    again = {line['Step']: line['PotEng'] for line in result.thermo[31:]}
    for line in result.thermo[20:31]:
        assert again[line['Step']] == pytest.approx(line['PotEng'], abs=2e-4)
    frame = read_dump(tmp_path / 'dump')[30]  # moved: other edges than at the start
    atoms.positions = frame.columns('x', 'y', 'z')
    wanted = model.reference(atoms)['forces']
    close(frame.columns('fx', 'fy', 'fz'), wanted, 'forces')


def test_relaxes_atoms_and_box(
    model: Deployed, tmp_path: Path, lmp_env: dict[str, str]
) -> None:
    _, result = evaluate(
        bulk((2, 2, 1)),
        model.pair('e3gnn'),
        tmp_path,
        lmp_env,
        run='fix box all box/relax iso 0.0 vmax 0.005\nminimize 0 1e-3 8 20',
    )
    first, last = result.thermo[0], result.thermo[-1]
    assert last['PotEng'] < first['PotEng'] - 1e-3
    pressures = [sum(line[f'P{a}{a}'] for a in 'xyz') / 3 for line in (first, last)]
    assert abs(pressures[1]) < 0.9 * abs(pressures[0])


def test_fidelities_mix_in_hybrid(
    modal: dict[str, Deployed], tmp_path: Path, lmp_env: dict[str, str]
) -> None:
    pair = 'pair_style hybrid/scaled 0.3 e3gnn 0.7 e3gnn\n' + '\n'.join(
        f'pair_coeff * * e3gnn {i} {modal[name].serial} In Ga N'
        for i, name in enumerate(NAMES, 1)
    )
    atoms, result = evaluate(bulk((2, 2, 1)), pair, tmp_path, lmp_env)
    found = [modal[name].reference(atoms) for name in NAMES]
    mixed = {
        key: 0.3 * found[0][key] + 0.7 * found[1][key]
        for key in ('energy', 'energies', 'forces', 'stress', 'stresses')
    }
    assert abs(found[0]['energy'] - found[1]['energy']) > 1.0
    assert_agrees(atoms, mixed, tmp_path, result)


def test_hybrid_overlay_and_a_type_it_leaves_to_others(
    model: Deployed, tmp_path: Path, lmp_env: dict[str, str]
) -> None:
    pair = (
        'pair_style hybrid/overlay e3gnn zero 4.0\n'
        f'pair_coeff * * e3gnn {model.serial} NULL Ga N\npair_coeff * * zero'
    )
    atoms, _ = evaluate(bulk((2, 2, 1)), pair, tmp_path, lmp_env)
    others = atoms.symbols == 'In'
    wanted = model.reference(atoms[~others])
    dump = read_dump(tmp_path / 'dump')[-1]
    close(dump.values['c_energies'][others], 0.0, 'energies')
    close(dump.values['c_energies'][~others], wanted['energies'], 'energies')
    forces = dump.columns('fx', 'fy', 'fz')
    close(forces[others], 0.0, 'forces')
    close(forces[~others], wanted['forces'], 'forces')


def test_a_second_pair_coeff_replaces_the_model(
    modal: dict[str, Deployed], tmp_path: Path, lmp_env: dict[str, str]
) -> None:
    first, second = (modal[name].pair('e3gnn') for name in NAMES)
    pair = first + '\n' + second.split('\n')[1]
    atoms, result = evaluate(bulk((1, 1, 1)), pair, tmp_path, lmp_env)
    assert_agrees(atoms, modal[NAMES[1]].reference(atoms), tmp_path, result)


def test_log_says_what_runs(
    model: Deployed, tmp_path: Path, lmp_env: dict[str, str]
) -> None:
    _, result = evaluate(bulk((1, 1, 1)), model.pair('e3gnn'), tmp_path, lmp_env)
    lines = result.log.split('\n')
    (line,) = [s for s in lines if s.startswith('pair_style e3gnn:')]
    for words in (
        str(model.serial),
        f'sevenn {sevenn.__version__}',
        'single precision',
        'device ',
        'threads per rank 1',
        'types 1=In 2=Ga 3=N',
    ):
        assert words in line


def test_pretrained_model(tmp_path: Path, lmp_env: dict[str, str]) -> None:
    checkpoint = sevenn.util.pretrained_name_to_path('7net-0')
    file = tmp_path / '7net-0.pt'
    deploy(checkpoint, str(file))
    pair = f'pair_style e3gnn\npair_coeff * * {file} In Ga N'
    atoms, result = evaluate(bulk((1, 1, 1)), pair, tmp_path, lmp_env)
    calculator = SevenNetCalculator(
        checkpoint, device='cpu', compute_atomic_virial=True
    )
    calculator.calculate(atoms)
    assert_agrees(atoms, calculator.results, tmp_path, result)
