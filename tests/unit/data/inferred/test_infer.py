"""Labels of the target inferred from those of the base, on real paired labels."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sevenn._keys as KEY
import torch
from ase import Atoms
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from helpers import rewritten

from sevennet_mf import keys
from sevennet_mf.data.dataset import FidelityDataset, build_datasets
from sevennet_mf.data.inferred.infer import (
    Report,
    _limits,
    infer_from,
    provenance,
    sources_of,
)
from sevennet_mf.data.inferred.infer import infer_labels as infer_them
from sevennet_mf.data.inferred.two_body import edges_of
from sevennet_mf.data.inferred.two_body_fit import LeftOutErrors

CUTOFF = 4.0


def training_set(
    work: Path, entries: dict[str, str], folder: Path
) -> FidelityDataset:
    """entries: fidelity by file, 'name@index'."""
    listed = []
    for file, fidelity in entries.items():
        name, _, index = file.partition('@')
        path = str(folder / f'{name}.extxyz')
        listed.append({'file': [path], 'fidelity': fidelity, 'index': index or ':'})
    names = list(dict.fromkeys(entries.values()))
    config = {
        KEY.CUTOFF: CUTOFF,
        KEY.MODAL_MAP: {name: i for i, name in enumerate(names)},
        keys.FIDELITY_DATA: {'order': names, 'key': None},
        'load_trainset_path': listed,
    }
    return build_datasets(config, work)['trainset']


def infer_labels(
    train: FidelityDataset, base: str, target: str, always: bool = False
) -> tuple[FidelityDataset, Report]:
    found = infer_them(train, base, target, CUTOFF, always)
    return found.added_to(train), found.report


@pytest.fixture(scope='module')
def nitrides(
    tmp_path_factory: pytest.TempPathFactory, ingan: Path
) -> FidelityDataset:
    """All PBE labels, and r2SCAN labels of the binaries alone."""
    work = tmp_path_factory.mktemp('nitrides')
    files = {'pbe_train': 'pbe', 'pbe_valid': 'pbe', 'r2scan_pool': 'r2scan'}
    whole = training_set(work, files, ingan)
    x = [a.info['x_In'] for a in read(ingan / 'r2scan_pool.extxyz', ':')]
    binary = np.isin(x, (0, 1))
    high = whole.rows_of('r2scan')
    return whole.subset(np.concatenate([whole.rows_of('pbe'), high[binary]]))


def errors_of_inferred(
    train: FidelityDataset, below: FidelityDataset, true: FidelityDataset
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of what is inferred and has a label in `true`: eV/atom; eV/Å, and below's."""
    off, off_force, apart = [], [], []
    for i in np.flatnonzero(train.inferred):
        at = np.flatnonzero(true.fingerprint == train.fingerprint[i])
        if not len(at):  # no r2SCAN label to compare with
            continue
        same = int(at[0])
        low = np.flatnonzero(below.fingerprint == train.fingerprint[i])[0]
        label = true[same][KEY.FORCE].numpy()
        found, base = (
            one[KEY.FORCE].numpy() for one in (train[int(i)], below[int(low)])
        )
        off.append(abs(train.energy[i] - true.energy[same]) / true.n_atoms[same])
        off_force.append(np.abs(found - label).mean())
        apart.append(np.abs(base - label).mean())
    return np.array(off), np.array(off_force), np.array(apart)


def test_mixed_crystals_from_the_binaries(
    nitrides: FidelityDataset, tmp_path: Path, ingan: Path
) -> None:
    train, report = infer_labels(nitrides, 'pbe', 'r2scan')
    assert report.paired == 29
    assert report.inferred == 200 - 29
    assert train.inferred.sum() == report.inferred
    files = {'r2scan_pool': 'r2scan', 'r2scan_valid': 'r2scan'}
    true = training_set(tmp_path, files, ingan)
    off, off_force, apart = errors_of_inferred(train, nitrides, true)
    assert len(off) == 26 + 5  # the mixed ones, and the binaries of the validation
    # reference energies alone leave 26 meV/atom
    assert np.mean(off) < 0.008
    assert np.mean(off_force) < 0.5 * np.mean(apart)


