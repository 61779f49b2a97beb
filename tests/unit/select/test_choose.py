"""`sevennet-mf select`: what is chosen, what is written, what is refused."""

import csv
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from helpers import INGAN, evaluate, rewritten, save_checkpoint, structures, trained

from sevennet_mf import cli
from sevennet_mf.errors import UserError
from sevennet_mf.model.load import load_model
from sevennet_mf.select.choose import Selection, select
from sevennet_mf.select.options import Options

VALID = str(INGAN / 'pbe_valid.extxyz')  # 36 structures
PAIRED = str(INGAN / 'r2scan_valid.extxyz')  # 13 of them, at r2SCAN


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three models of two fidelities with other weights."""
    folder = tmp_path_factory.mktemp('checkpoints')
    paths = []
    for k in range(3):
        model, config = trained()
        generator = torch.Generator().manual_seed(k)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    noise = torch.randn(parameter.shape, generator=generator)
                    parameter.add_(0.1 * k * noise)
        path = folder / f'checkpoint_{k}.pth'
        paths.append(str(save_checkpoint(path, model, config)))
    return paths


def choose(
    checkpoint: str,
    folder: Path,
    labelled: list[str] | None = None,
    files: list[str] | None = None,
    **options: Any,
) -> Selection:
    asked = Options(**{'n': 4, 'fidelity': 'pbe', 'progress': False, **options})
    return select(checkpoint, files or [VALID], str(folder), labelled or [], asked)


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / 'selected.csv', newline='') as stream:
        return list(csv.DictReader(stream))


def test_files_lead_back_to_the_source(
    checkpoints: list[str], tmp_path: Path
) -> None:
    choose(checkpoints[0], tmp_path, keep=['sid'])
    given = ase.io.read(VALID, ':')
    written = ase.io.read(tmp_path / 'selected.extxyz', ':')
    index = rows(tmp_path)
    assert [a.info['rank'] for a in written] == [1, 2, 3, 4]
    for atoms, row in zip(written, index, strict=True):
        source = given[int(row['frame'])]
        assert row['source'] == atoms.info['source'] == VALID
        assert int(row['frame']) == atoms.info['frame']
        assert int(row['n_atoms']) == len(source)
        assert row['formula'] == source.get_chemical_formula()
        assert atoms.info['sid'] == source.info['sid']
        assert (atoms.numbers == source.numbers).all()
        np.testing.assert_allclose(atoms.positions, source.positions, atol=1e-7)
        np.testing.assert_allclose(atoms.cell, source.cell, atol=1e-7)
        assert (atoms.pbc == source.pbc).all()
    png = (tmp_path / 'coverage.png').read_bytes()
    assert png.startswith(b'\x89PNG')


def test_no_label_of_the_low_fidelity_is_written(
    checkpoints: list[str], tmp_path: Path
) -> None:
    given = ase.io.read(VALID, ':')
    for atoms in given:  # as codes write them who do not use ASE's names
        atoms.info['dft_energy'] = -1.0
        atoms.arrays['dft_forces'] = np.ones((len(atoms), 3))
        atoms.set_initial_magnetic_moments([1.5] * len(atoms))
    path = str(tmp_path / 'low.extxyz')
    ase.io.write(path, given)
    choose(checkpoints[0], tmp_path, files=[path])
    for atoms in ase.io.read(tmp_path / 'selected.extxyz', ':'):
        assert atoms.calc is None
        assert set(atoms.info) == {'rank', 'source', 'frame'}
        assert set(atoms.arrays) == {'numbers', 'positions', 'initial_magmoms'}
        assert (atoms.get_initial_magnetic_moments() == 1.5).all()


def test_labelled_structures_and_copies_are_never_chosen(
    checkpoints: list[str], tmp_path: Path
) -> None:
    found = choose(checkpoints[0], tmp_path, [PAIRED], [VALID, PAIRED], n=36 - 13)
    assert (found.candidates, found.labelled) == (49, 13)
    assert found.copies == 13 + 13
    taken = {a.info['sid'] for a in ase.io.read(PAIRED, ':')}
    given = ase.io.read(VALID, ':')
    chosen = [given[s.candidate.frame].info['sid'] for s in found.selected]
    assert len(set(chosen)) == 23
    assert not taken & set(chosen)


def test_the_same_crystal_written_otherwise_is_not_chosen_again(
    checkpoints: list[str], tmp_path: Path
) -> None:
    one, two = structures(2)
    larger = one.repeat((2, 1, 1))
    shifted = one[::-1]
    shifted.positions += 0.7
    path = str(tmp_path / 'a.extxyz')
    ase.io.write(path, [one, larger, shifted, two])
    with pytest.warns(UserWarning, match='2 structures chosen instead of 4'):
        found = choose(checkpoints[0], tmp_path, files=[path])
    chosen = {s.candidate.frame for s in found.selected}
    assert 3 in chosen
    with pytest.raises(UserError, match='there is nothing new to choose'):
        choose(checkpoints[0], tmp_path, [VALID], files=[turned(path)], n=1)
    again = str(tmp_path / 'again.extxyz')
    ase.io.write(again, rewritten(two))
    with pytest.raises(UserError, match='all 1 structures are already labelled'):
        choose(checkpoints[0], tmp_path, [path], files=[again], n=1)


def turned(path: str) -> str:
    """The first structure of a file, turned: to the model it is the same."""
    atoms = ase.io.read(path, 0)
    atoms.rotate(40, 'z', rotate_cell=True)
    ase.io.write(f'{path}.turned.extxyz', atoms)
    return f'{path}.turned.extxyz'


def test_disagreement_is_the_spread_of_the_models(
    checkpoints: list[str], tmp_path: Path
) -> None:
    models = [load_model(c).model for c in checkpoints]
    given = ase.io.read(VALID, ':6')
    path = str(tmp_path / 'low.extxyz')
    ase.io.write(path, given)
    for of in ('force', 'energy'):
        found = choose(
            checkpoints[0],
            tmp_path / of,
            files=[path],
            n=2,
            disagreement=checkpoints[1:],
            disagreement_of=of,
        )
        for s in found.selected:
            atoms = given[s.candidate.frame]
            assert s.disagreement == pytest.approx(spread(models, atoms, of), 1e-3)
    assert rows(tmp_path / 'energy')[0]['disagreement (eV/atom)']


def spread(models: list[Any], atoms: Atoms, of: str) -> float:
    """Root mean square over atoms of the forces' spread, or the energy's."""
    found = [evaluate(m, [atoms], ['pbe']) for m in models]
    if of == 'energy':
        energies = [float(f['energy']) for f in found]
        return float(np.std(energies)) / len(atoms)
    forces = np.array([f['forces'].numpy() for f in found])
    mean = forces.mean(axis=0)
    squares = np.square(forces - mean).sum(axis=2).mean(axis=0)
    return float(np.sqrt(squares.mean()))


def test_the_score_is_distance_times_disagreement_by_cost(
    checkpoints: list[str], tmp_path: Path
) -> None:
    found = choose(
        checkpoints[0],
        tmp_path,
        files=[PAIRED],
        disagreement=checkpoints[1:2],
        cost='atoms3',
    )
    ratios = [
        s.score / (s.distance * (s.disagreement or 0.0) / (s.cost or 0.0))
        for s in found.selected
        if s.score is not None and s.distance is not None
    ]
    # the first has elements that nothing before it has: it is far from nothing
    assert len(ratios) == len(found.selected) - 1
    assert rows(tmp_path)[0]['distance'] == ''
    assert [s.cost for s in found.selected] == [
        float(s.candidate.n_atoms**3) for s in found.selected
    ]
    np.testing.assert_allclose(ratios, ratios[0])


def test_a_budget_says_how_many(checkpoints: list[str], tmp_path: Path) -> None:
    found = choose(checkpoints[0], tmp_path, n=None, cost='atoms3', budget=500.0)
    costs = [s.cost or 0.0 for s in found.selected]
    assert 500.0 - 64.0 < sum(costs) <= 500.0
    with pytest.raises(UserError, match='the cheapest structure costs 64. Give'):
        choose(checkpoints[0], tmp_path, cost='atoms3', budget=10.0)


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        ({'n': 40}, '-n 40: there are only 36 structures to choose from. Ask for'),
        ({'n': 0}, '-n must be 1 or more, got 0'),
        ({'disagreement_of': 'energy'}, 'energy needs --disagreement with'),
        ({'seed': -1}, '--seed must be 0 or more, got -1'),
        ({'cost': 'atoms3', 'budget': 0.0}, '--budget must be a number above 0'),
        ({'cost': 'atoms3', 'budget': float('nan')}, 'number above 0, got nan'),
        ({'fidelity': None}, 'select one with --fidelity'),
        ({'fidelity': 'PBE'}, "got 'PBE'. Did you mean 'pbe'?"),
        ({'cost': 'x_in'}, "--cost 'x_in' is not in its info.*mean 'x_In'?"),
        ({'budget': 10.0}, '--budget 10 needs the cost'),
        ({'keep': ['side']}, "--keep 'side' is not in its info. .*mean 'sid'?"),
        ({'keep': ['rank']}, '--keep rank: rank, source, frame are reserved'),
        ({'device': 'gpu'}, "device 'gpu' cannot be used"),
    ],
)
def test_what_cannot_be_is_refused_in_words(
    checkpoints: list[str], tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        choose(checkpoints[0], tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


def test_models_that_are_the_same_do_not_disagree(
    checkpoints: list[str], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match='agree to the last digit'):
        choose(checkpoints[0], tmp_path, disagreement=checkpoints[:1])


def test_an_earlier_selection_is_not_lost(
    checkpoints: list[str], tmp_path: Path
) -> None:
    choose(checkpoints[0], tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    # while the first ones are computed
    first = str(tmp_path / 'selected.extxyz')
    with pytest.raises(UserError, match='is an input and would be overwritten.* -o'):
        choose(checkpoints[0], tmp_path, [first])
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    with pytest.warns(UserWarning, match='an earlier selection .*earlier_1'):
        choose(checkpoints[0], tmp_path, n=2)
    place = tmp_path / 'earlier_1'
    assert {p.name: p.read_bytes() for p in place.iterdir()} == before
    assert len(rows(tmp_path)) == 2


def test_fewer_than_asked_for_are_written_with_a_warning(
    checkpoints: list[str], tmp_path: Path
) -> None:
    with pytest.warns(UserWarning, match='23 structures chosen instead of 30'):
        choose(checkpoints[0], tmp_path, [PAIRED], n=30)
    assert len(rows(tmp_path)) == 23


def test_without_a_number_all_of_a_few_are_chosen(
    checkpoints: list[str], tmp_path: Path
) -> None:
    found = choose(checkpoints[0], tmp_path, files=[PAIRED], n=None)
    assert len(found.selected) == 13


def test_all_labelled_leaves_nothing(checkpoints: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match='all 13 structures are already labelled'):
        choose(checkpoints[0], tmp_path, [VALID], files=[PAIRED])


def test_a_folder_that_cannot_be_written_is_seen_at_once(tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='cannot be written: .* with -o'):
        choose('no such checkpoint', tmp_path / 'file')


def test_the_command_line_prints_what_was_chosen(
    checkpoints: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ['select', checkpoints[0], VALID, '-n', '3', '--labelled', PAIRED]
    line += ['-f', 'r2scan', '--cost', 'atoms3', '--distance', 'max', '--seed', '1']
    assert cli.main([*line, '-o', str(tmp_path)]) == cli.DONE
    said = ' '.join(capsys.readouterr().out.split())
    assert 'To compute next' in said
    assert 'Chosen from 23 of 36 structures; the others are copies' in said
    assert len(rows(tmp_path)) == 3


def test_a_pretrained_model_chooses(tmp_path: Path) -> None:
    ase.io.write(tmp_path / 'a.extxyz', structures(3))
    path = str(tmp_path / 'a.extxyz')
    found = choose('7net-0', tmp_path, files=[path], fidelity=None, n=2)
    assert len(found.selected) == 2
