"""The term on what two labels of one structure differ by."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sevenn._keys as KEY
import torch
from ase.io import write
from helpers import rewritten, structures
from train_helpers import VALID, entry, fit_of, yaml_of

from sevennet_mf import keys
from sevennet_mf.data.sampler import FidelityBatchSampler
from sevennet_mf.errors import UserError
from sevennet_mf.train.loop.fit import Fit
from sevennet_mf.train.loop.paired_loss import PairedLoss, partner_orders, partners

ALL_PBE = entry('pbe_train', 'pbe')
POOL = entry('r2scan_pool', 'r2scan', ':6')
CRITERION = torch.nn.L1Loss(reduction='none')


def fit(folder: Path, weight: float = 2.0, **more: Any) -> Fit:
    block = {
        'train': {'paired_weight': weight, **more},
        'data': {'inferred_labels': 'never'},
    }
    return fit_of(yaml_of(train=[ALL_PBE, POOL], fidelity=block), folder)


@pytest.fixture(scope='module')
def run(tmp_path_factory: pytest.TempPathFactory) -> Fit:
    return fit(tmp_path_factory.mktemp('paired'))


def batch_of(run: Fit, numbers: list[int]) -> Any:
    """A batch of structures with predictions, which are the labels and an error."""
    dataset = run.sets['trainset'].dataset
    loader_type = type(run.sets['trainset'].loader)
    (batch,) = loader_type(dataset.subset(numbers), batch_size=len(numbers))
    batch[keys.STRUCTURE_INDEX] = torch.tensor(numbers)  # of the whole set
    batch[KEY.PRED_TOTAL_ENERGY] = batch[KEY.ENERGY] + 0.1 * batch[KEY.NUM_ATOMS]
    batch[KEY.PRED_FORCE] = batch[KEY.FORCE] + 0.2
    return batch


def loss(run: Fit, label: str) -> PairedLoss:
    dataset = run.sets['trainset'].dataset
    partner = partners(dataset, 'pbe')
    return PairedLoss(label, CRITERION, partner, 4, partner_orders(dataset, partner))


def test_partners_are_the_same_structure(run: Fit) -> None:
    dataset = run.sets['trainset'].dataset
    partner = partners(dataset, 'pbe')
    high = dataset.rows_of('r2scan')
    assert (partner[high] >= 0).all()  # the data's README: all are paired
    assert (partner[dataset.rows_of('pbe')] == -1).all()
    for h in high:
        own, other = dataset[int(h)], dataset[int(partner[h])]
        assert torch.equal(own[KEY.POS], other[KEY.POS])
        assert int(other[keys.FIDELITY_INDEX]) == 0


def test_a_common_error_costs_nothing(run: Fit) -> None:
    high = int(run.sets['trainset'].dataset.rows_of('r2scan')[0])
    low = int(loss(run, 'energy').partner[high])
    batch = batch_of(run, [low, 3, high])
    for label in ('energy', 'force'):
        assert float(loss(run, label).get_loss(batch)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize('order', [(0, 1), (1, 0)])
def test_an_error_of_the_difference(run: Fit, order: tuple[int, int]) -> None:
    dataset = run.sets['trainset'].dataset
    high = int(dataset.rows_of('r2scan')[1])
    pair = (int(loss(run, 'energy').partner[high]), high)
    batch = batch_of(run, [5, pair[order[0]], pair[order[1]]])
    place = 1 + order.index(1)  # where the r2SCAN label is
    batch[KEY.PRED_TOTAL_ENERGY][place] += 0.3 * batch[KEY.NUM_ATOMS][place]
    batch[KEY.PRED_FORCE][batch[KEY.BATCH] == place] += 0.5
    # one pair; 4 structures a batch; 6 of 170 structures have a partner
    share = 4 * 6 / 170
    assert float(loss(run, 'energy').get_loss(batch)) == pytest.approx(
        0.3 / share, rel=1e-4
    )
    assert float(loss(run, 'force').get_loss(batch)) == pytest.approx(
        0.5 / share, rel=1e-4
    )


def test_atoms_of_a_pair_in_another_order(tmp_path: Path) -> None:
    """The difference of each atom's forces is that of the same atom."""
    frames = structures(3, 'r2scan_pool.extxyz')
    for name, found in (
        ('low', frames),
        ('high', [rewritten(a, k + 7) for k, a in enumerate(frames)]),
    ):
        write(tmp_path / f'{name}.extxyz', found)
    listed = [  # without stress, which the validation set has
        entry(name, fidelity, folder=tmp_path, stress_key=None)
        for name, fidelity in (('low', 'pbe'), ('high', 'r2scan'))
    ]
    block = {'data': {'inferred_labels': 'never'}}
    valid = [entry('pbe_valid', 'pbe', ':2'), entry('r2scan_valid', 'r2scan', ':2')]
    run = fit_of(yaml_of(train=listed, valid=valid, fidelity=block), tmp_path)
    dataset = run.sets['trainset'].dataset
    assert len(partner_orders(dataset, partners(dataset, 'pbe'))) == 3
    batch = batch_of(run, [4, 0, 5, 1, 2, 3])
    assert float(loss(run, 'force').get_loss(batch)) == pytest.approx(0, abs=1e-6)
    # both have the same forces: an error of the label's own order would be seen
    batch[KEY.PRED_FORCE] = batch[KEY.FORCE] * 1.5
    assert float(loss(run, 'force').get_loss(batch)) == pytest.approx(0, abs=1e-5)
    batch[KEY.PRED_FORCE][batch[KEY.BATCH] == 0] += 0.5
    assert float(loss(run, 'force').get_loss(batch)) > 0.1


