"""Files to labelled structures: labels, fidelities, and what is refused."""

from importlib import resources
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from sevenn import _keys as KEY
from sevenn.train import dataload
from sevenn.train.graph_dataset import SevenNetGraphDataset

from sevennet_mf.data.reading.files import atoms_of, count_frames
from sevennet_mf.data.reading.read import Structure, read_entry
from sevennet_mf.errors import UserError
from sevennet_mf.keys import KBAR

DATA = Path(__file__).parents[3] / 'data'
PBE = str(DATA / 'ingan/pbe_valid.extxyz')
CUTOFF = 4.5


def read(entry: dict, key: str | None = None) -> list[Structure]:
    if isinstance(entry['file'], str):
        entry = {**entry, 'file': [entry['file']]}
    return list(read_entry(entry, key, ['pbe', 'r2scan', 'ccsdt'], CUTOFF))


def write(path: Path, *frames: Atoms) -> str:
    ase.io.write(path, list(frames), format='extxyz')
    return str(path)


def labelled(**results: object) -> Atoms:
    atoms = Atoms('GaN', [[0, 0, 0], [1.1, 1.1, 1.2]], cell=[3, 3.1, 3.2], pbc=True)
    results = {'energy': -9.0, **results}
    results = {k: v for k, v in results.items() if v is not None}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def other_level(**info: object) -> Atoms:
    """A structure with PBE's labels where ASE has them, others under other keys."""
    atoms = labelled(forces=np.ones((2, 3)), stress=np.arange(6.0) / 100)
    atoms.info.update(E_cc=-7.5, S_cc=np.arange(6.0) / 10, **info)
    atoms.arrays['F_cc'] = np.full((2, 3), 0.25)
    return atoms


def xyz(path: Path, comment: str, line: str = 'H 0 0 0') -> str:
    path.write_text(f'1\n{comment}\n{line}\n')
    return str(path)


# ------------------------------------------------------------------ good files


def test_labels_are_those_of_the_host() -> None:
    host = dataload.graph_build(dataload.ase_reader(PBE), CUTOFF)
    structures = read({'file': PBE, 'fidelity': 'pbe'})
    assert len(structures) == len(host) == 36
    for own, theirs in zip(structures, host, strict=True):
        assert np.float32(own.energy) == theirs[KEY.ENERGY].item()
        forces, stress = own.forces, own.stress
        assert forces is not None
        assert stress is not None
        assert (forces.astype(np.float32) == theirs[KEY.FORCE].numpy()).all()
        assert (stress.astype(np.float32) == theirs[KEY.STRESS].numpy()).all()


def test_stress_is_minus_ases_in_the_hosts_order(tmp_path: Path) -> None:
    stress = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) / 100  # xx yy zz yz xz xy
    file = write(tmp_path / 'a.extxyz', labelled(stress=stress))
    (own,) = read({'file': file, 'fidelity': 'pbe'})
    assert own.stress == pytest.approx(-np.array([1, 2, 3, 6, 4, 5]) / 100)


def test_energy_only_molecules() -> None:
    file = str(DATA / 'molecules/ccsdt_valid.extxyz')
    structures = read({'file': file, 'fidelity': 'ccsdt'})
    assert len(structures) == 12
    assert all(s.forces is None and s.stress is None for s in structures)
    frames = ase.io.read(file, ':')
    energies = [a.calc.results['free_energy'] for a in frames]
    assert [s.energy for s in structures] == energies  # float64, to the last bit


def test_free_energy_comes_first(tmp_path: Path) -> None:
    file = write(tmp_path / 'a.extxyz', labelled(energy=-9.0, free_energy=-9.5))
    assert read({'file': file, 'fidelity': 'pbe'})[0].energy == -9.5
    by_key = {'file': file, 'fidelity': 'pbe', 'energy_key': 'energy'}
    assert read(by_key)[0].energy == -9.0


def test_constraints_leave_forces_alone(tmp_path: Path) -> None:
    atoms = labelled(forces=np.ones((2, 3)))
    atoms.set_constraint(FixAtoms([0]))
    file = str(tmp_path / 'a.traj')
    ase.io.write(file, atoms)
    assert len(ase.io.read(file).constraints) == 1
    (own,) = read({'file': file, 'fidelity': 'pbe'})
    assert (own.forces == 1.0).all()


def test_a_molecule_has_no_stress(tmp_path: Path) -> None:
    atoms = labelled(stress=np.ones(6))
    atoms.pbc = False
    atoms.calc.atoms = atoms.copy()
    file = write(tmp_path / 'a.extxyz', atoms)
    assert read({'file': file, 'fidelity': 'pbe'})[0].stress is None


