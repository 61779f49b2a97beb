"""Simulations in ASE: temperature, resuming, and a model that flies apart."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.lj import LennardJones

from sevennet_mf.analysis.conductivity import md_ase
from sevennet_mf.analysis.conductivity.guard import LAST_GOOD, FlewApart, Guard
from sevennet_mf.analysis.conductivity.md import (
    SETTINGS_FILE,
    Model,
    Protocol,
    prepare_folder,
    start,
)
from sevennet_mf.analysis.conductivity.md_ase import run_ase
from sevennet_mf.analysis.conductivity.read import Reading, read_trajectory
from sevennet_mf.errors import UserError

PROTOCOL = Protocol(
    temperature=80.0,
    length=0.3,
    equilibration=0.1,
    timestep=5.0,
    every=20.0,
    seed=1,
    engine='ase',
)
STEPS = 80


def argon() -> Atoms:
    return bulk('Ar', cubic=True, a=5.4).repeat((2, 2, 1))


class Argon(LennardJones):
    """Forces that depend on positions alone, and become absurd at some step."""

    def __init__(self, good: int = 10**6, force: float = 0.0) -> None:
        super().__init__(sigma=3.4, epsilon=0.0104, rc=5.2, smooth=True)
        self.left, self.force = good, force

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Any = ('energy',),
        system_changes: Any = all_changes,
    ) -> None:
        self.nl = None  # its order of pairs is that of an earlier step
        super().calculate(atoms, properties, system_changes)
        self.left -= 1
        if self.left < 0:
            self.results['forces'][0] += self.force


def simulate(
    folder: Path,
    calculator: Calculator | None = None,
    until: int = STEPS,
    protocol: Protocol = PROTOCOL,
) -> list[int]:
    """Run, or go on, and stop after a frame; return the steps of frames."""
    folder.mkdir(exist_ok=True)
    told: list[int] = []

    def tell(step: int) -> None:
        told.append(step)
        if step >= until:
            raise KeyboardInterrupt

    guard = Guard(folder, protocol.temperature, 'a model')
    try:
        run_ase(argon(), protocol, calculator or Argon(), guard, tell)
    except KeyboardInterrupt:
        assert until < STEPS or told[-1] == STEPS
    return told


@pytest.fixture(scope='module')
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulation without an interruption."""
    folder = tmp_path_factory.mktemp('whole')
    assert simulate(folder) == list(range(0, STEPS + 1, 4))
    return folder


def test_frames_are_read_back(whole: Path) -> None:
    path = str(whole / md_ase.TRAJECTORY_FILE)
    found = read_trajectory([path], Reading())
    assert found.interval == pytest.approx(0.02)
    assert len(found.positions) == 21
    frames = ase.io.read(path, ':')
    np.testing.assert_allclose(frames[0].positions, argon().positions, atol=1e-7)
    assert frames[3].info['md_step'] == 12
    assert frames[3].info['md_time_ps'] == pytest.approx(0.06)
    # the centre of mass stays
    centres = np.array([atoms.get_center_of_mass() for atoms in frames])
    np.testing.assert_allclose(centres, centres[:1].repeat(21, axis=0), atol=1e-6)


