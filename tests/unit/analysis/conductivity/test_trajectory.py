"""Unwrapping, drift and frames that are left out."""

from __future__ import annotations

import numpy as np
import pytest

from sevennet_mf.analysis.conductivity.trajectory import (
    Trajectory,
    is_ion,
    motion_of,
    unwrapped,
    width,
)
from sevennet_mf.errors import UserError

CUBE = 10.0 * np.eye(3)
# of a lattice with much shorter vectors: b - 3a
SKEWED = np.array([[6.0, 0.0, 0.0], [19.0, 6.0, 0.0], [-5.0, 7.0, 6.5]])


def walk(n_frames: int = 60, n_atoms: int = 5, step: float = 0.4) -> np.ndarray:
    rng = np.random.default_rng(0)
    moves = step * rng.normal(size=(n_frames, n_atoms, 3))
    return moves.cumsum(axis=0) + 20 * rng.normal(size=(n_atoms, 3))


@pytest.mark.parametrize('cell', [CUBE, SKEWED], ids=['cube', 'skewed'])
def test_wrapped_positions_are_unwrapped(cell: np.ndarray) -> None:
    true = walk()
    inverse = np.linalg.inv(cell)
    wrapped = (true @ inverse % 1.0) @ cell
    assert np.abs(np.diff(wrapped, axis=0)).max() > 4  # they jump
    found = unwrapped(wrapped, cell)
    np.testing.assert_allclose(found - found[0], true - true[0], atol=1e-9)


def test_positions_without_jumps_stay() -> None:
    true = walk()
    assert unwrapped(true, CUBE) is true


def test_the_width_is_that_of_the_lattice() -> None:
    assert width(CUBE) == pytest.approx(10)
    other = np.array([[10.0, 0, 0], [30.0, 10, 0], [-20, 50, 10]])
    assert width(other) == pytest.approx(10)  # another cell of the same lattice


def test_steps_too_long_to_be_unwrapped_are_refused() -> None:
    true = walk(step=3.0)
    with pytest.raises(UserError, match=r'moves by .* Å, a third of the width'):
        unwrapped(true % 10.0, CUBE)


def test_drift_is_that_of_the_framework() -> None:
    """Ions are followed relative to the centre of mass of all other atoms."""
    symbols = ('Li', 'S', 'Li', 'P')
    drift = np.linspace(0, 7, 60)[:, None, None] * [1.0, 2.0, -1.0]
    still = np.array([[0, 0, 0], [3.0, 0, 0], [0, 3, 0], [0, 0, 3]])
    positions = drift + still
    positions[:, 0] += np.linspace(0, 1, 60)[:, None] * [0, 0, 1.0]
    # a framework that breathes has its centre of mass at rest, but not its mean
    masses = np.array([32.06, 30.973762])
    positions[30:, 1, 0] += 1 / masses[0]
    positions[30:, 3, 0] -= 1 / masses[1]
    motion = motion_of(Trajectory(symbols, positions, CUBE, 0.1), 'Li')
    assert motion.framework == 'the centre of mass of the framework (P, S)'
    moved = motion.positions - motion.positions[0]
    np.testing.assert_allclose(moved[:, 1], 0, atol=1e-5)
    np.testing.assert_allclose(moved[-1, 0], [0, 0, 1], atol=1e-5)


def test_a_framework_that_moves_as_ions_do_is_told() -> None:
    """--ion names another element, or --types are in another order."""
    end = np.array([[5.0, 0, 0], [-5, 0, 0], [0, 5, 0], [0, -5, 0], [0, 0, 0]])
    positions = np.linspace(0, 1, 60)[:, None, None] * end
    trajectory = Trajectory(('Li', 'Li', 'Li', 'Li', 'S'), positions, CUBE, 0.1)
    motion_of(trajectory, 'Li')
    with pytest.warns(UserWarning, match='Li moved by 5.0 Å .*no framework.*--ion'):
        motion_of(trajectory, 'S')


def test_without_a_framework_it_is_all_atoms() -> None:
    trajectory = Trajectory(('Li', 'Li'), walk(n_atoms=2), CUBE, 0.1)
    motion = motion_of(trajectory, 'Li')
    assert motion.framework == 'the centre of mass of all atoms'
    np.testing.assert_allclose(motion.positions.mean(axis=1), 0, atol=1e-9)


def test_equilibration_is_left_out() -> None:
    whole = Trajectory(('Li',) * 5, walk(), CUBE, 0.1)
    part = whole.after(2.0)
    np.testing.assert_array_equal(part.positions, whole.positions[20:])
    assert part.duration == pytest.approx(3.9)
    assert part.volume == pytest.approx(1000)
    with pytest.raises(UserError, match='only 10 of 60 frames are left after 5 ps'):
        whole.after(5.0)


def test_an_ion_that_is_not_there() -> None:
    with pytest.raises(UserError, match=r'no Na in the structure, .* Li, N\. Did'):
        is_ion(['Li', 'N'], 'Na')