def test_all_keys_of_another_level(tmp_path: Path) -> None:
    file = write(tmp_path / 'a.extxyz', other_level())
    entry = {'file': [file], 'fidelity': 'ccsdt', 'energy_key': 'E_cc'}
    entry |= {'force_key': 'F_cc', 'stress_key': 'S_cc'}
    before = dict(entry)
    (own,) = read(entry)
    assert entry == before
    assert own.energy == -7.5
    assert (own.forces == 0.25).all()
    assert own.stress == pytest.approx(-np.array([0, 1, 2, 5, 3, 4]) / 10)


@pytest.mark.parametrize('shape', [(3, 3), (9,), (6,)])
def test_stress_in_any_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    full = np.array([[1.0, 6.0, 5.0], [6.0, 2.0, 4.0], [5.0, 4.0, 3.0]])
    given = np.array([1.0, 2, 3, 4, 5, 6]) if shape == (6,) else full.reshape(shape)
    atoms = labelled()
    atoms.info['S'] = given
    file = write(tmp_path / 'a.extxyz', atoms)
    (own,) = read({'file': file, 'fidelity': 'pbe', 'stress_key': 'S'})
    assert own.stress == pytest.approx(-np.array([1.0, 2, 3, 6, 4, 5]))


def test_null_leaves_a_label_out(tmp_path: Path) -> None:
    file = write(tmp_path / 'a.extxyz', other_level())
    entry = {'file': file, 'fidelity': 'ccsdt', 'energy_key': 'E_cc'}
    (own,) = read({**entry, 'force_key': None, 'stress_key': None})
    assert (own.energy, own.forces, own.stress) == (-7.5, None, None)


def test_missing_in_some_structures_is_missing(tmp_path: Path) -> None:
    file = write(tmp_path / 'a.extxyz', other_level(), labelled())
    text = Path(file).read_text()
    assert 'F_cc' in text
    entry = {'file': file, 'fidelity': 'pbe', 'force_key': 'F_cc'}
    with_forces, without = read({**entry, 'stress_key': None})
    assert with_forces.forces is not None
    assert without.forces is None


@pytest.mark.parametrize(
    ('index', 'frames'),
    [(':', range(36)), ('0', [0]), ('-1', [35]), ('-3:', [33, 34, 35])]
    + [('30::2', [30, 32, 34]), (':2', [0, 1])],
)
def test_index_picks_frames_and_numbers_them(index: str, frames: list[int]) -> None:
    structures = read({'file': PBE, 'fidelity': 'pbe', 'index': index})
    assert [s.source for s in structures] == [f'{PBE}:{i}' for i in frames]
    assert count_frames(PBE, 'extxyz', index) == len(frames)
    all_of_them = ase.io.read(PBE, ':')
    energies = [all_of_them[i].calc.results['free_energy'] for i in frames]
    assert [s.energy for s in structures] == energies


def test_several_files_and_an_at_sign(tmp_path: Path) -> None:
    files = [
        write(tmp_path / name, labelled(energy=energy))
        for name, energy in (('a@1.extxyz', -1.0), ('b.extxyz', -2.0))
    ]
    structures = read({'file': files, 'fidelity': 'pbe'})
    assert [s.energy for s in structures] == [-1.0, -2.0]
    assert [s.file for s in structures] == [0, 1]


def test_reading_streams() -> None:
    entry = {'file': [PBE], 'fidelity': 'pbe'}
    stream = read_entry(entry, None, ['pbe'], CUTOFF)
    assert next(stream).source == f'{PBE}:0'


def test_format_when_the_name_lies(tmp_path: Path) -> None:
    file = str(tmp_path / 'labels.dat')
    ase.io.write(file, labelled(), format='extxyz')
    entry = {'file': file, 'fidelity': 'pbe', 'format': 'extxyz'}
    assert len(read(entry)) == 1
    with pytest.raises(UserError, match=r"format 'extxzy' is neither .*'extxyz'"):
        read({**entry, 'format': 'extxzy'})


def test_structure_list(tmp_path: Path) -> None:
    file = tmp_path / 'structure_list'
    write(tmp_path / 'a1.extxyz', labelled(energy=-1.0))
    write(tmp_path / 'a2.extxyz', labelled(energy=-2.0))
    file.write_text(f'[one: w=2]\n{PBE} 2:4\n\n[two]\na{{1,2}}.extxyz\n')
    entry = {'file': str(file), 'fidelity': 'pbe'}
    expected = [s.energy for s in read({**entry, 'file': PBE, 'index': '2:4'})]
    assert [s.energy for s in read(entry)] == [*expected, -1.0, -2.0]
    (last,) = read({**entry, 'index': '-1'})
    assert (last.energy, last.source) == (-2.0, f'{file}:3')
    file.write_text('[one]\nnone.extxyz\n')
    with pytest.raises(UserError, match=r'_list: no such file: none\.extxyz'):
        read(entry)


