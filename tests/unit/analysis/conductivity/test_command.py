"""The whole command: trajectories of random walks, short simulations, bad input."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.constraints import FixAtoms
from helpers import save_checkpoint, structures, trained
from matplotlib.figure import Figure

from sevennet_mf import cli
from sevennet_mf.analysis.conductivity import command as conductivity_command
from sevennet_mf.analysis.conductivity import diffusion, report, simulate
from sevennet_mf.analysis.conductivity.arrhenius import Arrhenius, Carriers
from sevennet_mf.analysis.conductivity.options import ConductivityOptions
from sevennet_mf.analysis.conductivity.report import AtTemperature, Conductivities

ENERGY, D0 = 0.2, 15.0  # eV; Å^2/ps
TEMPERATURES = (800, 1000, 1200)
FRAME = 100.0  # fs
SIDE = 12.0  # Å


def true(temperature: float) -> float:
    """D in Å^2/ps."""
    return D0 * float(np.exp(-ENERGY / (units.kB * temperature)))


def conductivity(temperature: float, n_ions: int) -> float:
    """In mS/cm, by hand."""
    d = true(temperature) * 1e-8  # m^2/s
    density = n_ions / (SIDE * 1e-10) ** 3
    kT = 1.380649e-23 * temperature
    return 10 * density * (1.602176634e-19) ** 2 * d / kT


N_IONS = 40


def write_walk(path: Path, temperature: float, n_frames: int = 160) -> str:
    """Ions that walk at random in a framework that drifts and vibrates."""
    rng = np.random.default_rng(int(temperature))
    step = np.sqrt(2 * true(temperature) * FRAME / 1000)
    ions = (step * rng.normal(size=(n_frames, N_IONS, 3))).cumsum(axis=0)
    ions += SIDE * rng.random((N_IONS, 3))
    rest = np.broadcast_to(SIDE * rng.random((8, 3)), (n_frames, 8, 3))
    drift = 0.02 * np.arange(n_frames)[:, None, None]
    positions = np.concatenate([ions, rest], axis=1) + drift
    positions += 0.1 * rng.normal(size=positions.shape)
    symbols = ['Na'] * N_IONS + ['S'] * 8
    cell = SIDE * np.eye(3)
    frames = [Atoms(symbols, positions=p, cell=cell, pbc=True) for p in positions]
    for atoms in frames:
        atoms.wrap()
    ase.io.write(path, frames)
    return str(path)


@pytest.fixture(scope='module')
def walks(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Words for --read."""
    folder = tmp_path_factory.mktemp('walks')
    return [
        f'{t}={write_walk(folder / f"{t}.extxyz", t)}' for t in TEMPERATURES
    ]


def command(*words: object) -> int:
    return cli.main(['conductivity', *map(str, words)])


def within(estimate: dict[str, Any], value: float) -> bool:
    low, high = estimate['within_95']
    return bool(low < value < high)


def test_conductivities_of_random_walks(
    walks: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    drawn: list[Figure],
) -> None:
    """From wrapped positions that drift to the activation energy."""
    out = tmp_path / 'out'
    words = ['--ion', 'Na', '--frame_time', FRAME, '-o', out]
    assert command('--read', *walks, *words) == cli.DONE
    content = json.loads((out / 'conductivity.json').read_text())
    for found, t in zip(content['temperatures'], TEMPERATURES, strict=True):
        assert found['temperature_K'] == t
        assert (found['ions'], found['charge_e']) == (N_IONS, 1)
        assert found['volume_A3'] == pytest.approx(SIDE**3)
        assert found['is_diffusive'], found['why_not']
        assert found['displacements_relative_to'].endswith('the framework (S)')
        wanted = conductivity(t, N_IONS)
        assert within(found['conductivity_mS_per_cm'], wanted)
        assert within(found['diffusion_cm2_per_s'], 1e-4 * true(t))
        in_si, in_ms = (
            found[f'conductivity_{unit}']['median']
            for unit in ('S_per_m', 'mS_per_cm')
        )
        assert in_ms == pytest.approx(10 * in_si)
    line = content['arrhenius']
    assert within(line['activation_energy_eV'], ENERGY)
    assert line['at_K'] == 300
    assert line['is_extrapolation'] is True
    assert line['density_of_K'] == 800
    assert within(line['conductivity_mS_per_cm'], conductivity(300, N_IONS))
    said = ' '.join(capsys.readouterr().out.split())
    assert 'Activation energy 0.' in said
    assert '300 K, EXTRAPOLATED, not simulated (800 to 1200 K)' in said
    assert 'with the density at' not in said  # which is the same everywhere
    assert 'Haven ratio assumed to be 1' in said
    msd, arrhenius = drawn
    assert [a.get_title(loc='left').split(',')[0] for a in msd.axes] == [
        f'{t} K' for t in TEMPERATURES
    ]
    (axes,) = arrhenius.axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert '300 K, extrapolated' in labels
    assert {p.name for p in out.iterdir()} == {
        *('conductivity.json', 'msd.png', 'arrhenius.png')
    }


