"""Molecular dynamics in ASE, resumed bit for bit."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from ase.constraints import FixCom
from ase.md.bussi import Bussi

from sevennet_mf.analysis.conductivity.guard import Guard
from sevennet_mf.analysis.conductivity.md import (
    COUPLING,
    Protocol,
    Told,
    fs,
    start,
)
from sevennet_mf.analysis.conductivity.read import STEP_KEY, TIME_KEY
from sevennet_mf.data.extxyz import whole_frames, write_one
from sevennet_mf.errors import UserError
from sevennet_mf.files import unwritable, write_whole

TRAJECTORY_FILE: Final[str] = 'trajectory.extxyz'
STATE_FILE: Final[str] = 'state.npz'


@dataclass(frozen=True, eq=False)
class _State:
    """All that the next step depends on."""

    step: int
    atoms: Atoms
    generator: np.random.Generator
    first_energy: float | None = None


def run_ase(
    atoms: Atoms,
    protocol: Protocol,
    calculator: BaseCalculator,
    guard: Guard,
    told: Told,
) -> None:
    """Simulate to the end, from the state in the folder of `guard` if there is one.

    The state is kept with each frame. A resumed run takes the same steps, to the
    last bit, as one that was not interrupted, if the same machine computes the same
    forces again.

    Raises:
        FlewApart: The model did.
        UserError: A file cannot be written.
    """
    folder = guard.folder
    state = _read_state(folder, atoms, protocol)
    now = state.atoms
    now.calc = calculator
    guard.first_energy = state.first_energy
    _cut(folder / TRAJECTORY_FILE, state.step)
    step = state.step
    dynamics = _dynamics(now, protocol, state.generator)
    guard.forces(now, step)
    guard.frame(now, step)
    if step == 0:
        _keep(folder, guard, protocol, state)
    told(step)
    while step < protocol.steps:
        for _ in range(protocol.stride):
            step += 1
            try:
                dynamics.run(1)
            except UserError as error:  # of the calculator: nothing finite
                raise guard.apart(step, str(error).rstrip('.')) from None
            guard.forces(now, step)
        guard.frame(now, step)
        _keep(folder, guard, protocol, _State(step, now, state.generator))
        told(step)


def _dynamics(
    atoms: Atoms, protocol: Protocol, generator: np.random.Generator
) -> Bussi:
    # without it rounding makes the whole cell drift; the thermostat's degrees of
    # freedom are those of atoms relative to their centre
    atoms.set_constraint(FixCom())
    return Bussi(
        atoms,
        fs(protocol.timestep),
        temperature_K=protocol.temperature,
        taut=fs(COUPLING),
        rng=generator,
    )


# ---- files


def _keep(folder: Path, guard: Guard, protocol: Protocol, state: _State) -> None:
    """Append a frame, then write the state that goes on from it."""
    frame = Atoms(
        state.atoms.symbols,
        positions=state.atoms.positions,
        cell=state.atoms.cell,
        pbc=state.atoms.pbc,
        info={
            STEP_KEY: state.step,
            TIME_KEY: protocol.time(state.step),
            'temperature': state.atoms.get_temperature(),
        },
    )
    path = folder / TRAJECTORY_FILE
    try:
        with path.open('a', encoding='utf-8') as stream:
            write_one(stream, frame)
    except OSError as error:
        raise unwritable(path, error) from None
    arrays: dict[str, Any] = {
        'step': state.step,
        'positions': state.atoms.positions,
        'momenta': state.atoms.get_momenta(),
        'generator': json.dumps(state.generator.bit_generator.state),
        'first_energy': guard.first_energy,
    }
    content = io.BytesIO()
    np.savez(content, **arrays)
    write_whole(folder / STATE_FILE, _writes(content.getvalue()))


def _writes(content: bytes) -> Callable[[Any], object]:
    return lambda stream: stream.write(content)


def _read_state(folder: Path, atoms: Atoms, protocol: Protocol) -> _State:
    path = folder / STATE_FILE
    generator = np.random.default_rng([protocol.seed, 1])
    begun = start(atoms, protocol)
    if not path.is_file():
        return _State(0, begun, generator)
    try:
        with np.load(path, allow_pickle=False) as kept:
            begun.positions = kept['positions']
            begun.set_momenta(kept['momenta'])
            generator.bit_generator.state = json.loads(str(kept['generator']))
            energy = float(kept['first_energy'])
            return _State(int(kept['step']), begun, generator, energy)
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise UserError(
            f'{path} cannot be read: {error}. Delete its folder to begin anew.'
        ) from None


def _cut(path: Path, step: int) -> None:
    """Remove frames from `step` on that the state does not know of.

    A frame is written before the state: one may be there already, or a part of it.
    """
    if not path.is_file():
        return
    with path.open('r+b') as stream:
        end = 0
        with suppress(ValueError):  # what a crash left is no frame
            for comment, _, after in whole_frames(stream):
                found = comment.partition(f'{STEP_KEY}='.encode())[2].split()
                if not found or int(found[0]) > step or step == 0:
                    break
                end = after
        stream.truncate(end)
