"""`sevennet-mf hull` as a whole: levels compared, resumed, and what goes wrong."""

from __future__ import annotations

import csv
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import ase.io
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from helpers import build, host_config, model_config, save_checkpoint
from matplotlib.figure import Figure

from sevennet_mf import cli
from sevennet_mf.analysis.hull import command, energies_above_hull
from sevennet_mf.analysis.hull.command import hull
from sevennet_mf.analysis.hull.compare import Hulls
from sevennet_mf.analysis.hull.relaxations import Relaxation
from sevennet_mf.analysis.relax import relax
from sevennet_mf.data.reading.read import read_entry
from sevennet_mf.errors import TrainingStopped, UserError
from sevennet_mf.label.teacher import teacher_of

EXAMPLE = Path(__file__).parents[4] / 'example_inputs' / 'hull'
# another level of theory: alloys of Cu and Au gain energy; and some ways to fail
LEVELS = """
import os, signal
from ase.calculators.emt import EMT

class Level(EMT):
    def __init__(self, gain=0.0, log='', stop_at=0, fails_for=''):
        super().__init__()
        self.gain, self.fails_for = gain, fails_for
        self.log, self.stop_at = log, stop_at

    def calculate(self, atoms=None, properties=('energy',), changes=('positions',)):
        super().calculate(atoms, properties, changes)
        if self.log:
            with open(self.log, 'a') as stream:
                stream.write('x')
            if os.path.getsize(self.log) == self.stop_at:
                os.kill(os.getpid(), signal.SIGTERM)
        if str(self.atoms.symbols) == self.fails_for:
            raise RuntimeError('no such pseudopotential')
        n_gold = sum(self.atoms.symbols == 'Au')
        change = self.gain * n_gold * (len(self.atoms) - n_gold) / len(self.atoms)
        for name in ('energy', 'free_energy'):
            self.results[name] -= change
"""


def alloys() -> dict[str, Atoms]:
    ordered = bulk('Cu', a=3.75, cubic=True)
    ordered.symbols[:2] = 'Au'
    return {
        'Cu': bulk('Cu', a=3.6),
        'Au': bulk('Au', a=4.06),
        'layers': ordered,
        'rock salt': bulk('CuAu', 'rocksalt', a=4.9),
    }


def write(path: Path, phases: dict[str, Atoms]) -> str:
    for name, atoms in phases.items():
        atoms.info['name'] = name
    ase.io.write(path, list(phases.values()))
    return str(path)


