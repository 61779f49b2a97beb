"""`neigh_modify exclude` and `fix gcmc`: absent atoms, and hidden neighbours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from lammps_helpers import Result, run_lmp, write_data
from pair_models import SPECIES, Deployed, assert_agrees, bulk, deployed, evaluate

STYLES = [('e3gnn', 1), ('e3gnn/parallel', 2)]
BOX = 200.0  # Å: atoms at random in it do not meet
TEMPERATURE = 1000.0  # K
MEAN = 5.0  # atoms or molecules of the ideal gas
MASS = 14.0  # of every type
GAS = """
units metal
atom_style {atom_style}
atom_modify map array
region box block 0 {box} 0 {box} 0 {box}
create_box 3 box {extra}
mass * {mass}
{pair}
{more}
fix gas all gcmc 1 10 0 {type} 29494 {temperature} {mu:.12g} 0 full_energy {keys}
variable inserted equal f_gas[4]
variable deleted equal f_gas[6]
thermo_style custom step atoms v_inserted v_deleted
thermo 1
run 16
"""
DIMER = """a bonded pair

2 atoms
1 bonds

Coords

1 0.0 0.0 0.0
2 1.9 0.0 0.0

Types

1 2
2 3

Bonds

1 1 1 2
"""
BONDED = {
    'atom_style': 'molecular',
    'extra': 'bond/types 1 extra/bond/per/atom 1 extra/special/per/atom 1',
    'type': 0,
}
WARNING = 'hides neighbours from the model'


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """A plain model of the host."""
    return deployed(tmp_path_factory.mktemp('plain'))


def ideal(mass: float, temperature: float, density: float) -> float:
    """Chemical potential of an ideal gas in eV; density in 1/Å^3."""
    kt = units.kB * temperature
    joule = kt / units.J
    length = units._hplanck / np.sqrt(2 * np.pi * mass * units._amu * joule)  # m
    return float(kt * np.log(density * (length * 1e10) ** 3))


def gas(
    pair: str,
    energy: float,
    folder: Path,
    env: dict[str, str],
    ranks: int,
    **part: Any,
) -> Result:
    """Fill a box from a reservoir; energy: of one of its atoms, eV."""
    mass = part.pop('weight', MASS)
    script = {'atom_style': 'atomic', 'extra': '', 'more': '', 'keys': '', 'type': 3}
    text = GAS.format(
        pair=pair,
        box=BOX,
        mass=MASS,
        temperature=TEMPERATURE,
        mu=ideal(mass, TEMPERATURE, MEAN / BOX**3) + energy,
        **{**script, **part},
    )
    return run_lmp(text, folder, env, ranks)


def counts(result: Result) -> list[tuple[float, ...]]:
    """Atoms, insertions and deletions at every step."""
    assert result.returncode == 0, result.error
    names = ('Atoms', 'v_inserted', 'v_deleted')
    return [tuple(line[name] for name in names) for line in result.thermo]


@pytest.mark.parametrize(('style', 'ranks'), STYLES)
def test_a_gas_of_atoms_as_without_a_potential(
    style: str, ranks: int, model: Deployed, tmp_path: Path, lmp_env: dict[str, str]
) -> None:
    """The same random numbers, so the same atoms, as for `pair_style zero`."""
    alone = model.reference(Atoms('N', cell=3 * [BOX], pbc=True))['energy']
    zero = 'pair_style zero 4.0\npair_coeff * *'
    wanted = counts(gas(zero, 0.0, tmp_path, lmp_env, ranks))
    found = gas(model.pair(style), alone, tmp_path, lmp_env, ranks)
    assert counts(found) == wanted
    assert WARNING not in found.log
    number, inserted, deleted = np.array(wanted).T
    assert number[5:].mean() == pytest.approx(MEAN, abs=2.0)
    assert inserted[-1] > 10
    assert deleted[-1] > 10


def test_a_gas_of_molecules_as_without_a_potential(
    model: Deployed, tmp_path: Path, lmp_env: dict[str, str]
) -> None:
    (tmp_path / 'dimer.mol').write_text(DIMER)
    pair = Atoms('GaN', [[0.0, 0.0, 0.0], [1.9, 0.0, 0.0]], cell=3 * [BOX], pbc=True)
    energy = model.reference(pair)['energy']
    found = {}
    for name, lines, own in (
        ('zero', 'pair_style zero 4.0\npair_coeff * *', 0.0),
        ('e3gnn', model.pair('e3gnn'), energy),
    ):
        part = {
            **BONDED,
            'more': 'special_bonds lj/coul 1 1 1\nbond_style zero\nbond_coeff *\n'
            'molecule dimer dimer.mol',
            'keys': f'mol dimer intra_energy {own:.12g}',
            'weight': 2 * MASS,
        }
        # intra_energy comes off, so that the potential is of the gas alone
        found[name] = counts(gas(lines, 0.0, tmp_path, lmp_env, 1, **part))
    assert found['e3gnn'] == found['zero']
    assert found['zero'][-1][2] > 10


def test_bonds_that_come_during_a_run(
    model: Deployed, tmp_path: Path, lmp_env: dict[str, str]
) -> None:
    """LAMMPS leaves such neighbours out of the list, as it does from the start."""
    (tmp_path / 'dimer.mol').write_text(DIMER)
    part = {
        **BONDED,
        'more': 'bond_style zero\nbond_coeff *\nmolecule dimer dimer.mol',
        'keys': 'mol dimer',
    }
    found = gas(model.pair('e3gnn'), 0.0, tmp_path, lmp_env, 1, **part)
    assert found.returncode != 0
    assert 'bonded atoms must stay neighbours' in found.error


def without(atoms: Atoms, gone: list[int], model: Deployed) -> dict[str, Any]:
    """What the host says of the others; nothing for those that are gone."""
    rest = [i for i in range(len(atoms)) if i not in gone]
    found = model.reference(atoms[rest])
    for key in ('forces', 'energies', 'stresses'):
        whole = np.zeros((len(atoms), *found[key].shape[1:]))
        whole[rest] = found[key]
        found[key] = whole
    return found


@pytest.mark.parametrize('kind', ['group', 'type'])
@pytest.mark.parametrize(('style', 'ranks'), STYLES)
def test_excluded_from_all_is_as_deleted(
    style: str,
    ranks: int,
    kind: str,
    model: Deployed,
    tmp_path: Path,
    lmp_env: dict[str, str],
) -> None:
    atoms = bulk((2, 1, 1))
    if kind == 'group':
        gone = [1, 5, 6]
        lines = 'group out id 2 6 7\nneigh_modify exclude group all out'
    else:
        gone = [i for i, symbol in enumerate(atoms.symbols) if symbol == 'Ga']
        lines = '\n'.join(f'neigh_modify exclude type 2 {i}' for i in (1, 2, 3))
    assert 0 < len(gone) < len(atoms)
    turned, result = evaluate(
        atoms, model.pair(style), tmp_path, lmp_env, ranks, after=lines
    )
    assert_agrees(turned, without(turned, gone, model), tmp_path, result)
    assert WARNING not in result.log


def test_everything_excluded(
    model: Deployed, tmp_path: Path, lmp_env: dict[str, str]
) -> None:
    _, result = evaluate(
        bulk((1, 1, 1)),
        model.pair('e3gnn/parallel'),
        tmp_path,
        lmp_env,
        2,
        after='neigh_modify exclude group all all',
    )
    assert result.thermo[-1]['PotEng'] == 0.0


@pytest.mark.parametrize(('style', 'ranks'), STYLES)
def test_a_deletion_from_a_dense_cell(
    style: str, ranks: int, model: Deployed, tmp_path: Path, lmp_env: dict[str, str]
) -> None:
    """Accepted just where the chemical potential is below what the atom brings.

    The cell is shorter than the cutoff: the atom sees images of itself.
    """
    atoms = write_data(bulk((1, 1, 1)), tmp_path / 'data.lmp', SPECIES)
    assert atoms.cell.lengths().min() < 4.0
    rest = atoms[[i for i in range(len(atoms)) if i != 1]]
    brings = model.reference(atoms)['energy'] - model.reference(rest)['energy']
    kind = SPECIES.index(atoms.symbols[1]) + 1
    temperature = 100.0  # K; 0.1 eV are more than 11 kT
    mass, volume = atoms.get_masses()[1], atoms.get_volume()
    threshold = brings + ideal(mass, temperature, 1 / volume)
    found = []
    for mu in (threshold + 0.1, threshold - 0.1):
        script = (
            'units metal\nread_data data.lmp\n'
            f'{model.pair(style)}\ngroup gas id 2\n'
            f'fix gas gas gcmc 1 4 0 {kind} 7 {temperature} {mu:.9g} 0 max 1\n'
            'variable tried equal f_gas[5]\nvariable done equal f_gas[6]\n'
            'thermo_style custom step v_tried v_done\nrun 1\n'
        )
        result = run_lmp(script, tmp_path, lmp_env, ranks)
        assert result.returncode == 0, result.error
        last = result.thermo[-1]
        assert last['v_tried'] > 0
        found.append(last['v_done'] > 0)
    assert found == [False, True]


# lines of a script: what hides neighbours of atoms of the model, if anything does
EXCLUSIONS = {
    'neigh_modify exclude group some some': 'neigh_modify exclude',
    'neigh_modify exclude group some rest': 'neigh_modify exclude',
    'neigh_modify exclude type 1 3': 'neigh_modify exclude',
    'neigh_modify exclude molecule/intra all': 'neigh_modify exclude',
    'neigh_modify exclude group some all': '',
    'neigh_modify exclude group some all exclude group some rest': '',
    'neigh_modify exclude group nobody some': '',
    'neigh_modify exclude type 4 4': '',
    'pair_coeff 1 3 zero': 'pair_style hybrid',
    'pair_coeff 1 4 zero': '',
}


def test_hidden_neighbours_are_warned_of_once(
    model: Deployed, tmp_path: Path, lmp_env: dict[str, str]
) -> None:
    """Type 4 is left to another style; every line gets a LAMMPS of its own."""
    write_data(bulk((2, 1, 1)), tmp_path / 'data.lmp', SPECIES)
    files = f'{model.segments} {model.folder}'
    head = (
        'units metal\natom_modify map array\nfix ids all property/atom mol\n'
        'read_data data.lmp extra/atom/types 1\nmass 4 1.0\n'
        'create_atoms 4 single 1 1 1\ncreate_atoms 4 single 2 2 2\n'
        'pair_style hybrid{} e3gnn/parallel zero 4.0\n'
        f'pair_coeff * * e3gnn/parallel {files} In Ga N NULL\npair_coeff * 4 zero\n'
        'group some id <= 4\ngroup rest subtract all some\ngroup nobody empty\n'
    )
    script = ''
    for i, line in enumerate(EXCLUSIONS):
        add = '' if line.startswith('pair_coeff') else '/overlay'
        script += f'clear\nlog log.{i}\n{head.format(add)}{line}\nrun 0\nrun 0\n'
    result = run_lmp(script, tmp_path, lmp_env, 2)
    assert result.returncode == 0, result.error
    for i, (line, cause) in enumerate(EXCLUSIONS.items()):
        log = (tmp_path / f'log.{i}').read_text()
        assert log.count(WARNING) == bool(cause), line
        assert f'{cause} {WARNING}' in log or not cause, line