def test_what_does_not_diffuse_has_no_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cold = f'200={write_walk(tmp_path / "cold.extxyz", 200)}'
    words = ['--read', cold, '--frame_time', FRAME, '--ion', 'Na', '-o', tmp_path]
    assert command(*words) == cli.DONE
    content = json.loads((tmp_path / 'conductivity.json').read_text())
    (found,) = content['temperatures']
    assert found['is_diffusive'] is False
    assert found['conductivity_S_per_m'] is None
    assert found['diffusion_cm2_per_s'] is None
    assert 'exponent of the MSD' in found['why_not']
    assert content['arrhenius'] is None
    said = ' '.join(capsys.readouterr().out.split())
    assert 'not diffusive' in said
    assert '200 K: no conductivity; not yet diffusive' in said
    assert 'No Arrhenius line' in said


# ---- simulations


@pytest.fixture(scope='module')
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of two fidelities, and a structure, with nothing else in it."""
    folder = tmp_path_factory.mktemp('inputs')
    save_checkpoint(folder / 'model.pth', *trained())
    atoms = structures(1)[0]
    atoms.calc = None
    ase.io.write(folder / 'cell.extxyz', atoms)
    return folder


SHORT = [
    *('--ion', 'Ga', '--charge', '3', '-f', 'pbe', '--timestep', '0.5'),
    *('--every', '0.5', '--equilibration', '0.001', '--length', '0.011'),
]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few samples, where nothing depends on their number."""
    monkeypatch.setattr(diffusion, 'SAMPLES', 60)
    monkeypatch.setattr(diffusion, 'BURN', 20)


@pytest.mark.usefixtures('few')
def test_a_short_simulation(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped by Ctrl-C and resumed, it is that of one go, and says it is short."""
    model, cell = inputs / 'model.pth', inputs / 'cell.extxyz'
    words = [model, cell, *SHORT, '-T', 50]
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    assert command(*words, '-o', whole) == cli.DONE
    said = ' '.join(capsys.readouterr().out.split())
    assert said.count('50 K: no conductivity;') == 1

    told = simulate.Progress.told

    def interrupted(self: simulate.Progress, step: int) -> None:
        if step == 16:
            self.stop.name = 'SIGINT'
        told(self, step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulate.Progress, 'told', interrupted)
        assert command(*words, '-o', parts) == cli.FAILED
    said = ' '.join(capsys.readouterr().err.split())
    assert 'stopped by SIGINT at 50 K after 0.008 ps; the same command with' in said
    assert command(*words, '-o', parts) == cli.BAD_INPUT
    assert '--resume continues it' in capsys.readouterr().err
    assert command(*words, '-o', parts, '--resume') == cli.DONE
    for name in ('50K/trajectory.extxyz', 'msd.png'):
        assert (parts / name).read_bytes() == (whole / name).read_bytes(), name
    progress = json.loads((parts / '50K/progress.json').read_text())
    assert progress['step'] == progress['steps'] == 24
    assert progress['ps'] == 0.012
    assert progress['seconds_left'] == 0.0


# stands for the command of one temperature: it begins, and ends in two ways
STAND_IN = """
import ctypes, json, os, pathlib, sys
signal = ctypes.c_int()
ctypes.CDLL(None).prctl(2, ctypes.byref(signal))
assert signal.value == 15  # of the end of its parent
words = sys.argv[1:]
out = pathlib.Path(words[words.index('-o') + 1])
kelvin = float(words[words.index('--temperatures') + 1])
assert '--only_run' in words and '--resume' in words
folder = out / f'{kelvin:g}K'
(folder / 'words.json').write_text(json.dumps(words))
(folder / 'threads').write_text(os.environ['OMP_NUM_THREADS'])
(folder / 'progress.json').write_text('{"step": 24}')
if kelvin == 100:
    failed = {'kind': 'FlewApart', 'message': 'it flew apart'}
    path = pathlib.Path(words[words.index('--failure') + 1])
    path.write_text(json.dumps(failed))
    sys.exit(2)
"""


@pytest.mark.usefixtures('few')
def test_temperatures_in_processes(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is the command itself, with one temperature; failures are told."""
    monkeypatch.setattr(simulate, 'COMMAND', (sys.executable, '-c', STAND_IN))
    monkeypatch.setattr(simulate, 'LOOK', 0.05)
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: range(7))
    found: dict[float, str] = {}
    real = simulate.simulate

    def kept(*args: Any) -> dict[float, str]:
        found.update(real(*args))
        return {50.0: 'not read', 100.0: 'not read'}

    monkeypatch.setattr(conductivity_command, 'simulate', kept)
    words = [inputs / 'model.pth', inputs / 'cell.extxyz', *SHORT]
    words += ['-T', 50, 100, '-o', tmp_path]
    assert command(*words, '--parallel', 2) == cli.FAILED
    assert found == {100.0: 'it flew apart'}
    assert (tmp_path / '50K' / 'threads').read_text() == '3'  # of 7 cores
    # what the process of a temperature is told is all of it
    own = json.loads((tmp_path / '50K' / 'words.json').read_text())
    assert cli.main(['conductivity', *own[: own.index('--failure')]]) == cli.DONE
    assert (tmp_path / '50K' / 'trajectory.extxyz').is_file()
    wanted = vars(cli.make_parser().parse_args(['conductivity', *map(str, words)]))
    given = vars(cli.make_parser().parse_args(['conductivity', *own]))
    differ = {name for name in wanted if wanted[name] != given[name]}
    assert differ == {'temperatures', 'only_run', 'resume', 'failure'}