@pytest.mark.parametrize('seed', [1, 2, 7, 9, 11])
def test_six_structures_of_any_composition(
    seed: int, tmp_path: Path, ingan: Path
) -> None:
    """A hundred force components do not outvote six energies."""
    files = {'pbe_train': 'pbe', 'r2scan_pool': 'r2scan'}
    whole = training_set(tmp_path, files, ingan)
    high = whole.rows_of('r2scan')
    chosen = np.random.default_rng(seed).permutation(high)[:6]
    few = whole.subset(np.concatenate([whole.rows_of('pbe'), chosen]))
    train, report = infer_labels(few, 'pbe', 'r2scan')
    assert not report.reason
    true = training_set(tmp_path, {'r2scan_pool': 'r2scan'}, ingan)
    off, off_force, apart = errors_of_inferred(train, few, true)
    assert len(off) == 41
    assert np.mean(off) < 0.004  # reference energies alone leave 26 meV/atom
    assert np.mean(off_force) < np.mean(apart)


def test_what_an_inferred_structure_is(nitrides: FidelityDataset) -> None:
    train, _ = infer_labels(nitrides, 'pbe', 'r2scan')
    i = int(np.flatnonzero(train.inferred)[0])
    graph = train[i]
    assert train.fidelities[train.fidelity_index[i]] == 'r2scan'
    assert graph[KEY.DATA_MODALITY] == 'r2scan'
    assert train.has['force'][i]
    assert train.has['stress'][i]
    assert not nitrides.inferred.any()
    assert train.subset([i]).inferred.all()
    train.set_reference(np.full((2, 119), -1.0))
    assert train.residual[i] == pytest.approx(train.energy[i] + train.n_atoms[i])


def test_stress_goes_with_the_inferred_energies(nitrides: FidelityDataset) -> None:
    """Without it energies of the target alone say how they change with the cell."""
    found = infer_them(nitrides, 'pbe', 'r2scan', CUTOFF)
    assert found.model is not None
    train = found.added_to(nitrides)
    i = int(np.flatnonzero(train.inferred)[-1])
    below = nitrides[int(found.rows[-1])]
    gap = train[i][KEY.STRESS] - below[KEY.STRESS]  # compression is positive
    gaps = []
    for factor in (1 - 1e-4, 1 + 1e-4):
        edges = edges_of(below)
        gaps.append(
            found.model.energy(replace(edges, vector=edges.vector * factor))
        )
    # of a strain by 1e-4 along all three axes
    slope = (gaps[1] - gaps[0]) / 2e-4 / float(below[KEY.CELL_VOLUME])
    assert gap[0, :3].sum().item() == pytest.approx(-slope, rel=1e-3)
    assert abs(slope) > 0.001  # eV/Å^3


def test_molecules_are_told_apart_by_more_than_pairs(
    tmp_path: Path, molecules: Path
) -> None:
    train = training_set(
        tmp_path, {'pbe_train': 'pbe', 'ccsdt_train': 'ccsdt'}, molecules
    )
    same, report = infer_labels(train, 'pbe', 'ccsdt')
    assert same is train
    assert 'errors on structures left out of a two-body fit are' in report.reason
    assert report.lines()[0].startswith('No ccsdt labels inferred from pbe')
    forced, report = infer_labels(train, 'pbe', 'ccsdt', always=True)
    assert not report.reason
    assert not forced.has['stress'].any()  # no volume
    assert report.inferred == len(forced) - len(train)
    assert report.inferred > 0


def test_forces_are_inferred_from_forces_alone(
    tmp_path: Path, ingan: Path, nitrides: FidelityDataset
) -> None:
    """A fit to energies says nothing dependable of its own slope."""
    train = nitrides.subset(range(len(nitrides)))
    train.has['force'] = train.has['force'] & (train.fidelity_index == 0)
    more, report = infer_labels(train, 'pbe', 'r2scan')
    assert report.errors is not None
    assert np.isnan(report.errors.force)
    i = int(np.flatnonzero(more.inferred)[0])
    assert not more.has['force'][i]
    assert not more.has['stress'][i]
    assert torch.isnan(more[i][KEY.FORCE]).all()
    assert torch.isnan(more[i][KEY.STRESS]).all()
    assert len(report.lines()) == 2  # nothing of forces


