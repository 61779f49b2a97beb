"""Structures from Langevin dynamics."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.emt import EMT
from ase.md.langevin import Langevin

from sevennet_mf.calculators.dynamics import langevin, snapshots
from sevennet_mf.errors import UserError


def moving() -> Langevin:
    atoms = Atoms('Cu2', [[0, 0, 0], [0, 0, 2.4]], cell=[9] * 3, pbc=True)
    atoms.calc = EMT()
    return langevin(atoms, 300.0, np.random.default_rng(1), 1.0, 0.02)


def test_momenta_are_of_the_temperature() -> None:
    atoms = Atoms('Cu500', np.zeros((500, 3)))
    langevin(atoms, 600.0, np.random.default_rng(1), 1.0, 0.02)
    assert atoms.get_temperature() == pytest.approx(600.0, rel=0.1)


def test_units_are_fs() -> None:
    assert moving().dt == 1.0 * units.fs
    assert moving().fr == 0.02 / units.fs


def test_snapshots_are_steps_apart() -> None:
    motion = moving()
    found = [x.positions.copy() for x in snapshots(motion, 2, 3, 2, 1.0)]
    assert motion.nsteps == 3 + 2 * 2
    assert abs(found[0] - found[1]).max() > 0


@pytest.mark.parametrize(
    ('distance', 'seen'),
    [(0.5, 'two are 0.50 Å apart'), (np.nan, 'positions are NaN')],
)
def test_a_run_that_falls_apart_is_an_error(distance: float, seen: str) -> None:
    motion = moving()
    run = snapshots(motion, 2, 0, 1, 1.0)
    next(run)
    motion.atoms.positions[:] = [[0, 0, 0], [0, 0, distance]]
    motion.run = lambda steps: None
    with pytest.raises(UserError, match=f'of Cu2 fly apart or collide: {seen}'):
        next(run)