def test_a_model_that_flies_apart_is_told(
    inputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The other temperature goes on."""
    from sevennet_mf.analysis.conductivity import guard

    monkeypatch.setattr(guard, 'HOTTEST', 0.0)
    monkeypatch.setattr(guard, 'HOTTER', 110.0)  # K
    words = [inputs / 'model.pth', inputs / 'cell.extxyz', *SHORT]
    assert command(*words, '-T', 900, 10, '-o', tmp_path) == cli.FAILED
    content = json.loads((tmp_path / 'conductivity.json').read_text())
    assert [t['temperature_K'] for t in content['temperatures']] == [10]
    (failed,) = content['failed']
    assert failed['temperature_K'] == 900
    assert 'model.pth (pbe) at 900 K flew apart at step 0' in failed['reason']
    said = ' '.join(capsys.readouterr().out.split())
    assert '900 K: ' in said
    assert 'the temperature is 900 K; no frame was good' in said


# ---- what is told


def test_the_density_on_the_line_is_told_where_temperatures_differ() -> None:
    at = [
        AtTemperature(
            temperature,
            Carriers('Li', 1.0, 24, volume),
            framework='x',
            duration=1.0,
            interval=0.1,
            diffusion=SimpleNamespace(samples=None),  # type: ignore[arg-type]
            source=[],
        )
        for temperature, volume in ((800.0, 1000.0), (1000.0, 1020.0))
    ]
    energies = np.full(9, 0.2)
    line = Arrhenius(np.array([800.0, 1000.0]), energies, np.full(9, -6.0), None)
    results = Conductivities('', at, {}, line, 300.0)
    wanted = at[0].carriers.conductivity(line.diffusion(300.0), 300.0)
    np.testing.assert_array_equal(results.at_target, wanted)
    said = report._line_words(results)
    assert said[1].endswith('), with the density at 800 K.')
    same = replace(results, temperatures=[at[0], replace(at[0], temperature=1e3)])
    assert 'density' not in report._line_words(same)[1]


def test_a_time_between_frames_that_is_rounded_is_told(
    inputs: Path, tmp_path: Path
) -> None:
    options = ConductivityOptions(
        'Ga', temperatures=(800.0, 900.0), length=10.0, every=51.0, fidelity='pbe'
    )
    words = r'--every 51 fs is no whole number of steps of 2 fs: frames are 52 fs'
    files = [str(inputs / name) for name in ('model.pth', 'cell.extxyz')]
    with pytest.warns(UserWarning, match=words) as said:
        conductivity_command.simulations(*files, tmp_path, options)
    assert len(said) == 1
    exact = replace(options, every=0.3, timestep=0.1)  # but for rounding in floats
    conductivity_command.simulations(*files, tmp_path, exact)


# ---- bad input: one line each


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--ion', 'Li'], 'there is no Li in the structure, which consists of Ga'),
        (['--ion', 'Lithium'], "be a chemical symbol such as Li, got 'Lithium'"),
        (['--charge', '0'], '--charge must be a number other than 0, got 0'),
        (['-T'], '--temperatures is missing'),
        (['-T', '800', '800'], '--temperatures has one twice: 800, 800'),
        (['-T', '-5'], '--temperatures must be above 0 K, got -5'),
        (['--length'], '--length is missing: how long to simulate'),
        (['--length', '0.005'], '--length 0.005 ps has 10 frames, one every 0.5'),
        (['--every', '0.1'], '--every 0.1 fs is less than a step: --timestep 0.5'),
        (['--every', '0.75'], 'has 11 frames, one every 1 fs, and at least 20 are'),
        (['--timestep'], '--every 0.5 fs is less than a step: --timestep 2 fs.'),
        (['--equilibration', '-1'], '--equilibration must be 0 ps or more, got -1'),
        (['--parallel', '0'], '--parallel must be 1 or more, got 0'),
        (['--seed', '-1'], '--seed must be 0 or more, got -1'),
        (['--engine', 'lamps'], "got 'lamps'. Did you mean 'lammps'?"),
        (['--engine', 'lammps', '--device', 'cpu'], '--device cpu is for --engine'),
        (['--read', '800=x'], '--read analyses trajectories and simulates nothing'),
        (['-f', 'pbesol'], "--fidelity must be one of ['pbe', 'r2scan'], got 'pbes"),
        (['-f'], 'model.pth has the fidelities'),
        (['-f'], 'select one with -f, such as -f r2scan.'),
        (['--types', 'Ga'], '--types is for trajectories that are read with --read'),
        (['--frame_time', '9'], '--frame_time is for trajectories that are read'),
    ],
)
def test_wrong_options(
    words: list[str],
    message: str,
    inputs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = dict(zip(SHORT[::2], SHORT[1::2], strict=True)) | {'-T': '100'}
    name, *values = words
    given.pop(name, None)
    line = [word for pair in given.items() for word in pair]
    line += [name, *values] if values else []
    files = [inputs / 'model.pth', inputs / 'cell.extxyz']
    assert command(*files, *line, '-o', tmp_path / 'out') == cli.BAD_INPUT
    said = ' '.join(capsys.readouterr().err.split())
    assert said.startswith('sevennet-mf: ')
    assert message in said
    assert not (tmp_path / 'out' / 'conductivity.json').exists()


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--ion', 'Na'], 'give a checkpoint and a structure to simulate, or'),
        (['--ion', 'Na', '--read', 'x.dump'], 'the temperature in K is missing.'),
        (['--ion', 'Na', '--read', '9=no.dump'], 'no such file: no.dump.'),
        (['--ion', 'Na', '--read', '9=no.xyz'], 'no such file: no.xyz.'),
        (['--ion', 'Na', '--read', '9=.'], '. is a folder; give a file in it.'),
        (['x', 'no.xyz', '--ion', 'Li', '-T', '9', '--length', '9'], 'no.xyz.'),
        (['--ion', 'Na', '--read', 'WALK', '--length', '9'], 'remove --length.'),
        (['--ion', 'Na', '--read', 'WALK', '--resume'], 'remove --resume.'),
        (['--ion', 'Li', '--read', 'WALK', '--frame_time', '9'], 'no Li in the str'),
        (['--ion', 'Na', '--read', 'WALK'], 'Give it: --frame_time, in fs'),
        (
            [
                *('--ion', 'Na', '--read', 'WALK', '--frame_time', '100'),
                *('--equilibration', '15'),
            ],
            'only 10 of 160 frames are left after 15 ps of equilibration',
        ),
        (
            ['--ion', 'Na', '--read', 'WALK', '--types', 'Naa'],
            "--types: 'Naa' is no chemical symbol",
        ),
    ],
)
def test_wrong_trajectories(
    words: list[str],
    message: str,
    walks: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = [walks[0] if word == 'WALK' else word for word in words]
    assert command(*line, '-o', tmp_path / 'out') == cli.BAD_INPUT
    said = ' '.join(capsys.readouterr().err.split())
    assert said.startswith('sevennet-mf: ')
    assert message in said


def test_constraints_of_a_structure_are_told(tmp_path: Path) -> None:
    atoms = Atoms('Li2', [[0, 0, 0], [2.5, 2.5, 2.5]], cell=3 * [5.0], pbc=True)
    atoms.set_constraint(FixAtoms([0]))
    path = str(tmp_path / 'fixed.traj')
    ase.io.write(path, atoms)
    with pytest.warns(UserWarning, match='its constraints are not used; all atoms'):
        conductivity_command.read_structure(path, 'Li')


def test_a_structure_that_is_no_start(
    inputs: Path,
    tmp_path: Path,
    walks: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    atoms = ase.io.read(inputs / 'cell.extxyz')
    atoms.positions[1] = atoms.positions[0] + 0.1
    ase.io.write(tmp_path / 'close.extxyz', atoms)
    atoms.pbc = False
    ase.io.write(tmp_path / 'molecule.extxyz', atoms)
    shutil.copy(walks[0].partition('=')[2], tmp_path / 'many.extxyz')
    for name, message in (
        ('close', 'Å apart. Correct the structure'),
        ('molecule', 'is not periodic along all three axes'),
        ('many', 'has 160 structures: give a file with the one to start from'),
    ):
        words = [inputs / 'model.pth', tmp_path / f'{name}.extxyz', *SHORT, '-T', 9]
        assert command(*words, '-o', tmp_path / 'out') == cli.BAD_INPUT
        assert message in ' '.join(capsys.readouterr().err.split())
