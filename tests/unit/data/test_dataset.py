"""Data sets of several fidelities: graphs, residual energies, what is refused."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import fcc111
from ase.calculators.singlepoint import SinglePointCalculator
from helpers import rewritten
from sevenn import _keys as KEY
from sevenn.train.graph_dataset import SevenNetGraphDataset
from sevenn.train.modal_dataset import SevenNetMultiModalDataset
from torch_geometric.loader import DataLoader

from sevennet_mf import keys
from sevennet_mf.data.dataset import (
    FidelityDataset,
    build_datasets,
    pair_index,
    random_split,
)
from sevennet_mf.data.processed import build as build_module
from sevennet_mf.data.processed import cache
from sevennet_mf.data.processed.build import Processing
from sevennet_mf.errors import UserError

CUTOFF = 4.5


def config_of(**loads: list[dict]) -> dict:
    entries = {f'load_{name}_path': value for name, value in loads.items()}
    return {
        KEY.CUTOFF: CUTOFF,
        KEY.MODAL_MAP: {'pbe': 0, 'r2scan': 1},
        keys.FIDELITY_DATA: {'order': ['pbe', 'r2scan'], 'key': None},
        **entries,
    }


def entry(folder: Path, name: str, fidelity: str | None) -> dict:
    plain = {'file': [str(folder / f'{name}.extxyz')]}
    return plain if fidelity is None else {**plain, 'fidelity': fidelity}


@pytest.fixture(scope='module')
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp('work')


@pytest.fixture(scope='module')
def sets(work: Path, ingan: Path) -> dict[str, FidelityDataset]:
    train = [
        entry(ingan, 'pbe_train', 'pbe'),
        entry(ingan, 'r2scan_pool', 'r2scan'),
    ]
    valid = [entry(ingan, 'r2scan_valid', 'r2scan')]
    both = [*valid, entry(ingan, 'pbe_valid', 'pbe')]
    config = config_of(trainset=train, validset=both, pbe_testset=valid)
    before = copy.deepcopy(config)
    result = build_datasets(config, work)
    assert config == before  # the host pops keys out of it
    return result


def test_each_entry_is_opened_once(
    sets: dict[str, FidelityDataset],
    work: Path,
    ingan: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the first process, which makes them, as by one that waited."""
    names: list[str] = []
    real = Processing.load_or_build

    def counted(self: Processing, entry: Any, recipe: Any) -> Any:
        names.append(entry['file'][0])
        return real(self, entry, recipe)

    monkeypatch.setattr(Processing, 'load_or_build', counted)
    valid = entry(ingan, 'r2scan_valid', 'r2scan')
    config = config_of(trainset=[entry(ingan, 'pbe_train', 'pbe'), valid])
    shared: list[Any] = []

    def first(find: Any) -> Any:
        shared.append(find())
        return shared[0]

    for share in (None, first, lambda find: shared[0]):
        names.clear()
        found = build_datasets(config, work, share)
        assert len(found['trainset']) == 164 + 13
        assert len(names) == len(set(names)) == 2


@pytest.fixture
def train(sets: dict[str, FidelityDataset]) -> FidelityDataset:
    return copy.deepcopy(sets['trainset'])


# ------------------------------------------------------------------------- contents


def test_sets_have_the_hosts_names(sets: dict[str, FidelityDataset]) -> None:
    assert list(sets) == ['trainset', 'validset', 'pbe_testset']
    assert [len(d) for d in sets.values()] == [164 + 47, 13 + 36, 13]


def test_columns(train: FidelityDataset, ingan: Path) -> None:
    assert train.fidelities == ('pbe', 'r2scan')
    assert train.fidelity_index.tolist() == [0] * 164 + [1] * 47
    frames = ase.io.read(ingan / 'r2scan_pool.extxyz', ':')
    energies = [a.calc.results['free_energy'] for a in frames]
    assert train.energy[164:].tolist() == energies
    assert train.has['force'].all()
    assert train.has['energy'].all()
    assert (train.has['stress'] == (train.fidelity_index == 0)).all()
    assert train.composition.shape == (211, 119)
    assert (train.composition.sum(axis=1) == train.n_atoms).all()
    assert train.source(170) == f'{ingan / "r2scan_pool.extxyz"}:6'
    assert list(train.file_hashes) == [
        str(ingan / 'pbe_train.extxyz'),
        str(ingan / 'r2scan_pool.extxyz'),
    ]
    assert all(len(sha) == 64 for sha in train.file_hashes.values())


