"""What reading has to say: how, which energy, what is not seen or left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ase.io
import numpy as np
import published
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from sevennet_mf.config import inputs
from sevennet_mf.data.needs import Needs
from sevennet_mf.data.processed.build import load_or_build
from sevennet_mf.data.reading.files import files_of
from sevennet_mf.data.reading.notes import Told
from sevennet_mf.data.reading.read import read_entry
from sevennet_mf.data.references import with_isolated
from sevennet_mf.data.structures import FidelityDataset
from sevennet_mf.errors import UserError
from sevennet_mf.train import setup


def frame(info: dict[str, Any] | None = None, **results: Any) -> Atoms:
    atoms = Atoms('GaN', [[0, 0, 0], [1.1, 1.1, 1.2]], cell=[3, 3.1, 3.2], pbc=True)
    atoms.info.update(info or {})
    atoms.calc = SinglePointCalculator(atoms, **{'energy': -9.0, **results})
    return atoms


def lines(
    tmp_path: Path, *files: list[Atoms], **entry: Any
) -> list[tuple[str, bool]]:
    paths = []
    for k, frames in enumerate(files):
        ase.io.write(tmp_path / f'{k}.extxyz', frames, format='extxyz')
        paths.append(str(tmp_path / f'{k}.extxyz'))
    told = Told()
    whole = {'file': paths, 'fidelity': 'pbe', **entry}
    list(read_entry(whole, None, ['pbe'], 4.0, told=told))
    names = {k: Path(path).name for k, path in enumerate(files_of(whole))}
    return [(line.said(names), line.loud) for line in told.lines()]


def test_nothing_to_say_of_plain_files(tmp_path: Path) -> None:
    assert lines(tmp_path, [frame(), frame({'charge': 0})]) == []


def test_which_energy_is_taken(tmp_path: Path) -> None:
    both = frame(free_energy=-9.5)
    (line,) = lines(tmp_path, [both], [both], [frame()])
    assert line[0].startswith('0.extxyz and 1 more: energies are the free energies')
    (line,) = lines(tmp_path, [both], energy_key='energy')
    assert line[0].startswith('0.extxyz: energies are `energy` (perhaps')
    assert lines(tmp_path, [frame(free_energy=-9.0)]) == []
    (_, (mixed, loud)) = lines(tmp_path, [both, frame()])
    assert '`energy` is used for 1 structures without a free energy' in mixed
    assert loud


@pytest.mark.parametrize(
    ('charged', 'state'),
    [
        ({'charge': 1}, 'charge 1'),
        ({'total_charge': -1.0}, 'charge -1'),
        ({'charge': 0, 'spin': 3}, 'charge 0, spin 3'),
    ],
)
def test_charge_and_spin_are_said_once(
    charged: dict[str, Any], state: str, tmp_path: Path
) -> None:
    neutral = {key: {'spin': 1}.get(key, 0) for key in charged}
    frames = [frame(neutral)] * 3 + [frame(charged)] * 2
    (line,) = lines(tmp_path, frames)
    assert f'but 2 of {state}: the model does not see this' in line[0]
    assert line[1]
    assert lines(tmp_path, [frame(charged)] * 2) == []  # all alike


@pytest.mark.parametrize(
    ('entry', 'factors'),
    [
        ({'energy_unit': 'kcal/mol'}, (23.060548, 23.060548, 23.060548)),
        ({'energy_unit': 'kJ/mol', 'force_unit': 'eV/Å', 'stress_unit': 'eV/Å^3'},
         (96.485332, 1.0, 1.0)),
        ({'energy_unit': 'meV/atom', 'force_unit': 'meV/Å', 'stress_unit': 'GPa'},
         (500.0, 1000.0, 160.2176621)),
        ({'energy_unit': 'Ry', 'force_unit': 'Ry/bohr', 'stress_unit': 'kbar'},
         (1 / 13.605693, 0.52917721 / 13.605693, 1602.1766208)),
        ({'energy_unit': 'Hartree', 'stress_unit': 'Hartree/bohr^3'},
         (1 / 27.211386, 1 / 27.211386, 0.52917721**3 / 27.211386)),
    ],
)  # fmt: skip
def test_units_of_any_file(
    entry: dict[str, str], factors: tuple[float, ...], tmp_path: Path
) -> None:
    energy, force, stress = factors
    six = np.array([1.0, 2, 3, 4, 5, 6]) / 100
    pulls = np.array([[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]])
    given = frame(energy=-9.0 * energy, forces=force * pulls, stress=stress * six)
    ase.io.write(tmp_path / 'a.extxyz', given, format='extxyz')
    whole = {'file': [str(tmp_path / 'a.extxyz')], 'fidelity': 'pbe', **entry}
    (own,) = read_entry(whole, None, ['pbe'], 4.0)
    assert own.energy == pytest.approx(-9.0, rel=1e-6)
    assert own.forces == pytest.approx(pulls, rel=1e-6)
    assert own.stress == pytest.approx(-six[[0, 1, 2, 5, 3, 4]], rel=1e-6)
    (line,) = lines(tmp_path, [given], **entry)
    assert f'energy in {entry["energy_unit"]}' in line[0]


def test_lengths_in_bohr_and_gradients(tmp_path: Path) -> None:
    atoms = published.crystals(1)[0]
    small = atoms.copy()
    small.set_cell(atoms.cell / published.BOHR, scale_atoms=True)
    small.info = {'E': published.energy(atoms) / published.HARTREE}
    unit = published.HARTREE / published.BOHR
    small.arrays['dE'] = -published.forces(atoms) / unit
    small.info['W'] = published.virial(atoms) / published.HARTREE
    ase.io.write(tmp_path / 'a.extxyz', small, format='extxyz')
    entry = {'file': [str(tmp_path / 'a.extxyz')], 'fidelity': 'pbe'}
    entry |= {'energy_unit': 'Hartree', 'length_unit': 'bohr'}
    entry |= {'energy_key': 'E', 'gradient_key': 'dE', 'virial_key': 'W'}
    (own,) = read_entry(entry, None, ['pbe'], 4.0)
    assert own.positions == pytest.approx(atoms.positions, abs=1e-6)
    assert own.energy == pytest.approx(published.energy(atoms), rel=1e-6)
    assert own.forces == pytest.approx(published.forces(atoms), abs=1e-5)
    stress = atoms.calc.results['stress']
    assert own.stress == pytest.approx(-stress[[0, 1, 2, 5, 3, 4]], abs=1e-6)


def test_a_gradient_that_nothing_reads(tmp_path: Path) -> None:
    atoms = frame()
    atoms.arrays['dft_gradient'] = np.ones((2, 3))
    ase.io.write(tmp_path / 'a.extxyz', atoms, format='extxyz')
    entry = {'file': [str(tmp_path / 'a.extxyz')], 'fidelity': 'pbe'}
    with pytest.raises(UserError, match='`dft_gradient` .*`gradient_key: dft_gradi'):
        list(read_entry(entry, None, ['pbe'], 4.0))


# ---- from the cache, and into the fit of references


def built(tmp_path: Path, **entry: Any) -> FidelityDataset:
    whole = {'fidelity': 'pbe', **entry}
    part = load_or_build(whole, None, ['pbe'], 4.0, tmp_path / 'sevenn_data')
    return FidelityDataset([part], ['pbe'])


def test_said_again_when_the_graphs_are_there_already(tmp_path: Path) -> None:
    crystals = published.crystals(3)
    file = str(published.mace(tmp_path / 'a.xyz', crystals, {'Ga': -0.3}))
    first = built(tmp_path, file=[file], format='mace')
    again = built(tmp_path, file=[file], format='mace')
    assert len(list((tmp_path / 'sevenn_data').iterdir())) == 1
    assert first.lines() == again.lines()
    assert again.lines()[0].startswith(f'{file}: read as mace, energy `REF_energy`')
    assert again.lines(only_loud=True) == []
    assert again.isolated == {'pbe': {'Ga': -0.3}}


def test_other_words_are_other_graphs(tmp_path: Path) -> None:
    """Whatever an entry says goes into the name of its folder."""
    file = str(published.matpes(tmp_path / 'a.json', published.crystals(2)))
    for more in ({}, {'stress_sign': 'tension'}, {'stress_order': 'vasp'},
                 {'energy_unit': 'Hartree'}, {'on_bad': 'skip'}):  # fmt: skip
        built(tmp_path, file=[file], **more)
    assert len(list((tmp_path / 'sevenn_data').iterdir())) == 5


def test_a_system_of_deepmd_by_its_content(tmp_path: Path) -> None:
    crystals = published.crystals(3)
    folder = published.deepmd_mixed(tmp_path / 'a', crystals, 9)
    first = built(tmp_path, file=[str(folder)]).energy
    energies = np.load(folder / 'set.000/energy.npy')
    np.save(folder / 'set.000/energy.npy', energies - 1.0)
    assert built(tmp_path, file=[str(folder)]).energy == pytest.approx(first - 1.0)


def test_isolated_atoms_fix_references() -> None:
    isolated = {'pbe': {'Ga': -0.3}, 'r2scan': {'N': -3.0}}
    assert with_isolated('aligned', {}) == 'aligned'
    assert with_isolated('independent', isolated) == 'independent'
    given = {'pbe': {'Ga': -1.0, 'N': -2.0}}
    found = with_isolated(given, isolated)
    assert found == {'pbe': {'Ga': -1.0, 'N': -2.0}, 'r2scan': {'N': -3.0}}


@pytest.mark.parametrize('method', ['aligned', 'independent'])
def test_in_the_log_and_in_the_fit(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    isolated = {'Ga': -0.3, 'In': -0.5}
    crystals = published.crystals(3, 'r2scan')
    file = str(published.mace(tmp_path / 'a.xyz', crystals, isolated))
    dataset = built(tmp_path, file=[file], format='mace')
    written: list[str] = []
    log = SimpleNamespace(writeline=written.append)
    monkeypatch.setattr(setup, 'Logger', lambda: log)
    asked = inputs.read(
        sections({'file': file, 'fidelity': 'pbe'}, reference_energies=method)
    )
    needs = Needs.of(asked, asked.entries['load_trainset_path'])
    setup.say_files({'trainset': dataset}, needs, method)
    assert written[0].startswith(f'{file}: read as mace, energy `REF_energy` in eV')
    unused = 'isolated atoms of pbe (Ga, In) are not used'
    assert any(unused in line for line in written) == (method == 'independent')
    known = dict.fromkeys(range(119), 0)
    found = setup.fit(asked, known, {'trainset': dataset}).as_dict()['pbe']
    given = {s: found[s]['energy'] == pytest.approx(e) for s, e in isolated.items()}
    assert all(given.values()) == (method == 'aligned')


def test_isolated_atoms_beside_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crystals = published.crystals(2)
    file = str(published.mace(tmp_path / 'a.xyz', crystals, {'Ga': -0.3}))
    sets = {'trainset': built(tmp_path, file=[file], format='mace')}
    asked = inputs.read(sections({'file': file, 'fidelity': 'pbe'}))
    needs = Needs.of(asked, asked.entries['load_trainset_path'])
    for old, is_used in ((('pbe',), False), ((), False), (('lda',), True)):
        written: list[str] = []
        log = SimpleNamespace(writeline=written.append)
        monkeypatch.setattr(setup, 'Logger', lambda log=log: log)
        setup.say_files(sets, replace(needs, continues=True, old=old), 'aligned')
        unused = 'isolated atoms of pbe (Ga) are not used: training starts from a'
        assert any(unused in line for line in written) != is_used


# ---- what the YAML may name


def sections(entry: Any, **fidelity: Any) -> dict[str, Any]:
    data = {'load_trainset_path': [entry], 'fidelity': fidelity}
    return {'model': {}, 'train': {}, 'data': data}


def test_folders_in_the_yaml(tmp_path: Path) -> None:
    crystals = published.crystals(3)
    (tmp_path / 'set').mkdir()
    for k in range(2):
        published.aselmdb(tmp_path / f'set/data.000{k}.aselmdb', crystals)
    published.deepmd_mixed(tmp_path / 'deep/8', crystals, 8)
    published.deepmd_mixed(tmp_path / 'deep/10', crystals, 10)
    found = inputs.existing([str(tmp_path / 'set'), str(tmp_path / 'de*')], 'here')
    names = [str(Path(path).relative_to(tmp_path)) for path in found]
    databases = ['set/data.0000.aselmdb', 'set/data.0001.aselmdb']
    assert names == [*databases, 'deep/10', 'deep/8']
    (tmp_path / 'none').mkdir()
    with pytest.raises(UserError, match='neither `.aselmdb` files nor systems'):
        inputs.existing(str(tmp_path / 'none'), 'here')


def test_heads_are_the_key_of_mace_files(tmp_path: Path) -> None:
    file = str(published.mace(tmp_path / 'a.xyz', published.crystals(2)))
    asked = sections({'file': file, 'format': 'mace'}, order=['pbe', 'r2scan'])
    _, _, data = inputs.from_sections(asked)
    assert data['fidelity_data']['key'] == 'head'
    asked = sections({'file': file}, order=['pbe', 'r2scan'])
    with pytest.raises(UserError, match='fidelity is missing'):
        inputs.from_sections(asked)


@pytest.mark.parametrize(
    ('entry', 'message'),
    [
        ({'energy_unit': 'hartre'}, r"energy_unit: must .*mean 'Hartree'\?\), got"),
        ({'force_unit': 'GPa'}, 'must be a unit of force, one of eV/Å'),
        ({'stress_unit': 'eV'}, 'must be a unit of stress, one of GPa'),
        ({'stress_sign': 'up'}, "must be 'tension' or 'compression'"),
        ({'force_key': 'F', 'gradient_key': 'g'}, 'both give the forces'),
        ({'on_bad': 'ignore'}, "must be 'stop' or 'skip'"),
    ],
)
def test_words_that_are_wrong(
    entry: dict[str, str], message: str, tmp_path: Path
) -> None:
    file = str(published.mace(tmp_path / 'a.xyz', published.crystals(1)))
    with pytest.raises(UserError, match=message):
        inputs.from_sections(sections({'file': file, 'fidelity': 'pbe', **entry}))
