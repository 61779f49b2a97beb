"""`sevennet-mf conductivity`: of a checkpoint's simulations, or of trajectories."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from ase import Atoms
from ase.data import atomic_numbers
from rich.console import RenderableType

from sevennet_mf.analysis.conductivity.arrhenius import (
    Carriers,
    charge_of,
    fit_arrhenius,
)
from sevennet_mf.analysis.conductivity.diffusion import diffusion_of, need_kinisi
from sevennet_mf.analysis.conductivity.guard import too_close
from sevennet_mf.analysis.conductivity.md import Model
from sevennet_mf.analysis.conductivity.options import ConductivityOptions, options_of
from sevennet_mf.analysis.conductivity.picture import draw_arrhenius, draw_msd
from sevennet_mf.analysis.conductivity.read import (
    Reading,
    check_periodic,
    read_trajectory,
)
from sevennet_mf.analysis.conductivity.report import (
    AtTemperature,
    Conductivities,
    as_dictionary,
    shown,
)
from sevennet_mf.analysis.conductivity.simulate import (
    Simulations,
    simulate,
    simulate_one,
)
from sevennet_mf.analysis.conductivity.trajectory import is_ion, motion_of
from sevennet_mf.checkpoint import unpickle
from sevennet_mf.checkpoint.file import read_checkpoint
from sevennet_mf.checkpoint.origin import names_in
from sevennet_mf.data.reading.files import atoms_of
from sevennet_mf.errors import UserError, unknown
from sevennet_mf.files import make_folder, sha256_of, write_json
from sevennet_mf.interrupt import StopRequest

RESULT_FILE: Final[str] = 'conductivity.json'
MSD_FILE: Final[str] = 'msd.png'
ARRHENIUS_FILE: Final[str] = 'arrhenius.png'
FAILED: Final[int] = 1


def run(args: argparse.Namespace) -> tuple[RenderableType | None, int]:
    """Run `sevennet-mf conductivity`; return what to print, and the exit code.

    The code is 1 if a simulation failed.

    Raises:
        UserError: Something cannot be used.
        TrainingStopped: After a signal; --resume continues.
    """
    options = options_of(args)
    charge = charge_of(options.ion, options.charge)
    need_kinisi()  # before hours of simulation, not after them
    out = Path(args.output)
    if options.files:
        results = analyse(options.files, options, charge)
    else:
        what = simulations(args.checkpoint, args.structure, out, options)
        if args.only_run:
            with StopRequest().listening() as stop:
                simulate_one(what, what.protocols[0], stop)
            return None, 0
        failures = simulate(what, options.parallel, _words(args))
        files = {
            protocol.temperature: [str(what.trajectory(protocol))]
            for protocol in what.protocols
            if protocol.temperature not in failures
        }
        results = analyse(files, options, charge, what.model.name, failures)
    write(results, out)
    return shown(results, str(out)), FAILED if results.failures else 0


def simulations(
    checkpoint: str, structure: str, out: Path, options: ConductivityOptions
) -> Simulations:
    """Return what to simulate, checked.

    Raises:
        UserError: The structure or the checkpoint cannot be used.
    """
    atoms = read_structure(structure, options.ion)
    path, content = read_checkpoint(checkpoint)
    check_fidelity(options.fidelity, names_in(content['config']), path)
    has_hydrogen = atomic_numbers['H'] in atoms.numbers
    protocols = [
        options.protocol(temperature, has_hydrogen)
        for temperature in sorted(options.temperatures)
    ]
    if told := options.told(protocols):
        warnings.warn(told, stacklevel=2)
    return Simulations(
        out=out,
        atoms=atoms,
        model=Model(
            checkpoint=checkpoint,
            fidelity=options.fidelity,
            device=options.device,
            sha256=sha256_of(path),
        ),
        protocols=protocols,
        resume=options.resume,
    )


def check_fidelity(asked: str | None, known: Sequence[str], path: str) -> None:
    """Check the fidelity to simulate with.

    Args:
        asked: As after -f.
        known: Those of the checkpoint; none if its only one has no name.
        path: Of the checkpoint.

    Raises:
        UserError: It is missing, or the checkpoint does not have it.
    """
    if asked is None and len(known) > 1:
        raise UserError(
            f'{path} has the fidelities {list(known)}: select one with -f, such as '
            f'-f {known[-1]}.'
        )
    if asked is not None and known and asked not in known:
        remedy = f'These are the fidelities of {path}.'
        raise unknown('--fidelity', asked, known, remedy)


def read_structure(path: str, ion: str) -> Atoms:
    """Return the structure of a file: the only one in it.

    Raises:
        UserError: There are several, or it is of no use for a conductivity.
    """
    found = [atoms for _, atoms in atoms_of(path)]
    if len(found) != 1:
        raise UserError(
            f'{path} has {len(found)} structures: give a file with the one to start '
            'from. (Trajectories are analysed with --read T=FILE.)'
        )
    atoms = found[0]
    check_periodic(atoms, path)
    is_ion(tuple(atoms.symbols), ion)
    if atoms.constraints:
        warnings.warn(
            f'{path}: its constraints are not used; all atoms move', stacklevel=2
        )
    pair = too_close(atoms)
    if pair is not None:
        raise UserError(f'{path}: {pair}. Correct the structure.')
    return atoms


def _words(args: argparse.Namespace) -> list[str]:
    """The arguments of a process that does one of the simulations."""
    words = [args.checkpoint, args.structure, '-o', args.output, '--resume']
    for name in (
        *('ion', 'charge', 'fidelity', 'length', 'equilibration', 'timestep'),
        *('every', 'engine', 'seed', 'device'),
    ):
        value = getattr(args, name)
        if value is not None:
            words += [f'--{name}={value}']
    return [*words, *(['--trust'] if unpickle.is_trusting() else [])]


# ---- analysis


def analyse(
    files: Mapping[float, Sequence[str]],
    options: ConductivityOptions,
    charge: float,
    model: str = '',
    failures: Mapping[float, str] | None = None,
) -> Conductivities:
    """Return the conductivity at each temperature, and the Arrhenius line.

    Args:
        files: Trajectories by temperature.
        options: How to analyse them.
        charge: Of an ion in elementary charges.
        model: What simulated them, for the report.
        failures: Temperatures without a trajectory, and why.

    Raises:
        UserError: A trajectory cannot be used.
    """
    # what a simulation wrote is complete in itself
    how = options.reading if options.files else Reading()
    found = [
        _at_temperature(temperature, files[temperature], options, charge, how)
        for temperature in sorted(files)
    ]
    line = fit_arrhenius(
        [
            (one.temperature, one.diffusion.samples)
            for one in found
            if one.diffusion.samples is not None
        ],
        options.seed,
    )
    return Conductivities(model, found, failures or {}, line, options.extrapolate)


def _at_temperature(
    temperature: float,
    files: Sequence[str],
    options: ConductivityOptions,
    charge: float,
    how: Reading,
) -> AtTemperature:
    trajectory = read_trajectory(files, how)
    try:
        trajectory = trajectory.after(options.discarded)
        motion = motion_of(trajectory, options.ion)
        diffusion = diffusion_of(
            motion.positions, trajectory.interval, options.start, options.seed
        )
    except UserError as error:
        raise error.within(files[0]) from None
    return AtTemperature(
        temperature=temperature,
        carriers=Carriers(
            ion=options.ion,
            charge=charge,
            number=motion.positions.shape[1],
            volume=trajectory.volume,
        ),
        framework=motion.framework,
        duration=trajectory.duration,
        interval=trajectory.interval,
        diffusion=diffusion,
        source=files,
    )


def write(results: Conductivities, out: Path) -> None:
    """Write conductivity.json, msd.png and arrhenius.png.

    Raises:
        UserError: The folder cannot be written.
    """
    make_folder(out, 'Choose another folder with -o.')
    write_json(out / RESULT_FILE, as_dictionary(results), finite=True)
    if not results.temperatures:
        return
    pictures: list[tuple[Callable[[Conductivities, str], None], str]] = [
        (draw_msd, MSD_FILE),
        (draw_arrhenius, ARRHENIUS_FILE),
    ]
    for draw, name in pictures:
        draw(results, str(out / name))