def test_graph_is_the_hosts(
    train: FidelityDataset, ingan: Path, tmp_path: Path
) -> None:
    host = SevenNetGraphDataset(
        cutoff=CUTOFF, root=str(tmp_path), files=[str(ingan / 'pbe_train.extxyz')]
    )
    theirs = next(iter(DataLoader(SevenNetMultiModalDataset({'pbe': host}), 4)))
    own = next(iter(DataLoader(train, 4)))
    extra = {keys.FIDELITY_INDEX, keys.STRUCTURE_INDEX, keys.SAMPLE_WEIGHT}
    assert set(own.keys()) == set(theirs.keys()) | extra
    for key, value in theirs.to_dict().items():
        if isinstance(value, torch.Tensor):
            assert own[key].dtype == value.dtype, key
            assert torch.equal(own[key], value), key
    assert own[KEY.DATA_MODALITY] == theirs[KEY.DATA_MODALITY] == ['pbe'] * 4


def test_keys_of_ours_survive_batching(train: FidelityDataset) -> None:
    batch = next(iter(DataLoader(train.subset([3, 170, 0]), 3)))
    assert batch[keys.FIDELITY_INDEX].tolist() == [0, 1, 0]
    assert batch[keys.STRUCTURE_INDEX].tolist() == [0, 1, 2]
    assert batch[keys.SAMPLE_WEIGHT].tolist() == [1.0, 1.0, 1.0]
    assert batch[keys.SAMPLE_WEIGHT].dtype == torch.float32
    assert batch[KEY.DATA_MODALITY] == ['pbe', 'r2scan', 'pbe']
    assert batch[KEY.EDGE_IDX].max() == batch[KEY.NUM_ATOMS].sum() - 1


def test_missing_labels_are_nan(train: FidelityDataset) -> None:
    r2scan = train[180]
    assert r2scan[KEY.STRESS].shape == (1, 6)
    assert r2scan[KEY.STRESS].isnan().all()
    assert not r2scan[KEY.FORCE].isnan().any()
    assert not train[0][KEY.STRESS].isnan().any()


def test_nothing_is_shared_between_graphs(train: FidelityDataset) -> None:
    first = train[0]
    assert first['x'].data_ptr() != first[KEY.ATOMIC_NUMBERS].data_ptr()
    for key, value in first.to_dict().items():
        if isinstance(value, torch.Tensor) and value.numel():
            value.zero_()
            zero_anyway = (keys.FIDELITY_INDEX, keys.STRUCTURE_INDEX)
            assert key in zero_anyway or train[0][key].any(), key


def test_index_out_of_range(train: FidelityDataset) -> None:
    for i in (-1, len(train)):
        with pytest.raises(IndexError):
            train[i]


def test_a_worker_process_opens_the_files_for_itself(train: FidelityDataset) -> None:
    graph = train[200]
    data = pickle.dumps(train)
    assert len(data) < 200_000  # the arrays over the structures, no graph
    assert torch.equal(pickle.loads(data)[200][KEY.POS], graph[KEY.POS])


def test_one_fidelity_names_no_modality(ingan: Path, work: Path) -> None:
    config = config_of(trainset=[entry(ingan, 'r2scan_valid', 'r2scan')])
    del config[KEY.MODAL_MAP]
    config[keys.FIDELITY_DATA]['order'] = ['r2scan']
    alone = build_datasets(config, work)['trainset']
    assert KEY.DATA_MODALITY not in alone[0]
    assert alone[0][keys.FIDELITY_INDEX] == 0


def test_order_of_the_modal_map(ingan: Path, work: Path) -> None:
    config = config_of(trainset=[entry(ingan, 'r2scan_valid', 'r2scan')])
    config[KEY.MODAL_MAP] = {'r2scan': 1, 'ccsdt': 2, 'pbe': 0}
    dataset = build_datasets(config, work)['trainset']
    assert dataset.fidelities == ('pbe', 'r2scan', 'ccsdt')
    assert set(dataset.fidelity_index) == {1}


def test_cached_fidelity_that_is_no_longer_known(
    ingan: Path, tmp_path: Path
) -> None:
    config = config_of(trainset=[entry(ingan, 'r2scan_valid', None)])
    config[keys.FIDELITY_DATA]['key'] = 'method'
    assert len(build_datasets(config, tmp_path)['trainset']) == 13
    config[KEY.MODAL_MAP] = {'pbe': 0, 'r2SCAN': 1}
    message = r"valid\.extxyz:0: its fidelity .*'r2SCAN'\], got 'r2scan'\. Did you"
    with pytest.raises(UserError, match=message):
        build_datasets(config, tmp_path)


# ------------------------------------------------------------------------- energies


