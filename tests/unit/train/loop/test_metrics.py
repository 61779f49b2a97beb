"""Errors per fidelity against numbers from numpy."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sevenn._keys as KEY
import torch
from helpers import randomise
from train_helpers import MOLECULES, PBE, R2SCAN, batch_of, entry, fit_of, yaml_of

from sevennet_mf.errors import UserError
from sevennet_mf.model.build import theta_of
from sevennet_mf.train.loop.fit import Fit
from sevennet_mf.train.loop.metrics import (
    SetRecorder,
    check_best_metric,
    make_metrics,
    view,
)

ERRORS = [
    ['Energy', 'RMSE'],
    ['Energy', 'MAE'],
    ['TotalEnergy', 'MAE'],
    ['Force', 'RMSE'],
    ['Force', 'ComponentRMSE'],
    ['Force', 'MAE'],
    ['Force', 'Loss'],
    ['Stress', 'MAE'],
    ['Stress_GPa', 'MAE'],
    ['TotalLoss', 'None'],
]
# 0-5 pbe, 6-9 r2scan without stress; padded ones must not count
BATCHES = ([0, 6, 7, -1 - 8], [1, 2, -1 - 0, 9])
ROWS = {'pbe': [0, 1, 2], 'r2scan': [6, 7, 9]}


@pytest.fixture(scope='module')
def fit(tmp_path_factory: pytest.TempPathFactory) -> Fit:
    sections = yaml_of(
        train=[PBE, R2SCAN], valid=[], error_record=ERRORS, loss='mse'
    )
    fit = fit_of(sections, tmp_path_factory.mktemp('metrics'))
    randomise(fit.trainer.module)
    return fit


@pytest.fixture
def recorder(fit: Fit) -> SetRecorder:
    found = copy.deepcopy(fit.sets['trainset'].recorder)
    assert found is not None
    return found


def run(fit: Fit, numbers: list[int]) -> Any:
    return fit.trainer.module(batch_of(fit.sets['trainset'].dataset, numbers))


def errors(fit: Fit, numbers: list[int]) -> dict[str, list[np.ndarray]]:
    """Prediction minus label of each structure, float64, in the host's units."""
    found: dict[str, list[np.ndarray]] = {'e': [], 'n': [], 'f': [], 's': []}
    for number in numbers:
        out = run(fit, [number])
        for key, a, b in (
            ('e', KEY.PRED_TOTAL_ENERGY, KEY.ENERGY),
            ('f', KEY.PRED_FORCE, KEY.FORCE),
            ('s', KEY.PRED_STRESS, KEY.STRESS),
        ):
            found[key].append((out[a] - out[b]).detach().double().numpy())
        found['n'].append(out[KEY.NUM_ATOMS].numpy())
    return found


def by_hand(fit: Fit, fidelity: str) -> dict[str, float]:
    d = errors(fit, ROWS[fidelity])
    total = np.concatenate(d['e'])
    energy = total / np.concatenate(d['n'])
    force = np.concatenate(d['f'])
    stress = np.concatenate(d['s']) * 1602.1766208
    losses = {
        'energy': (energy**2).mean(),
        'force': np.mean([(f**2).mean() for f in d['f']]),
        'stress': (stress**2).mean(),
    }
    return {
        'Energy_RMSE': np.sqrt((energy**2).mean()),
        'Energy_MAE': np.abs(energy).mean(),
        'TotalEnergy_MAE': np.abs(total).mean(),
        'Force_RMSE': np.sqrt((force**2).sum(1).mean()),
        'Force_ComponentRMSE': np.sqrt((force**2).mean()),
        'Force_MAE': np.abs(force).mean(),
        'Force_Loss': losses['force'],
        'Stress_MAE': np.abs(stress).mean(),
        'Stress_GPa_MAE': np.abs(stress).mean() / 10,
        'TotalLoss': losses['energy']
        + 0.1 * losses['force']
        + 1e-6 * np.nan_to_num(losses['stress']),
    }


@pytest.mark.parametrize('fidelity', ['pbe', 'r2scan'])
def test_each_fidelitys_errors(
    fit: Fit, recorder: SetRecorder, fidelity: str
) -> None:
    for numbers in BATCHES:
        recorder.update(run(fit, numbers))
    values = recorder.values()[fidelity]
    wanted = by_hand(fit, fidelity)
    assert list(values) == [*wanted, 'Theta_Energy']
    for name, value in wanted.items():
        np.testing.assert_allclose(values[name], value, rtol=1e-4, err_msg=name)
    assert np.isnan(values['Stress_MAE']) == (fidelity == 'r2scan')
    assert np.isfinite(values['TotalLoss'])


def test_a_set_without_a_fidelity_leaves_its_errors_alone(
    fit: Fit, recorder: SetRecorder
) -> None:
    recorder.update(run(fit, [0, 1, -1 - 6]))
    assert np.isnan(recorder.values()['r2scan']['Energy_MAE'])
    assert view(run(fit, [0, 1, -1 - 6]), 1) is None


def test_view_renumbers_structures(fit: Fit) -> None:
    output = run(fit, [6, 0, 7, 1, -1 - 2])
    part = view(output, 0)
    assert part is not None
    counts = output[KEY.NUM_ATOMS][[1, 3]]
    assert part[KEY.NUM_ATOMS].tolist() == counts.tolist()
    wanted = torch.repeat_interleave(torch.arange(2), counts)
    assert part[KEY.BATCH].tolist() == wanted.tolist()


