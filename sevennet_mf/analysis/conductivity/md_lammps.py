"""Molecular dynamics in LAMMPS with our pair style, watched from frame to frame."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ase import Atoms

from sevennet_mf.analysis.conductivity.guard import Guard
from sevennet_mf.analysis.conductivity.md import (
    COUPLING,
    Protocol,
    Told,
    fs,
    start,
)
from sevennet_mf.errors import UserError
from sevennet_mf.lammps.check import built_plugin, environment_for
from sevennet_mf.lammps.dump import Dump, parse
from sevennet_mf.lammps.process import (
    LOG_FILE,
    end,
    error_in,
    start_lammps,
    write_data,
)
from sevennet_mf.lammps.tools import find_lammps

TRAJECTORY_FILE: Final[str] = 'trajectory.lammpstrj'
DATA_FILE: Final[str] = 'data.lmp'
FRAME: Final[bytes] = b'ITEM: TIME\n'  # how each of ours begins
LOOK: Final[float] = 0.2  # s between looks at the trajectory
SCRIPT: Final[str] = """\
units metal
atom_style atomic
boundary p p p
read_data {data}
pair_style e3gnn
pair_coeff * * {model} {symbols}
reset_timestep {step} time {time}
timestep {timestep}
fix 1 all nve
fix 2 all temp/csvr {kelvin} {kelvin} {coupling} {seed}
thermo {stride}
thermo_style custom step time temp pe etotal
dump 1 all custom {stride} {trajectory} id element xu yu zu vx vy vz
dump_modify 1 element {symbols} sort id format float %.17g
dump_modify 1 time yes units yes append yes flush yes
run {steps}
"""


def run_lammps_md(
    atoms: Atoms, protocol: Protocol, deployed: Path, guard: Guard, told: Told
) -> None:
    """Simulate to the end, from the last whole frame if there is one.

    A resumed run goes on with the positions and velocities of that frame, and with
    other random numbers in the thermostat than an uninterrupted run.

    Args:
        atoms: The structure; LAMMPS turns it, a along x.
        protocol: What to simulate.
        deployed: A file of `sevennet-mf deploy`.
        guard: It knows the folder.
        told: Is told the steps that are done.

    Raises:
        FlewApart: The model did.
        UserError: LAMMPS or the pair styles are missing, or LAMMPS stops.
    """
    begun = start(atoms, protocol)
    follower = Follower(guard.folder / TRAJECTORY_FILE)
    frames = follower.new(is_over=True)
    follower.cut()
    step = 0
    for dump in frames[-1:]:
        begun, step = _atoms(begun, dump), dump.step
        guard.frame(begun, step)
    told(step)
    if step >= protocol.steps:
        return
    symbols = sorted(set(atoms.symbols))
    write_data(begun, guard.folder / DATA_FILE, symbols, velocities=True)
    script = _script(protocol, deployed, symbols, step, guard.folder)
    lammps, plugin = find_lammps(), built_plugin()
    environment = environment_for(lammps, plugin)
    with start_lammps(
        lammps, script, guard.folder, environment, quiet=True
    ) as process:
        try:
            step = _watch(process, follower, begun, guard, told)
        finally:
            if process.poll() is None:
                end(process)
    if process.returncode or step < protocol.steps:
        _explain(process.returncode, step, guard)


def _script(
    protocol: Protocol,
    deployed: Path,
    symbols: Sequence[str],
    step: int,
    folder: Path,
) -> str:
    return SCRIPT.format(
        data=DATA_FILE,
        model=os.path.relpath(deployed, folder),
        symbols=' '.join(symbols),
        step=step,
        time=protocol.time(step),
        timestep=protocol.timestep / 1000,
        kelvin=protocol.temperature,
        coupling=COUPLING / 1000,
        # any positive number; the same would repeat the first random numbers
        seed=1 + (protocol.seed * 7919 + step) % 900_000_000,
        stride=protocol.stride,
        trajectory=TRAJECTORY_FILE,
        steps=protocol.steps - step,
    )


def _watch(
    process: subprocess.Popen[str],
    follower: Follower,
    begun: Atoms,
    guard: Guard,
    told: Told,
) -> int:
    """Check each new frame until LAMMPS ends; return the last step."""
    last, is_over = 0, False
    while not is_over:
        is_over = process.poll() is not None
        for dump in follower.new(is_over):
            guard.frame(_atoms(begun, dump), dump.step)
            last = dump.step
            told(last)
        if not is_over:
            time.sleep(LOOK)
    return last


def _explain(code: int, step: int, guard: Guard) -> None:
    log = guard.folder / LOG_FILE
    text = log.read_text(encoding='utf-8') if log.is_file() else ''
    reason = error_in(text) or f'it ended with exit code {code}'
    if 'not a number' in reason or 'Lost atoms' in reason:
        raise guard.apart(step, reason)
    raise UserError(f'LAMMPS stopped after step {step}: {reason} (see {log}).')


def _atoms(begun: Atoms, dump: Dump) -> Atoms:
    """A frame with velocities, in the frame of LAMMPS."""
    atoms = Atoms(
        dump.words['element'],
        positions=dump.columns('xu', 'yu', 'zu'),
        cell=dump.cell,
        pbc=begun.pbc,
    )
    atoms.set_velocities(dump.columns('vx', 'vy', 'vz') / fs(1000))
    return atoms


class Follower:
    """Reads a dump while LAMMPS writes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0  # of what was read

    def new(self, is_over: bool) -> list[Dump]:
        """Return the whole frames that were added since the last call.

        Args:
            is_over: Nothing will be added: the last frame is whole, or never will
                be.
        """
        if not self.path.is_file():
            return []
        with self.path.open('rb') as stream:
            stream.seek(self.offset)
            content = stream.read()
        # the last one may be incomplete even if it can be read
        begin = max(0, content.rfind(FRAME))
        if not is_over or not _is_whole(content[begin:].splitlines(True)):
            content = content[:begin]
        self.offset += len(content)
        lines = content.decode('utf-8').splitlines(True)
        return list(parse(iter(lines), str(self.path)))

    def cut(self) -> None:
        """Remove what follows the whole frames: a part of one."""
        if self.path.is_file():
            os.truncate(self.path, self.offset)


def _is_whole(lines: Sequence[bytes]) -> bool:
    """Whether the lines of a frame are all that it has."""
    heads = [k for k, line in enumerate(lines) if line.startswith(b'ITEM: ')]
    if not heads or not lines[heads[-1]].startswith(b'ITEM: ATOMS'):
        return False
    numbers = [k for k in heads if lines[k].startswith(b'ITEM: NUMBER OF ATOMS')]
    count = int(lines[numbers[-1] + 1])
    return len(lines) - heads[-1] - 1 == count and lines[-1].endswith(b'\n')