@pytest.fixture
def files(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Nothing is drawn, which takes longest, where a test does not look at it."""
    if 'drawn' not in request.fixturenames:
        monkeypatch.setattr(command, 'draw', lambda *_: None)
    (tmp_path / 'levels.py').write_text(LEVELS)
    return write(tmp_path / 'alloys.extxyz', alloys())


def run(
    files: str, name: str = 'low', *words: str, **arguments: Any
) -> int:
    """At one level, in the folder of the files."""
    folder = Path(files).parent
    line = ['hull', files, '--with', f'{folder}/levels.py:Level', '-f', name]
    line += ['--arguments', json.dumps(arguments), '-o', str(folder / 'out')]
    return cli.main([*line, *words])


def content(files: str) -> dict[str, Any]:
    found = json.loads((Path(files).parent / 'out' / 'hull.json').read_text())
    assert isinstance(found, dict)
    return found


def relaxed(files: str, name: str = 'low') -> dict[str, Atoms]:
    frames = ase.io.read(Path(files).parent / 'out' / f'{name}.extxyz', ':')
    found = {atoms.info['name']: atoms for atoms in frames}
    assert len(found) == len(frames)
    return found


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return ' '.join(capsys.readouterr().out.split())


# ---- what is found


def test_levels_are_compared(
    files: str, capsys: pytest.CaptureFixture[str], drawn: list[Figure]
) -> None:
    """EMT alone, and with a gain that makes the alloy stable."""
    assert run(files) == cli.DONE
    alone = content(files)
    assert alone['difference'] is None
    assert alone['stability_changes'] == []
    by_hand = [relax(atoms, EMT(), steps=500) for atoms in alloys().values()]
    wanted = energies_above_hull(
        by_hand, [a.get_potential_energy() for a in by_hand], list(alloys())
    )
    for phase in wanted:
        found = alone['levels']['low']['phases'][phase.name]
        energy, above = phase.formation_energy, 1000 * phase.above_hull
        assert found['formation_energy_eV_per_atom'] == pytest.approx(energy)
        assert found['above_hull_meV_per_atom'] == pytest.approx(above)
        assert found['relaxed']
    layers = alone['levels']['low']['phases']['layers']
    gain = 4 * (layers['above_hull_meV_per_atom'] + 20) / 1000
    capsys.readouterr()
    assert run(files, 'high', gain=gain, log='') == cli.DONE
    both = content(files)
    assert list(both['levels']) == ['low', 'high']
    assert both['difference']['is'] == 'high - low'
    change = both['difference']['phases']['layers']
    assert change['formation_energy_eV_per_atom'] == pytest.approx(-gain / 4)
    assert both['levels']['high']['phases']['layers']['on_hull']
    shown = said(capsys)
    assert f'{-gain / 4:+.3f}' in shown  # the column with the difference
    assert 'rock salt' in shown
    assert [axes.get_title(loc='left') for axes in drawn[-1].axes] == [
        *('Convex hulls', 'Not stable at every level')
    ]


def test_clear_and_close_changes_are_told_apart(
    files: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A level in which the alloy lies 20 meV/atom above the hull, one 20 below."""
    run(files)
    layers = content(files)['levels']['low']['phases']['layers']
    formation = layers['formation_energy_eV_per_atom']
    up, down = 4 * (formation - 0.02), 4 * (formation + 0.02)
    for name, gain in (('up', up), ('down', down)):
        run(files, name, gain=gain)
    capsys.readouterr()
    out = Path(files).parent / 'out'
    for path in out.glob('low*'):
        path.unlink()
    assert run(files, 'down', gain=down) == cli.DONE
    shown = said(capsys)
    told = 'layers: on the hull at down; 20.0 meV/atom above it at up'
    clear = 'Stability changes between the levels, by more than 5 meV/atom:'
    assert f'{clear} {told}' in shown
    [change] = content(files)['stability_changes']
    assert change['phase'] == 'layers'
    assert change['stable_at'] == ['down']
    assert change['above_hull_meV_per_atom'] == pytest.approx({'up': 20})
    assert change['beyond_tolerance'] is True
    assert run(files, 'down', '--tolerance', '25', gain=down) == cli.DONE
    assert f'Too close to call, within 25 meV/atom: {told}' in said(capsys)
    assert content(files)['stability_changes'][0]['beyond_tolerance'] is False


def test_relaxed_structures_can_be_trained_on(files: str) -> None:
    run(files)
    path = str(Path(files).parent / 'out' / 'low.extxyz')
    entries = read_entry({'file': [path], 'fidelity': 'low'}, None, ['low'], 4.0)
    assert len([s for s in entries if s.forces is not None]) == 4
    assert relaxed(files)['Cu'].info['source'] == f'{files}:0'
    with (Path(files).parent / 'out' / 'hull.csv').open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row['phase'] for row in rows] == list(alloys())
    assert rows[0]['on_hull'] == 'yes'
    volume = float(rows[0]['volume_A3_per_atom'])
    assert volume == pytest.approx(3.59**3 / 4, rel=0.01)