def test_structure_list_has_each_ionic_step_once(tmp_path: Path) -> None:
    # ASE's own example of one step; the host's reader gives 1 + 2 * 2 of these three
    lines = resources.files('ase.test').joinpath('testdata/vasp/OUTCAR_example_1')
    head, begin, step = lines.read_text().partition('Iteration')
    steps = [step.replace('-68.22868532', energy) for energy in ('-61.0', '-62.0')]
    (tmp_path / 'OUTCAR').write_text(begin.join([head, step, *steps]))
    (tmp_path / 'structure_list').write_text('[one]\nOUTCAR\n')
    file = str(tmp_path / 'structure_list')
    energies = [s.energy for s in read({'file': file, 'fidelity': 'pbe'})]
    assert energies == [-68.22868532, -61.0, -62.0]


# -------------------------------------------------------------- host graph files


@pytest.fixture(scope='module')
def graph_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp('host')
    SevenNetGraphDataset(
        cutoff=CUTOFF, root=str(root), files=[PBE], processed_name='set.pt'
    )
    return str(root / 'sevenn_data/set.pt')


def test_graph_file(graph_file: str) -> None:
    structures = read({'file': graph_file, 'fidelity': 'pbe'})
    frames = read({'file': PBE, 'fidelity': 'pbe'})
    assert len(structures) == len(frames)
    for own, frame in zip(structures, frames, strict=True):
        assert own.energy == np.float32(frame.energy)
        assert own.forces == pytest.approx(frame.forces, abs=1e-5)
        assert own.stress == pytest.approx(frame.stress, abs=1e-6)
        assert (own.numbers == frame.numbers).all()
    (third,) = read({'file': graph_file, 'fidelity': 'pbe', 'index': '3'})
    assert third.source == f'{graph_file}:3'
    (no_forces,) = read(
        {'file': graph_file, 'fidelity': 'pbe', 'index': '3', 'force_key': None}
    )
    assert no_forces.forces is None


def test_graph_file_tells_fidelity_by_info(graph_file: str) -> None:
    assert {s.fidelity for s in read({'file': graph_file}, key='method')} == {'pbe'}


def test_graph_file_of_another_cutoff(graph_file: str) -> None:
    entry = {'file': [graph_file], 'fidelity': 'pbe'}
    with pytest.raises(UserError, match=r'cutoff 4.5 Å, but model.cutoff is 5'):
        next(read_entry(entry, None, ['pbe'], 5.0))


def test_graph_file_has_its_labels(graph_file: str) -> None:
    with pytest.raises(UserError, match='energy_key has no meaning for a graph'):
        read({'file': graph_file, 'fidelity': 'pbe', 'energy_key': 'E'})


def test_graph_file_without_its_meta(graph_file: str, tmp_path: Path) -> None:
    alone = tmp_path / 'set.pt'
    alone.write_bytes(Path(graph_file).read_bytes())
    with pytest.raises(UserError, match='Copy the whole folder'):
        read({'file': str(alone), 'fidelity': 'pbe'})


# ------------------------------------------------------------------- fidelities


def test_fidelity_of_each_structure(tmp_path: Path) -> None:
    frames = []
    for level in ('pbe', 'r2scan', 'pbe'):
        frames.append(labelled())
        frames[-1].info['level'] = level
    file = write(tmp_path / 'a.extxyz', *frames)
    levels = [s.fidelity for s in read({'file': file}, key='level')]
    assert levels == ['pbe', 'r2scan', 'pbe']


@pytest.mark.parametrize(
    ('level', 'entry', 'key', 'message'),
    [
        ('r2scna', {}, 'level', r":0: its fidelity .* got 'r2scna'.*'r2scan'"),
        (None, {}, 'level', r":0 has no fidelity: its info has no 'level'"),
        ('pbe', {}, 'lvel', r"no 'lvel'\. Did you mean 'level'\?"),
        ('pbe', {}, None, r':0 has no fidelity: its entry names none'),
        ('pbe', {'fidelity': 'r2scan'}, 'level', r"level='pbe', but .* r2scan"),
    ],
)
def test_fidelity_missing_or_misspelt(
    tmp_path: Path, level: str | None, entry: dict, key: str | None, message: str
) -> None:
    atoms = labelled()
    if level:
        atoms.info['level'] = level
    file = write(tmp_path / 'a.extxyz', atoms)
    with pytest.raises(UserError, match=message):
        read({'file': file, **entry}, key)


