"""ConductivityOptions of `sevennet-mf conductivity`, and their checks."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ase.data import chemical_symbols

from sevennet_mf.analysis.conductivity.md import ENGINES, LAMMPS, Protocol
from sevennet_mf.analysis.conductivity.read import Reading, check_types
from sevennet_mf.analysis.conductivity.trajectory import FEWEST, SAME
from sevennet_mf.errors import UserError, nearest, unknown

EQUILIBRATION: Final[float] = 10.0  # ps
TIMESTEP: Final[float] = 2.0  # fs
WITH_HYDROGEN: Final[float] = 0.5  # fs: its vibrations take 10 fs
EVERY: Final[float] = 100.0  # fs
ROOM: Final[float] = 300.0  # K


@dataclass(frozen=True)
class ConductivityOptions:
    """What `conductivity` is asked for.

    Attributes:
        ion: Symbol of the mobile element.
        charge: Of an ion; None: the usual one.
        temperatures: In K, for simulations.
        length: Of each simulation after equilibration, in ps.
        equilibration: What is left out at the start, in ps; None: 10 ps of a
            simulation, nothing of a trajectory that is read.
        timestep: In fs; None: 2, with hydrogen 0.5.
        every: Time between frames in fs.
        engine: 'ase' or 'lammps'.
        fidelity: Of the checkpoint; needed if it has several.
        seed: Of velocities, thermostat and samples.
        parallel: Simulations at the same time.
        start: Lag at which the diffusive regime begins, in ps; None: it is found.
        extrapolate: Temperature in K to which the line is drawn.
        device: 'cpu', 'cuda', or 'auto'.
        resume: Continue the simulations in the output folder.
        files: Trajectories to read in place of simulating, by temperature.
        reading: What these leave open.
    """

    ion: str
    charge: float | None = None
    temperatures: Sequence[float] = ()
    length: float | None = None
    equilibration: float | None = None
    timestep: float | None = None
    every: float = EVERY
    engine: str = ENGINES[0]
    fidelity: str | None = None
    seed: int = 1
    parallel: int = 1
    start: float | None = None
    extrapolate: float = ROOM
    device: str = 'auto'
    resume: bool = False
    files: dict[float, list[str]] | None = None
    reading: Reading = Reading()

    @property
    def discarded(self) -> float:
        """Equilibration in ps."""
        default = 0.0 if self.files else EQUILIBRATION
        return default if self.equilibration is None else self.equilibration

    def protocol(self, temperature: float, has_hydrogen: bool) -> Protocol:
        """Return the simulation at one of the temperatures.

        Raises:
            UserError: It would have too few frames, or more frames than steps.
        """
        default = WITH_HYDROGEN if has_hydrogen else TIMESTEP
        assert self.length is not None
        found = Protocol(
            temperature=temperature,
            length=self.length,
            equilibration=self.discarded,
            timestep=self.timestep or default,
            every=self.every,
            # other velocities at each temperature
            seed=100_000 * self.seed + round(temperature),
            engine=self.engine,
        )
        _check_frames(found)
        return found

    def told(self, protocols: Sequence[Protocol]) -> str:
        """Return what is rounded in simulations with these options, or ''."""
        found = protocols[0]
        if abs(found.spacing - self.every) <= SAME * self.every:
            return ''
        return (
            f'--every {self.every:g} fs is no whole number of steps of '
            f'{found.timestep:g} fs: frames are {found.spacing:g} fs apart'
        )


def options_of(args: Namespace) -> ConductivityOptions:
    """Return the checked options of the command line.

    Raises:
        UserError: One is out of range, missing, or contradicts another.
    """
    options = ConductivityOptions(
        ion=args.ion,
        charge=args.charge,
        temperatures=tuple(args.temperatures or ()),
        length=args.length,
        equilibration=args.equilibration,
        timestep=args.timestep,
        every=args.every,
        engine=args.engine,
        fidelity=args.fidelity,
        seed=args.seed,
        parallel=args.parallel,
        start=args.start,
        extrapolate=args.extrapolate,
        device=args.device,
        resume=args.resume,
        files=_files(args.read) if args.read else None,
        reading=Reading(args.frame_time, args.timestep, tuple(args.types or ())),
    )
    check(options)
    _check_source(options, args.checkpoint, args.structure)
    return options


def _files(words: Sequence[str]) -> dict[float, list[str]]:
    """Trajectories by temperature, of `T=FILE`."""
    found: dict[float, list[str]] = {}
    for word in words:
        name, equals, path = word.partition('=')
        try:
            temperature = float(name)
        except ValueError:
            temperature = math.nan
        if not equals or not path or not 0 < temperature < math.inf:
            raise UserError(
                f'--read {word}: the temperature in K is missing. Write '
                f'--read 800={path or word}'
            )
        found.setdefault(temperature, []).append(path)
    return found


def check(options: ConductivityOptions) -> None:
    """Check the values of options.

    Raises:
        UserError: One is out of range.
    """
    if options.ion not in chemical_symbols[1:]:
        raise UserError(
            f'--ion must be a chemical symbol such as Li, got {options.ion!r}.'
            f'{nearest(options.ion, chemical_symbols[1:])}'
        )
    for temperature in options.temperatures:
        _above_zero('--temperatures', temperature, 'K')
    if len(set(options.temperatures)) < len(options.temperatures):
        raise UserError(
            f'--temperatures has one twice: {_listed(options.temperatures)}.'
        )
    for name, value, unit in (
        ('--length', options.length, 'ps'),
        ('--timestep', options.timestep, 'fs'),
        ('--frame_time', options.reading.frame_time, 'fs'),
        ('--every', options.every, 'fs'),
        ('--extrapolate', options.extrapolate, 'K'),
    ):
        if value is not None:
            _above_zero(name, value, unit)
    if not 0 <= options.discarded < math.inf:
        raise UserError(
            f'--equilibration must be 0 ps or more, got {options.discarded:g}.'
        )
    if options.parallel < 1:
        raise UserError(f'--parallel must be 1 or more, got {options.parallel}.')
    if options.seed < 0:
        raise UserError(f'--seed must be 0 or more, got {options.seed}.')
    if options.engine not in ENGINES:
        raise unknown('--engine', options.engine, ENGINES)
    check_types(options.reading.types)


def _above_zero(name: str, value: float, unit: str) -> None:
    if not 0 < value < math.inf:
        raise UserError(f'{name} must be above 0 {unit}, got {value:g}.')


def _check_frames(protocol: Protocol) -> None:
    """Enough frames to be analysed, and no more than steps."""
    if protocol.every < protocol.timestep:
        raise UserError(
            f'--every {protocol.every:g} fs is less than a step: --timestep '
            f'{protocol.timestep:g} fs.'
        )
    spacing = protocol.spacing
    frames = int(1000 * protocol.length / spacing + 1e-6)
    if frames < FEWEST:
        raise UserError(
            f'--length {protocol.length:g} ps has {frames} frames, one every '
            f'{spacing:g} fs, and at least {FEWEST} are needed. Simulate for '
            'longer: ions must hop many times.'
        )


def _listed(values: Sequence[float]) -> str:
    return ', '.join(f'{value:g}' for value in values)


def _of_simulations(options: ConductivityOptions) -> str:
    """The first option that only a simulation has and that was given, or ''."""
    names = ('temperatures', 'length', 'every', 'engine', 'fidelity', 'parallel')
    default = ConductivityOptions(options.ion)
    for name in (*names, 'device', 'resume'):
        if getattr(options, name) != getattr(default, name):
            return f'--{name}'
    return ''


def _check_source(
    options: ConductivityOptions, checkpoint: str | None, structure: str | None
) -> None:
    """Either simulate, or read."""
    if options.files:
        given = _of_simulations(options) if checkpoint is None else checkpoint
        if given:
            raise UserError(
                '--read analyses trajectories and simulates nothing: remove '
                f'{given}.'
            )
        return
    if options.reading.types or options.reading.frame_time is not None:
        given = '--types' if options.reading.types else '--frame_time'
        raise UserError(f'{given} is for trajectories that are read with --read.')
    if checkpoint is None or structure is None:
        raise UserError(
            'give a checkpoint and a structure to simulate, or trajectories with '
            '--read T=FILE.'
        )
    if not options.temperatures:
        raise UserError('--temperatures is missing, as in --temperatures 800 1000.')
    if options.engine == LAMMPS and options.device != 'auto':
        raise UserError(
            f'--device {options.device} is for --engine ase: LAMMPS uses a GPU if '
            'torch finds one. Remove it; CUDA_VISIBLE_DEVICES= hides the GPUs.'
        )
    if options.length is None:
        raise UserError(
            '--length is missing: how long to simulate at each temperature, in ps. '
            'Ions must hop many times: 100 ps for a superionic conductor at 800 K '
            'and more, as a start.'
        )