def test_two_that_become_the_same_are_told(
    files: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = bulk('Cu', a=3.85)
    write(Path(files), {**alloys(), 'wide': other, 'bcc': bulk('Cu', 'bcc', a=2.87)})
    run(files)
    shown = said(capsys)
    assert 'wide has become the same as Cu at low' in shown
    assert 'wide at low changed its volume by -19 %' in shown
    assert 'Cu at low changed' not in shown
    phases = content(files)['levels']['low']['phases']
    assert {n: one['same_as'] for n, one in phases.items() if one['same_as']} == {
        'wide': 'Cu'
    }
    assert phases['bcc']['above_hull_meV_per_atom'] > 1


def test_fixed_structures_stay(
    files: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(files, 'low', '--fixed') == cli.DONE
    assert relaxed(files)['Cu'].cell.volume == pytest.approx(3.6**3 / 4)
    assert relaxed(files)['Cu'].info['relaxation_steps'] == 0
    assert 'structures as they are' in said(capsys)
    assert content(files)['structures'] == 'fixed'
    assert run(files) == cli.BAD_INPUT
    error = ' '.join(capsys.readouterr().err.split())
    assert '(fixed), and now it would get those of' in error
    assert '(relaxed). Choose another folder with -o' in error


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    config = host_config(model_config())
    path = tmp_path_factory.mktemp('model') / 'model.pth'
    return str(save_checkpoint(path, build(config), config))


@pytest.mark.parametrize('elements', [('Ga', 'In', 'N'), ('Ga',)])
def test_levels_of_a_checkpoint(
    elements: tuple[str, ...], model: str, tmp_path: Path, drawn: list[Figure]
) -> None:
    """A triangle for each level of three elements; bars for any number."""
    phases = {
        'Ga': bulk('Ga', 'fcc', a=4.2),
        'beta': bulk('Ga', 'hcp', a=3.0, c=4.8),
        'In': bulk('In', 'fcc', a=4.7),
        'N2': Atoms('N2', [[0, 0, 0], [0, 0, 1.1]]),
        'GaN': bulk('GaN', 'wurtzite', a=3.19, c=5.19),
        'InN': bulk('InN', 'zincblende', a=4.98),
    }
    kept = {n: a for n, a in phases.items() if set(a.symbols) <= set(elements)}
    data = write(tmp_path / 'phases.extxyz', kept)
    line = ['hull', data, '--with', model, '-f', 'cheap=pbe', 'r2scan']
    line += ['--steps', '1', '-o', str(tmp_path / 'out')]
    assert cli.main(line) == cli.DONE
    found = json.loads((tmp_path / 'out' / 'hull.json').read_text())
    assert list(found['levels']) == ['cheap', 'r2scan']
    assert not found['levels']['cheap']['phases']['Ga']['relaxed']
    titles = [axes.get_title(loc='left').split(':')[0] for axes in drawn[0].axes]
    assert titles[:-1] == (['cheap', 'r2scan'] if len(elements) == 3 else [])
    if len(elements) == 3:
        texts = {t.get_text().split('\n')[0] for t in drawn[0].axes[0].texts}
        assert {'GaN', 'InN', 'Ga', 'In', 'N$_{2}$'} <= texts


# ---- in several calls


def test_what_is_done_is_not_done_again(files: str) -> None:
    log = Path(files).parent / 'log'
    run(files, log=str(log))
    before, size = relaxed(files), log.stat().st_size
    assert run(files, log=str(log)) == cli.DONE
    assert log.stat().st_size == size
    phases = alloys()
    phases['new'] = bulk('Au', 'bcc', a=3.2)
    write(Path(files), phases)
    assert run(files, log=str(log)) == cli.DONE
    assert log.stat().st_size > size
    assert relaxed(files).keys() == phases.keys()
    assert relaxed(files)['layers'] == before['layers']


def test_too_few_steps_are_told_and_continued(
    files: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(files, 'low', '--steps', '1') == cli.DONE
    shown = said(capsys)
    assert '* layers at low is not relaxed after 1 steps: the largest force' in shown
    assert not content(files)['levels']['low']['phases']['layers']['relaxed']
    assert run(files, 'low', '--fmax', '0.001') == cli.DONE
    assert 'not relaxed' not in said(capsys)
    found = relaxed(files)['layers']  # once
    assert found.info['max_force'] < 0.001
    straight = relax(alloys()['layers'], EMT(), fmax=0.001)
    energy = straight.get_potential_energy()
    assert found.get_potential_energy() == pytest.approx(energy, abs=1e-5)


def test_a_signal_loses_no_step(files: str) -> None:
    log = Path(files).parent / 'log'
    folder = Path(files).parent
    arguments = {'log': str(log), 'stop_at': 10}
    teacher = teacher_of(f'{folder}/levels.py:Level', ['low'], arguments)
    how = Relaxation(fmax=1e-4, steps=200)
    with pytest.raises(TrainingStopped, match='SIGTERM: . of 4 relaxations are'):
        hull([files], teacher, str(folder / 'out'), how, 0.005)
    stopped = relaxed(files)
    assert 0 < len(stopped) < 4
    last = list(stopped.values())[-1]
    assert last.info['max_force'] > 1e-4
    assert last.info['relaxation_steps'] > 0
    found: Hulls = hull([files], teacher, str(folder / 'out'), how, 0.005)
    assert all(one.converged for one in found.levels[0].phases.values())


# ---- what goes wrong


def test_a_structure_without_energy_is_left_out(
    files: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(files, fails_for='CuAu') == 1
    shown = said(capsys)
    why = 'RuntimeError: no such pseudopotential'
    assert f'left out: rock salt at low: {why}.' in shown
    found = content(files)
    assert found['failed'] == {'rock salt': {'low': why}}
    assert 'rock salt' not in found['levels']['low']['phases']
    assert run(files) == cli.BAD_INPUT  # other arguments: another level of theory
    assert 'Choose another folder' in capsys.readouterr().err


def test_an_element_without_energy_is_an_error(
    files: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(files, 'other', fails_for='Au') == cli.BAD_INPUT
    why = 'RuntimeError: no such pseudopotential'
    error = ' '.join(capsys.readouterr().err.split())
    assert f'Au at other: {why}. Without these, no structure of elemental' in error


def test_a_level_that_lacks_structures_is_not_compared(files: str) -> None:
    run(files)
    write(Path(files), {**alloys(), 'new': bulk('Au', 'bcc', a=3.2)})
    with pytest.warns(UserWarning, match='low, of an earlier call, .* 1 of 5'):
        run(files, 'high', gain=0.1)
    assert list(content(files)['levels']) == ['high']


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--fmax', '0'], '--fmax must be above 0 eV/Å, got 0'),
        (['--steps', '0'], '--steps must be 1 or more, got 0; --fixed leaves'),
        (['--tolerance=-1'], '--tolerance must be 0 meV/atom or more, got -1'),
        (['-f', 'hull'], '--fidelity hull: hull.json is the result'),
        (['-f', 'a', 'b'], 'is one level of theory'),
    ],
)
def test_wrong_options(
    words: list[str], message: str, files: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(files, 'low', *words) == cli.BAD_INPUT
    assert message in ' '.join(capsys.readouterr().err.split())


def test_wrong_structures(files: str, tmp_path: Path) -> None:
    teacher = teacher_of('ase.calculators.emt:EMT', ['emt'])

    def use(phases: dict[str, Atoms]) -> Hulls:
        path = write(tmp_path / 'wrong.extxyz', phases)
        out = str(tmp_path / 'out')
        return hull([path], teacher, out, Relaxation(0.02, 5), 0.0)

    with pytest.raises(UserError, match='no structure of elemental Au: '):
        use({'Cu': bulk('Cu'), 'AuCu': bulk('CuAu', 'rocksalt', a=4.9)})
    same = [bulk('Cu'), bulk('Cu', a=3.7)]
    for atoms in same:
        atoms.info['name'] = 'copper'
    ase.io.write(tmp_path / 'wrong.extxyz', same)
    with pytest.raises(UserError, match="different structures are called 'copper'"):
        hull(
            [str(tmp_path / 'wrong.extxyz')],
            teacher,
            str(tmp_path / 'out'),
            Relaxation(0.02, 5),
            0.0,
        )
    with pytest.warns(UserWarning, match='copies of other structures: 1'):
        use({'Cu': bulk('Cu'), 'again': bulk('Cu')})
    assert not (tmp_path / 'out' / 'work').exists()


def test_files_give_names(tmp_path: Path) -> None:
    ase.io.write(tmp_path / 'copper.cif', bulk('Cu', cubic=True))
    ase.io.write(tmp_path / 'POSCAR', bulk('Au'), format='vasp')
    ase.io.write(tmp_path / 'two.extxyz', [bulk('Cu', 'bcc', a=2.9), bulk('Ag')])
    files = [str(tmp_path / name) for name in ('copper.cif', 'POSCAR', 'two.extxyz')]
    teacher = teacher_of('ase.calculators.emt:EMT', ['emt'])
    how = Relaxation(0.02, 1, fixed=True)
    found = hull(files, teacher, str(tmp_path / 'out'), how, 0.0)
    assert found.names == ['copper', 'POSCAR', 'two.extxyz:0', 'two.extxyz:1']


# ---- the example


def test_the_structures_of_the_example_are_what_its_script_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, 'argv', ['structures.py', '-o', str(tmp_path)])
    runpy.run_path(str(EXAMPLE / 'structures.py'), run_name='__main__')
    for name in ('ti_o.extxyz', 'li.extxyz'):
        shipped = ase.io.read(EXAMPLE / name, ':')
        written = ase.io.read(tmp_path / name, ':')
        for one, other in zip(written, shipped, strict=True):
            assert one == other
            assert one.info == other.info
