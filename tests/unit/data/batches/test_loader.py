"""Batches: of the structures that were drawn, here or by workers, all the same."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sevennet_mf import keys
from sevennet_mf.data.batches.loader import eval_batches, make_loader
from sevennet_mf.data.batches.sampler import FidelityBatchSampler
from sevennet_mf.data.dataset import FidelityDataset
from sevennet_mf.data.processed.build import load_or_build


def real(batch: list[int]) -> list[int]:
    return [i for i in batch if i >= 0]


@pytest.fixture(scope='module')
def dataset(
    ingan: Path, tmp_path_factory: pytest.TempPathFactory
) -> FidelityDataset:
    folder = tmp_path_factory.mktemp('work') / 'sevenn_data'
    parts = [
        load_or_build(
            {'file': [str(ingan / f'{f}_valid.extxyz')], 'fidelity': f},
            None,
            ['pbe', 'r2scan'],
            4.5,
            folder,
        )
        for f in ('pbe', 'r2scan')
    ]
    return FidelityDataset(parts, ['pbe', 'r2scan'])


@pytest.mark.parametrize('workers', [0, 2])
def test_training_loader(dataset: FidelityDataset, workers: int) -> None:
    state = torch.get_rng_state()
    own = FidelityBatchSampler(dataset.fidelity_index, 2, 6, 'balanced', seed=1)
    loader = make_loader(dataset, own, workers)
    drawn = [batch[keys.STRUCTURE_INDEX].tolist() for batch in loader]
    assert drawn == list(own)
    assert len(loader) == len(drawn) == 9
    for batch in loader:
        assert batch[keys.FIDELITY_INDEX].tolist() == [0, 0, 0, 1, 1, 1]
        assert batch[keys.SAMPLE_WEIGHT].eq(1.0).all()
    assert torch.equal(torch.get_rng_state(), state)


def test_workers_make_the_same_batches(dataset: FidelityDataset) -> None:
    numbers = [[0, 1, -3], [4]]
    here = [*make_loader(dataset, numbers)]
    there = [*make_loader(dataset, numbers, num_workers=1)]
    for one, other in zip(here, there, strict=True):
        assert type(one) is type(other)
        assert one.keys() == other.keys()
        for key, own in one.to_dict().items():
            if isinstance(own, torch.Tensor):
                torch.testing.assert_close(other[key], own, rtol=0, atol=0)
            else:
                assert other[key] == own
        assert [g.num_nodes for g in one.to_data_list()] == [
            g.num_nodes for g in other.to_data_list()
        ]
        other[keys.SAMPLE_WEIGHT] *= 2.0  # what comes can be written


def test_an_error_of_a_worker(dataset: FidelityDataset) -> None:
    with pytest.raises(IndexError, match='worker process'):
        [*make_loader(dataset, [[10**6]], num_workers=1)]


def test_padding_weighs_nothing(dataset: FidelityDataset) -> None:
    weight = np.zeros(len(dataset))
    for rank in range(4):
        own = FidelityBatchSampler(
            dataset.fidelity_index, 2, 4, 'proportional', rank=rank, world_size=4
        )
        for batch in make_loader(dataset, own):
            np.add.at(
                weight,
                batch[keys.STRUCTURE_INDEX].numpy(),
                batch[keys.SAMPLE_WEIGHT].numpy(),
            )
    assert weight.tolist() == [1.0] * 49
    assert dataset[0][keys.SAMPLE_WEIGHT] == 1.0


@pytest.mark.parametrize(('n', 'world_size'), [(49, 1), (49, 4), (3, 4), (0, 2)])
def test_evaluation_has_each_structure_once(n: int, world_size: int) -> None:
    ranks = [eval_batches(n, 5, r, world_size) for r in range(world_size)]
    assert len({len(batches) for batches in ranks}) == 1
    drawn = [i for batches in ranks for batch in batches for i in real(batch)]
    assert sorted(drawn) == list(range(n))
    if world_size == 1:
        assert drawn == list(range(n))


def test_evaluation_loader(dataset: FidelityDataset) -> None:
    weights, order = [], []
    for rank in range(2):
        for batch in make_loader(dataset, eval_batches(49, 8, rank, 2)):
            weights += batch[keys.SAMPLE_WEIGHT].tolist()
            order += batch[keys.STRUCTURE_INDEX].tolist()
    assert sum(weights) == 49
    assert len(weights) == 50
    assert order[:3] == [0, 2, 4]
    assert order[25:28] == [1, 3, 5]
