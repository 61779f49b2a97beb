"""The audit: clean data have no problems, each planted defect is found."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from audit_helpers import (
    BOHR,
    HARTREE,
    Frames,
    found,
    only,
    relabel,
    the,
    times,
)
from helpers import rewritten
from pretrained_helpers import pretrained
from rich.console import Console
from sevenn.train.graph_dataset import SevenNetGraphDataset

from sevennet_mf.audit.inspect import (
    Audit,
    _Unusable,
    inspect,
    table,
    write_json,
    write_picture,
)
from sevennet_mf.errors import UserError


def load(path: Path) -> Frames:
    return read(path, ':')


@pytest.fixture(scope='module')
def r2scan(ingan: Path) -> Frames:
    return load(ingan / 'r2scan_pool.extxyz')


@pytest.fixture(scope='module')
def pbe(ingan: Path, r2scan: Frames) -> Frames:
    """The partners of `r2scan`, and as many others."""
    frames = load(ingan / 'pbe_train.extxyz')
    paired = {a.info['sid'] for a in r2scan}
    twins = only(frames, lambda a: a.info['sid'] in paired)
    return twins + only(frames, lambda a: a.info['sid'] not in paired)[:50]


@pytest.fixture(scope='module')
def held(ingan: Path) -> dict[str, Frames]:
    """Validation structures."""
    names = ('pbe', 'r2scan')
    return {name: load(ingan / f'{name}_valid.extxyz') for name in names}


def yaml_of(folder: Path, tmp_path: Path, **sets: dict[str, str]) -> str:
    data = {
        f'load_{name}_path': [
            {'file': str(folder / f'{file}.extxyz'), 'fidelity': fidelity}
            for file, fidelity in files.items()
        ]
        for name, files in sets.items()
    }
    path = tmp_path / 'input.yaml'
    path.write_text(yaml.safe_dump({'model': {'cutoff': 4.0}, 'data': data}))
    return str(path)


# ---- clean data


def test_clean_crystals_have_no_problems(ingan: Path, tmp_path: Path) -> None:
    result = inspect(
        yaml_of(
            ingan,
            tmp_path,
            trainset={'pbe_train': 'pbe', 'r2scan_pool': 'r2scan'},
            validset={'pbe_valid': 'pbe', 'r2scan_valid': 'r2scan'},
        )
    )
    assert result.problems == []
    assert not result.has_problems
    assert (result.base, result.target) == ('pbe', 'r2scan')
    # the data's README has these numbers
    assert {(s.set, s.fidelity): s.structures for s in result.sets} == {
        ('trainset', 'pbe'): 164,
        ('trainset', 'r2scan'): 47,
        ('validset', 'pbe'): 36,
        ('validset', 'r2scan'): 13,
    }
    (pair,) = result.pairs
    assert (pair.low, pair.high, pair.structures) == ('pbe', 'r2scan', 60)


def test_clean_molecules_have_no_problems(molecules: Path, tmp_path: Path) -> None:
    result = inspect(
        yaml_of(
            molecules,
            tmp_path,
            trainset={'pbe_train': 'pbe', 'ccsdt_train': 'ccsdt'},
            validset={'pbe_valid': 'pbe', 'ccsdt_valid': 'ccsdt'},
        )
    )
    assert result.problems == []
    (pair,) = result.pairs
    assert (pair.structures, pair.with_forces, pair.force_rms) == (113, 0, None)


def test_what_is_in_a_set(
    audit: Callable[..., Audit], pbe: Frames, r2scan: Frames
) -> None:
    result = audit({'pbe': pbe[:30], 'r2scan': r2scan[:10]})
    low, high = result.sets
    energy = np.array([a.get_potential_energy() / len(a) for a in pbe[:30]])
    forces = [a.get_forces() for a in pbe[:30]]
    assert low.atoms == sum(len(a) for a in pbe[:30])
    assert low.labels == {'energy': 30, 'force': 30, 'stress': 30}
    assert high.labels == {'energy': 10, 'force': 10, 'stress': 0}
    assert high.stress is None
    holding = sum('In' in a.symbols for a in pbe[:30])
    atoms = sum(a.symbols.count('In') for a in pbe[:30])
    assert low.elements['In'] == {'atoms': atoms, 'structures': holding}
    assert low.energy.min == pytest.approx(energy.min())
    assert low.energy.mean == pytest.approx(energy.mean())
    assert low.energy.max == pytest.approx(energy.max())
    assert low.energy.std == pytest.approx(energy.std())
    assert low.force is not None
    assert low.stress is not None
    largest = max(np.linalg.norm(f, axis=1).max() for f in forces)
    assert low.force['max'] == pytest.approx(largest)
    assert low.force['rms'] == pytest.approx(
        np.sqrt(np.mean(np.concatenate(forces) ** 2))
    )
    # kbar, of minus ASE's stress
    stress = -1602.1766208 * np.array([a.get_stress() for a in pbe[:30]])
    assert low.stress['min'] == pytest.approx(stress.min())
    assert low.stress['max'] == pytest.approx(stress.max())


def test_host_graph_files(tmp_path: Path, ingan: Path) -> None:
    """They keep no cell: counts, ranges and pairs among themselves, no strain."""
    SevenNetGraphDataset(
        cutoff=4.0,
        root=str(tmp_path),
        files=[str(ingan / 'mixing_pbe.extxyz')],
        processed_name='set.pt',
    )
    entry = {'file': str(tmp_path / 'sevenn_data' / 'set.pt'), 'fidelity': 'pbe'}
    sections = {'model': {'cutoff': 4.0}, 'data': {'load_trainset_path': [entry]}}
    (tmp_path / 'input.yaml').write_text(yaml.safe_dump(sections))
    result = inspect(str(tmp_path / 'input.yaml'))
    assert result.has_problems is False
    assert result.sets[0].structures == 5
    assert result.sets[0].labels == {'energy': 5, 'force': 5, 'stress': 0}


def test_statistics_of_pairs(
    audit: Callable[..., Audit], pbe: Frames, r2scan: Frames
) -> None:
    by_sid = {a.info['sid']: a for a in pbe}
    both = only(r2scan, lambda a: a.info['sid'] in by_sid)[:12]
    (pair,) = audit({'pbe': pbe, 'r2scan': both}).pairs
    twins = [by_sid[a.info['sid']] for a in both]
    gap = np.array([
        (b.get_potential_energy() - a.get_potential_energy()) / len(a)
        for a, b in zip(twins, both, strict=True)
    ])
    force = np.concatenate([
        b.get_forces() - a.get_forces() for a, b in zip(twins, both, strict=True)
    ])
    assert (pair.structures, pair.with_forces) == (12, 12)
    assert pair.energy.mean == pytest.approx(gap.mean())
    assert pair.energy.std == pytest.approx(gap.std())
    assert pair.energy.min == pytest.approx(gap.min())
    assert pair.energy.max == pytest.approx(gap.max())
    assert pair.force_rms == pytest.approx(np.sqrt(np.mean(force**2)), rel=1e-5)
    assert pair.scatter < 0.05 < pair.energy.std  # eV/atom: references explain it


def test_every_two_of_three_fidelities_are_compared(
    audit: Callable[..., Audit], pbe: Frames, r2scan: Frames
) -> None:
    shifted = [relabel(a, energy=a.get_potential_energy() - len(a)) for a in r2scan]
    result = audit({'pbe': pbe, 'r2scan': r2scan, 'hse': shifted})
    assert found(result, 'none') == []
    assert [(p.low, p.high, p.structures) for p in result.pairs] == [
        ('pbe', 'r2scan', 47),
        ('pbe', 'hse', 47),
        ('r2scan', 'hse', 47),
    ]


def test_fidelity_of_each_structure(
    tmp_path: Path, pbe: Frames, r2scan: Frames
) -> None:
    for atoms in (frames := [a.copy() for a in pbe[:20] + r2scan[:10]]):
        atoms.calc = None
    for atoms, old in zip(frames, pbe[:20] + r2scan[:10], strict=True):
        atoms.calc = SinglePointCalculator(atoms, **old.calc.results)
        atoms.info['level'] = atoms.info['method']
    write(tmp_path / 'all.extxyz', frames)
    sections = {
        'model': {'cutoff': 4.0},
        'data': {
            'fidelity': {'key': 'level', 'order': ['pbe', 'r2scan']},
            'load_trainset_path': [{'file': str(tmp_path / 'all.extxyz')}],
        },
    }
    (tmp_path / 'input.yaml').write_text(yaml.safe_dump(sections))
    result = inspect(str(tmp_path / 'input.yaml'))
    assert [(s.fidelity, s.structures) for s in result.sets] == [
        ('pbe', 20),
        ('r2scan', 10),
    ]


# ---- units


UNITS = {
    'Hartree': 1 / HARTREE,
    'Rydberg': 2 / HARTREE,
    'kcal/mol': 23.0605,
    'kJ/mol': 96.4853,
    'meV': 1000.0,
}


@pytest.mark.parametrize('unit', UNITS)
def test_paired_energies_in_another_unit(
    audit: Callable[..., Audit], pbe: Frames, r2scan: Frames, unit: str
) -> None:
    bare = [relabel(a, forces=None) for a in r2scan]
    result = audit({'pbe': pbe, 'r2scan': times(bare, energy=UNITS[unit])})
    assert result.has_problems
    message = next(p.message for p in result.problems if p.kind == 'unit')
    assert f'r2scan in {unit}' in message
    assert 'total energies in eV' in message


def test_paired_energies_per_atom(
    audit: Callable[..., Audit], pbe: Frames, r2scan: Frames
) -> None:
    each = [
        relabel(a, forces=None, energy=a.get_potential_energy() / len(a))
        for a in r2scan
    ]
    result = audit({'pbe': pbe, 'r2scan': each})
    message = next(p.message for p in result.problems if p.kind == 'unit')
    assert 'r2scan per atom instead of total' in message
    assert 'Write `energy_unit: eV/atom` in the entry of r2scan.' in message


def test_the_lower_fidelity_in_another_unit(
    audit: Callable[..., Audit], pbe: Frames, r2scan: Frames
) -> None:
    bare = [relabel(a, forces=None, stress=None) for a in pbe]
    result = audit({'pbe': times(bare, energy=1 / HARTREE), 'r2scan': r2scan})
    message = next(p.message for p in result.problems if p.kind == 'unit')
    assert 'pbe in Hartree' in message


def test_the_same_structures_however_they_are_written(
    audit: Callable[..., Audit], pbe: Frames, r2scan: Frames
) -> None:
    """Wrapped, shifted, with their atoms in another order."""
    by_sid = {a.info['sid']: a for a in pbe}
    low = [by_sid[a.info['sid']] for a in r2scan if a.info['sid'] in by_sid][:12]
    high = [a for a in r2scan if a.info['sid'] in by_sid][:12]
    other = [rewritten(a, k, 1e-5) for k, a in enumerate(high)]
    (wanted,) = audit({'pbe': low, 'r2scan': high}).pairs
    result = audit({'pbe': low, 'r2scan': other}, {'r2scan': high})
    (pair,) = result.pairs
    assert pair.structures == 12
    assert pair.force_rms == pytest.approx(wanted.force_rms, rel=1e-5)
    assert '12 of 12 structures of r2scan' in the(result, 'leak')
    twice = audit({'pbe': [*low, *(rewritten(a) for a in low)], 'r2scan': high})
    assert '12 structures of pbe more than once' in the(twice, 'repeat', 'note')


@pytest.mark.parametrize('unit', ['Hartree', 'kcal/mol'])
def test_unpaired_all_electron_energies_in_another_unit(
    audit: Callable[..., Audit], molecules: Path, unit: str
) -> None:
    high = load(molecules / 'ccsdt_train.extxyz')
    numbers = {a.info['sid'] for a in high[::2]}
    low = only(
        load(molecules / 'pbe_train.extxyz'), lambda a: a.info['sid'] not in numbers
    )
    wrong = times(high[::2], energy=UNITS[unit])
    result = audit({'pbe': low, 'ccsdt': wrong})
    assert result.pairs == []
    assert f'ccsdt in {unit}' in the(result, 'unit')


def test_unpaired_energies_of_other_spread_are_noted(
    audit: Callable[..., Audit], pbe: Frames, r2scan: Frames
) -> None:
    numbers = {a.info['sid'] for a in r2scan}
    low = only(pbe, lambda a: a.info['sid'] not in numbers)
    bare = [relabel(a, forces=None) for a in r2scan]
    result = audit({'pbe': low, 'r2scan': times(bare, energy=1 / HARTREE)})
    assert result.pairs == []
    message = the(result, 'unit', 'note')
    assert 'vary 0.0' in message
    assert 'Hartree' in message


@pytest.mark.parametrize(
    ('factors', 'words'),
    [
        ({'energy': 1 / HARTREE}, 'energies in Hartree'),
        ({'forces': BOHR / HARTREE}, 'forces in Hartree/Bohr'),
        ({'forces': 2 * BOHR / HARTREE}, 'forces in Rydberg/Bohr'),
        ({'forces': -1.0}, 'forces of the wrong sign'),
        (
            {'energy': 1 / HARTREE, 'forces': BOHR / HARTREE},
            'both in Hartree or Rydberg',
        ),
    ],
)
def test_energies_do_not_follow_from_forces(
    audit: Callable[..., Audit],
    molecules: Path,
    factors: dict[str, float],
    words: str,
) -> None:
    wrong = times(load(molecules / 'pbe_train.extxyz'), **factors)
    assert words in the(audit({'pbe': wrong}), 'unit')


@pytest.mark.parametrize(
    ('factor', 'words'),
    [(160.21766, 'stress in GPa'), (-1.0, 'stress of the wrong sign')],
)
def test_energies_do_not_follow_from_stress(
    audit: Callable[..., Audit], pbe: Frames, factor: float, words: str
) -> None:
    result = audit({'pbe': times(pbe, stress=factor)})
    messages = [p.message for p in result.problems if p.kind == 'unit']
    assert any(words in m for m in messages)


def test_shuffled_forces_are_noted(
    audit: Callable[..., Audit], molecules: Path
) -> None:
    rng = np.random.default_rng(1)
    frames = load(molecules / 'pbe_train.extxyz')
    mixed = [relabel(a, forces=rng.permutation) for a in frames]
    assert 'order of atoms' in the(audit({'pbe': mixed}), 'unit', 'note')


@pytest.mark.parametrize(
    ('factor', 'words'),
    [(BOHR / HARTREE, 'r2scan in Hartree/Bohr'), (-1.0, 'the sign of one of them')],
)
def test_paired_forces_in_another_unit(
    audit: Callable[..., Audit],
    pbe: Frames,
    r2scan: Frames,
    factor: float,
    words: str,
) -> None:
    result = audit({'pbe': pbe, 'r2scan': times(r2scan, forces=factor)})
    messages = [p.message for p in found(result, 'unit')]
    assert any('forces of r2scan are' in m and words in m for m in messages)


def test_zeros_for_forces_that_were_not_computed(
    audit: Callable[..., Audit], pbe: Frames, r2scan: Frames
) -> None:
    empty = times(r2scan, forces=0.0)
    result = audit({'pbe': pbe, 'r2scan': empty})
    assert 'forces of r2scan are zero where those of pbe' in the(result, 'unit')
    alone = audit({'r2scan': empty})
    assert '47 of 47 structures of r2scan with forces' in the(alone, 'zeros', 'note')


def test_few_pairs_of_unlike_methods_are_no_problem(
    audit: Callable[..., Audit], pbe: Frames, r2scan: Frames
) -> None:
    """A factor that no unit explains is not believed from few structures."""
    rng = np.random.default_rng(3)
    few = [
        relabel(a, forces=None, energy=a.get_potential_energy() * f)
        for a, f in zip(r2scan[:9], rng.uniform(0.99, 1.01, 9), strict=True)
    ]
    assert audit({'pbe': pbe, 'r2scan': few}).has_problems is False


def test_paired_stress_of_another_sign(
    audit: Callable[..., Audit], pbe: Frames
) -> None:
    other = [
        relabel(a, energy=a.get_potential_energy() - 3 * len(a)) for a in pbe[:40]
    ]
    result = audit({'pbe': pbe, 'scan': times(other, stress=-1.0)})
    messages = [p.message for p in found(result, 'unit')]
    assert any('stresses of scan are -1 times' in m for m in messages)


def test_one_file_in_another_unit(
    audit: Callable[..., Audit], pbe: Frames, held: dict[str, Frames]
) -> None:
    bare = [relabel(a, forces=None, stress=None) for a in held['pbe']]
    wrong = times(bare, energy=1 / HARTREE)
    result = audit({'pbe': pbe}, {'pbe': wrong})
    messages = [p.message for p in result.problems if p.kind == 'unit']
    assert any('valid_pbe' in m and 'look like Hartree' in m for m in messages)


def test_one_file_of_another_level(
    audit: Callable[..., Audit], pbe: Frames, held: dict[str, Frames]
) -> None:
    result = audit({'pbe': pbe}, {'pbe': held['r2scan']})
    messages = [p.message for p in result.problems if p.kind == 'unit']
    assert any('valid_pbe' in m and 'another level of theory' in m for m in messages)


# ---- the same structure twice


def test_labels_under_two_names(
    audit: Callable[..., Audit], pbe: Frames, r2scan: Frames
) -> None:
    result = audit({'pbe': pbe, 'r2scan': r2scan[:-2] + pbe[60:61]})
    message = next(p.message for p in result.problems if p.kind == 'same label')
    assert '1 structure of r2scan' in message
    assert 'train_r2scan_0.extxyz:45 = ' in message
    assert 'train_pbe_0.extxyz:60' in message


def test_training_structures_in_validation(
    audit: Callable[..., Audit], pbe: Frames, held: dict[str, Frames]
) -> None:
    message = the(audit({'pbe': pbe}, {'pbe': held['pbe'] + pbe[5:7]}), 'leak')
    assert '2 of 38 structures of pbe in validset' in message
    assert 'valid_pbe_0.extxyz:36 = ' in message
    assert 'train_pbe_0.extxyz:5' in message


def test_a_repeated_training_structure_is_noted(
    audit: Callable[..., Audit], pbe: Frames
) -> None:
    message = the(audit({'pbe': pbe + pbe[3:5]}), 'repeat', 'note')
    assert '2 structures of pbe' in message
    assert 'train_pbe_0.extxyz:97 = ' in message


def test_one_structure_with_two_energies(
    audit: Callable[..., Audit], pbe: Frames
) -> None:
    other = relabel(pbe[3], energy=lambda e: e + 0.5)
    message = the(audit({'pbe': [*pbe, other]}), 'conflict')
    assert f'up to {0.5 / len(other):.3g} eV/atom apart' in message


def test_validation_on_structures_of_another_fidelity_is_noted(
    audit: Callable[..., Audit], pbe: Frames, r2scan: Frames
) -> None:
    result = audit({'pbe': pbe, 'r2scan': r2scan[:40]}, {'r2scan': r2scan[40:]})
    assert 'in the training data of pbe' in the(result, 'seen', 'note')


# ---- reference energies


def gallium(frames: Frames) -> Frames:
    return only(frames, lambda a: 'In' not in a.symbols)


def test_an_element_the_target_has_no_label_for(
    audit: Callable[..., Audit], pbe: Frames, r2scan: Frames, held: dict[str, Frames]
) -> None:
    train = {'pbe': pbe, 'r2scan': gallium(r2scan)}
    result = audit(train, {'r2scan': held['r2scan']})
    message = the(result, 'not determined')
    assert "target 'r2scan' is not determined for 9 structures" in message
    assert 'the energy of In,' in message
    assert result.references['r2scan']['In']['determined'] is False
    number = {'fidelity': {'reference_energies': {'r2scan': {'In': -14.4}}}}
    given = audit(train, {'r2scan': held['r2scan']}, data=number)
    assert found(given, 'not determined') == []


def test_an_undetermined_element_nobody_asks_for_is_noted(
    audit: Callable[..., Audit], pbe: Frames, r2scan: Frames, held: dict[str, Frames]
) -> None:
    result = audit(
        {'pbe': pbe, 'r2scan': gallium(r2scan)}, {'r2scan': gallium(held['r2scan'])}
    )
    message = the(result, 'not determined', 'note')
    assert "'r2scan' has no label that contains In" in message


def test_a_composition_the_labels_leave_open(
    audit: Callable[..., Audit], pbe: Frames, r2scan: Frames
) -> None:
    dimer = Atoms('N2', [[0, 0, 0], [0, 0, 1.1]], cell=[9, 9, 9], pbc=True)
    dimer.calc = SinglePointCalculator(dimer, energy=-20.0)
    result = audit({'pbe': pbe, 'r2scan': r2scan}, {'r2scan': [dimer]})
    message = the(result, 'not determined')
    assert 'determines the energy of N2,' in message


def test_an_element_the_model_does_not_know(
    audit: Callable[..., Audit], pbe: Frames
) -> None:
    result = audit({'pbe': pbe}, model={'chemical_species': ['Ga', 'N']})
    message = the(result, 'element')
    assert 'the model does not know In' in message
    assert 'model.chemical_species' in message


def test_an_element_only_in_validation(
    audit: Callable[..., Audit], pbe: Frames, held: dict[str, Frames]
) -> None:
    """The model knows it, as training takes elements from all sets."""
    result = audit({'pbe': gallium(pbe)}, {'pbe': held['pbe']})
    assert 'the energy of In,' in the(result, 'not determined')


# ---- outliers


def test_an_energy_far_off(audit: Callable[..., Audit], pbe: Frames) -> None:
    frames = [*pbe[:50], relabel(pbe[50], energy=lambda e: e / HARTREE), *pbe[51:]]
    message = the(audit({'pbe': frames}), 'outlier')
    assert 'energy of 1 structure of pbe' in message
    assert 'train_pbe_0.extxyz:50' in message


def test_a_difference_far_off(
    audit: Callable[..., Audit], pbe: Frames, r2scan: Frames
) -> None:
    wrong = relabel(r2scan[7], energy=lambda e: e + 0.5 * len(r2scan[7]))
    result = audit({'pbe': pbe, 'r2scan': [*r2scan[:7], wrong, *r2scan[8:]]})
    message = the(result, 'outlier')
    assert 'difference of 1 structure of r2scan - pbe' in message
    assert 'train_r2scan_0.extxyz:7 (+0.5' in message


def test_a_force_far_off(audit: Callable[..., Audit], pbe: Frames) -> None:
    forces = pbe[0].get_forces()
    forces[0, 0] += 300.0
    frames = [relabel(pbe[0], forces=forces), *pbe[1:]]
    message = the(audit({'pbe': frames}), 'outlier')
    assert 'force of 1 structure of pbe' in message
    assert 'train_pbe_0.extxyz:0' in message


def test_isolated_atoms_are_no_outliers(
    audit: Callable[..., Audit], pbe: Frames
) -> None:
    atoms = []
    for symbol, energy in (('Ga', -0.3), ('In', -0.2), ('N', -3.1)):
        atoms.append(Atoms(symbol, cell=[12, 12, 12], pbc=True))
        atoms[-1].calc = SinglePointCalculator(atoms[-1], energy=energy)
    assert audit({'pbe': pbe + atoms}).has_problems is False


# ---- structures that cannot be used


def test_bad_structures_do_not_stop_the_audit(
    audit: Callable[..., Audit], pbe: Frames
) -> None:
    frames = list(pbe)
    frames[4] = relabel(pbe[4], energy=float('nan'))
    frames[9] = pbe[9].copy()  # no label
    result = audit({'pbe': frames})
    first, second = found(result, 'unusable')
    assert 'train_pbe_0.extxyz:4 has energy nan' in first.message
    assert 'train_pbe_0.extxyz:9 has no energy' in second.message
    assert result.sets[0].structures == len(pbe) - 2


@pytest.mark.parametrize(
    ('spoil', 'remedy'),
    [
        (
            lambda a: a.set_array('REF_forces', a.get_forces() + 1.0),
            'Name the labels that no key reads, or leave them out, and',
        ),
        (lambda a: setattr(a, 'calc', None), 'remove the unusable structures'),
    ],
)
def test_references_without_inferred_labels_say_so(
    audit: Callable[..., Audit],
    pbe: Frames,
    r2scan: Frames,
    spoil: Callable[[Atoms], None],
    remedy: str,
) -> None:
    spoilt = [a.copy() for a in r2scan]
    for one, other in zip(spoilt, r2scan, strict=True):
        one.calc = other.calc
    spoil(spoilt[0])
    result = audit({'pbe': pbe, 'r2scan': spoilt})
    (note,) = [p for p in result.problems if p.kind == 'references']
    assert note.severity == 'note'
    assert 'r2scan do not include inferred labels' in note.message
    assert remedy in note.message


def test_many_bad_structures_are_counted(
    audit: Callable[..., Audit], pbe: Frames
) -> None:
    frames = [a.copy() for a in pbe[:15]] + pbe[15:]
    (problem,) = found(audit({'pbe': frames}), 'unusable')
    assert problem.count == 15
    assert ':0 has no energy. ' in problem.message
    assert ' 14 more like this: ' in problem.message
    assert problem.message.endswith(':10 and 4 more.')


def test_each_cause_is_told_once(audit: Callable[..., Audit], pbe: Frames) -> None:
    frames = [a.copy() for a in pbe[:3]] + copy.deepcopy(pbe[3:])
    for one in frames[5:7]:
        one.calc.results['forces'][1, 2] = np.nan
    first, second = found(audit({'pbe': frames}), 'unusable')
    assert (first.count, second.count) == (3, 2)
    assert first.message.endswith(':2.')
    assert second.message.endswith(':6.')


def test_many_causes_of_a_kind_are_counted() -> None:
    bad = _Unusable()
    for letter in 'abcdefghijklm':
        bad.add('unusable', f'a.json:0 lacks {letter}')
    *listed, rest = bad.findings()
    assert len(listed) == 10
    assert rest.message == '3 more like these.'


def test_a_truncated_file(
    audit: Callable[..., Audit], tmp_path: Path, pbe: Frames
) -> None:
    text = tmp_path / 'cut.extxyz'
    write(text, pbe[:10])
    text.write_text(text.read_text()[:-200])
    sections = {
        'model': {'cutoff': 4.0},
        'data': {
            'load_trainset_path': [
                {'file': str(text), 'fidelity': 'pbe'},
            ]
        },
    }
    (tmp_path / 'cut.yaml').write_text(yaml.safe_dump(sections))
    result = inspect(str(tmp_path / 'cut.yaml'))
    assert 'cut.extxyz' in found(result, 'unusable')[0].message


def test_nothing_usable(audit: Callable[..., Audit], pbe: Frames) -> None:
    result = audit({'pbe': [a.copy() for a in pbe[:2]]})
    assert {p.kind for p in result.problems} == {
        'unusable',
        'no data',
        'no validation',
    }
    assert result.sets == []


def test_atoms_too_close(audit: Callable[..., Audit], pbe: Frames) -> None:
    near = relabel(pbe[0])
    i, j = 0, len(near) - 1
    near.positions[j] = near.positions[i] + [0.5, 0.0, 0.0]
    near.calc.atoms = near.copy()
    message = the(audit({'pbe': [near, *pbe[1:]]}), 'close atoms')
    assert 'train_pbe_0.extxyz:0' in message
    assert '0.500 Å' in message


def test_a_fidelity_without_data(audit: Callable[..., Audit], pbe: Frames) -> None:
    fidelity = {'fidelity': {'order': ['pbe', 'r2scan']}}
    message = the(audit({'pbe': pbe}, data=fidelity), 'no data')
    assert "target names 'r2scan', but data.load_trainset_path" in message


@pytest.fixture
def beside_checkpoint(
    audit: Callable[..., Audit], pbe: Frames, tmp_path: Path
) -> Callable[..., Audit]:
    """Audits labels of pbe that a pretrained model of `low` goes on with."""

    def run(frames: Frames = pbe, **fidelity: Any) -> Audit:
        path = pretrained(tmp_path)
        audit({'pbe': frames})
        sections = yaml.safe_load((tmp_path / 'input.yaml').read_text())
        sections['train'] = {
            'continue': {'checkpoint': str(path)},
            'fidelity': {'known_as': 'low', **fidelity},
        }
        (tmp_path / 'input.yaml').write_text(yaml.safe_dump(sections))
        return inspect(str(tmp_path / 'input.yaml'))

    return run


def test_fidelities_of_a_checkpoint_need_no_data(
    beside_checkpoint: Callable[..., Audit],
) -> None:
    result = beside_checkpoint()
    assert result.fidelities == ['low', 'pbe']
    assert not found(result, 'no data')


def test_elements_are_those_of_the_checkpoint(
    beside_checkpoint: Callable[..., Audit], molecules: Path
) -> None:
    result = beside_checkpoint(load(molecules / 'pbe_train.extxyz')[:9])
    (finding,) = [f for f in result.problems if f.kind == 'element']
    assert finding.names == ('H', 'C', 'O')
    assert 'it knows N, Ga, In' in finding.message


def test_a_replay_is_audited_with_what_is_trained_on(
    beside_checkpoint: Callable[..., Audit], pbe: Frames, ingan: Path
) -> None:
    replay = {'file': str(ingan / 'pbe_valid.extxyz'), 'index': ':7'}
    result = beside_checkpoint(replay=replay)
    counts = {(s.set, s.fidelity): s.structures for s in result.sets}
    assert counts['trainset', 'low'] == 7
    assert counts['trainset', 'pbe'] == len(pbe)


def test_a_target_without_validation_is_noted(
    audit: Callable[..., Audit], pbe: Frames
) -> None:
    assert "the target 'pbe'" in the(audit({'pbe': pbe}), 'no validation', 'note')
    split = audit({'pbe': pbe}, data={'data_divide_ratio': 0.1})
    assert split.problems == []


# ---- what is typed


def test_a_plain_yaml_is_refused(tmp_path: Path, ingan: Path) -> None:
    path = tmp_path / 'host.yaml'
    data = {'load_trainset_path': str(ingan / 'pbe_train.extxyz')}
    path.write_text(yaml.safe_dump({'model': {}, 'train': {}, 'data': data}))
    with pytest.raises(UserError, match=r'names no fidelity.*\{file: pbe.extxyz, '):
        inspect(str(path))


def test_no_such_yaml() -> None:
    with pytest.raises(UserError, match='no such file: absent.yaml'):
        inspect('absent.yaml')


# ---- what is shown


@pytest.fixture
def both(
    audit: Callable[..., Audit], pbe: Frames, r2scan: Frames, held: dict[str, Frames]
) -> Audit:
    return audit({'pbe': pbe, 'r2scan': gallium(r2scan)}, held)


def test_json(both: Audit, tmp_path: Path) -> None:
    path = tmp_path / 'inspect.json'
    write_json(both, str(path))
    stored = json.loads(path.read_text())
    assert stored == both.as_dict()
    assert stored['problems'][0]['kind'] == 'not determined'
    assert stored['references']['r2scan']['In']['std'] is None


def test_table_fits_into_100_columns(both: Audit) -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(table(both))
    lines = console.export_text().splitlines()
    assert max(len(line) for line in lines) <= 100
    text = '\n'.join(lines)
    for word in ('r2scan (target)', 'eV/atom', 'eV/Å', 'kbar', 'not determined'):
        assert word in text
    assert '…' not in text  # nothing is cut
    assert '1 problem, no notes.' in text


def test_table_of_nothing(audit: Callable[..., Audit], pbe: Frames) -> None:
    nothing = audit({'pbe': [a.copy() for a in pbe[:2]]})
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(table(nothing))
    assert '2 problems, 1 note.' in console.export_text()  # one cause, one no data


def test_picture(both: Audit, tmp_path: Path) -> None:
    from matplotlib.image import imread

    path = tmp_path / 'inspect.png'
    write_picture(both, str(path))
    image = imread(path)
    assert image.shape[0] > 800
    assert image.shape[1] > 1000
    assert (image[..., :3] < 0.9).any(axis=2).mean() > 0.02  # there is something


def test_picture_of_nothing(
    audit: Callable[..., Audit], pbe: Frames, tmp_path: Path
) -> None:
    nothing = audit({'pbe': [a.copy() for a in pbe[:2]]})
    write_picture(nothing, str(tmp_path / 'nothing.png'))
    assert (tmp_path / 'nothing.png').stat().st_size > 1000


@pytest.mark.parametrize('write_to', [write_json, write_picture])
def test_a_folder_that_is_not_there(
    both: Audit, tmp_path: Path, write_to: Callable[[Audit, str], None]
) -> None:
    with pytest.raises(UserError, match='cannot be written'):
        write_to(both, str(tmp_path / 'absent' / 'file'))
