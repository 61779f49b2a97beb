"""Processed graphs on disk: those of the host, and never stale or half written."""

import os
import pickle
import resource
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import fcc111
from ase.calculators.singlepoint import SinglePointCalculator
from sevenn import _keys as KEY
from sevenn.train import dataload
from sevenn.train.graph_dataset import SevenNetGraphDataset

from sevennet_mf.data.processed import build as build_module
from sevennet_mf.data.processed import store
from sevennet_mf.data.processed.build import GRACE, build, load_or_build
from sevennet_mf.data.processed.cache import Cached, recipe_of
from sevennet_mf.errors import UserError

CUTOFF = 4.5
NAMES = ['pbe', 'r2scan', 'ccsdt']


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that were processed, in turn."""
    done: list[Path] = []

    def counted(*args: object) -> None:
        done.append(args[3])
        build(*args)

    monkeypatch.setattr(build_module, 'build', counted)
    return done


@pytest.fixture
def few(ingan: Path, tmp_path: Path) -> str:
    """Six real structures in a file of its own."""
    file = tmp_path / 'few.extxyz'
    ase.io.write(file, ase.io.read(ingan / 'pbe_valid.extxyz', ':6'))
    return str(file)


def load(file: str | list[str], folder: Path, **options: object) -> Cached:
    files = [file] if isinstance(file, str) else file
    entry = {'file': files, 'fidelity': 'pbe'}
    cutoff = options.pop('cutoff', CUTOFF)
    cores = options.pop('cores', 1)
    key = options.pop('key', None)
    entry |= options
    return load_or_build(entry, key, NAMES, cutoff, folder / 'sevenn_data', cores)


def single(atoms: Atoms) -> Atoms:
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0)
    return atoms


# ----------------------------------------------------------------- what is stored


def same_graphs(cached: Cached, frames: list[Atoms], cutoff: float) -> None:
    rows = cached.rows()
    assert len(cached) == len(rows) == len(frames)
    for row, atoms in zip(rows, frames, strict=True):
        host = dataload.graph_build([atoms], cutoff, allow_unlabeled=True)[0]
        own = cached.graph(int(row))
        for key in (KEY.EDGE_IDX, KEY.EDGE_VEC, KEY.POS, KEY.CELL_VOLUME):
            assert own[key].dtype == host[key].dtype
            assert torch.equal(own[key], host[key]), key
        assert torch.equal(own[KEY.ATOMIC_NUMBERS], host[KEY.ATOMIC_NUMBERS])
        for key in (KEY.FORCE, KEY.STRESS):
            assert torch.equal(own[key].nan_to_num(7.0), host[key].nan_to_num(7.0))


@pytest.mark.parametrize('cores', [1, 2])
def test_graphs_are_those_of_the_host(
    ingan: Path, tmp_path: Path, cores: int
) -> None:
    file = str(ingan / 'pbe_valid.extxyz')
    cached = load(file, tmp_path, cores=cores)
    same_graphs(cached, dataload.ase_reader(file), CUTOFF)


def test_graphs_of_molecules_and_slabs_are_those_of_the_host(
    molecules: Path, tmp_path: Path
) -> None:
    file = str(molecules / 'pbe_valid.extxyz')
    same_graphs(load(file, tmp_path), dataload.ase_reader(file), CUTOFF)
    slab = fcc111('Al', (2, 2, 2), vacuum=4.0)  # does not repeat along z
    slab.info.clear()  # of a kind that no extended XYZ keeps
    lone = Atoms('H', [[0.0, 0.0, 0.0]])
    file = str(tmp_path / 'slab.extxyz')
    ase.io.write(file, [single(slab), single(lone)])
    same_graphs(load(file, tmp_path), dataload.ase_reader(file), CUTOFF)


def test_numbers_of_each_structure(ingan: Path, tmp_path: Path) -> None:
    file = str(ingan / 'r2scan_valid.extxyz')
    cached = load(file, tmp_path)
    frames = ase.io.read(file, ':')
    arrays = cached.arrays
    energies = [a.calc.results['free_energy'] for a in frames]
    assert arrays['energy'].tolist() == energies  # float64
    assert arrays['n_atoms'].tolist() == [len(a) for a in frames]
    assert arrays['has_force'].all()
    assert not arrays['has_stress'].any()
    squares = [np.sum(a.calc.results['forces'] ** 2) for a in frames]
    assert arrays['force_square'] == pytest.approx(squares)
    composition = cached.compositions.at(np.arange(13))
    assert composition.shape == (13, 119)
    for count, atoms in zip(composition, frames, strict=True):
        assert (count == np.bincount(atoms.numbers, minlength=119)).all()
    for row in (0, 12):
        edges = cached.graph(row)[KEY.EDGE_IDX]
        assert arrays['n_edges'][row] == edges.shape[1]
        assert arrays['n_centres'][row] == len(torch.unique(edges[0]))
    assert cached.source(7) == f'{file}:7'


def test_numbers_are_written_in_blocks(
    ingan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, 'BLOCK', 5)
    file = str(ingan / 'r2scan_valid.extxyz')
    cached = load(file, tmp_path)
    same_graphs(cached, dataload.ase_reader(file), CUTOFF)
    counts = cached.compositions.at(np.arange(13)).sum(axis=1)
    assert counts.tolist() == cached.arrays['n_atoms'].tolist()
    assert cached.arrays['frame'].tolist() == list(range(13))


def test_structures_are_read_one_at_a_time(few: str, tmp_path: Path) -> None:
    cached = load(few, tmp_path)
    cached.graph(0)[KEY.CELL_VOLUME].fill_(0.0)  # as the host does
    cached.graph(0)[KEY.EDGE_VEC].fill_(0.0)
    assert cached.graph(0)[KEY.CELL_VOLUME] > 1.0
    assert cached.graph(0)[KEY.EDGE_VEC].abs().max() > 1.0
    # neither in memory nor mapped, whose pages would count as memory
    mapped = Path('/proc/self/maps').read_text()
    assert str(cached.folder / 'records.bin') not in mapped


def test_host_graph_files(ingan: Path, tmp_path: Path) -> None:
    file = str(ingan / 'pbe_valid.extxyz')
    host = SevenNetGraphDataset(
        cutoff=CUTOFF, root=str(tmp_path), files=[file], processed_name='set.pt'
    )
    cached = load(str(tmp_path / 'sevenn_data/set.pt'), tmp_path)
    from_file = load(file, tmp_path)
    for row in range(len(host)):
        own = cached.graph(row)
        assert torch.equal(own[KEY.EDGE_VEC], host[row][KEY.EDGE_VEC])
        for key, value in from_file.graph(row).items():
            assert torch.equal(own[key], value), key
            assert own[key].dtype == value.dtype


def test_the_form_of_version_0_1_0(
    former_graphs: Path, tmp_path: Path, builds: list[Path]
) -> None:
    """A folder that was written by it is opened, and equal to a new one."""
    file = str(former_graphs / 'few.extxyz')
    recipe = recipe_of({'file': [file], 'fidelity': 'pbe'}, None, 3.0)
    former = tmp_path / 'sevenn_data' / recipe.former_name
    shutil.copytree(former_graphs / 'processed', former)
    old = load(file, tmp_path, cutoff=3.0)
    assert not builds
    new = load(file, tmp_path / 'elsewhere', cutoff=3.0)
    assert len(builds) == 1
    assert (old.folder, len(old)) == (former, len(new))
    assert old.fidelity_names == new.fidelity_names
    for name in set(store.COLUMNS) - {'start', 'n_elements', 'signature'}:
        assert np.array_equal(old.arrays[name], new.arrays[name]), name
    signatures = old.arrays['signature'], new.arrays['signature']
    assert np.allclose(*signatures, rtol=1e-5, atol=1e-2)
    rows = np.arange(len(old))
    assert (old.compositions.at(rows) == new.compositions.at(rows)).all()
    for row in rows.tolist():
        assert old.source(row) == new.source(row)
        graph = old.graph(row)
        assert graph.keys() == new.graph(row).keys()
        for key, value in new.graph(row).items():
            other = graph[key]
            assert torch.equal(value.nan_to_num(7.0), other.nan_to_num(7.0)), key
            assert value.dtype == other.dtype
        for name, value in vars(new.geometry(row)).items():
            assert np.array_equal(value, getattr(old.geometry(row), name))
    graph = pickle.loads(pickle.dumps(old)).graph(1)  # as a worker process has it
    assert torch.equal(graph[KEY.POS], new.graph(1)[KEY.POS])


# -------------------------------------------------------------- when it is rebuilt


def test_unchanged_is_not_processed_twice(
    few: str, tmp_path: Path, builds: list[Path]
) -> None:
    first = load(few, tmp_path)
    # another name, another folder, another time: the same content
    copy = str(tmp_path / 'copy.extxyz')
    shutil.copyfile(few, copy)
    second = load(copy, tmp_path)
    assert len(builds) == 1
    assert first.folder == second.folder
    assert second.source(0) == f'{copy}:0'


def test_changed_content_of_same_size_and_time_is_processed(
    few: str, tmp_path: Path, builds: list[Path]
) -> None:
    before = load(few, tmp_path).arrays['energy']
    stat, text = os.stat(few), Path(few).read_text()
    number = text.split('free_energy=')[1].split()[0]
    changed = text.replace(f'free_energy={number}', f'free_energy={number[:-1]}0', 1)
    changed = changed.replace('free_energy=-4', 'free_energy=-5', 1)
    assert changed != text
    assert len(changed) == len(text)
    Path(few).write_text(changed)
    os.utime(few, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    after = load(few, tmp_path).arrays['energy']
    assert len(builds) == 2
    assert (before != after).any()


def test_other_files_in_the_same_folder_of_a_run(
    ingan: Path, few: str, tmp_path: Path
) -> None:
    # the host trains on the six structures of the first run (HOST_TRAPS 4)
    assert len(load(few, tmp_path)) == 6
    assert len(load(str(ingan / 'pbe_valid.extxyz'), tmp_path)) == 36


@pytest.mark.parametrize(
    'changed',
    [
        {'cutoff': 4.0},
        {'fidelity': 'r2scan'},
        {'energy_key': 'energy'},
        {'force_key': None},
        {'stress_key': None},
        {'index': ':6'},
        {'format': 'extxyz'},
        {'key': 'method'},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_whatever_matters_is_in_the_name(
    few: str, tmp_path: Path, builds: list[Path], changed: dict
) -> None:
    load(few, tmp_path)
    if changed == {'fidelity': 'r2scan'}:
        changed['force_key'] = 'forces'
    load(few, tmp_path, **changed)
    assert len(builds) == 2
    assert builds[0] != builds[1]


@pytest.mark.parametrize('package', ['sevenn', 'ase'])
def test_other_versions_process_again(
    few: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    entry = {'file': [few], 'fidelity': 'pbe'}
    before = recipe_of(entry, None, CUTOFF).folder_name
    monkeypatch.setattr(sys.modules[package], '__version__', '99.0')
    assert recipe_of(entry, None, CUTOFF).folder_name != before


def test_order_of_files_does_not_matter_but_is_kept(
    ingan: Path, tmp_path: Path, builds: list[Path]
) -> None:
    files = [str(ingan / f'pbe_{name}.extxyz') for name in ('valid', 'train')]
    for order in (files, files[::-1]):
        cached = load(order, tmp_path, stress_key=None)
        sources = [cached.source(int(row)).split(':')[0] for row in cached.rows()]
        assert list(dict.fromkeys(sources)) == order
        frames = [int(cached.source(int(r)).split(':')[1]) for r in cached.rows()]
        assert frames == [
            k for file in order for k in range(36 if 'valid' in file else 164)
        ]
    assert len(builds) == 1


def test_files_that_a_structure_list_names(
    few: str, tmp_path: Path, builds: list[Path]
) -> None:
    listed = tmp_path / 'structure_list'
    listed.write_text(f'[all]\n{few}\n')
    assert len(load(str(listed), tmp_path)) == 6
    ase.io.write(few, ase.io.read(few, ':2'))
    assert len(load(str(listed), tmp_path)) == 2
    assert len(builds) == 2


def test_file_that_changes_while_it_is_read(
    few: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = store.Writer.finish

    def late_change(writer: store.Writer, meta: dict) -> None:
        finish(writer, meta)
        with open(few, 'a') as stream:
            stream.write('1\nenergy=-1\nH 0 0 0\n')

    monkeypatch.setattr(store.Writer, 'finish', late_change)
    with pytest.raises(UserError, match=r'few\.extxyz changed while it was read'):
        load(few, tmp_path)
    assert not list((tmp_path / 'sevenn_data').iterdir())


# --------------------------------------------------------------- whole or not at all


def test_a_damaged_folder_is_processed_again(
    few: str, tmp_path: Path, builds: list[Path]
) -> None:
    for damage in ('records.bin', 'meta.json'):
        path = load(few, tmp_path).folder / damage
        path.write_bytes(path.read_bytes()[:100])
    path = load(few, tmp_path).folder / 'energy.bin'
    path.unlink()
    assert load(few, tmp_path).graph(5)[KEY.POS].shape[1] == 3
    assert len(builds) == 4


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from sevennet_mf.data.processed import store
    from sevennet_mf.data.processed import build

    make = build.item_of

    def kill_at_fourth(structure, *rest):
        if structure.frame == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return make(structure, *rest)

    store.BLOCK = 2
    build.item_of = kill_at_fourth
    entry = {'file': [sys.argv[1]], 'fidelity': 'pbe'}
    build.load_or_build(entry, None, ['pbe'], 4.5, Path(sys.argv[2]))
"""


