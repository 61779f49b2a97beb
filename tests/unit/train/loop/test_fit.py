"""Whole small runs: the best checkpoint, interruption, resumption, odd data."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import sevenn._keys as KEY
import torch
from train_helpers import (
    MOLECULES,
    R2SCAN,
    VALID,
    data_of,
    entry,
    fit_of,
    learning_rate,
    lines,
    resumed,
    yaml_of,
)

from sevennet_mf import keys
from sevennet_mf.checkpoint import file as checkpoint_file
from sevennet_mf.errors import TrainingStopped
from sevennet_mf.train.loop import run_folder, trainer, waiting
from sevennet_mf.train.loop.fit import Fit

RESUME = run_folder.RESUME_FILE
TARGET = 'validset_r2scan_TotalLoss'
SMALL = {'data': {'batch_size': 3}}  # 10 structures: 4 steps an epoch
VALID_PBE = entry('pbe_valid', 'pbe', ':2')


def load(fit: Fit, name: str) -> dict[str, Any]:
    return checkpoint_file.load(fit.path(name))


# ------------------------------------------------------------- the best checkpoint


def test_best_is_the_targets_whatever_the_sets_are_called(tmp_path: Path) -> None:
    """Trap 3: the host writes none unless a set is named exactly validset."""
    sections = yaml_of(
        valid=[],
        data={
            'load_pbe_validset_path': [VALID_PBE],
            'load_scan_validset_path': [VALID],
            'load_pbe_testset_path': [VALID_PBE, VALID],
        },
        epoch=5,
        best_metric='Force_RMSE',
        optim_param={'lr': 1.0},  # too large: the last epoch is not the best
        per_epoch=2,
    )
    fit = fit_of(sections, tmp_path)
    assert fit.validation == 'scan_validset'
    fit.run()
    values = [row['scan_validset_r2scan_Force_RMSE'] for row in lines(fit)]
    best = int(np.argmin(values)) + 1
    assert best < 5
    assert load(fit, run_folder.BEST_FILE)['epoch'] == best == fit.state.best_epoch
    np.testing.assert_allclose(fit.state.best, values[best - 1], atol=1e-6)
    written = sorted(p.name for p in tmp_path.glob('checkpoint_[0-9]*'))
    assert written == ['checkpoint_0.pth', 'checkpoint_2.pth', 'checkpoint_4.pth']
    assert load(fit, 'checkpoint_4.pth')['epoch'] == 4


def test_best_prefers_the_set_named_validset(tmp_path: Path) -> None:
    both = [VALID, VALID_PBE]
    data = {'load_a_validset_path': [VALID], 'load_validset_path': both}
    assert fit_of(yaml_of(valid=[], data=data), tmp_path).validation == 'validset'


def test_best_needs_the_target(tmp_path: Path) -> None:
    """A validation set of another fidelity picks nothing."""
    fit = fit_of(yaml_of(valid=[VALID_PBE]), tmp_path)
    assert fit.validation == 'trainset'


def test_target_may_be_any_fidelity(tmp_path: Path) -> None:
    sections = yaml_of(
        valid=[VALID, VALID_PBE], fidelity={'train': {'target': 'pbe'}}, epoch=3
    )
    fit = fit_of(sections, tmp_path)
    fit.run()
    values = [row['validset_pbe_TotalLoss'] for row in lines(fit)]
    assert fit.state.best_epoch == int(np.argmin(values)) + 1


def test_scheduler_gets_the_metric_of_the_epoch(tmp_path: Path) -> None:
    """Trap 3: the host hands over the best value before this epoch."""
    param = {'factor': 0.5, 'patience': 0, 'threshold': 0.0}
    sections = yaml_of(
        epoch=6,
        optim_param={'lr': 0.2},
        scheduler='reducelronplateau',
        scheduler_param=param,
    )
    fit = fit_of(sections, tmp_path)
    seen: list[float] = []
    step = fit.trainer.scheduler_step
    fit.trainer.scheduler_step = lambda m: (seen.append(m), step(m))  # type: ignore
    fit.run()
    rows = lines(fit)
    np.testing.assert_allclose(seen, [row[TARGET] for row in rows], atol=1e-6)
    other = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(other, **param)
    wanted = []
    for metric in seen:
        wanted.append(other.param_groups[0]['lr'])
        scheduler.step(metric)
    np.testing.assert_allclose([row['lr'] for row in rows], wanted, atol=1e-6)
    assert wanted[-1] < 0.2  # it did something
    assert learning_rate(fit) == other.param_groups[0]['lr']


def test_curve_has_every_metric_of_every_fidelity(tmp_path: Path) -> None:
    fit = fit_of(yaml_of(valid=[VALID, VALID_PBE]), tmp_path)
    fit.run()
    metrics = ['Energy_RMSE', 'Force_RMSE', 'Stress_RMSE', 'TotalLoss']
    wanted = [
        f'{name}_{fidelity}_{metric}'
        for name in ('trainset', 'validset')
        for fidelity in ('pbe', 'r2scan')
        for metric in [*metrics, 'Theta_Energy']
    ]
    rows = lines(fit)
    assert list(rows[0]) == ['epoch', 'lr', *wanted]
    assert [row['epoch'] for row in rows] == [1, 2]
    assert rows[1]['trainset_r2scan_Theta_Energy'] > 0


# ------------------------------------------------------------------ what goes wrong


def spoil(fit: Fit, number: int) -> None:
    """Make the labels of the number-th batch infinite."""
    step, done = fit.trainer.step, []

    def spoilt(batch: Any, *args: Any) -> Any:
        done.append(batch)
        if len(done) == number:
            batch[KEY.ENERGY] = batch[KEY.ENERGY] * float('inf')
        return step(batch, *args)

    fit.trainer.step = spoilt  # type: ignore[method-assign]


@pytest.mark.parametrize('number', [1, 6])
def test_a_loss_that_is_not_finite(tmp_path: Path, number: int) -> None:
    sections = yaml_of(**SMALL)
    fit = fit_of(sections, tmp_path)
    spoil(fit, number)
    epoch, step = divmod(number - 1, 4)
    sampler = fit.sets['trainset'].loader.batch_sampler
    sampler.set_epoch(epoch)
    structures = list(sampler)[step]
    with pytest.raises(TrainingStopped) as raised:
        fit.run()
    message = str(raised.value)
    assert '\n' not in message
    assert f'step {step + 1} of epoch {epoch + 1}' in message
    for i in structures:
        name = 'pbe_train' if i < 6 else 'r2scan_pool'
        assert f'{name}.extxyz:{i if i < 6 else i - 6}' in message
    assert str(tmp_path / RESUME) in message
    content = run_folder.load_training_state(str(tmp_path / RESUME))
    assert content['epoch'] == epoch
    assert all(v.isfinite().all() for v in content['model_state_dict'].values())
    again = resumed(sections, tmp_path)  # the last good checkpoint is of use
    again.run()
    assert len(lines(again)) == 2


def test_weights_that_are_not_finite_are_never_written(tmp_path: Path) -> None:
    sections = yaml_of(
        data={'batch_size': 10},  # one step an epoch: no next loss tells
        per_epoch=1,
    )
    fit = fit_of(sections, tmp_path)
    step = fit.trainer.step

    def explode(*args: Any, **kwargs: Any) -> Any:
        result = step(*args, **kwargs)
        if fit.state.epoch == 2:
            with torch.no_grad():
                next(fit.trainer.module.parameters()).fill_(float('nan'))
        return result

    fit.trainer.step = explode  # type: ignore[method-assign]
    with pytest.raises(TrainingStopped, match='weights became NaN.*epoch') as raised:
        fit.run()
    assert str(tmp_path / RESUME) in str(raised.value)
    names = sorted(p.name for p in tmp_path.glob('checkpoint_*'))
    assert names == [
        'checkpoint_0.pth',
        'checkpoint_1.pth',
        'checkpoint_best.pth',
        RESUME,
    ]
    for name in names:
        state = load(fit, name)['model_state_dict']
        assert all(value.isfinite().all() for value in state.values())
        assert load(fit, name)['epoch'] <= 1
    assert len(lines(resumed(sections, tmp_path))) == 2  # until it goes on
    again = resumed(sections, tmp_path)
    again.run()
    assert np.isfinite(lines(again)[1][TARGET])


# ------------------------------------------------------------------ different data


def test_energy_only_labels(tmp_path: Path) -> None:
    """CCSD(T) has energies only; trap 5."""
    train = [
        entry('pbe_train', 'pbe', ':6', MOLECULES),
        entry('ccsdt_train', 'ccsdt', ':4', MOLECULES),
    ]
    valid = [entry('ccsdt_valid', 'ccsdt', ':3', MOLECULES)]
    fit = fit_of(yaml_of(train=train, valid=valid, epoch=3), tmp_path)
    fit.run()
    rows = lines(fit)
    assert all(np.isfinite(row['validset_ccsdt_Energy_RMSE']) for row in rows)
    assert np.isnan(rows[-1]['validset_ccsdt_Force_RMSE'])
    assert np.isfinite(rows[-1]['trainset_pbe_Force_RMSE'])
    values = [row['validset_ccsdt_TotalLoss'] for row in rows]
    assert fit.state.best_epoch == int(np.argmin(values)) + 1
    assert fit.trainer.weights_are_finite()


def test_energies_alone(tmp_path: Path) -> None:
    train = [entry('ccsdt_train', 'ccsdt', ':5', MOLECULES)]
    fit = fit_of(yaml_of(train=train, valid=[]), tmp_path)
    assert [repr(term) for term, _ in fit.trainer.loss_functions] == ['Energy']
    fit.run()
    assert np.isfinite(lines(fit)[-1]['trainset_ccsdt_TotalLoss'])


def test_one_fidelity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = fit_of(yaml_of(train=[R2SCAN]), tmp_path)
    # energies alone are evaluated for what fidelities differ by: here for nothing
    monkeypatch.setattr(trainer, 'total_energy', None)
    fit.run()
    content = load(fit, run_folder.BEST_FILE)
    assert not content['config'][KEY.USE_MODALITY]
    assert not any('Theta' in column for column in lines(fit)[0])


def test_no_validation_set(tmp_path: Path) -> None:
    fit = fit_of(yaml_of(valid=[]), tmp_path)
    fit.run()
    values = [row['trainset_r2scan_TotalLoss'] for row in lines(fit)]
    assert load(fit, run_folder.BEST_FILE)['epoch'] == int(np.argmin(values)) + 1


def test_steps_that_wait_for_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told once, in the epoch in which it is seen."""
    monkeypatch.setattr(waiting, 'SECONDS', 0.0)
    monkeypatch.setattr(waiting, 'SHARE', 0.0)
    fit = fit_of(yaml_of(train=[R2SCAN], valid=[], epoch=2), tmp_path)
    written: list[str] = []
    monkeypatch.setattr(fit.log, 'writeline', written.append)
    fit.run()
    assert sum('waiting for batches' in line for line in written) == 1


