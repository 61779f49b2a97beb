"""The same run in every form: dumps of LAMMPS, and files that ASE reads."""

from __future__ import annotations

import gzip
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms

from sevennet_mf.analysis.conductivity.read import Reading, read_trajectory
from sevennet_mf.errors import UserError

SYMBOLS = ('Li', 'S', 'P')
CELL = np.array([[8.0, 0, 0], [1.5, 7.5, 0], [-1.0, 0.5, 9.0]])
ORIGIN = np.array([0.5, -1.0, 2.0])
STRIDE = 50  # steps
STEP = 2.0  # fs
INTERVAL = STRIDE * STEP / 1000  # ps


def moves(n_frames: int = 12) -> np.ndarray:
    """Positions that leave the cell, unwrapped."""
    rng = np.random.default_rng(0)
    start = ORIGIN + rng.random((len(SYMBOLS), 3)) @ CELL
    drift = 0.8 * np.arange(n_frames)[:, None, None] * [1.0, 1.0, 1.0]
    return start + drift + 0.2 * rng.normal(size=(n_frames, len(SYMBOLS), 3))


TRUE = moves()
FRACTIONS = (TRUE - ORIGIN) @ np.linalg.inv(CELL)
IMAGES = np.floor(FRACTIONS)
INSIDE = ORIGIN + (FRACTIONS - IMAGES) @ CELL
COLUMNS = {
    'xu yu zu': TRUE,
    'xsu ysu zsu': FRACTIONS,
    'x y z ix iy iz': np.concatenate([INSIDE, IMAGES], axis=2),
    'xs ys zs ix iy iz': np.concatenate([FRACTIONS - IMAGES, IMAGES], axis=2),
    'x y z': INSIDE,
    'xs ys zs': FRACTIONS - IMAGES,
}


def box(form: str = 'tilted') -> str:
    """As LAMMPS writes it: bounds of the tilted box, or its vectors."""
    if form == 'general':
        rows = [[*vector, low] for vector, low in zip(CELL, ORIGIN, strict=True)]
        return 'abc origin pp pp pp\n' + ''.join(
            ' '.join(f'{x:.12g}' for x in row) + '\n' for row in rows
        )
    xy, xz, yz = CELL[1, 0], CELL[2, 0], CELL[2, 1]
    low, high = ORIGIN, ORIGIN + np.diag(CELL)
    rows = [
        [low[0] + min(0, xy, xz, xy + xz), high[0] + max(0, xy, xz, xy + xz), xy],
        [low[1] + min(0, yz), high[1] + max(0, yz), xz],
        [low[2], high[2], yz],
    ]
    return 'xy xz yz pp pp pp\n' + ''.join(
        ' '.join(f'{x:.12g}' for x in row) + '\n' for row in rows
    )


def frame(
    k: int,
    names: str = 'xu yu zu',
    form: str = 'tilted',
    extra: str = 'element',
    before: str = '',
) -> str:
    text = f'{before}ITEM: TIMESTEP\n{STRIDE * k}\nITEM: NUMBER OF ATOMS\n3\n'
    text += f'ITEM: BOX BOUNDS {box(form)}ITEM: ATOMS id {extra} {names}\n'
    values = COLUMNS[names][k]
    for i in (2, 0, 1):  # in no order, as LAMMPS leaves them
        own = SYMBOLS[i] if extra == 'element' else str(i + 1)
        text += f'{i + 1} {own} ' + ' '.join(f'{v:.12g}' for v in values[i]) + '\n'
    return text


def dump(path: Path, **options: str) -> str:
    path.write_text(''.join(frame(k, **options) for k in range(len(TRUE))))
    return str(path)


def refused(path: str, words: str, how: Reading | None = None) -> None:
    with pytest.raises(UserError, match=words):
        read_trajectory([path], how or Reading(timestep=STEP))


@pytest.mark.parametrize('names', COLUMNS)
def test_every_kind_of_positions(names: str, tmp_path: Path) -> None:
    found = read_trajectory(
        [dump(tmp_path / 'run.dump', names=names)], Reading(timestep=STEP)
    )
    assert found.symbols == SYMBOLS
    assert found.interval == pytest.approx(INTERVAL)
    np.testing.assert_allclose(found.cell, CELL, atol=1e-9)
    moved = found.positions - found.positions[0]  # wrapped, it begins in the cell
    np.testing.assert_allclose(moved, TRUE - TRUE[0], atol=1e-8)


def test_a_general_box_and_types(tmp_path: Path) -> None:
    path = dump(tmp_path / 'run.dump', form='general', extra='type')
    how = Reading(timestep=STEP, types=SYMBOLS)
    found = read_trajectory([path], how)
    np.testing.assert_allclose(found.positions, TRUE, atol=1e-8)
    assert found.symbols == SYMBOLS
    refused(path, r'give the elements of its 3 atom types in order, as in --types')
    two = Reading(types=SYMBOLS[:2])
    refused(path, 'atoms of type 3, and --types has only 2', two)


@pytest.mark.parametrize(('units', 'factor'), [('metal', 1.0), ('real', 1000.0)])
def test_times_in_a_dump_are_used(units: str, factor: float, tmp_path: Path) -> None:
    text = ''.join(
        frame(k, before=f'ITEM: TIME\n{factor * INTERVAL * k:.12g}\n')
        for k in range(len(TRUE))
    )
    path = tmp_path / 'run.dump.gz'
    with gzip.open(path, 'wt') as stream:
        stream.write(f'ITEM: UNITS\n{units}\n{text}')
    found = read_trajectory([str(path)], Reading())
    assert found.interval == pytest.approx(INTERVAL)


