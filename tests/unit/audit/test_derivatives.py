"""Exact labels of rattled metals have no finding; planted defects are named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from audit_helpers import (
    BOHR,
    HARTREE,
    SPACING,
    Frames,
    found,
    rattled,
    relabel,
    the,
    times,
)

from sevennet_mf.audit.inspect import Audit


@pytest.mark.parametrize(
    ('strain', 'size', 'n'), [(0.01, 0.05, 14), (0.02, 0.03, 12), (0.03, 0.1, 20)]
)
def test_exact_labels_are_not_called_wrong(
    audit: Callable[..., Audit], strain: float, size: float, n: int
) -> None:
    """Their energies change 0.6 times as much as a mere fit says, or less."""
    frames = {
        f'{symbol}{seed}': rattled(symbol, seed, n, strain, size)
        for symbol in SPACING
        for seed in (3, 4)
    }
    result = audit(frames)
    assert not result.has_problems
    assert not [p for p in result.problems if p.kind == 'unit']


def virial(atoms: Any) -> Any:
    return relabel(atoms, stress=lambda s: -s * atoms.get_volume())


def reordered(atoms: Any) -> Any:
    return relabel(atoms, stress=lambda s: s[[0, 1, 2, 5, 3, 4]])


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda f: times(f, stress=160.21766), 'stress in GPa'),
        (lambda f: times(f, stress=-1.0), 'stress of the wrong sign'),
        (lambda f: [virial(a) for a in f], 'stress of emt looks like a virial (-V'),
        (lambda f: [reordered(a) for a in f], 'in the order xy, yz, zx (VASP)'),
    ],
)
def test_a_wrong_stress_alone(
    audit: Callable[..., Audit], change: Callable[[Frames], Frames], words: str
) -> None:
    """It is named, and forces are let alone; 12 structures tell."""
    message = the(audit({'emt': change(rattled('Cu', 1, 12, 0.02, 0.03))}), 'unit')
    assert words in message
    assert 'forces imply' not in message


@pytest.mark.parametrize(
    ('factors', 'words'),
    [
        ({'forces': -1.0}, 'forces of the wrong sign'),
        ({'forces': BOHR / HARTREE}, 'forces in Hartree/Bohr'),
        ({'energy': 1 / HARTREE}, 'energies in Hartree'),
    ],
)
def test_wrong_forces_or_energies_beside_a_right_stress(
    audit: Callable[..., Audit], factors: dict[str, float], words: str
) -> None:
    wrong = times(rattled('Cu', 0), **factors)
    messages = [p.message for p in found(audit({'emt': wrong}), 'unit')]
    assert any(words in m for m in messages)


def test_paired_stress_in_another_order(audit: Callable[..., Audit]) -> None:
    frames = rattled('Cu', 1, 12, 0.02, 0.03)
    bare = [relabel(a, forces=None, energy=lambda e: 0.9 * e - 1) for a in frames]
    result = audit({'low': frames, 'high': [reordered(a) for a in bare]})
    message = the(result, 'unit')
    assert 'stress of high agree with those of low over 12 structures' in message
    assert 'xy, yz, zx (VASP)' in message


def test_paired_stress_is_a_virial(audit: Callable[..., Audit]) -> None:
    frames = rattled('Cu', 1, 12, 0.0, 0.05)
    bare = [relabel(a, forces=None, energy=lambda e: 0.9 * e - 1) for a in frames]
    message = the(audit({'low': frames, 'high': [virial(a) for a in bare]}), 'unit')
    assert 'high in eV as a virial' in message


@pytest.mark.parametrize('value', [0.0, -3.25])
def test_energies_that_stand_for_none(
    audit: Callable[..., Audit], value: float
) -> None:
    frames = [relabel(a, energy=value) for a in rattled('Cu', 0, 8)]
    result = audit({'emt': frames})
    messages = [p.message for p in result.problems if p.kind == 'constant']
    what = 'zero' if value == 0.0 else '-3.25 eV'
    assert f'8 of 8 structures of emt have the same energy, {what}' in (
        messages[0]
    )


def test_lengths_in_bohr(audit: Callable[..., Audit]) -> None:
    frames = rattled('Cu', 0, 6)
    wrong = []
    for atoms in frames:
        far = relabel(atoms, energy=lambda e: e - 5)
        far.set_cell(far.cell / BOHR, scale_atoms=True)
        far.calc.atoms = far.copy()
        wrong.append(far)
    result = audit({'low': frames, 'high': wrong})
    messages = [p.message for p in result.problems if p.kind == 'unit']
    assert any('look like Bohr' in m and 'train_high' in m for m in messages)
    alone = audit({'low': wrong})
    kinds = {p.severity for p in alone.problems if 'look like Bohr' in p.message}
    assert kinds == {'note'}  # noble gases are so far apart


def test_no_neighbours(audit: Callable[..., Audit]) -> None:
    result = audit({'emt': rattled('Cu', 0, 6)}, model={'cutoff': 0.5})
    (problem,) = [p for p in result.problems if p.kind == 'no neighbours']
    assert 'model.cutoff (0.5 Å)' in problem.message


def test_labels_that_nothing_reads(audit: Callable[..., Audit]) -> None:
    frames = rattled('Cu', 0, 12)
    for atoms in frames:
        atoms.set_array('REF_forces', 2 * atoms.get_forces())
        del atoms.calc.results['forces']
    result = audit({'emt': frames}, {'emt': rattled('Cu', 1, 3)})
    first, second = (p.message for p in result.problems if p.kind == 'unread')
    assert '`REF_forces` is named like a label' in first
    assert 'emt has forces in validset, but none in its training data' in second


# ---- what training will have


def test_a_share_is_held_out_as_training_does(audit: Callable[..., Audit]) -> None:
    frames = rattled('Cu', 0, 20)
    result = audit({'emt': frames}, data={'data_divide_ratio': 0.2})
    assert {s.set: s.structures for s in result.sets} == {
        'trainset': 16,
        'validset': 4,
    }
    assert not [p for p in result.problems if p.kind == 'no validation']
    useless = [relabel(a, energy=np.nan) for a in frames[:3]]
    nothing = audit({'emt': useless}, data={'data_divide_ratio': 0.2})
    assert {p.kind for p in nothing.problems} >= {'unusable', 'no data'}
    held = {'emt': frames[:2]}
    both = audit({'emt': frames}, held, data={'data_divide_ratio': 0.2})
    assert any('both give a validation set' in p.message for p in both.problems)
