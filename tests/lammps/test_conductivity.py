"""`sevennet-mf conductivity --engine lammps`: short runs, resumed, and stopped."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import units
from helpers import save_checkpoint, structures, trained

from sevennet_mf import cli
from sevennet_mf.analysis.conductivity import diffusion, guard, md_lammps, simulate
from sevennet_mf.analysis.conductivity.command import simulations
from sevennet_mf.analysis.conductivity.md_lammps import Follower
from sevennet_mf.analysis.conductivity.options import ConductivityOptions
from sevennet_mf.lammps.dump import read_dump
from sevennet_mf.lammps.plugin_path import CACHE_VARIABLE

KELVIN = 60
WORDS = [
    *('--ion', 'Ga', '--charge', '3', '-f', 'pbe', '--timestep', '0.5', '-T'),
    *(str(KELVIN), '--engine', 'lammps', '--equilibration', '0', '--every', '0.5'),
]


@pytest.fixture(scope='module')
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A small model and a structure, with the first vector out of LAMMPS's frame."""
    folder = tmp_path_factory.mktemp('inputs')
    save_checkpoint(folder / 'model.pth', *trained())
    atoms = structures(1)[0]
    atoms.calc = None
    atoms.rotate(30, 'x', rotate_cell=True)
    ase.io.write(folder / 'cell.extxyz', atoms)
    return [str(folder / 'model.pth'), str(folder / 'cell.extxyz')]


@pytest.fixture(scope='module')
def deployed(inputs: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model for LAMMPS, made once as the command makes it."""
    out = tmp_path_factory.mktemp('deployed')
    options = ConductivityOptions(
        ion='Ga', fidelity='pbe', temperatures=[KELVIN], length=2.0
    )
    simulate._deploy(simulations(*inputs, out, options))
    return out / simulate.DEPLOYED_FILE


@pytest.fixture(autouse=True)
def _quick(
    lmp_env: dict[str, str], deployed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copied(what: simulate.Simulations) -> None:
        shutil.copy(deployed, what.out / simulate.DEPLOYED_FILE)

    monkeypatch.setattr(simulate, '_deploy', copied)
    monkeypatch.setenv(CACHE_VARIABLE, lmp_env[CACHE_VARIABLE])
    monkeypatch.setattr(diffusion, 'SAMPLES', 60)
    monkeypatch.setattr(diffusion, 'BURN', 20)


def run(inputs: list[str], out: Path, *words: str) -> int:
    return cli.main(['conductivity', *inputs, *WORDS, '-o', str(out), *words])


def test_a_run_in_lammps_is_resumed(inputs: list[str], tmp_path: Path) -> None:
    """From its last whole frame; the first frames are those of ASE."""
    assert run(inputs, tmp_path, '--length', '0.011') == cli.DONE
    path = tmp_path / f'{KELVIN}K' / md_lammps.TRAJECTORY_FILE
    before = read_dump(path)
    assert [dump.step for dump in before] == list(range(23))
    text = path.read_text()
    path.write_text(text[: text.rindex('ITEM: ATOMS') + 60])  # killed
    assert run(inputs, tmp_path, '--length', '0.014', '--resume') == cli.DONE
    after = read_dump(path)
    # frame 21 was written again, by the process that went on from it
    assert [dump.step for dump in after] == [*range(22), *range(21, 29)]
    for column in ('xu', 'vx'):
        np.testing.assert_allclose(
            after[22].values[column], after[21].values[column], atol=1e-9
        )
    content = json.loads((tmp_path / 'conductivity.json').read_text())
    (found,) = content['temperatures']
    assert found['analysed_ps'] == pytest.approx(0.014)
    assert found['is_diffusive'] is False


def test_it_starts_as_ase_does(inputs: list[str], tmp_path: Path) -> None:
    """With the same velocities and forces; the thermostats differ by chance."""
    for engine in ('ase', 'lammps'):
        words = ['--engine', engine, '--length', '0.011']
        assert run(inputs, tmp_path / engine, *words) == cli.DONE
    folder = f'{KELVIN}K'
    frames = ase.io.read(tmp_path / 'ase' / folder / 'trajectory.extxyz', ':3')
    dumps = read_dump(tmp_path / 'lammps' / folder / md_lammps.TRAJECTORY_FILE)
    velocity = dumps[0].columns('vx', 'vy', 'vz') / (1000 * units.fs)
    energy = 0.5 * (frames[0].get_masses()[:, None] * velocity**2).sum()
    assert energy / units.kB / (1.5 * 3) == pytest.approx(KELVIN, rel=1e-4)
    for k in (1, 2):
        moved = frames[k].positions - frames[0].positions
        other = dumps[k].columns('xu', 'yu', 'zu')
        other = other - dumps[0].columns('xu', 'yu', 'zu')
        # turned: lengths are the same
        np.testing.assert_allclose(
            np.linalg.norm(other, axis=1), np.linalg.norm(moved, axis=1), rtol=0.02
        )


def test_a_model_that_flies_apart_is_stopped(
    inputs: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen = []

    def close(atoms: object) -> str | None:
        seen.append(atoms)
        return 'too close' if len(seen) > 4 else None

    monkeypatch.setattr(guard, 'too_close', close)
    # longer than this test would wait
    assert run(inputs, tmp_path, '--length', '1000') == cli.FAILED
    said = ' '.join(capsys.readouterr().out.split())
    assert 'flew apart at step 4: too close; the last good frame, of step 3' in said
    kept = ase.io.read(tmp_path / f'{KELVIN}K' / guard.LAST_GOOD)
    assert kept.get_momenta().any()


def test_lammps_that_stops_is_told(
    inputs: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wrong = md_lammps.SCRIPT.replace('fix 1 all nve', 'fix 1 all nvee')
    monkeypatch.setattr(md_lammps, 'SCRIPT', wrong)
    assert run(inputs, tmp_path, '--length', '0.011') == cli.BAD_INPUT
    said = capsys.readouterr().err
    assert "stopped after step 0: ERROR: Unrecognized fix style 'nvee'" in said


FRAME = """\
ITEM: TIME
{0}
ITEM: TIMESTEP
{0}
ITEM: NUMBER OF ATOMS
1
ITEM: BOX BOUNDS pp pp pp
0 1
0 1
0 1
ITEM: ATOMS id xu
1 0.{0}
"""


def test_a_dump_is_followed_while_it_grows(tmp_path: Path) -> None:
    """However it is cut into pieces, each frame comes once, and whole."""
    text = 'ITEM: UNITS\nmetal\n' + ''.join(FRAME.format(k) for k in range(1, 5))
    path = tmp_path / 'dump'
    follower = Follower(path)
    assert follower.new(is_over=False) == []
    found = []
    for end in range(0, len(text) - 5, 7):
        path.write_text(text[:end])
        found += follower.new(is_over=False)
    assert [dump.step for dump in found] == [1, 2, 3]
    path.write_text(text[:-2])  # killed: the last line is not whole
    assert follower.new(is_over=True) == []
    follower.cut()
    assert path.read_text() == text[: text.rindex('ITEM: TIME\n')]
    path.write_text(text)
    (last,) = follower.new(is_over=True)
    assert last.values['xu'].tolist() == [0.4]