def reference(**energies: list[float]) -> np.ndarray:
    result = np.zeros((2, 119))
    for f, values in enumerate(energies.values()):
        result[f, [7, 31, 49]] = values
    return result


def test_residual_energies(train: FidelityDataset) -> None:
    raw = train.energy.copy()
    energies = reference(pbe=[-8.0, -3.0, -2.5], r2scan=[-10.0, -14.0, -30.0])
    train.set_reference(energies)
    assert (train.energy == raw).all()
    e = energies[train.fidelity_index]
    expected = raw - np.einsum('ij,ij->i', train.composition, e)
    assert train.residual == pytest.approx(expected, abs=1e-9)
    for i in (0, 180):
        graph = train[i]
        assert graph[KEY.ENERGY] == np.float32(train.residual[i])
        per_atom = np.float32(train.residual[i] / train.n_atoms[i])
        assert graph[KEY.PER_ATOM_ENERGY] == per_atom
        assert graph[KEY.ENERGY].dtype == torch.float32
        assert graph[KEY.ENERGY].shape == ()


def test_all_electron_energies_lose_nothing(molecules: Path, work: Path) -> None:
    config = config_of(trainset=[entry(molecules, 'ccsdt_train', 'ccsdt')])
    config[KEY.MODAL_MAP] = {'pbe': 0, 'ccsdt': 1}
    dataset = build_datasets(config, work)['trainset']
    x, energy = dataset.composition, dataset.energy
    fitted = np.linalg.lstsq(x.astype(float), energy, rcond=None)[0]
    exact = energy - x @ fitted
    dataset.set_reference(np.stack([fitted, fitted]))
    own = np.array([dataset[i][KEY.ENERGY].item() for i in range(len(dataset))])
    assert np.abs(own - exact).max() < 1e-6
    # what is lost when total energies are cast first (HOST_TRAPS 21)
    cast = energy.astype(np.float32).astype(float)
    assert np.abs(cast - energy).max() > 1e-4


def test_an_unknown_reference_spoils_nothing_else(train: FidelityDataset) -> None:
    energies = reference(pbe=[-8.0, -3.0, -2.5], r2scan=[-8.0, -3.0, np.nan])
    train.set_reference(energies)
    has_indium = train.composition[:, 49] > 0
    spoilt = has_indium & (train.fidelity_index == 1)
    assert spoilt.any()
    assert (np.isnan(train.residual) == spoilt).all()


def test_subset_keeps_labels_and_references(train: FidelityDataset) -> None:
    train.set_reference(reference(pbe=[-8, -3, -2.5], r2scan=[-10, -14, -30]))
    rows = [210, 5, 164]
    part = train.subset(rows)
    assert len(part) == 3
    assert part.residual.tolist() == train.residual[rows].tolist()
    assert (part.composition == train.composition[rows]).all()
    assert [part.source(k) for k in range(3)] == [train.source(k) for k in rows]
    for k, row in enumerate(rows):
        assert part[k][KEY.ENERGY] == train[row][KEY.ENERGY]
        assert torch.equal(part[k][KEY.POS], train[row][KEY.POS])
    assert part.subset([1]).source(0) == train.source(5)
    assert len(part.file_hashes) == 2
    assert len(part.subset([1]).file_hashes) == 1


def test_two_sets_are_joined(sets: dict[str, FidelityDataset]) -> None:
    first = sets['trainset'].subset([5, 170])
    second = sets['validset'].subset([2, 0, 1])
    both = first.joined(second)
    assert len(both) == 5
    assert [both.source(i) for i in range(5)] == [
        *(first.source(i) for i in range(2)),
        *(second.source(i) for i in range(3)),
    ]
    for name in ('energy', 'n_atoms', 'fingerprint', 'fidelity_index', 'residual'):
        parts = [getattr(first, name), getattr(second, name)]
        assert np.array_equal(getattr(both, name), np.concatenate(parts))
    assert torch.equal(both[2][KEY.POS], second[0][KEY.POS])
    assert torch.equal(both[1][KEY.FORCE], first[1][KEY.FORCE])
    assert np.array_equal(both.subset([4]).composition, second.composition[2:])
    assert (len(first), len(second)) == (2, 3)