def test_killed_in_the_middle(few: str, tmp_path: Path, builds: list[Path]) -> None:
    folder = tmp_path / 'sevenn_data'
    code = textwrap.dedent(KILLED)
    run = subprocess.run([sys.executable, '-c', code, few, str(folder)], check=False)
    assert run.returncode == -9
    (left,) = folder.iterdir()
    assert left.name.endswith('.tmp')
    assert (left / 'records.bin').exists()
    assert not (left / 'meta.json').exists()
    assert len(load(few, tmp_path)) == 6
    assert len(builds) == 1
    assert left.exists()  # too young to tell from one that is being started
    old = time.time() - 2 * GRACE
    os.utime(left, (old, old))
    load(few, tmp_path)
    assert not left.exists()
    assert len(builds) == 1


def test_work_of_others_is_let_alone(few: str, tmp_path: Path) -> None:
    target = tmp_path / 'sevenn_data/fidelity_0'
    with build_module._temporary(target) as folder:
        old = time.time() - 2 * GRACE
        os.utime(folder, (old, old))
        load(few, tmp_path)
        assert folder.exists()
    assert not folder.exists()


def test_two_at_once(
    few: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = store.Writer.finish
    others: list[Cached] = []

    def overtaken(writer: store.Writer, meta: dict) -> None:
        finish(writer, meta)
        if not others:
            others.append(None)  # type: ignore[arg-type]
            others[0] = load(few, tmp_path)

    monkeypatch.setattr(store.Writer, 'finish', overtaken)
    own = load(few, tmp_path)
    assert own.folder == others[0].folder
    assert len(list((tmp_path / 'sevenn_data').iterdir())) == 1
    assert torch.equal(own.graph(3)[KEY.POS], others[0].graph(3)[KEY.POS])


def test_an_error_leaves_nothing(few: str, tmp_path: Path) -> None:
    with open(few, 'a') as stream:
        stream.write('1\nfoo=1\nH 0 0 0\n')
    with pytest.raises(UserError, match=r'few\.extxyz:6 has no energy'):
        load(few, tmp_path)
    assert not list((tmp_path / 'sevenn_data').iterdir())


def test_folder_that_cannot_be_written(few: str, tmp_path: Path) -> None:
    (tmp_path / 'sevenn_data').write_text('a file is in the way')
    with pytest.raises(UserError, match=r'sevenn_data cannot be written: .*exists'):
        load(few, tmp_path)


def test_full_disk(few: str, tmp_path: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limit[1]))
    try:
        with pytest.raises(UserError, match=r'cannot be written: .*Free some space'):
            load(few, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert not list((tmp_path / 'sevenn_data').iterdir())


# ------------------------------------------------------------------------- overlaps


@pytest.mark.parametrize('cores', [1, 2])
@pytest.mark.parametrize(
    ('positions', 'cell', 'message'),
    [
        ([[0, 0, 0], [0, 0, 0]], None, r':0: atoms Ga\(0\) and N\(1\) are 0\.000 Å'),
        ([[0, 0, 0], [0, 0, 0.15]], None, r'Ga\(0\) and N\(1\) are 0\.150 Å apart'),
        ([[0, 0, 0.05], [0, 0, 2.9]], 3.0, r'Ga\(0\) and N\(1\) are 0\.150 Å'),
        ([[0, 0, 0.0], [0.1, 0, 0.05]], 0.19, r'Å apart, closer than 0\.2'),
    ],
)
def test_atoms_on_top_of_each_other(
    tmp_path: Path, positions: list, cell: float | None, message: str, cores: int
) -> None:
    atoms = Atoms('GaN', positions)
    if cell:
        atoms.set_cell([5.0, 5.0, cell])
        atoms.pbc = True
    file = str(tmp_path / 'a.extxyz')
    ase.io.write(file, single(atoms))
    with pytest.raises(UserError, match=message):
        load(file, tmp_path, cores=cores)


def test_an_atom_and_its_own_image(tmp_path: Path) -> None:
    atoms = Atoms('N', cell=[5, 5, 0.15], pbc=True)
    file = str(tmp_path / 'a.extxyz')
    ase.io.write(file, single(atoms))
    with pytest.raises(UserError, match=r'N\(0\) and an image of N\(0\) are 0\.150'):
        load(file, tmp_path, cutoff=0.3)


def test_bar_with_the_time_left(few: str, tmp_path: Path) -> None:
    # known beforehand for XYZ; else judged by the size of what was read
    frames = ase.io.read(few, ':')
    files = [str(tmp_path / f'{k}.traj') for k in range(3)]
    for k, file in enumerate(files):
        ase.io.write(file, frames[2 * k : 2 * k + 2])
    totals = []
    for names in ([few], files):
        entry = {'file': names, 'fidelity': 'pbe'}
        recipe = recipe_of(entry, None, CUTOFF)
        ordered = {**entry, 'file': [i.path for i in recipe.inputs]}
        with build_module._Progress(recipe, entry) as progress:
            how = build_module.Processing(None, NAMES, CUTOFF, tmp_path)
            structures = build_module.read_entry(ordered, None, NAMES, CUTOFF)
            for item in build_module._items(structures, how):
                progress.passed(item)
            totals.append((progress.total, progress.bar.total))
    assert totals[0] == (6, 6)
    assert totals[1][0] is None
    assert totals[1][1] == pytest.approx(6, abs=1)
