"""Errors of the runs of a study, over seeds."""

import math
from pathlib import Path

import synthetic_study as synthetic

from sevennet_mf.study.report.run_results import (
    aggregate,
    collect,
    labels_of,
    rows_of,
)


def test_mean_and_spread_over_seeds(tmp_path: Path) -> None:
    for seed, mae in ((3, 14.0), (1, 10.0), (2, 12.0)):
        errors = {'energy': {'mae': mae, 'rmse': 2 * mae, 'n': 5}}
        synthetic.run(tmp_path, 'delta', 8, seed, errors=errors)
    synthetic.run(tmp_path, 'delta', 16, 1, errors=errors)
    found = collect(str(tmp_path))
    table = aggregate(found, 'energy', 'mae')
    assert table['delta', 8].values == (10.0, 12.0, 14.0)
    assert table['delta', 8].mean == 12.0
    assert table['delta', 8].deviation == 2.0  # of a sample: n - 1
    assert math.isnan(table['delta', 16].deviation)
    assert aggregate(found, 'energy', 'rmse')['delta', 8].mean == 24.0
    assert aggregate(found, 'force', 'mae') == {}
    assert labels_of(table) == [8, 16]
    assert rows_of(table) == ['delta']