def test_statistics_are_the_hosts(
    train: FidelityDataset, ingan: Path, tmp_path: Path
) -> None:
    host = SevenNetMultiModalDataset(
        {
            name: SevenNetGraphDataset(
                cutoff=CUTOFF,
                root=str(tmp_path),
                files=[str(ingan / f'{file}.extxyz')],
                processed_name=name,
            )
            for name, file in (('pbe', 'pbe_train'), ('r2scan', 'r2scan_pool'))
        }
    )
    average = host.avg_num_neigh['total']
    assert train.average_neighbours() == pytest.approx(average, rel=1e-6)
    assert train.force_rms() == pytest.approx(host.force_rms['total'], rel=1e-5)
    for number, name in enumerate(('pbe', 'r2scan')):
        rms, std = host.force_rms[name], host.per_atom_energy_std[name]
        assert train.force_rms(name) == pytest.approx(rms, rel=1e-5)
        assert train.force_rms(number) == pytest.approx(rms, rel=1e-5)
        assert train.residual_energy_std(name) == pytest.approx(std, rel=1e-4)


def test_no_forces_have_no_rms(molecules: Path, work: Path) -> None:
    config = config_of(trainset=[entry(molecules, 'ccsdt_valid', 'pbe')])
    dataset = build_datasets(config, work)['trainset']
    assert np.isnan(dataset.force_rms())
    assert np.isnan(dataset.residual_energy_std('r2scan'))
    assert dataset.residual_energy_std('pbe') > 0


# --------------------------------------------------------------- pairs and partition


def sids(dataset: FidelityDataset, fidelity: str) -> list[int]:
    rows = dataset.rows_of(fidelity)
    sources = [dataset.source(int(i)).rsplit(':', 1) for i in rows]
    return [ase.io.read(file, int(k)).info['sid'] for file, k in sources]


def test_pairs_are_those_of_the_data(train: FidelityDataset) -> None:
    # `sid` in the files tells which structures are the same
    base, high = sids(train, 'pbe'), sids(train, 'r2scan')
    expected = [base.index(sid) if sid in base else -1 for sid in high]
    assert max(expected) >= 0
    assert pair_index(train, 'pbe', 'r2scan').tolist() == expected
    assert pair_index(train, 'pbe', 'pbe').tolist() == list(range(164))


def test_pairs_however_they_are_written(tmp_path: Path, ingan: Path) -> None:
    """Labels of the other order of the atoms belong to the same structure."""
    low = ase.io.read(ingan / 'pbe_valid.extxyz', ':6')
    high = [rewritten(atoms, seed, 1e-5) for seed, atoms in enumerate(low)]
    ase.io.write(tmp_path / 'low.extxyz', low)
    ase.io.write(tmp_path / 'high.extxyz', high[::-1])
    files = [entry(tmp_path, 'low', 'pbe'), entry(tmp_path, 'high', 'r2scan')]
    dataset = build_datasets(config_of(trainset=files), tmp_path)['trainset']
    assert pair_index(dataset, 'pbe', 'r2scan').tolist() == [5, 4, 3, 2, 1, 0]
    for i in range(6):
        order = dataset.order_between(11 - i, i)
        assert order is not None
        own, other = dataset[i], dataset[11 - i]
        numbers, forces = other[KEY.ATOMIC_NUMBERS][order], other[KEY.FORCE][order]
        assert torch.equal(numbers, own[KEY.ATOMIC_NUMBERS])
        torch.testing.assert_close(forces, own[KEY.FORCE])
    # they are not parted, and parts of a set agree
    train, valid = random_split(dataset, 0.5, 1)
    assert not set(train.fingerprint) & set(valid.fingerprint)
    both = set(train.fingerprint) | set(valid.fingerprint)
    assert both == set(dataset.fingerprint)
    assert len(set(valid.fingerprint)) == 3


def test_pairs_with_the_nearest_of_several(tmp_path: Path, ingan: Path) -> None:
    """Of the last steps of a relaxation, the one that was labelled."""
    atoms = ase.io.read(ingan / 'pbe_valid.extxyz', 0)
    steps = []
    for k in range(3):
        step = atoms.copy()
        step.positions[0, 0] += 4e-4 * k
        step.calc = SinglePointCalculator(step, energy=-float(k))
        steps.append(step)
    ase.io.write(tmp_path / 'low.extxyz', steps)
    ase.io.write(tmp_path / 'high.extxyz', [rewritten(s) for s in steps[::-1]])
    files = [entry(tmp_path, 'low', 'pbe'), entry(tmp_path, 'high', 'r2scan')]
    files = [{**file, 'force_key': None} for file in files]
    dataset = build_datasets(config_of(trainset=files), tmp_path)['trainset']
    assert pair_index(dataset, 'pbe', 'r2scan').tolist() == [2, 1, 0]


def test_pairs_without_a_base(train: FidelityDataset) -> None:
    high = train.subset(train.rows_of('r2scan'))
    assert pair_index(high, 'pbe', 'r2scan').tolist() == [-1] * 47
    assert pair_index(high, 'r2scan', 'pbe').tolist() == []