def test_half_a_pair_and_a_missing_label_cost_nothing(run: Fit) -> None:
    high = int(run.sets['trainset'].dataset.rows_of('r2scan')[2])
    low = int(loss(run, 'force').partner[high])
    alone = batch_of(run, [high, 5])
    assert float(loss(run, 'energy').get_loss(alone)) == 0
    batch = batch_of(run, [high, low])
    batch[KEY.FORCE][batch[KEY.BATCH] == 0] = torch.nan
    batch[KEY.PRED_FORCE] = torch.ones_like(batch[KEY.FORCE], requires_grad=True)
    value = loss(run, 'force').get_loss(batch)
    value.backward()
    assert value.item() == 0
    assert torch.isfinite(batch[KEY.PRED_FORCE].grad).all()


def test_pairs_come_in_one_batch_and_each_once(run: Fit) -> None:
    dataset = run.sets['trainset'].dataset
    batches = list(run.sets['trainset'].loader.batch_sampler)
    drawn = [i for batch in batches for i in batch]
    assert sorted(drawn) == list(range(len(dataset)))
    partner = partners(dataset, 'pbe')
    where = {i: k for k, batch in enumerate(batches) for i in batch}
    together = [where[i] == where[p] for i, p in enumerate(partner) if p >= 0]
    assert np.mean(together) >= 0.5  # some are cut by the end of a batch


def test_ranks_keep_pairs_whole() -> None:
    fidelity = np.repeat([0, 1], 20)
    together = np.tile(np.arange(20), 2)
    ranks = [
        list(
            FidelityBatchSampler(
                fidelity, 2, 4, rank=r, world_size=2, together=together
            )
        )
        for r in range(2)
    ]
    drawn = [i for batches in ranks for batch in batches for i in batch]
    assert sorted(drawn) == list(range(40))
    for batch in [b for batches in ranks for b in batches]:
        assert sorted(together[batch].tolist()) == sorted(
            2 * sorted(set(together[batch].tolist()))
        )


def test_the_term_trains(run: Fit, tmp_path: Path) -> None:
    names = [type(one).__name__ for one, _ in run.trainer.loss_functions]
    assert names.count('PairedLoss') == 2
    off = fit(tmp_path / 'off', weight=0.0)
    names = [type(one).__name__ for one, _ in off.trainer.loss_functions]
    assert 'PairedLoss' not in names
    unpaired = [entry('pbe_train', 'pbe', ':6'), VALID]
    nothing = yaml_of(train=unpaired, fidelity={'train': {'paired_weight': 1}})
    left = fit_of(nothing, tmp_path / 'nothing').trainer.loss_functions
    assert 'PairedLoss' not in [type(one).__name__ for one, _ in left]


def test_it_needs_both_labels_in_a_batch(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='paired_weight needs both labels.*balanced'):
        fit(tmp_path, sampling='balanced')


def test_a_batch_of_one_has_no_pair(tmp_path: Path) -> None:
    sections = yaml_of(
        train=[ALL_PBE, POOL],
        fidelity={'train': {'paired_weight': 1.0}},
        data={'batch_size': 1},
    )
    with pytest.raises(UserError, match='set data.batch_size to 2 or more'):
        fit_of(sections, tmp_path)
