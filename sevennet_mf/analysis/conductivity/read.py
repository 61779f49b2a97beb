"""Trajectories of our runs and of other programs: LAMMPS dumps and ASE's files."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from sevennet_mf.analysis.conductivity.trajectory import (
    SAME,
    Trajectory,
    unwrapped,
)
from sevennet_mf.arrays import Floats
from sevennet_mf.data.reading.files import atoms_of
from sevennet_mf.errors import UserError
from sevennet_mf.lammps.dump import Dump, is_dump, snapshots

# in atoms.info, of the trajectories that this package writes
STEP_KEY: Final[str] = 'md_step'
TIME_KEY: Final[str] = 'md_time_ps'
# ps in the unit of time of those of LAMMPS's units that have lengths in Å
TIME_UNITS: Final[dict[str, float]] = {'metal': 1.0, 'real': 1e-3}
WRAPPED: Final = ('x', 'y', 'z')
UNWRAPPED: Final = ('xu', 'yu', 'zu')
IMAGES: Final = ('ix', 'iy', 'iz')


@dataclass(frozen=True)
class Reading:
    """What files may leave open.

    Attributes:
        frame_time: Time between frames in fs.
        timestep: Of a run in LAMMPS in fs, to turn its steps into times.
        types: Element of atom types 1, 2, ... of dumps without a column `element`.
    """

    frame_time: float | None = None
    timestep: float | None = None
    types: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class _Frame:
    """Positions (n_atoms, 3) in Å; `clock`, and what it counts: 'step' or 'ps'."""

    where: str
    symbols: tuple[str, ...]
    ids: tuple[int, ...]
    positions: Floats
    cell: Floats
    clock: float | None
    counts: str
    is_wrapped: bool


def read_trajectory(paths: Sequence[str], how: Reading) -> Trajectory:
    """Read the files of one run, in their order.

    What a run wrote before it was restarted from an earlier frame is left out.
    Positions become unwrapped: as xu yu zu, by image flags, or by the shortest step
    between frames.

    Args:
        paths: LAMMPS dumps in text, or files that ASE reads.
        how: What they leave open.

    Returns:
        The run; its frames are evenly spaced.

    Raises:
        UserError: A file or a frame cannot be used; the message names it.
    """
    frames: list[_Frame] = []
    for path in paths:
        found = _of_dump(path, how) if is_dump(path) else _of_ase(path)
        for frame in found:
            if frames:
                _check_same(frames[0], frame)
                _rewind(frames, frame)
            frames.append(frame)
    if len(frames) < 2:
        raise UserError(
            f'{", ".join(paths)}: {len(frames)} frame{"s" * (len(frames) != 1)}; a '
            'trajectory has many.'
        )
    positions = np.stack([frame.positions for frame in frames])
    if any(frame.is_wrapped for frame in frames):
        try:
            positions = unwrapped(positions, frames[0].cell)
        except UserError as error:
            raise error.within(paths[0]) from None
    return Trajectory(
        symbols=frames[0].symbols,
        positions=positions,
        cell=frames[0].cell,
        interval=_interval(frames, how),
    )


# ---- one file


def _of_ase(path: str) -> Iterator[_Frame]:
    for number, atoms in atoms_of(path):
        where = f'{path}:{number}'
        check_periodic(atoms, where)
        time = atoms.info.get(TIME_KEY)
        yield _Frame(
            where=where,
            symbols=tuple(atoms.symbols),
            ids=tuple(range(len(atoms))),
            positions=np.array(atoms.positions),
            cell=np.array(atoms.cell),
            clock=None if time is None else float(time),
            counts='ps',
            # of other programs it is unknown: steps tell
            is_wrapped=time is None,
        )


def check_periodic(atoms: Atoms, where: str) -> None:
    """Check that a structure has a density.

    Raises:
        UserError: It is not periodic along three axes.
    """
    if not atoms.pbc.all() or atoms.cell.rank < 3:
        raise UserError(
            f'{where} is not periodic along all three axes: a conductivity needs '
            'the density of ions in a bulk cell.'
        )


def _of_dump(path: str, how: Reading) -> Iterator[_Frame]:
    for dump in snapshots(path):
        where = f'{path}, step {dump.step}'
        if set(dump.boundary.split()) != {'pp'}:
            raise UserError(
                f'{where}: the box has boundaries {dump.boundary}; a conductivity '
                'needs a bulk cell, with pp pp pp.'
            )
        if dump.units and dump.units not in TIME_UNITS:
            raise UserError(
                f'{where} is of a run in units {dump.units}: lengths must be in Å, '
                f'as in units {" or ".join(TIME_UNITS)}. Convert the dump.'
            )
        positions, is_wrapped = _positions(dump, where)
        clock, counts = float(dump.step), 'step'
        if dump.time is not None and dump.units:
            clock, counts = dump.time * TIME_UNITS[dump.units], 'ps'
        yield _Frame(
            where=where,
            symbols=_symbols(dump, how.types, where),
            ids=tuple(dump.ids.tolist()),
            positions=positions,
            cell=dump.cell,
            clock=clock,
            counts=counts,
            is_wrapped=is_wrapped,
        )


def _positions(dump: Dump, where: str) -> tuple[Floats, bool]:
    """Positions in Å, and whether they may be wrapped."""
    have = dump.values.keys()
    for names, is_wrapped in ((UNWRAPPED, False), (WRAPPED, True)):
        scaled = tuple(f'{n[0]}s{n[1:]}' for n in names)
        if have >= set(names):
            found = dump.columns(*names)
        elif have >= set(scaled):
            found = dump.origin + dump.columns(*scaled) @ dump.cell
        else:
            continue
        if is_wrapped and have >= set(IMAGES):
            return found + dump.columns(*IMAGES) @ dump.cell, False
        return found, is_wrapped
    raise UserError(
        f'{where} has no positions: xu yu zu, or x y z, are needed as columns.'
    )


def _symbols(dump: Dump, types: Sequence[str], where: str) -> tuple[str, ...]:
    if 'element' in dump.words:
        return dump.words['element']
    if 'type' not in dump.values:
        raise UserError(f'{where} has neither a column element nor a column type.')
    numbers = dump.values['type'].astype(int)
    if not types:
        raise UserError(
            f'{where} has no column element: give the elements of its '
            f'{numbers.max()} atom types in order, as in --types Li P S Cl.'
        )
    if numbers.max() > len(types):
        raise UserError(
            f'{where} has atoms of type {numbers.max()}, and --types has only '
            f'{len(types)} elements: {", ".join(types)}.'
        )
    return tuple(types[number - 1] for number in numbers)


def check_types(types: Sequence[str]) -> None:
    """Check the elements of `--types`.

    Raises:
        UserError: One of them is none.
    """
    for name in types:
        if name not in chemical_symbols[1:]:
            raise UserError(f'--types: {name!r} is no chemical symbol.')


# ---- all frames


def _rewind(frames: list[_Frame], frame: _Frame) -> None:
    """Remove what a run wrote before it was restarted from this moment."""
    if frame.clock is None or frames[-1].clock is None:
        return
    for k in range(len(frames) - 1, -1, -1):
        clock = frames[k].clock
        if clock is None or clock < frame.clock:
            return  # also of a run that goes on: its last frame is earlier
        if clock == frame.clock:
            if k == 0 and len(frames) > 1:  # a clock that was set back, perhaps
                warnings.warn(
                    f'{frame.where} starts at the time of the first frame of all: '
                    f'the {len(frames)} frames before it are left out.',
                    UserWarning,
                    stacklevel=2,
                )
            del frames[k:]
            return


def _check_same(first: _Frame, frame: _Frame) -> None:
    """Refuse a frame with other atoms or another cell than the first."""
    if (frame.symbols, frame.ids) != (first.symbols, first.ids):
        raise UserError(
            f'{frame.where} has other atoms than {first.where}: '
            f'{Atoms(frame.symbols).get_chemical_formula()} and '
            f'{Atoms(first.symbols).get_chemical_formula()}, or in another order. '
            'All frames must have the same atoms in the same order.'
        )
    size = np.linalg.norm(first.cell, axis=1).max()
    change = float(np.abs(frame.cell - first.cell).max()) / size
    if change > SAME:
        raise UserError(
            f'{frame.where}: the cell differs from that of {first.where} by '
            f'{100 * change:.1f} %. Only runs at constant volume (NVT, NVE) can be '
            'used: the density must not change.'
        )


def _interval(frames: Sequence[_Frame], how: Reading) -> float:
    """Time between frames in ps."""
    named = None if how.frame_time is None else how.frame_time / 1000
    first = frames[0]
    if first.clock is None:
        return named or _ask(first, '--frame_time, in fs')
    clocks = np.array([float(f.clock or 0.0) for f in frames])
    steps = np.diff(clocks)
    median = float(np.median(steps))
    wrong = np.abs(steps - median) > SAME * abs(median)
    if median <= 0 or wrong.any():
        at = int(np.argmax(wrong)) if wrong.any() else 0
        raise UserError(
            f'{frames[at + 1].where}: {steps[at]:g} {_unit(first)} after the frame '
            f'before, and others are {median:g} apart. Frames must be evenly '
            'spaced; give the files of a run in their order.'
        )
    known = median if first.counts == 'ps' else None
    if known is None and how.timestep is not None:
        known = median * how.timestep / 1000
    if named is not None and known is not None:
        if abs(named - known) > SAME * known:
            raise UserError(
                f'{first.where}: --frame_time {how.frame_time:g} fs, but frames are '
                f'{1000 * known:g} fs apart, by their times or steps. Remove '
                '--frame_time.'
            )
        return known
    return named or known or _ask(first, '--timestep, in fs')


def _unit(frame: _Frame) -> str:
    return 'steps' if frame.counts == 'step' else 'ps'


def _ask(frame: _Frame, option: str) -> NoReturn:
    of = 'steps' if frame.counts == 'step' else 'frames'
    raise UserError(
        f'{frame.where}: the time between {of} is not in the file. Give it: '
        f'{option}.'
    )