# ------------------------------------------------------------------------ errors


def test_two_levels_of_theory_are_not_mixed(tmp_path: Path) -> None:
    file = write(tmp_path / 'a.extxyz', other_level())
    entry = {'file': file, 'fidelity': 'ccsdt', 'energy_key': 'E_cc'}
    message = r":0: energy_key is 'E_cc', but its forces .*`force_key: <key>`"
    with pytest.raises(UserError, match=message + r'.*\(F_cc, forces\).*null'):
        read(entry)
    with pytest.raises(UserError, match=r'`stress_key: null`'):
        read({**entry, 'force_key': 'F_cc'})
    # those of the calculator, if the user says so
    entry |= {'force_key': 'forces', 'stress_key': 'stress'}
    assert (read(entry)[0].forces == 1.0).all()


def test_no_energy(tmp_path: Path) -> None:
    file = write(tmp_path / 'a.extxyz', labelled(), labelled(energy=None))
    with pytest.raises(UserError, match=r'a\.extxyz:1 has no energy\. Remove it'):
        read({'file': file, 'fidelity': 'pbe'})
    entry = {'file': write(tmp_path / 'b.extxyz', other_level()), 'fidelity': 'pbe'}
    with pytest.raises(UserError, match=r"energy_key 'E_c'.*mean 'E_cc'"):
        read({**entry, 'energy_key': 'E_c'})


def test_a_key_that_no_structure_has(tmp_path: Path) -> None:
    file = write(tmp_path / 'a.extxyz', labelled(forces=np.ones((2, 3))))
    with pytest.raises(UserError, match=r"no structure has force_key 'F_c'.*null"):
        read({'file': file, 'fidelity': 'pbe', 'force_key': 'F_c'})


@pytest.mark.parametrize(
    ('results', 'message'),
    [
        ({'energy': np.nan}, r'a\.extxyz:0 has energy nan\. Correct or remove'),
        ({'energy': np.inf}, r'has energy inf'),
        ({'energy': 1e7}, r'energy 5e\+06 eV/atom, beyond 2e\+06.*unit'),
        ({'forces': [[0, 0, 0], [0, np.nan, 0]]}, r'force on atom 1 of nan'),
        ({'forces': [[0, 0, 2e3], [0, 0, 0]]}, r'force on atom 0 of 2000 eV/Å.*nul'),
        ({'stress': [100.0, 0, 0, 0, 0, 0]}, r'stress of -160218 kbar, beyond 1'),
        ({'stress': [np.nan, 0, 0, 0, 0, 0]}, r'has a stress of nan\. .*stress_key'),
    ],
)
def test_absurd_labels(tmp_path: Path, results: dict, message: str) -> None:
    results = {k: np.array(v, float) for k, v in results.items()}
    file = write(tmp_path / 'a.extxyz', labelled(**results))
    with pytest.raises(UserError, match=message):
        read({'file': file, 'fidelity': 'pbe'})


def test_large_labels_that_are_real(tmp_path: Path) -> None:
    # all electrons of uranium: about -7.6e5 eV; 9e4 kbar
    file = write(
        tmp_path / 'a.extxyz',
        labelled(energy=-1.5e6, forces=np.full((2, 3), 900.0)),
        labelled(stress=np.full(6, 9e4 / KBAR)),
    )
    assert len(read({'file': file, 'fidelity': 'pbe'})) == 2


@pytest.mark.parametrize(
    ('key', 'value', 'message'),
    [
        ('energy_key', 'low', r"has energy 'low': it must be a number in eV"),
        ('stress_key', np.ones(4), r'a stress of shape \(4,\)'),
    ],
)
def test_labels_of_no_use(
    tmp_path: Path, key: str, value: object, message: str
) -> None:
    atoms = labelled()
    atoms.info['mine'] = value
    file = write(tmp_path / 'a.extxyz', atoms)
    with pytest.raises(UserError, match=message):
        read({'file': file, 'fidelity': 'pbe', key: 'mine'})


@pytest.mark.parametrize(
    ('comment', 'line', 'message'),
    [
        ('energy=-1 pbc="T T T"', 'H 0 0 0', r':0 is periodic .* no volume'),
        ('energy=-1', 'H 0 nan 0', r':0: a position of atom 0 is not a finite'),
        ('energy=-1', 'X 0 0 0', r':0: atom 0 is not an element'),
    ],
)
def test_geometry_of_no_use(
    tmp_path: Path, comment: str, line: str, message: str
) -> None:
    file = xyz(tmp_path / 'a.xyz', comment, line)
    with pytest.raises(UserError, match=message):
        read({'file': file, 'fidelity': 'pbe'})


