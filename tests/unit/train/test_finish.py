"""The pictures at the end of a run are those of the best checkpoint."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sevenn.checkpoint
from train_helpers import fit_of, lines, same, weights, yaml_of

from sevennet_mf.evaluate.metrics import errors
from sevennet_mf.evaluate.predict import predict
from sevennet_mf.evaluate.predictions import Predictions
from sevennet_mf.model.load import load_model
from sevennet_mf.train import finish
from sevennet_mf.train.loop import run_folder


def test_the_trained_model_takes_the_weights_of_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other model is built; the last epoch is not the best, and stays."""
    # too fast: the errors grow
    fit = fit_of(yaml_of(optim_param={'lr': 0.3}, epoch=3), tmp_path)
    fit.run()
    values = [row['validset_r2scan_TotalLoss'] for row in lines(fit)]
    assert fit.state.best_epoch == int(np.argmin(values)) + 1 < 3
    best = load_model(fit.path(run_folder.BEST_FILE)).model
    shown: dict[str, tuple[Predictions, Any]] = {}

    def note(found: Predictions, names: Any, prefix: str, only: str, _: str) -> list:
        shown[only] = found, names
        return []

    def refuse(*_: object) -> None:
        raise AssertionError('another model is built')

    monkeypatch.setattr(finish, 'parity', note)
    monkeypatch.setattr(
        sevenn.checkpoint.SevenNetCheckpoint, 'build_model', refuse
    )
    last = weights(fit)
    rows = finish.draw(fit)
    assert same(last, weights(fit))
    assert [*shown] == ['r2scan', 'pbe']
    for fidelity, name in (('r2scan', 'validset'), ('pbe', 'trainset')):
        dataset = fit.sets[name].dataset
        wanted = predict(best, dataset.subset(dataset.rows_of(fidelity)))
        found, names = shown[fidelity]
        assert list(names) == ['pbe', 'r2scan']
        np.testing.assert_allclose(found.energy, wanted.energy, rtol=1e-6)
        forces, exact = (np.concatenate(p.forces) for p in (found, wanted))
        np.testing.assert_allclose(forces, exact, atol=1e-5)
    # what is said at the end is of the best as well, the target first
    said = finish.closing(fit, rows).splitlines()
    path = os.path.relpath(fit.path(run_folder.BEST_FILE))
    number = fit.state.best_epoch
    by = 'by TotalLoss of r2scan in validset'
    assert said[0] == f'{path}: epoch {number} of 3, {by}'
    (row,) = errors(shown['r2scan'][0], ['r2scan'])
    assert float(said[1].split()[2]) == pytest.approx(row.mae['energy'], rel=0.01)
    assert said[2].startswith('pbe: energy ')
    assert said[3:] == [f'sevennet-mf deploy {path} -f r2scan']
    said = finish.closing(fit, []).splitlines()
    assert 'There is no best checkpoint' in said[0]