def drawn(fit: Fit) -> list[int]:
    """The structures that a run trained on, in order."""
    step, found = fit.trainer.step, []

    def noted(batch: Any, *args: Any) -> Any:
        found.extend(batch[keys.STRUCTURE_INDEX].tolist())
        return step(batch, *args)

    fit.trainer.step = noted  # type: ignore[method-assign]
    fit.run()
    return found


@pytest.mark.parametrize(
    ('sampling', 'share'),
    [('balanced', 0.5), ({'pbe': 1, 'r2scan': 3}, 0.75), ('proportional', 0.4)],
)
def test_sampling(tmp_path: Path, sampling: Any, share: float) -> None:
    sections = yaml_of(
        fidelity={'train': {'sampling': sampling}}, data={'batch_size': 2}, epoch=4
    )
    found = drawn(fit_of(sections, tmp_path))
    assert len(found) == 4 * 10
    high = [i for i in found if i >= 6]
    assert abs(len(high) - share * len(found)) < 1
    for own, n in (([i for i in found if i < 6], 6), (high, 4)):
        for start in range(0, len(own) - n + 1, n):  # all before any repeats
            assert len(set(own[start : start + n])) == n


def test_weights_of_the_losses_follow_the_draws(tmp_path: Path) -> None:
    """The constant is that of the sampler's shares, not of the file's."""
    constants = []
    for sampling in ('proportional', 'balanced'):
        fidelity = {'train': {'sampling': sampling, 'loss_weight': {'r2scan': 7.0}}}
        fit = fit_of(yaml_of(fidelity=fidelity), tmp_path)
        constants.append(fit.trainer.loss_functions[0][0].divisor)  # type: ignore
    np.testing.assert_allclose(constants, [4 * (0.6 + 2.8), 4 * (0.5 + 3.5)])


def test_a_split_off_validation_set_picks_the_best(tmp_path: Path) -> None:
    sections = yaml_of(valid=[], data={'data_divide_ratio': 0.3})
    _, sets = data_of(sections, tmp_path)
    assert [len(d) for d in sets.values()] == [7, 3]
    fit = fit_of(sections, tmp_path)
    assert fit.validation == 'validset'
    fit.run()
    assert fit.state.best_epoch is not None


# --------------------------------------------------------------- several processes


def test_only_the_first_process_writes(two_processes: SimpleNamespace) -> None:
    first, second = (result['run']['files'] for result in two_processes.results)
    assert {'lc.csv', RESUME, run_folder.BEST_FILE} <= set(first)
    assert second == ['sevenn_data']