def test_lengths_in_other_units_are_refused(tmp_path: Path) -> None:
    """Bohr and reduced lengths are no Å, whatever the time step."""
    for units in ('electron', 'lj'):
        path = tmp_path / units
        text = ''.join(frame(k) for k in range(len(TRUE)))
        path.write_text(f'ITEM: UNITS\n{units}\n{text}')
        refused(str(path), f'of a run in units {units}: lengths must be in Å')


def test_a_time_that_the_file_contradicts(tmp_path: Path) -> None:
    text = ''.join(
        frame(k, before=f'ITEM: TIME\n{INTERVAL * k:.12g}\n')
        for k in range(len(TRUE))
    )
    path = tmp_path / 'run.dump'
    path.write_text(f'ITEM: UNITS\nmetal\n{text}')
    said = read_trajectory([str(path)], Reading(frame_time=1000 * INTERVAL))
    assert said.interval == pytest.approx(INTERVAL)
    words = '--frame_time 50 fs, but frames are 100 fs apart'
    refused(str(path), words, Reading(frame_time=500 * INTERVAL))
    # steps of a known length contradict it as well
    steps = dump(tmp_path / 'steps.dump')
    refused(steps, words, Reading(frame_time=500 * INTERVAL, timestep=STEP))


def test_parts_of_a_restarted_run(tmp_path: Path) -> None:
    """What came after the restart's frame is replaced; the last one is cut off."""
    one, two = tmp_path / 'one', tmp_path / 'two'
    one.write_text(''.join(frame(k) for k in range(5)))
    # other positions than after the restart, of a moment that was lost
    one.write_text(one.read_text() + frame(0).replace('STEP\n0\n', 'STEP\n250\n'))
    two.write_text(''.join(frame(k) for k in range(4, 12)) + frame(11)[:-9])
    found = read_trajectory([str(one), str(two)], Reading(timestep=STEP))
    np.testing.assert_allclose(found.positions, TRUE, atol=1e-8)
    with pytest.raises(UserError, match='Frames must be evenly spaced'):
        read_trajectory([str(two), str(one)], Reading(timestep=STEP))


def test_a_part_that_replaces_all_before_it_is_told(tmp_path: Path) -> None:
    """As after `reset_timestep 0`."""
    one = dump(tmp_path / 'one')
    words = 'two, step 0 starts .* the 12 frames before it are left out'
    with pytest.warns(UserWarning, match=words):
        read_trajectory(
            [str(one), str(dump(tmp_path / 'two'))], Reading(timestep=STEP)
        )


def test_what_a_dump_must_have(tmp_path: Path) -> None:
    path = dump(tmp_path / 'a')
    refused(path, r'time between steps is not in the file. .*--timestep', Reading())
    text = Path(path).read_text()
    for name, old, new, words in (
        ('id', 'ATOMS id', 'ATOMS number', 'has no column id'),
        ('element', ' element ', ' colour ', 'neither a column element nor'),
        ('positions', 'xu yu zu', 'fx fy fz', 'has no positions'),
        ('boundary', 'pp pp pp', 'pp pp ff', 'boundaries pp pp ff'),
        ('number', '1 Li', '1 Li x', 'the snapshot of step 0 cannot be read'),
    ):
        other = tmp_path / name
        other.write_text(text.replace(old, new))
        refused(str(other), words)


def test_frames_with_other_atoms_or_cells(tmp_path: Path) -> None:
    first, *_, last = (frame(k) for k in range(2))
    for name, old, new, words in (
        ('other', '1 Li', '1 Na', 'step 50 has other atoms than .*step 0: NaPS and'),
        ('ids', '\n3 P', '\n4 P', 'in another order'),
        ('cell', box().splitlines()[3], '2 12 0.5', r'step 50: the cell differs'),
    ):
        path = tmp_path / name
        path.write_text(first + last.replace(old, new))
        refused(str(path), words)


# ---- files of ASE


def frames_of_ase(positions: np.ndarray) -> list[Atoms]:
    return [Atoms(SYMBOLS, positions=p, cell=CELL, pbc=True) for p in positions]


@pytest.mark.parametrize('name', ['run.traj', 'run.extxyz', 'XDATCAR'])
def test_files_of_ase(name: str, tmp_path: Path) -> None:
    """Wrapped as VASP's are, or not; the time is the user's to say."""
    path = str(tmp_path / name)
    ase.io.write(path, frames_of_ase(INSIDE - ORIGIN if name == 'XDATCAR' else TRUE))
    found = read_trajectory([path], Reading(frame_time=1000 * INTERVAL))
    moved = found.positions - found.positions[0]
    np.testing.assert_allclose(moved, TRUE - TRUE[0], atol=1e-6)
    assert found.interval == pytest.approx(INTERVAL)
    refused(path, 'between frames is not in the file. .*--frame_time', Reading())


def test_a_crystal_is_needed(tmp_path: Path) -> None:
    path = str(tmp_path / 'slab.extxyz')
    frames = frames_of_ase(TRUE)
    for atoms in frames:
        atoms.pbc = (True, True, False)
    ase.io.write(path, frames)
    refused(path, 'not periodic along all three axes')


def test_one_frame_is_no_trajectory(tmp_path: Path) -> None:
    path = str(tmp_path / 'one.extxyz')
    ase.io.write(path, frames_of_ase(TRUE[:1]))
    refused(path, '1 frame; a trajectory has many')
