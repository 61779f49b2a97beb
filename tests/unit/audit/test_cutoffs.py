"""A note on a cutoff that cannot be meant; none for those in use."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from audit_helpers import Frames, rattled, the

from sevennet_mf.audit.inspect import Audit


@pytest.fixture(scope='module')
def metal() -> Frames:
    return rattled('Cu', 0, 6)


def boxed(side: float | None) -> Frames:
    """Water, in vacuum or in a cubic box."""
    frames = []
    for k in range(6):
        atoms: Atoms = molecule('H2O')
        if side is not None:
            atoms.set_cell([side] * 3)
            atoms.pbc = True
        atoms.rattle(0.02, seed=k)
        atoms.calc = EMT()
        labels = {'energy': atoms.get_potential_energy()}
        labels['forces'] = atoms.get_forces()
        bare = atoms.copy()
        bare.calc = SinglePointCalculator(bare, **labels)
        frames.append(bare)
    return frames


@pytest.mark.parametrize(
    ('cutoff', 'words'),
    [
        # 4/3 pi r^3 times 4 atoms in 47 Å^3
        (42.0, ('cutoff is 42 Å: atoms of bulk', 'have 26,', 'decimal point')),
        (11.9, ('cutoff is 11.9 Å: atoms of bulk', 'decimal point')),
        (2.5, ('cutoff is 2.5 Å: atoms of bulk', 'too few')),
    ],
)
def test_a_cutoff_that_cannot_be_meant(
    audit: Callable[..., Audit],
    metal: Frames,
    cutoff: float,
    words: tuple[str, ...],
) -> None:
    result = audit({'emt': metal}, model={'cutoff': cutoff})
    message = the(result, 'cutoff', 'note')
    assert all(word in message for word in words)


@pytest.mark.parametrize('cutoff', [3.5, 4.0, 6.0])
def test_usual_cutoffs(
    audit: Callable[..., Audit], metal: Frames, cutoff: float
) -> None:
    result = audit({'emt': metal}, model={'cutoff': cutoff})
    assert not [p for p in result.problems if p.kind == 'cutoff']


@pytest.mark.parametrize('side', [None, 8.0])
def test_molecules_in_vacuum_have_few_neighbours(
    audit: Callable[..., Audit], side: float | None
) -> None:
    result = audit({'emt': boxed(side)}, model={'cutoff': 5.0})
    assert not [p for p in result.problems if p.kind == 'cutoff']
    long = audit({'emt': boxed(side)}, model={'cutoff': 50.0})
    assert 'cutoff is 50 Å. Time' in the(long, 'cutoff', 'note')
