"""Positions of atoms over time at constant volume: unwrapped, without drift."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from ase.data import atomic_masses, atomic_numbers

from sevennet_mf.arrays import Bools, Floats
from sevennet_mf.data.same.lattice import reduced
from sevennet_mf.errors import UserError, nearest

# A step of an atom between two frames is unique only if it is shorter than half the
# width of the cell. Below a third of it nothing was near that limit.
LARGEST_STEP: Final[float] = 1 / 3
FEWEST: Final[int] = 20  # frames; a displacement needs several lags
FAR: Final[float] = 3.0  # Å: an atom of a framework that vibrates moves by less
SAME: Final[float] = 1e-3  # relative deviation of intervals and cells: rounding


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Frames of a run at constant volume, all with the same atoms.

    Attributes:
        symbols: (n_atoms,) chemical symbols.
        positions: (n_frames, n_atoms, 3) in Å, not wrapped into the cell.
        cell: (3, 3) cell vectors in Å.
        interval: Time from frame to frame, in ps.
    """

    symbols: tuple[str, ...]
    positions: Floats
    cell: Floats
    interval: float

    @property
    def volume(self) -> float:
        """Volume of the cell in Å^3."""
        return abs(float(np.linalg.det(self.cell)))

    @property
    def duration(self) -> float:
        """Time from the first to the last frame, in ps."""
        return self.interval * (len(self.positions) - 1)

    def after(self, time: float) -> Trajectory:
        """Return the frames from a time on.

        Args:
            time: In ps.

        Returns:
            The rest of the run.

        Raises:
            UserError: Hardly any are left.
        """
        first = int(np.ceil(time / self.interval - SAME))
        left = max(0, len(self.positions) - first)
        if left < FEWEST:
            raise UserError(
                f'only {left} of {len(self.positions)} frames are left after '
                f'{time:g} ps of equilibration, and at least {FEWEST} are needed. '
                'Run for longer, or write frames more often.'
            )
        kept = self.positions[first:]
        return Trajectory(self.symbols, kept, self.cell, self.interval)


@dataclass(frozen=True, eq=False)
class Motion:
    """How the mobile ions moved.

    Attributes:
        positions: (n_frames, n_ions, 3) in Å, relative to the centre of mass of the
            framework.
        framework: What that is, in words.
    """

    positions: Floats
    framework: str


def motion_of(trajectory: Trajectory, ion: str) -> Motion:
    """Return how the ions moved relative to the framework of all other atoms.

    Without other atoms, it is relative to the centre of mass of the ions.

    Args:
        trajectory: The run.
        ion: Symbol of the mobile element.

    Returns:
        Their positions, and what these are relative to.

    Raises:
        UserError: No atom is of this element.
    """
    mobile = is_ion(trajectory.symbols, ion)
    others = ~mobile if not mobile.all() else mobile
    numbers = [atomic_numbers[symbol] for symbol in trajectory.symbols]
    masses = atomic_masses[numbers][others]
    centre = np.average(trajectory.positions[:, others], axis=1, weights=masses)
    names = sorted(set(np.array(trajectory.symbols)[others].tolist()))
    what = 'all atoms' if mobile.all() else f'the framework ({", ".join(names)})'
    relative = trajectory.positions - centre[:, None]
    _check_framework(trajectory.symbols, relative, ion)
    return Motion(relative[:, mobile], f'the centre of mass of {what}')


def _check_framework(symbols: Sequence[str], positions: Floats, ion: str) -> None:
    """Warn if another element moved further than the ions, as ions do."""
    square = ((positions[-1] - positions[0]) ** 2).sum(axis=-1)
    moved = {
        name: float(np.sqrt(square[is_ion(symbols, name)].mean()))
        for name in sorted(set(symbols))
    }
    other = max(moved, key=moved.__getitem__)
    if moved[other] > max(2 * moved[ion], FAR):
        warnings.warn(
            f'from the first frame to the last, {other} moved by {moved[other]:.1f} '
            f'Å (root mean square) and {ion} by {moved[ion]:.1f} Å: {other} is no '
            f'framework, and what is computed for {ion} may be its motion. Check '
            '--ion and --types.',
            UserWarning,
            stacklevel=2,
        )


def is_ion(symbols: Sequence[str], ion: str) -> Bools:
    """Return (n_atoms,) whether each atom is of the mobile element.

    Raises:
        UserError: None is.
    """
    found = np.array([symbol == ion for symbol in symbols])
    if not found.any():
        known = sorted(set(symbols))
        raise UserError(
            f'there is no {ion} in the structure, which consists of '
            f'{", ".join(known)}.{nearest(ion, known)} Choose the mobile ion with '
            '--ion.'
        )
    return found


# ---- unwrapping


def width(cell: Floats) -> float:
    """Return the smallest distance between opposite faces of a lattice's cell, Å."""
    return float(1 / np.linalg.norm(np.linalg.inv(reduced(cell)), axis=0).max())


def unwrapped(positions: Floats, cell: Floats) -> Floats:
    """Return positions in which no atom jumps through the cell.

    Each step between frames is replaced by its shortest periodic image. Positions
    without jumps stay as they are.

    Args:
        positions: (n_frames, n_atoms, 3) in Å, wrapped or not.
        cell: (3, 3) in Å.

    Raises:
        UserError: Atoms move so far between frames that images cannot be told apart.
    """
    basis = reduced(cell)
    limit = LARGEST_STEP * width(cell)
    steps = np.diff(positions, axis=0)
    if steps.size and np.linalg.norm(steps, axis=2).max() > limit:
        # exact below half the width, and nothing longer than a third is accepted
        steps -= np.rint(steps @ np.linalg.inv(basis)) @ basis
        _check_steps(np.linalg.norm(steps, axis=2), limit)
        positions = np.concatenate([positions[:1], steps]).cumsum(axis=0)
    return positions


def _check_steps(lengths: Floats, limit: float) -> None:
    if lengths.max() > limit:
        frame, atom = np.unravel_index(lengths.argmax(), lengths.shape)
        raise UserError(
            f'atom {atom} moves by {lengths.max():.1f} Å between frames {frame} and '
            f'{frame + 1}; steps of more than {limit:.1f} Å, a third of the width '
            'of the cell, cannot be unwrapped. Write frames more often, or write '
            'unwrapped positions (xu yu zu in LAMMPS).'
        )
