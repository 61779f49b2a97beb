"""What processed structures take in memory: hardly anything, however many."""

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from helpers import structure_of

from sevennet_mf.data.processed import store
from sevennet_mf.data.processed.cache import Cached, CacheRecipe, Input
from sevennet_mf.data.processed.graphs import edges_of
from sevennet_mf.data.processed.packed import HEAD, Packed, packed
from sevennet_mf.data.processed.store import GraphStore, Writer, item_of
from sevennet_mf.data.same.geometry import Geometry
from sevennet_mf.data.structures import FidelityDataset

MANY = 20_000
ALLOWED = 200  # bytes of each


@contextmanager
def at_most(each: float, n: int) -> Iterator[None]:
    """Memory of Python and of numpy, at its peak, beyond what there was."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    yield
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert peak < each * n


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One structure, many times."""
    path = tmp_path_factory.mktemp('store')
    one = structure_of(bulk('GaN', 'zincblende', a=4.5))
    item = item_of(one, edges_of(one, 3.0))
    writer = Writer(path)
    with at_most(ALLOWED / 4, MANY):  # it is all on disk, but for a block
        for _ in range(MANY):
            writer.add(item)
        writer.finish({'cutoff': 3.0})
    return path


def test_a_data_set_of_many(folder: Path) -> None:
    recipe = CacheRecipe((Input('', 'extxyz', 'a.extxyz', 0),), {})
    with at_most(ALLOWED, MANY):
        dataset = FidelityDataset([Cached(folder, recipe)], ['pbe'])
        halves = [dataset._rows.at(np.arange(k, MANY, 2)) for k in (0, 1)]
    assert len(dataset) == MANY == sum(map(len, halves))
    first = next(count for _, count in dataset.compositions())
    assert first.sum(axis=0)[[7, 31]].tolist() == [len(first)] * 2
    assert dataset.elements().tolist() == [7, 31]
    assert dataset.n_edges.sum() == MANY * int(dataset[7]['edge_index'].shape[1])


def test_rows_one_by_one_and_all_at_once(folder: Path) -> None:
    kept = GraphStore(folder)
    for name in store.COLUMNS:
        few = kept.values(name, np.array([3, MANY - 1]))
        many = kept.values(name, np.arange(MANY))
        assert np.array_equal(few, many[[3, MANY - 1]])
        assert few.dtype == many.dtype
    with pytest.raises(KeyError):
        kept.column('colour')


def test_a_structure_of_more_atoms_than_16_bits_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = structure_of(bulk('GaN', 'zincblende', a=4.5, cubic=True))
    edges = edges_of(one, 3.0)
    narrow = packed(one, Geometry.of(one), edges, keeps_edges=True)
    monkeypatch.setattr('sevennet_mf.data.processed.packed.NARROW', 4)
    wide = packed(one, Geometry.of(one), edges, keeps_edges=True)
    assert len(wide) == len(narrow) + 2 * edges['edge_index'].size
    graphs = [Packed.of(bytearray(content)).graph(3.0) for content in (narrow, wide)]
    for key, value in graphs[0].items():
        assert value.nan_to_num(7.0).equal(graphs[1][key].nan_to_num(7.0))
    assert HEAD.itemsize % 4 == 0  # what follows is aligned
