"""What a run with every option writes, and what can be done with its files."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import sevenn._keys as KEY
import torch
from rich.console import Console
from sevenn.logger import Logger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from train_helpers import fit_of, lines, same, weights, yaml_of

from sevennet_mf import keys
from sevennet_mf.checkpoint import file as checkpoint_file
from sevennet_mf.config import inputs
from sevennet_mf.errors import UserError
from sevennet_mf.info import info, render
from sevennet_mf.model.load import load_model
from sevennet_mf.train.continuing.start import Start
from sevennet_mf.train.loop import run_folder
from sevennet_mf.train.loop.trainer import SHIFT

DECAY = 0.7
OPTIONS = {
    'loss': {'energy': 'mae', 'force': 'l2mae'},
    'energy_loss_weight': 3.0,
    'grad_clip': 0.5,
    'ema': {'decay': DECAY, 'warmup': False},
    'report_to': ['tensorboard'],
}
SECTIONS = yaml_of(
    data={'batch_size': 3},  # 10 structures: 4 steps an epoch
    fidelity={'train': OPTIONS},
    scheduler='onecyclelr',
    scheduler_param={},
    per_epoch=1,
    model={'train_shift_scale': True},
)


@pytest.fixture(scope='module')
def run(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """.fit, its .log, and what was .seen of each step: weights, norms and rate."""
    folder, seen = tmp_path_factory.mktemp('options'), []
    with Logger().switch_file(str(folder / 'log')):
        fit = fit_of(SECTIONS, folder)
        step = fit.trainer.step

        def noted(*args: Any) -> Any:
            result = step(*args)
            trainer = fit.trainer
            total = torch.nn.utils.get_total_norm(trainer._gradients()).item()
            norms = (trainer.gradient_norm, total)
            seen.append((weights(fit), *norms, trainer.get_lr()))
            return result

        fit.trainer.step = noted  # type: ignore[method-assign]
        fit.run()
    return SimpleNamespace(fit=fit, seen=seen, log=(folder / 'log').read_text())


def test_the_average_is_that_of_the_steps(run: SimpleNamespace) -> None:
    """With a decay d from the start: a <- d a + (1 - d) w."""
    average = {k: v.double() for k, v in run.seen[0][0].items()}
    for now, *_ in run.seen[1:]:
        average = {k: DECAY * a + (1 - DECAY) * now[k] for k, a in average.items()}
    found = run.fit.trainer.evaluated.state_dict()
    trained = weights(run.fit)
    moved = 0.0
    for name, wanted in average.items():
        own = found[name].double()
        torch.testing.assert_close(own, wanted, rtol=1e-5, atol=1e-6)
        moved = max(moved, float((trained[name] - own).abs().sum()))
    assert moved > 1e-4  # it is not simply the last one


def test_files_hold_the_average_and_say_so(run: SimpleNamespace) -> None:
    fit = run.fit
    last = checkpoint_file.load(fit.path('checkpoint_2.pth'))
    state = fit.trainer.evaluated.state_dict()
    rest = [k for k in state if k != SHIFT]
    assert all(torch.equal(last['model_state_dict'][k], state[k]) for k in rest)
    wanted = {'decay': DECAY, 'warmup': False, 'steps': 8}
    assert last['config'][keys.PROVENANCE]['ema'] == wanted
    first = checkpoint_file.load(fit.path('checkpoint_0.pth'))
    assert first['config'][keys.PROVENANCE]['ema']['steps'] == 0


def test_the_resumable_file_holds_both(run: SimpleNamespace) -> None:
    path = run.fit.path(run_folder.RESUME_FILE)
    saved = run_folder.load_training_state(path)
    both = saved[keys.TRAINING_STATE]['average']
    assert same(both['trained'], weights(run.fit))
    assert both['steps'] == 8
    average = run.fit.trainer.evaluated.state_dict()
    assert torch.equal(both['shift'], average[SHIFT])
    assert not same(saved['model_state_dict'], both['trained'])


def test_errors_are_those_of_the_average(run: SimpleNamespace) -> None:
    data, trainer = run.fit.sets['validset'], run.fit.trainer
    data.recorder.reset()
    trainer.evaluate(data.loader, data.recorder)
    now = data.recorder.values()['r2scan']
    for metric in ('Energy_RMSE', 'Force_RMSE', 'TotalLoss'):
        written = lines(run.fit)[-1][f'validset_r2scan_{metric}']
        assert now[metric] == pytest.approx(written, abs=1e-6)
    average, trainer.average = trainer.average, None
    data.recorder.reset()
    trainer.evaluate(data.loader, data.recorder)
    trainer.average = average
    trained = data.recorder.values()['r2scan']
    assert trained['Energy_RMSE'] != now['Energy_RMSE']


def test_info_says_which_weights_there_are(run: SimpleNamespace) -> None:
    path = run.fit.path(run_folder.BEST_FILE)
    found = info(path)
    assert found['ema']['decay'] == DECAY
    console = Console(width=120)
    with console.capture() as said:
        console.print(render(found))
    assert 'exponential moving average, decay 0.7, over' in said.get()


def test_any_of_the_files_starts_a_run_from_the_average(
    run: SimpleNamespace, tmp_path: Path
) -> None:
    for name in (run_folder.BEST_FILE, run_folder.RESUME_FILE):
        path = run.fit.path(name)
        block = {'checkpoint': path, 'reset_epoch': True, 'reset_scheduler': True}
        sections = continuing(block)
        start = Start(inputs.read(sections))
        said = start.said_of_weights()
        assert f'{path} holds an exponential moving average of weights' in said
        averaged = load_model(path).model.state_dict()
        assert same(start.weights, averaged)


def continuing(block: dict[str, Any], **train: Any) -> dict[str, Any]:
    """A YAML that starts from a file of the run."""
    model = {'train_shift_scale': True}
    return yaml_of(model=model, scheduler_param={}, **train, **{'continue': block})


# ---- gradients


def test_gradients_are_limited_and_their_norms_written(run: SimpleNamespace) -> None:
    limit = OPTIONS['grad_clip']
    norms = np.array([norm for _, norm, _, _ in run.seen])
    applied = np.array([norm for _, _, norm, _ in run.seen])
    assert (norms > limit).any()
    np.testing.assert_allclose(applied, np.minimum(norms, limit), rtol=1e-4)
    for row, own in zip(lines(run.fit), norms.reshape(2, 4), strict=True):
        assert list(row)[-3:] == ['grad_norm', 'grad_norm_max', 'clipped']
        wanted = [own.mean(), own.max(), (own > limit).mean()]
        found = [row[name] for name in ('grad_norm', 'grad_norm_max', 'clipped')]
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    assert f'limited to 0.5 in {(norms[4:] > limit).sum()} of 4 steps' in run.log


def test_the_run_is_in_tensorboard_as_well(run: SimpleNamespace) -> None:
    events = EventAccumulator(run.fit.path('tensorboard/lc'))
    events.Reload()
    for tag, column in {
        'Energy_RMSE/validset_r2scan': 'validset_r2scan_Energy_RMSE',
        'grad_norm': 'grad_norm',
        'lr': 'lr',
    }.items():
        found = [(event.step, event.value) for event in events.Scalars(tag)]
        wanted = [row[column] for row in lines(run.fit)]
        assert [step for step, _ in found] == [1, 2]
        np.testing.assert_allclose([value for _, value in found], wanted, atol=1e-6)


# ---- the schedule, the losses


def test_the_schedule_moves_at_every_step(run: SimpleNamespace) -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([weight], lr=0.01)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=8)
    wanted = []
    for i in range(8):
        if i:
            cycle.step()
        optimizer.step()
        wanted.append(optimizer.param_groups[0]['lr'])
    np.testing.assert_allclose([rate for *_, rate in run.seen], wanted, rtol=1e-9)
    written = [row['lr'] for row in lines(run.fit)]
    np.testing.assert_allclose(written, [wanted[3], wanted[7]], atol=1e-6)
    assert 'Schedule: onecyclelr over 8 steps (2 epochs of 4): max_lr' in run.log


def test_the_losses_of_the_run_are_said(run: SimpleNamespace) -> None:
    said = 'energy mae × 3, force l2mae × 0.1, stress huber {delta: 0.01} × 0.001'
    assert f'Loss: {said}' in run.log
    terms = {repr(t): w for t, w in run.fit.trainer.loss_functions}
    assert (terms['Energy'], terms['Force'], terms['Stress']) == (3.0, 0.1, 0.001)
    (row,) = [r for r in lines(run.fit) if r['epoch'] == 2]
    batch = next(iter(run.fit.sets['validset'].loader))  # all three structures
    found = run.fit.trainer.evaluated(batch)
    n = found[KEY.NUM_ATOMS]
    error = (found[KEY.PRED_TOTAL_ENERGY] - batch[KEY.ENERGY]).detach() / n
    force = (found[KEY.PRED_FORCE] - batch[KEY.FORCE]).detach().norm(dim=1)
    owner = batch[KEY.BATCH]
    per = torch.stack([force[owner == i].mean() for i in range(len(n))])
    wanted = 3 * error.abs().mean() + 0.1 * per.mean()
    assert row['validset_r2scan_TotalLoss'] == pytest.approx(wanted.item(), rel=1e-4)


def test_a_cycle_cannot_become_longer(run: SimpleNamespace) -> None:
    folder = Path(run.fit.working_dir)
    longer = yaml_of(
        data={'batch_size': 3},
        fidelity={'train': OPTIONS},
        epoch=3,
        scheduler='onecyclelr',
        scheduler_param={},
        per_epoch=1,
        model={'train_shift_scale': True},
    )
    fit = fit_of(longer, folder)
    saved = run_folder.load_training_state(str(folder / run_folder.RESUME_FILE))
    with pytest.raises(UserError, match='onecyclelr of this run ends after 8 steps'):
        fit.resume(saved)


@pytest.mark.parametrize(
    ('train', 'words'),
    [
        ({'scheduler': 'onecyclelr', 'epoch': 5}, 'ends before this run'),
        ({'scheduler': 'linearlr', 'epoch': 5}, 'counts steps, and that of this'),
    ],
)
def test_a_schedule_that_cannot_go_on(
    run: SimpleNamespace, tmp_path: Path, train: dict[str, Any], words: str
) -> None:
    path = run.fit.path(run_folder.BEST_FILE)
    start = Start(inputs.read(continuing({'checkpoint': path}, **train)))
    fit = fit_of(yaml_of(scheduler_param={}, **train), tmp_path)
    with pytest.raises(UserError, match=f'{words}.* Set reset_scheduler: true'):
        start._check_schedule(fit.trainer)
