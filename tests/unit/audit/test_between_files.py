"""Forces of one file in another unit than those of the others of its fidelity."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from audit_helpers import (
    BOHR,
    HARTREE,
    Frames,
    found,
    rattled,
    relabel,
    the,
    times,
)

from sevennet_mf.audit.inspect import Audit


def shifted(frames: Frames) -> Frames:
    """Another method: the same forces, nearly."""
    return [relabel(a, energy=lambda e: 0.9 * e - 1, stress=None) for a in frames]


@pytest.fixture(scope='module')
def train() -> Frames:
    return rattled('Cu', 1, 16, 0.0)


@pytest.fixture(scope='module')
def valid() -> Frames:
    return rattled('Cu', 2, 10, 0.0)


def without_stress(frames: Frames) -> Frames:
    return [relabel(a, stress=None) for a in frames]


@pytest.mark.parametrize(
    ('factor', 'unit'),
    [
        (1 / HARTREE, 'Hartree/Å'),
        (BOHR / HARTREE, 'Hartree/Bohr'),
        (23.06, 'kcal/mol/Å'),
    ],
)
def test_training_forces_in_another_unit_than_validation(
    audit: Callable[..., Audit],
    train: Frames,
    valid: Frames,
    factor: float,
    unit: str,
) -> None:
    """Pairs with the other fidelity bear it out, in both sets."""
    low, held = without_stress(train), without_stress(valid)
    result = audit(
        {'low': times(low, forces=factor), 'high': shifted(train[:8])},
        {'low': held, 'high': shifted(valid[:6])},
    )
    message = the(result, 'unit')
    assert 'train_low_0.extxyz: its low forces are' in message
    assert 'the forces of high for the same structures' in message
    assert f'look like {unit}' in message
    assert f'`force_unit: {unit}`' in message


def test_validation_forces_in_another_unit_by_energies(
    audit: Callable[..., Audit], train: Frames, valid: Frames
) -> None:
    result = audit({'low': train}, {'low': times(valid, forces=BOHR / HARTREE)})
    message = the(result, 'unit')
    assert 'valid_low_0.extxyz: its low forces are' in message
    assert 'its energies suggest' in message
    assert '`force_unit: Hartree/Bohr`' in message


def test_a_file_of_relaxed_structures_is_in_no_other_unit(
    audit: Callable[..., Audit], train: Frames
) -> None:
    """Their forces are 25 times smaller; pairs and energies agree with them."""
    still = rattled('Cu', 3, 12, 0.01, 0.002)
    result = audit({'low': [train, still], 'high': shifted(train[:6] + still[:6])})
    assert not [p for p in result.problems if p.kind == 'unit']
    alone = audit({'low': [train, still]})
    assert not [p for p in alone.problems if p.kind == 'unit']
    assert not [p for p in audit({'low': train}, {'low': still}).problems
                if p.kind == 'unit']  # fmt: skip


def test_files_whose_paired_forces_differ_in_sign(
    audit: Callable[..., Audit], train: Frames, valid: Frames
) -> None:
    """Neither file is hidden by the other, which has more pairs."""
    gradients = [relabel(a, stress=None, energy=lambda e: 0.9 * e - 1,
                         forces=lambda f: -f) for a in valid[:5]]  # fmt: skip
    result = audit(
        {'low': train, 'high': shifted(train)}, {'low': valid, 'high': gradients}
    )
    messages = [p.message for p in found(result, 'unit')]
    assert any(
        'valid_high_0.extxyz are -1 times those of low in' in m for m in messages
    )
    assert not any('train_high_0' in m for m in messages)
