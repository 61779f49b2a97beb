"""What is simulated, and the folder of one temperature: settings, resuming."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from ase import Atoms, units

from sevennet_mf.errors import UserError
from sevennet_mf.files import make_folder, read_json, write_json

ASE, LAMMPS = 'ase', 'lammps'
ENGINES: Final = (ASE, LAMMPS)
SETTINGS_FILE: Final[str] = 'run.json'
# files of a run, with either engine, that has begun; a state without a trajectory
# would go on from its middle
BEGUN: Final = ('trajectory.*', 'state.npz')
# what may differ when a run is resumed
FREE: Final = ('length', 'equilibration')
COUPLING: Final[float] = 100.0  # fs, of the thermostat: weak enough not to disturb
OLD_WARNING: Final[str] = 'Choose another folder with -o, or delete it.'

# is told the number of the last step that is done
Told = Callable[[int], None]


@dataclass(frozen=True)
class Protocol:
    """A simulation at one temperature, NVT with Bussi's stochastic rescaling.

    Attributes:
        temperature: In K.
        length: Of what is analysed, in ps.
        equilibration: Before it, in ps.
        timestep: In fs.
        every: Time between frames in fs.
        seed: Of velocities and thermostat.
        engine: 'ase' or 'lammps'.
    """

    temperature: float
    length: float
    equilibration: float
    timestep: float
    every: float
    seed: int
    engine: str

    @property
    def stride(self) -> int:
        """Steps from frame to frame."""
        return max(1, round(self.every / self.timestep))

    @property
    def spacing(self) -> float:
        """Time from frame to frame in fs: `every`, rounded to whole steps."""
        return self.stride * self.timestep

    @property
    def steps(self) -> int:
        """All steps, equilibration included; a multiple of `stride`."""
        frames = 1000 * (self.length + self.equilibration)
        frames /= self.spacing
        return self.stride * int(np.ceil(frames - 1e-6))

    def time(self, step: int) -> float:
        """Time of a step in ps."""
        return step * self.timestep / 1000


@dataclass(frozen=True)
class Model:
    """What forces come from.

    Attributes:
        checkpoint: Path or name of a pretrained model.
        fidelity: Its name; None if there is one only.
        device: 'cpu', 'cuda' or 'auto'.
        sha256: Of the file.
    """

    checkpoint: str
    fidelity: str | None
    device: str
    sha256: str

    @property
    def name(self) -> str:
        """For messages."""
        at = f' ({self.fidelity})' if self.fidelity else ''
        return f'{self.checkpoint}{at}'


def start(atoms: Atoms, protocol: Protocol) -> Atoms:
    """Return the structure with thermal velocities and a centre of mass at rest."""
    begun = Atoms(
        atoms.symbols, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc
    )
    rng = np.random.default_rng(protocol.seed)
    masses = begun.get_masses()[:, None]
    velocities = rng.normal(size=(len(begun), 3)) / np.sqrt(masses)
    velocities -= (masses * velocities).sum(axis=0) / masses.sum()
    # the centre of mass rests: of 3N degrees of freedom, 3N - 3 are left
    energy = 1.5 * (len(begun) - 1) * units.kB * protocol.temperature
    now = 0.5 * float((masses * velocities**2).sum())
    begun.set_velocities(velocities * np.sqrt(energy / now))
    return begun


# ---- the folder


def prepare_folder(
    trajectory: Path, atoms: Atoms, protocol: Protocol, model: Model, resume: bool
) -> None:
    """Make the folder of a run, or check that it is of the same run.

    Args:
        trajectory: The file that the run writes, in its folder.
        atoms: The structure.
        protocol: What is simulated.
        model: What with.
        resume: Continue a run that is there.

    Raises:
        UserError: There is a run already, and `resume` is False or it differs.
    """
    settings = _settings(atoms, protocol, model)
    folder = trajectory.parent
    path = folder / SETTINGS_FILE
    if any(file for name in BEGUN for file in folder.glob(name)):
        if not resume:
            raise UserError(
                f'{folder} has a run already: --resume continues it. {OLD_WARNING}'
            )
        _check_same(path, settings)
    make_folder(folder, 'Choose another folder with -o.', to_write=True)
    write_json(path, settings)


def _settings(atoms: Atoms, protocol: Protocol, model: Model) -> dict[str, Any]:
    structure = hashlib.sha256()
    for array in (atoms.numbers, atoms.positions, atoms.cell.array):
        structure.update(np.ascontiguousarray(array).tobytes())
    return {
        **asdict(protocol),
        'checkpoint': model.checkpoint,
        'checkpoint_sha256': model.sha256,
        'fidelity': model.fidelity,
        'formula': atoms.get_chemical_formula(),
        'structure_sha256': structure.hexdigest(),
    }


def _check_same(path: Path, settings: dict[str, Any]) -> None:
    before = read_json(path)
    if not before:
        raise UserError(
            f'{path.parent} cannot be resumed: {path} is missing. {OLD_WARNING}'
        )
    for name, value in settings.items():
        # the same file may be elsewhere
        if name in FREE or name == 'checkpoint' or before.get(name) == value:
            continue
        if name.endswith('sha256'):
            what = name.removesuffix('_sha256')
            raise UserError(
                f'{path.parent} cannot be resumed: it was begun with another '
                f'{what}. {OLD_WARNING}'
            )
        raise UserError(
            f'{path.parent} cannot be resumed: it was begun with {name} '
            f'{before.get(name)}, now it is {value}. {OLD_WARNING}'
        )


def fs(value: float) -> float:
    """Return a time in fs in ASE's unit."""
    return value * units.fs