def dimer(formula: str, length: float, fidelity: str) -> Atoms:
    """Two atoms whose bond is a spring, another one at each fidelity."""
    atoms = Atoms(formula, positions=[(0, 0, 0), (0, 0, length)])
    stiffness = {'pbe': 1.0, 'r2scan': 1.5}[fidelity]
    pull = stiffness * (length - 1.8)
    atoms.calc = SinglePointCalculator(
        atoms,
        energy=0.5 * stiffness * (length - 1.8) ** 2,
        forces=[(0, 0, pull), (0, 0, -pull)],
    )
    return atoms


def test_forces_also_where_no_structure_can_be_left_out(tmp_path: Path) -> None:
    """What counts is whether forces were fitted, not whether that was tested."""
    pairs = [dimer(f, 1.9, 'r2scan') for f in ('BN', 'AlN', 'GaN', 'InN')]
    write(tmp_path / 'high.extxyz', pairs)
    pairs = [dimer(f, 1.9, 'pbe') for f in ('BN', 'AlN', 'GaN', 'InN')]
    write(tmp_path / 'low.extxyz', [*pairs, dimer('GaN', 1.92, 'pbe')])
    train = training_set(tmp_path, {'low': 'pbe', 'high': 'r2scan'}, tmp_path)
    more, report = infer_labels(train, 'pbe', 'r2scan', always=True)
    assert report.errors is not None
    assert np.isnan(report.errors.energy)
    (i,) = np.flatnonzero(more.inferred)
    assert more.has['force'][i]
    assert torch.isfinite(more[int(i)][KEY.FORCE]).all()


def with_pairs(atoms: Atoms) -> Atoms:
    """Return a structure whose labels have a pair potential added."""
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    pair = LennardJones(sigma=1.9, epsilon=0.1, rc=CUTOFF, smooth=True)
    results = {
        'energy': energy + pair.get_potential_energy(atoms) + len(atoms),
        'forces': forces + pair.get_forces(atoms),
    }
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def test_energies_are_not_enough(tmp_path: Path, ingan: Path) -> None:
    """Forces that are off by more than a network's teach it nothing."""
    high = [with_pairs(a) for a in read(ingan / 'r2scan_pool.extxyz', ':24')]
    size = np.sqrt(np.mean(np.concatenate([a.get_forces() for a in high]) ** 2))
    rng = np.random.default_rng(0)
    for atoms in high:
        atoms.calc.results['forces'] += rng.normal(0.0, 0.15 * size, (len(atoms), 3))
    write(tmp_path / 'high.extxyz', high)
    write(tmp_path / 'low.extxyz', read(ingan / 'pbe_train.extxyz', ':'))
    train = training_set(tmp_path, {'low': 'pbe', 'high': 'r2scan'}, tmp_path)
    more, report = infer_labels(train, 'pbe', 'r2scan')
    errors = report.errors
    assert errors is not None
    assert errors.energy < min(0.5 * errors.base_energy, 0.02)
    assert 0.125 * size < errors.force < errors.base_force
    assert not more.inferred.any()
    (limit,) = re.findall(r'difference: .*; at most (.*) would do', report.reason)
    assert float(limit) == pytest.approx(125 * size, rel=0.05)
    more, _ = infer_labels(train, 'pbe', 'r2scan', always=True)
    assert more.inferred.any()


@pytest.mark.parametrize(
    ('size', 'limit'), [(0.05, 0.02), (0.24, 0.03), (2.0, 0.05), (np.nan, 0.02)]
)
def test_how_far_forces_may_be_off(size: float, limit: float) -> None:
    """An eighth, but more near the minimum, and never more than no difference."""
    errors = LeftOutErrors(0.001, 0.01, base_energy=0.03, base_force=0.05)
    energy, force = _limits(errors, size)
    assert (energy, force) == pytest.approx((0.015, limit))