def test_energy_only_data_has_a_total(tmp_path: Path) -> None:
    """The host's total would be NaN."""
    train = [
        entry('pbe_train', 'pbe', ':4', MOLECULES),
        entry('ccsdt_train', 'ccsdt', ':4', MOLECULES),
    ]
    valid = [entry('ccsdt_valid', 'ccsdt', ':2', MOLECULES)]
    fit = fit_of(yaml_of(train=train, valid=valid, loss='mse'), tmp_path)
    data = fit.sets['validset']
    assert data.recorder is not None
    fit.trainer.evaluate(data.loader, data.recorder)
    values = data.recorder.values()['ccsdt']
    assert np.isnan(values['Force_RMSE'])
    np.testing.assert_allclose(
        values['TotalLoss'], values['Energy_RMSE'] ** 2, rtol=1e-5
    )


def test_state_goes_there_and_back(fit: Fit, recorder: SetRecorder) -> None:
    first, second = (run(fit, numbers) for numbers in BATCHES)
    recorder.update(first)
    saved = recorder.state()
    other = copy.deepcopy(recorder)
    recorder.update(second)
    other.reset()
    assert all(count == 0 for _, count in other.state())
    other.load(saved)
    other.update(second)
    assert other.state() == recorder.state()
    np.testing.assert_equal(other.values(), recorder.values())
    with pytest.raises(ValueError, match='zip'):
        other.load(saved[1:])


def test_theta_energy_is_what_theta_does(fit: Fit) -> None:
    trainer, data = fit.trainer, fit.sets['trainset']
    numbers = [0, 6, 1, 7]
    common = copy.deepcopy(trainer.module)
    with torch.no_grad():
        for f in (0, 1):
            for parameter in theta_of(common, f):
                parameter.zero_()
    energy = [
        m(batch_of(data.dataset, numbers))[KEY.PRED_TOTAL_ENERGY].detach()
        for m in (trainer.module, common)
    ]
    n_atoms = batch_of(data.dataset, numbers)[KEY.NUM_ATOMS]
    part = ((energy[0] - energy[1]) / n_atoms).abs().double().numpy()
    recorder = copy.deepcopy(data.recorder)
    assert recorder is not None
    padded = batch_of(data.dataset, [*numbers, -1 - 3, -1 - 9])
    trainer.probe_theta([padded], recorder)
    values = recorder.values()
    for f, fidelity in enumerate(('pbe', 'r2scan')):
        wanted = part[f::2].mean()
        assert wanted > 1e-3
        np.testing.assert_allclose(
            values[fidelity]['Theta_Energy'], wanted, rtol=1e-3
        )


def test_evaluation_records_both_and_changes_nothing(fit: Fit) -> None:
    trainer, data = fit.trainer, fit.sets['trainset']
    before = copy.deepcopy(trainer.module.state_dict())
    recorder = copy.deepcopy(data.recorder)
    assert recorder is not None
    batches = [batch_of(data.dataset, numbers) for numbers in BATCHES]
    trainer.evaluate(batches, recorder)
    wanted = by_hand(fit, 'pbe')
    found = recorder.values()['pbe']
    np.testing.assert_allclose(found['Force_MAE'], wanted['Force_MAE'], rtol=1e-4)
    assert found['Theta_Energy'] > 1e-3
    after = trainer.module.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in before.items())


def test_one_fidelity_has_no_theta(tmp_path: Path) -> None:
    fit = fit_of(yaml_of(train=[PBE], valid=[]), tmp_path)
    assert 'Theta_Energy' not in fit.metric_names


def test_no_stress_where_it_is_not_trained(fit: Fit) -> None:
    config = {**fit.config, KEY.IS_TRAIN_STRESS: False}
    losses = fit.trainer.loss_functions
    names = [m.name for m in make_metrics(config, losses, 2)]
    assert not any('Stress' in name for name in names)


def test_a_best_metric_that_is_not_kept(fit: Fit) -> None:
    metrics = make_metrics(fit.config, fit.trainer.loss_functions, 2)
    config = {**fit.config, KEY.BEST_METRIC: 'Forces_MAE'}
    words = r"train\.best_metric .*'Forces_MAE'.*Did you mean 'Force_MAE'"
    with pytest.raises(UserError, match=words):
        check_best_metric(config, metrics)
    config = {**fit.config, KEY.BEST_METRIC: 'Theta_Energy'}  # no error at all
    with pytest.raises(UserError, match='train.error_record'):
        check_best_metric(config, metrics)


def test_a_best_metric_without_labels(tmp_path: Path) -> None:
    """r2SCAN has no stress: it would never pick a checkpoint."""
    sections = yaml_of(best_metric='Stress_RMSE')
    with pytest.raises(UserError, match=r"'Stress_RMSE' needs stress.*'r2scan'"):
        fit_of(sections, tmp_path)


def test_two_processes_have_the_errors_of_one(
    two_processes: Any, tmp_path: Path
) -> None:
    fit = fit_of(two_processes.sections('bias'), tmp_path)
    randomise(fit.trainer.module)
    data = fit.sets['validset']
    assert data.recorder is not None
    fit.trainer.evaluate(data.loader, data.recorder)
    alone = data.recorder.values()
    for result in two_processes.results:
        together = result['values']
        for fidelity, metrics in alone.items():
            for name, value in metrics.items():
                np.testing.assert_allclose(
                    together[fidelity][name], value, rtol=1e-4, err_msg=name
                )
