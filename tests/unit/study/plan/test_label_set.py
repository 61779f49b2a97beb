"""The order in which labels are added: nested, random, soon complete."""

from __future__ import annotations

import numpy as np
from helpers import INGAN

from sevennet_mf.data.reading.read import read_entry
from sevennet_mf.data.same.identity import Reader
from sevennet_mf.study.plan.label_set import LabelSet, label_order


def test_order_is_nested_random_and_soon_complete() -> None:
    entry = {'file': [str(INGAN / 'r2scan_pool.extxyz')], 'fidelity': 'r2scan'}
    pool = LabelSet.of(read_entry(entry, None, ['r2scan'], 4.0), Reader())
    orders = [label_order(pool, seed) for seed in range(5)]
    for order in orders:
        assert sorted(order) == list(range(len(pool)))
        # cells of In, Ga and N have two directions besides their size
        first = pool.at(order[:2])
        assert first.elements == pool.elements
        counts = [np.bincount(s.numbers, minlength=119) for s in first.structures]
        assert np.linalg.matrix_rank(np.stack(counts)) == 2
    assert len({tuple(order) for order in orders}) == 5
    assert orders[0] == label_order(pool, 0)
