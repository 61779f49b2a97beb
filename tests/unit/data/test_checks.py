"""What is asked of data, and that `train` and `inspect` never disagree on it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from train_helpers import PBE, R2SCAN, data_of, entry, yaml_of

from sevennet_mf.audit.inspect import audit_of
from sevennet_mf.config import inputs
from sevennet_mf.data import checks
from sevennet_mf.data.dataset import FidelityDataset, build_datasets
from sevennet_mf.data.findings import Finding, structures
from sevennet_mf.data.needs import Needs
from sevennet_mf.errors import UserError

Sections = dict[str, Any]
Case = Callable[[Path], Sections]

GAN = entry('r2scan_pool', 'r2scan', '1:5')  # four cells of GaN
MIXED = entry('r2scan_valid', 'r2scan', ':3')
GAN_VALID = entry('r2scan_valid', 'r2scan', '6:8')
# what training asks of data too; the rest an audit asks alone
SHARED = {'no data', 'no share', 'no validation', 'unread', 'no neighbours'}
SHARED |= {'order', 'element', 'not determined', 'unusable', 'close atoms'}


def changed(
    tmp_path: Path, given: dict[str, Any], change: Callable[[Atoms], None]
) -> dict[str, Any]:
    """An entry of the same structures, the second of which is another."""
    frames = ase.io.read(given['file'], given['index'])
    change(frames[1])
    path = tmp_path / 'changed.extxyz'
    ase.io.write(path, frames, format='extxyz')
    return {**given, 'file': str(path), 'index': ':'}


def bare(tmp_path: Path) -> dict[str, Any]:
    """R2SCAN without forces."""
    frames = ase.io.read(R2SCAN['file'], R2SCAN['index'])
    for atoms in frames:
        atoms.calc.results.pop('forces')
    ase.io.write(tmp_path / 'bare.extxyz', frames, format='extxyz')
    return {**R2SCAN, 'file': str(tmp_path / 'bare.extxyz'), 'index': ':'}


def renamed_forces(atoms: Atoms) -> None:
    atoms.set_array('REF_forces', 2 * atoms.get_forces())


def on_top(atoms: Atoms) -> None:
    results = dict(atoms.calc.results)
    atoms.positions[1] = atoms.positions[0] + [0.05, 0.0, 0.0]
    atoms.calc = SinglePointCalculator(atoms, **results)


def no_number(atoms: Atoms) -> None:
    atoms.calc.results['energy'] = atoms.calc.results['free_energy'] = np.nan


def nitrogen(tmp_path: Path) -> dict[str, Any]:
    """A composition that labels of GaN leave open."""
    frames = []
    for length in (1.1, 1.2):
        atoms = Atoms('N2', [[0, 0, 0], [0, 0, length]], cell=[9, 9, 9], pbc=True)
        atoms.calc = SinglePointCalculator(atoms, energy=-20.0 + length)
        frames.append(atoms)
    ase.io.write(tmp_path / 'n2.extxyz', frames, format='extxyz')
    return entry('n2', 'r2scan', folder=tmp_path)


def order(*names: str, **train: Any) -> dict[str, Any]:
    return {'data': {'order': list(names)}, 'train': train}


THREE = ('pbe', 'r2scan', 'hse')
FAULTY: dict[str, tuple[str, Case]] = {
    'a target without data': (
        "train.fidelity.target names 'hse'",
        lambda _: yaml_of(fidelity=order(*THREE)),
    ),
    'a fidelity without data': (
        r"has no structure of \['hse'\], which data.fidelity.order lists",
        lambda _: yaml_of(fidelity=order(*THREE, target='r2scan')),
    ),
    'a weight without data': (
        "train.fidelity.loss_weight names 'hse'",
        lambda _: yaml_of(
            fidelity=order(*THREE, target='pbe', loss_weight={'hse': 2.0})
        ),
    ),
    'a share without data': (
        "train.fidelity.sampling names 'hse'",
        lambda _: yaml_of(
            fidelity=order(*THREE, target='pbe', sampling=dict.fromkeys(THREE, 1))
        ),
    ),
    'two ways to validate': (
        'both give a validation set',
        lambda _: yaml_of(data={'data_divide_ratio': 0.3}),
    ),
    'too little to divide': (
        'is less than one structure',
        lambda _: yaml_of(valid=[], data={'data_divide_ratio': 0.01}),
    ),
    'forces in validation alone': (
        'r2scan has forces in validset, but none',
        lambda path: yaml_of(train=[PBE, bare(path)]),
    ),
    'nothing within the cutoff': (
        'no two atoms of any structure',
        lambda _: yaml_of(model={'cutoff': 0.5}),
    ),
    'an element that the model lacks': (
        'the model does not know In, in',
        lambda _: yaml_of(model={'chemical_species': ['Ga', 'N']}),
    ),
    'an element without a label of the target': (
        "target 'r2scan' is not determined for 2 structures.* energy of In",
        lambda _: yaml_of(train=[PBE, GAN], valid=[MIXED]),
    ),
    'a composition that labels leave open': (
        "target 'r2scan' is not determined for 2 structures,.* energy of N2,",
        lambda path: yaml_of(train=[PBE, GAN], valid=[nitrogen(path)]),
    ),
    'labels that nothing reads': (
        '`REF_forces` is named like a label',
        lambda path: yaml_of(train=[changed(path, PBE, renamed_forces), R2SCAN]),
    ),
    'atoms on top of each other': (
        r'0\.050 Å apart, closer than 0\.2 Å',
        lambda path: yaml_of(train=[changed(path, PBE, on_top), R2SCAN]),
    ),
    'an energy that is no number': (
        'has energy nan',
        lambda path: yaml_of(train=[changed(path, PBE, no_number), R2SCAN]),
    ),
}
DOUBTFUL: dict[str, tuple[list[str], Case]] = {
    'nothing': ([], lambda _: yaml_of()),
    'a base that is the rarest': (
        ["'r2scan' is the base and 'pbe' the target"],
        lambda _: yaml_of(train=[R2SCAN, PBE], valid=[PBE]),
    ),
    'an element without a label': (
        ["'r2scan' has no label that contains In"],
        lambda _: yaml_of(train=[PBE, GAN], valid=[GAN_VALID]),
    ),
    'an element of the model alone': (
        ["'pbe' has no label that contains Al", "'r2scan' has no label that"],
        lambda _: yaml_of(model={'chemical_species': ['N', 'Ga', 'In', 'Al']}),
    ),
    'a composition in a test set': (
        ["'r2scan': none of its training labels determines the energy of N2:"],
        lambda path: yaml_of(data={'load_testset_path': [nitrogen(path)]}),
    ),
    'forces in a test set alone': (
        [],
        lambda path: yaml_of(
            train=[PBE, bare(path)],
            valid=[bare(path)],
            data={'load_testset_path': [R2SCAN]},
        ),
    ),
}


def told(sections: Sections) -> list[Finding]:
    """What an audit says of that which training asks too."""
    found = audit_of(sections, 'input.yaml').problems
    return [finding for finding in found if finding.kind in SHARED]


@pytest.mark.parametrize('name', FAULTY)
def test_training_stops_at_what_an_audit_calls_a_problem(
    name: str, tmp_path: Path
) -> None:
    words, make = FAULTY[name]
    sections = make(tmp_path)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter('always')
        with pytest.raises(UserError, match=words) as stopped:
            data_of(sections, tmp_path)
    found = told(sections)
    problems = [finding.message for finding in found if finding.is_problem]
    assert problems[0] == str(stopped.value)
    # the same of another set, if anything
    assert all(re.search(words, message) for message in problems)
    notes = {finding.message for finding in found if not finding.is_problem}
    assert {str(w.message) for w in warned} <= notes


@pytest.mark.parametrize('name', DOUBTFUL)
def test_training_warns_of_what_an_audit_notes(name: str, tmp_path: Path) -> None:
    words, make = DOUBTFUL[name]
    sections = make(tmp_path)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter('always')
        data_of(sections, tmp_path)
    found = told(sections)
    assert [f.message for f in found] == [str(w.message) for w in warned]
    assert not any(finding.is_problem for finding in found)
    assert len(found) == len(words)
    for finding, part in zip(found, words, strict=True):
        assert part in finding.message


# ---- single questions


@pytest.fixture(scope='module')
def train(tmp_path_factory: pytest.TempPathFactory) -> FidelityDataset:
    config = inputs.read(yaml_of(valid=[])).merged()
    return build_datasets(config, tmp_path_factory.mktemp('work'))['trainset']


@pytest.fixture(scope='module')
def needs() -> Needs:
    asked = inputs.read(yaml_of(valid=[]))
    return Needs.of(asked, asked.entries['load_trainset_path'])


def test_data_without_a_share(train: FidelityDataset, needs: Needs) -> None:
    (found,) = checks.coverage(replace(needs, shares=('pbe',)), train)
    assert found.message.startswith(
        "train.fidelity.sampling has no share for ['r2scan']"
    )
    assert found.names == ('r2scan',)


def test_a_fidelity_that_is_misspelt(train: FidelityDataset, needs: Needs) -> None:
    first, *_ = checks.coverage(replace(needs, target='pbbe'), train)
    assert "names 'pbbe'" in first.message
    assert "Did you mean 'pbe'?" in first.message


def test_fidelities_of_a_checkpoint_need_no_data(
    train: FidelityDataset, needs: Needs
) -> None:
    beside = replace(needs, order=('hse', 'pbe', 'r2scan'))
    assert [f.names for f in checks.coverage(beside, train)] == [('hse',)]
    continued = replace(beside, continues=True, old=('hse',))
    assert not list(checks.coverage(continued, train))
    assert continued.fitted == ('pbe', 'r2scan')
    assert replace(continued, order=('hse',)).fitted == ()
    assert replace(continued, order=('hse',), refits=True).fitted == ('hse',)
    # unless something asks for them, and their labels are not made
    weighted = replace(continued, weights=('hse',))
    assert len(list(checks.coverage(weighted, train))) == 1
    replayed = replace(weighted, labelled=('hse',))
    assert not list(checks.coverage(replayed, train))


def test_elements(train: FidelityDataset) -> None:
    assert not list(checks.unknown_elements(train, [7, 31, 49]))
    (found,) = checks.unknown_elements(train, [7, 31])
    rows = np.flatnonzero(train.composition[:, 49])
    assert found.names == ('In',)
    assert found.count == len(rows)
    assert found.message.startswith(
        f'{train.source(int(rows[0]))}: the model does not know In, in '
        f'{structures(len(rows))}; it knows N, Ga.'
    )


def test_leaks(train: FidelityDataset) -> None:
    first, last = train.subset([0, 1, 2]), train.subset([2, 3])
    found = checks.leak(last, first, 'pbe in validset')
    assert found is not None
    assert found.count == 1
    assert found.message.startswith('1 of 2 structures of pbe in validset are in ')
    assert f'{last.source(0)} = {first.source(2)}' in found.message
    assert checks.leak(train.subset([3]), first, '') is None


def test_sets_that_may_choose_the_best() -> None:
    held = {'trainset': ['a'], 'a_validset': ['a'], 'validset': ['a', 'b']}
    assert checks.choosing('a', held) == ['validset', 'a_validset']
    assert checks.choosing('b', {**held, 'validset': []}) == []