def test_nothing_to_infer_from(nitrides: FidelityDataset) -> None:
    """New labels for a pretrained model, without a replay."""
    train = nitrides.subset(nitrides.rows_of('r2scan'))
    _, report = infer_labels(train, 'pbe', 'r2scan')
    assert report.reason == 'no structure of pbe is in the training set'


def test_nothing_is_left_to_infer(tmp_path: Path, ingan: Path) -> None:
    train = training_set(
        tmp_path, {'r2scan_pool@:9': 'r2scan', 'pbe_train': 'pbe'}, ingan
    )
    high = train.rows_of('r2scan')
    low = [
        i
        for i in train.rows_of('pbe')
        if train.fingerprint[i] in train.fingerprint[high]
    ]
    _, report = infer_labels(train.subset([*high, *low]), 'pbe', 'r2scan')
    assert report.reason == 'every structure of pbe already has one'


def test_the_same_structure_twice_is_one(tmp_path: Path, ingan: Path) -> None:
    files = {'pbe_train': 'pbe', 'r2scan_pool@:3': 'r2scan'}
    train = training_set(tmp_path, files, ingan)
    twice = train.subset([*range(len(train)), *train.rows_of('r2scan')])
    assert infer_labels(twice, 'pbe', 'r2scan')[1].paired == 3


def test_pairs_with_their_atoms_in_another_order(
    tmp_path: Path, ingan: Path
) -> None:
    """What is inferred is the same: forces of a pair are those of the same atoms."""
    high = read(ingan / 'r2scan_pool.extxyz', ':10')
    write(tmp_path / 'high.extxyz', high)
    write(tmp_path / 'other.extxyz', [rewritten(a, k) for k, a in enumerate(high)])
    low = read(ingan / 'pbe_train.extxyz', ':')
    write(tmp_path / 'low.extxyz', low)
    found = []
    for name in ('high', 'other'):
        files = {'low': 'pbe', name: 'r2scan'}
        train = training_set(tmp_path / name, files, tmp_path)
        found.append(infer_them(train, 'pbe', 'r2scan', CUTOFF, True))
    assert found[0].report.paired == 10
    errors = [one.report.errors for one in found]
    assert errors[0] is not None
    assert errors[1] is not None
    assert errors[1].force == pytest.approx(errors[0].force, rel=1e-3)
    np.testing.assert_allclose(found[1].energy, found[0].energy, rtol=1e-6)


def three_levels(folder: Path, ingan: Path, without_pbe: bool) -> FidelityDataset:
    """Of 20 r2SCAN structures and all of PBE, 10 with a label of a third level."""
    mid = read(ingan / 'r2scan_pool.extxyz', ':20')
    high = [with_pairs(rewritten(a, k)) for k, a in enumerate(mid[::2])]
    low = read(ingan / 'pbe_train.extxyz', ':')
    if without_pbe:
        known = {a.info['sid'] for a in mid}
        low = [a for a in low if a.info['sid'] not in known]
    for name, frames in (('low', low), ('mid', mid), ('high', high)):
        write(folder / f'{name}.extxyz', frames)
    files = {'low': 'pbe', 'mid': 'r2scan', 'high': 'third'}
    return training_set(folder / 'work', files, folder)


def from_all(train: FidelityDataset) -> tuple[FidelityDataset, list[Report]]:
    names = train.fidelities
    sources = sources_of(names, 'pbe', 'third', train)
    assert sources == ['r2scan', 'pbe']
    found = infer_from(train, sources, 'third', CUTOFF)
    for one in found:
        train = one.added_to(train)
    return train, [one.report for one in found]


def test_the_nearest_fidelity_where_the_base_has_no_pairs(
    tmp_path: Path, ingan: Path
) -> None:
    more, (near, base) = from_all(three_levels(tmp_path, ingan, without_pbe=True))
    assert (near.base, near.paired, near.inferred) == ('r2scan', 10, 10)
    assert base.reason.startswith('0 structures have both labels')
    assert more.inferred.sum() == 10
    said = provenance([near, base])
    assert (said['base'], said['inferred']) == ('r2scan', 10)
    assert [one['base'] for one in said['each']] == ['r2scan', 'pbe']