def test_random_split_keeps_pairs_together(train: FidelityDataset) -> None:
    kept, held = random_split(train, 0.2, seed=3)
    assert len(kept) + len(held) == len(train)
    assert not set(kept.fingerprint) & set(held.fingerprint)
    counts = np.bincount(held.fidelity_index, minlength=2)
    assert counts == pytest.approx([0.2 * 164, 0.2 * 47], abs=1.5)
    again = random_split(train, 0.2, seed=3)[1]
    assert (again.fingerprint == held.fingerprint).all()
    other = random_split(train, 0.2, seed=4)[1]
    assert set(other.fingerprint) != set(held.fingerprint)


def test_graphs_that_are_not_kept_are_the_same(
    ingan: Path, molecules: Path, tmp_path: Path
) -> None:
    slab = fcc111('Al', (2, 2, 2), vacuum=4.0)  # does not repeat along z
    slab.info.clear()  # of a kind that no extended XYZ keeps
    slab.calc = SinglePointCalculator(slab, energy=-1.0)
    ase.io.write(tmp_path / 'slab.xyz', slab, format='extxyz')
    entries = [
        {**entry(ingan, 'pbe_valid', 'pbe'), 'index': ':4'},
        {**entry(molecules, 'pbe_valid', 'pbe'), 'index': ':2'},
        {'file': [str(tmp_path / 'slab.xyz')], 'fidelity': 'r2scan'},
    ]
    config = config_of(trainset=entries)
    kept = build_datasets(config, tmp_path / 'kept')['trainset']
    config[keys.FIDELITY_DATA]['cache'] = False
    made = build_datasets(config, tmp_path / 'made')['trainset']
    sizes = []
    for folder in ('kept', 'made'):
        files = (tmp_path / folder).rglob('records.bin')
        sizes.append(sum(file.stat().st_size for file in files))
    assert sizes[1] < 0.2 * sizes[0]
    assert kept.average_neighbours() == made.average_neighbours()
    for i in range(len(kept)):
        one, other = kept[i], made[i]
        for key, value in one.to_dict().items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(value.nan_to_num(7.0), other[key].nan_to_num(7.0))
        here, there = kept.geometry(i), made.geometry(i)
        assert (here.positions == there.positions).all()
        assert (here.lattice == there.lattice).all()
    # graphs that are on disk are used
    folders = set((tmp_path / 'kept/sevenn_data').iterdir())
    build_datasets(config, tmp_path / 'kept')
    assert set((tmp_path / 'kept/sevenn_data').iterdir()) == folders


# ----------------------------------------------------------------- several processes


def test_others_wait_and_then_only_load(
    ingan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(trainset=[entry(ingan, 'r2scan_valid', 'r2scan')])
    events: list[str] = []

    def counted(name: str, done: Callable) -> Callable:
        def call(*args: object) -> object:
            events.append(name)
            return done(*args)

        return call

    hashed = counted('hash', cache.content_hash)
    monkeypatch.setattr(build_module, 'build', counted('build', build_module.build))
    monkeypatch.setattr(cache, 'content_hash', hashed)
    found: list = []

    def first(make: Callable) -> object:
        found.append(make())
        return found[0]

    def other(_: Callable) -> object:
        return found[0]  # without a file of the data being read

    own = build_datasets(config, tmp_path, first)['trainset']
    # again at the end, in case the file has changed meanwhile
    assert events == ['hash', 'build', 'hash']
    theirs = build_datasets(config, tmp_path, other)['trainset']
    assert events == ['hash', 'build', 'hash']
    assert theirs.file_hashes == own.file_hashes
    assert theirs.energy.tolist() == own.energy.tolist()
    # a machine that does not see the files makes its own
    build_datasets(config, tmp_path / 'elsewhere', other)
    assert events[3:] == ['build', 'hash']


def test_repeated_structures_pair_with_the_first(tmp_path: Path) -> None:
    frames = []
    for k, level in enumerate(('pbe', 'pbe', 'r2scan', 'r2scan')):
        atoms = Atoms('CO', [[-0.0, 0.0, 1e-5 * k], [0.0, 0.0, 1.2]])
        atoms.positions[1, 2] += 0.1 * (k == 3)
        atoms.info['level'] = level
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0 - k)
        frames.append(atoms)
    ase.io.write(tmp_path / 'a.extxyz', frames)
    config = config_of(trainset=[entry(tmp_path, 'a', None)])
    config[keys.FIDELITY_DATA]['key'] = 'level'
    dataset = build_datasets(config, tmp_path)['trainset']
    assert pair_index(dataset, 'pbe', 'r2scan').tolist() == [0, -1]