@pytest.mark.parametrize('until', [0, 32])
def test_a_run_is_resumed_bit_for_bit(
    until: int, whole: Path, tmp_path: Path
) -> None:
    """Killed while the next frame was written, and while it was there already."""
    folder = tmp_path / 'run'
    simulate(folder, until=until)
    trajectory = folder / md_ase.TRAJECTORY_FILE
    later = (whole / md_ase.TRAJECTORY_FILE).read_text().splitlines(keepends=True)
    size = len(later) // 21
    at = (until // 4 + 1) * size
    with trajectory.open('a') as stream:
        stream.write(''.join(later[at : at + size]) + '16\nLattice')
    assert simulate(folder)[0] == until
    for name in (md_ase.TRAJECTORY_FILE, md_ase.STATE_FILE):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name


def test_a_longer_run_goes_on(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / 'run'
    shutil.copytree(whole, folder)
    longer = replace(PROTOCOL, length=0.4)
    assert simulate(folder, until=10**6, protocol=longer) == list(range(80, 101, 4))


def test_velocities_have_the_temperature() -> None:
    atoms = start(argon(), PROTOCOL)
    # of 3N - 3 degrees of freedom
    energy = atoms.get_kinetic_energy() / (1.5 * (len(atoms) - 1))
    assert energy / 8.617333e-5 == pytest.approx(80, rel=1e-5)
    np.testing.assert_allclose(atoms.get_momenta().sum(axis=0), 0, atol=1e-9)
    other = start(argon(), replace(PROTOCOL, seed=2))
    assert abs(atoms.get_momenta() - other.get_momenta()).max() > 0.1


@pytest.mark.parametrize(
    ('force', 'reason'),
    [(np.nan, 'a force is nan'), (1e4, r'a force is 1.\d+e\+04')],
)
def test_a_model_that_flies_apart(
    force: float, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(FlewApart, match=f'flew apart at step 21: {reason}.*step 20'):
        simulate(tmp_path / 'run', Argon(21, force))
    kept = ase.io.read(tmp_path / 'run' / LAST_GOOD)
    assert kept.info['md_step'] == 20
    assert kept.get_momenta().any()


def test_every_check_of_a_frame(tmp_path: Path) -> None:
    guard = Guard(tmp_path, 300.0, 'a model')
    good = start(argon(), replace(PROTOCOL, temperature=300.0))
    guard.frame(good, 4)
    for words, change in (
        ('positions are not finite', {'positions': np.nan * good.positions}),
        (r'the temperature is 2.81e\+04', {'momenta': 10 * good.get_momenta()}),
        (r'atoms 0 \(Ar\) and \d+ \(Ar\) are 0.00 Å apart', {
            'positions': np.where(np.arange(16)[:, None] < 2, 0, good.positions)
        }),
    ):
        bad = good.copy()
        for name, value in change.items():
            bad.set_array(name, value)
        with pytest.raises(FlewApart, match=words):
            guard.frame(bad, 8)


MODEL = Model('a.pth', None, 'cpu', 'digest')


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'timestep': 1.0}, 'begun with timestep 5.0, now it is 1.0'),
        ({'seed': 2}, 'begun with seed 1, now it is 2'),
        ({'sha256': 'other'}, 'begun with another checkpoint'),
        ({'scaled': 1.01}, 'begun with another structure'),
    ],
)
def test_another_run_is_not_resumed(
    change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    trajectory = tmp_path / 'run' / md_ase.TRAJECTORY_FILE
    for _ in range(2):  # nothing was simulated
        prepare_folder(trajectory, argon(), PROTOCOL, MODEL, resume=False)
    # a state alone would go on from the middle, without the frames before it
    for name in (md_ase.STATE_FILE, 'trajectory.lammpstrj', trajectory.name):
        (trajectory.parent / name).touch()
        with pytest.raises(UserError, match='a run already: --resume continues it'):
            prepare_folder(trajectory, argon(), PROTOCOL, MODEL, resume=False)
        if name != trajectory.name:
            (trajectory.parent / name).unlink()
    trajectory.touch()
    # longer, and the checkpoint moved
    longer = replace(PROTOCOL, length=9.0)
    moved = replace(MODEL, checkpoint='elsewhere/a.pth')
    prepare_folder(trajectory, argon(), longer, moved, resume=True)
    atoms, protocol, model = argon(), PROTOCOL, MODEL
    if 'scaled' in change:
        atoms.set_cell(change['scaled'] * atoms.cell, scale_atoms=True)
    elif 'sha256' in change:
        model = replace(MODEL, **change)
    else:
        protocol = replace(PROTOCOL, **change)
    with pytest.raises(UserError, match=words):
        prepare_folder(trajectory, atoms, protocol, model, resume=True)
    (trajectory.parent / SETTINGS_FILE).unlink()
    with pytest.raises(UserError, match='cannot be resumed: .*run.json is missing'):
        prepare_folder(trajectory, argon(), PROTOCOL, MODEL, resume=True)