def test_the_base_for_what_the_nearest_leaves(tmp_path: Path, ingan: Path) -> None:
    """Each label is that of its own source and of its own difference."""
    train = three_levels(tmp_path, ingan, without_pbe=False)
    more, (near, base) = from_all(train)
    assert (near.base, near.inferred) == ('r2scan', 10)
    assert base.base == 'pbe'
    assert base.paired == 10  # what was inferred is nothing to learn from
    assert base.inferred > 100
    third = more.rows_of('third')
    assert len(set(more.fingerprint[third])) == len(third)
    assert sorted(set(more.inferred_by.tolist())) == [-1, 0, 1]
    for number, fidelity in enumerate(('r2scan', 'pbe')):
        i = int(np.flatnonzero(more.inferred_by == number)[0])
        rows = more.rows_of(fidelity)
        low = int(rows[more.fingerprint[rows] == more.fingerprint[i]][0])
        gap = more[i][KEY.FORCE] - more[low][KEY.FORCE]
        forces, _ = more._differences[number].derivatives(edges_of(more[low]))
        np.testing.assert_allclose(gap.numpy(), forces, atol=1e-5)
    said = provenance([near, base])
    assert said['base'] == 'r2scan, pbe'
    assert said['inferred'] == more.inferred.sum() == near.inferred + base.inferred


def test_atoms_without_neighbours(tmp_path: Path, ingan: Path) -> None:
    symbols = ('N', 'Ga', 'In', 'H')
    atoms = [Atoms(symbol, positions=[(0, 0, 0)]) for symbol in symbols]
    for name, offset in (('low', 0.0), ('high', 5.0)):
        for k, one in enumerate(atoms):
            forces = np.zeros((1, 3))
            one.calc = SinglePointCalculator(one, energy=offset + k, forces=forces)
        write(tmp_path / f'{name}.extxyz', atoms)
    (tmp_path / 'pbe.extxyz').write_bytes((ingan / 'pbe_train.extxyz').read_bytes())
    files = {'pbe': 'pbe', 'low': 'pbe', 'high': 'r2scan'}
    train = training_set(tmp_path, files, tmp_path)
    same, report = infer_labels(train, 'pbe', 'r2scan')
    assert same is train
    assert 'too few structures' in report.reason  # an element is in one of them only


def test_too_few_pairs(tmp_path: Path, ingan: Path) -> None:
    train = training_set(
        tmp_path, {'pbe_train': 'pbe', 'r2scan_pool@:3': 'r2scan'}, ingan
    )
    same, report = infer_labels(train, 'pbe', 'r2scan', always=True)
    assert same is train
    assert '3 structures have both labels; 4 are needed' in report.reason


def test_an_element_without_a_pair_is_left_out(tmp_path: Path, ingan: Path) -> None:
    x = [a.info['x_In'] for a in read(ingan / 'r2scan_pool.extxyz', ':')]
    whole = training_set(
        tmp_path, {'pbe_train': 'pbe', 'r2scan_pool': 'r2scan'}, ingan
    )
    gallium = whole.rows_of('r2scan')[np.array(x) == 0]
    train = whole.subset(np.concatenate([whole.rows_of('pbe'), gallium]))
    more, report = infer_labels(train, 'pbe', 'r2scan', always=True)
    indium = more.composition[:, 49] > 0
    assert report.refused > 0
    assert not (more.inferred & indium).any()
    assert (more.inferred & ~indium).any()


def test_what_is_kept_of_it(nitrides: FidelityDataset) -> None:
    _, report = infer_labels(nitrides, 'pbe', 'r2scan')
    said = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert said['inferred'] == report.inferred
    assert said['errors']['energy'] < said['errors']['base_energy']
    assert report.lines()[0].startswith('171 r2scan labels inferred from pbe; 0 ')
