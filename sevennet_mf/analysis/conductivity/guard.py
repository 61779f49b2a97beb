"""Does a simulation still make sense? It stops where a model flies apart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from ase import Atoms

from sevennet_mf.analysis.conductivity.read import STEP_KEY
from sevennet_mf.data import extxyz
from sevennet_mf.data.processed.graphs import TOO_CLOSE, neighbours, radii_of
from sevennet_mf.errors import UserError

LAST_GOOD: Final[str] = 'last_good.extxyz'
STRONGEST: Final[float] = 200.0  # eV/Å; collisions at 2000 K stay far below
DEEPEST: Final[float] = 10.0  # eV/atom away from the start
# a small cell fluctuates, and a rattled start heats it for a while
HOTTEST, HOTTER = 5.0, 1000.0  # times the temperature, plus this many K


class FlewApart(UserError):
    """A model took a simulation to where no structure is.

    The message names the step and the file with the last good frame.
    """


@dataclass
class Guard:
    """Checks of one run.

    Attributes:
        folder: For the last good frame.
        target: Temperature of the thermostat in K.
        model: What is simulated with, for messages.
        good: The last frame that passed `frame`; None before the first.
    """

    folder: Path
    target: float
    model: str
    good: Atoms | None = None
    first_energy: float | None = None

    def frame(self, atoms: Atoms, step: int) -> None:
        """Check a frame as a whole, and keep it as good.

        Args:
            atoms: With momenta; any calculator is ignored.
            step: Number of the MD step.

        Raises:
            FlewApart: Atoms are nowhere, too close or too fast.
        """
        if not np.isfinite(atoms.positions).all():
            raise self.apart(step, 'positions are not finite')
        self.temperature(atoms.get_temperature(), step)
        pair = too_close(atoms)
        if pair is not None:
            raise self.apart(step, pair)
        self.good = Atoms(
            atoms.symbols,
            positions=atoms.positions,
            cell=atoms.cell,
            pbc=atoms.pbc,
            momenta=atoms.get_momenta(),
            info={STEP_KEY: step},
        )

    def forces(self, atoms: Atoms, step: int) -> None:
        """Check energy, forces and velocities of a step; cheap.

        Raises:
            FlewApart: One of them is absurd.
        """
        energy = atoms.get_potential_energy() / len(atoms)
        if self.first_energy is None and np.isfinite(energy):
            self.first_energy = energy
        strongest = float(np.linalg.norm(atoms.get_forces(), axis=1).max())
        if not strongest < STRONGEST:  # NaN is not either
            raise self.apart(step, f'a force is {strongest:.3g} eV/Å')
        change = energy - (self.first_energy or 0.0)
        if not abs(change) < DEEPEST:
            raise self.apart(step, f'the energy changed by {change:.3g} eV/atom')
        self.temperature(atoms.get_temperature(), step)

    def temperature(self, temperature: float, step: int) -> None:
        """Check a temperature (K) against that of the thermostat.

        Raises:
            FlewApart: It is far above.
        """
        if not temperature < HOTTEST * self.target + HOTTER:
            raise self.apart(step, f'the temperature is {temperature:.3g} K')

    def apart(self, step: int, reason: str) -> FlewApart:
        """Return the error, after writing the last good frame."""
        kept = 'no frame was good'
        if self.good is not None:
            path = self.folder / LAST_GOOD
            extxyz.write(path, [self.good])
            kept = f'the last good frame, of step {self.good.info[STEP_KEY]}, is '
            kept += str(path)
        return FlewApart(
            f'{self.model} at {self.target:g} K flew apart at step {step}: '
            f'{reason}; {kept}. Try a smaller --timestep. If that does not help, '
            'the model does not know such structures: label some of the last frames '
            'and train on them.'
        )


def too_close(atoms: Atoms) -> str | None:
    """Return which two atoms are closer than any bond is; None if none are."""
    i, j, distance = neighbours(atoms, TOO_CLOSE * radii_of(atoms.numbers))
    if not len(i):
        return None
    k = int(distance.argmin())
    symbols = atoms.symbols
    return (
        f'atoms {i[k]} ({symbols[i[k]]}) and {j[k]} ({symbols[j[k]]}) are '
        f'{distance[k]:.2f} Å apart'
    )