def test_no_atoms_and_no_structures(tmp_path: Path) -> None:
    file = tmp_path / 'a.extxyz'
    file.write_text('0\nenergy=1\n')
    with pytest.raises(UserError, match=r'a\.extxyz:0 has no atoms'):
        read({'file': str(file), 'fidelity': 'pbe'})
    with pytest.raises(UserError, match=r"no structures with index '40:'"):
        read({'file': PBE, 'fidelity': 'pbe', 'index': '40:'})


@pytest.mark.parametrize(
    ('name', 'content', 'reason'),
    [
        ('a.extxyz', b'8\nenergy=-1\nH 0 0 0\n', 'Frame has 1 atoms, expected 8'),
        ('b.xyz', b'hello\nworld\n', 'frame 0 begins with .hello.'),
        ('c.extxyz', b'', 'Empty file'),
        ('d.bin', bytes(range(256)), ''),
        ('POSCAR', b'hello\n', ''),
        ('e.sevenn_data', b'no pickle', ''),
    ],
)
def test_unreadable_files(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(content)
    message = f'{name} cannot be read: .*{reason}'
    with pytest.raises(UserError, match=message) as caught:
        read({'file': str(tmp_path / name), 'fidelity': 'pbe'})
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('symbol', 'meant'),
    [('Ga1', 'Ga'), ('D', 'H'), ('O2-', 'O'), ('N_a', 'N')],
)
def test_symbols_that_are_none(symbol: str, meant: str, tmp_path: Path) -> None:
    file = tmp_path / 'a.extxyz'
    frames = [f'1\nenergy=-1\n{s} 0 0 0\n' for s in ('N', 'N', symbol)]
    file.write_text(''.join(frames))
    words = rf"after frame 1, has '{symbol}' as an element symbol\. Write '{meant}'"
    with pytest.raises(UserError, match=words):
        read({'file': str(file), 'fidelity': 'pbe'})


def test_what_a_reader_lacks_is_no_bare_word(tmp_path: Path) -> None:
    file = xyz(tmp_path / 'a.extxyz', 'energy=-1', 'Foo 0 0 0')
    with pytest.raises(UserError, match=r"be read: it lacks 'Foo', or"):
        read({'file': file, 'fidelity': 'pbe'})


def test_an_error_in_a_listed_file_names_that_file(tmp_path: Path) -> None:
    xyz(tmp_path / 'a.extxyz', 'energy=-1', 'Ga1 0 0 0')
    (tmp_path / 'structure_list').write_text('[a]\na.extxyz\n')
    with pytest.raises(UserError, match=r"a\.extxyz has 'Ga1' as an element symbol"):
        read({'file': str(tmp_path / 'structure_list'), 'fidelity': 'pbe'})


def test_bad_index(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'cannot be read: .*its `index`'):
        read({'file': PBE, 'fidelity': 'pbe', 'index': 'a:b'})


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('gone.extxyz', None, r'^no such file: .*gone\.extxyz\.$'),
        ('folder', b'', r'/folder is a folder; give a file in it\.$'),
        ('a.bin', b'hello', r'by that name\. Convert it to extended XYZ\.$'),
        ('a.extxyz', b'8\n\nH 0 0 0\n', r'\. Correct the file, or remove it'),
    ],
)
def test_structures_alone_have_no_entry(
    name: str, content: bytes | None, message: str, tmp_path: Path
) -> None:
    """No message recommends what could stand in one."""
    path = tmp_path / name
    if name == 'folder':
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        next(atoms_of(str(path)))


def test_errors_are_handed_over_and_reading_goes_on(tmp_path: Path) -> None:
    frames = labelled(), labelled(energy=None), labelled(energy=np.nan), labelled()
    broken = tmp_path / 'broken.extxyz'
    broken.write_text('nonsense\n')
    files = [write(tmp_path / 'a.extxyz', *frames), str(broken), PBE]
    entry = {'file': files, 'fidelity': 'pbe', 'stress_key': 'S'}
    errors: list[UserError] = []
    structures = list(read_entry(entry, None, ['pbe'], CUTOFF, errors.append))
    assert [s.frame for s in structures if s.file == 0] == [0, 3]
    assert len([s for s in structures if s.file == 2]) == 36
    told = ['a.extxyz:1 has no energy', 'a.extxyz:2 has', 'broken', 'stress_key']
    assert len(errors) == len(told)
    for error, words in zip(errors, told, strict=True):
        assert words in str(error)
