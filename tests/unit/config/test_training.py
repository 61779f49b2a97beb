"""How a run is trained: what the YAML may say about it, before data are read."""

import re
from typing import Any

import pytest
import torch
from train_helpers import yaml_of

from sevennet_mf.config import inputs
from sevennet_mf.config.blocks import DataFidelity, ModelFidelity, TrainFidelity
from sevennet_mf.config.optimizer import optimizer_of, schedule_of
from sevennet_mf.config.recipe import CONTINUED, FROM_SCRATCH, ONE_CYCLE
from sevennet_mf.config.validation import validate
from sevennet_mf.errors import UserError


def read(block: dict[str, Any] | None = None, **train: Any) -> Any:
    """The inputs of a YAML with these keys of `train.fidelity` and `train`."""
    train.setdefault('scheduler_param', {})
    return inputs.read(yaml_of(fidelity={'train': block or {}}, **train))


def refusal(block: dict[str, Any] | None = None, **train: Any) -> str:
    with pytest.raises(UserError) as caught:
        read(block, **train)
    assert '\n' not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ('key', 'given', 'chooser', 'name'),
    [
        ('scheduler_param', {'end_factor': 0.1}, 'scheduler', 'linearlr'),
        ('scheduler_param', {'gamma': 0.9}, 'scheduler', 'exponentiallr'),
        ('loss_param', {'delta': 0.02}, 'loss', 'huber'),
    ],
)
def test_parameters_without_a_name_belong_to_what_is_chosen(
    key: str, given: dict[str, Any], chooser: str, name: str
) -> None:
    """To the recipe's class, or else to SevenNet's default."""
    yaml = yaml_of()
    yaml['train'].pop(chooser, None)
    host = inputs.read({**yaml, 'train': {**yaml['train'], key: given}}).host
    assert host[chooser] == name
    assert given.items() <= host[key].items()


# ---- blocks


def test_a_word_is_the_type_of_a_loss() -> None:
    block = validate(TrainFidelity, {'loss': {'force': 'mae'}}, 'x')
    assert block.loss is not None
    assert block.loss.force is not None
    assert (block.loss.force.type, block.loss.energy) == ('mae', None)


@pytest.mark.parametrize(
    ('block', 'words'),
    [
        ({'loss': {'force': 'l2mea'}}, "force.*'l2mae'.*got 'l2mea'. Did you mean"),
        ({'loss': {'energy': 'l2mae'}}, 'an energy is a number: use `energy: mae`'),
        ({'loss': {'forces': 'mae'}}, "Did you mean 'force'"),
        ({'loss': {'force': {'type': 'mae', 'delta': 1}}}, 'mae has none'),
        ({'loss': {'force': {'delta': 1}}}, 'loss.force.type is missing'),
        ({'ema': {'decay': 1}}, 'ema.decay.*less than 1'),
        ({'ema': {'warmup': 'no'}}, 'ema.warmup.*got'),
        ({'early_stopping': {'patience': 0}}, 'patience.*greater than or equal'),
        ({'early_stopping': {}}, 'patience is missing'),
        ({'grad_clip': 0}, 'grad_clip.*greater than 0'),
        ({'energy_loss_weight': True}, 'energy_loss_weight.*must be a number'),
        ({'report_to': ['tensorbord']}, "report_to.*Did you mean 'tensorboard'"),
        ({'schedule_by': 'steps'}, "schedule_by.*Did you mean 'step'"),
    ],
)
def test_what_a_block_refuses(block: dict[str, Any], words: str) -> None:
    assert re.search(words, refusal(block))


def test_a_word_alone_is_a_list_of_it() -> None:
    assert read({'report_to': 'tensorboard'}).train.report_to == ['tensorboard']
    assert validate(ModelFidelity, {'sites': 'output'}, 'x').sites == ['output']
    assert validate(DataFidelity, {'order': 'pbe'}, 'x').order == ['pbe']


# ---- what torch would refuse only after all data were read


@pytest.mark.parametrize(
    ('train', 'words'),
    [
        ({'optim_param': {'lr': -1}}, 'optim_param: Invalid learning rate: -1; '),
        ({'optim_param': {'lr': 'fast'}}, 'train.optim_param: '),
        (
            {'scheduler': 'onecyclelr', 'scheduler_param': {'max_lr': -1}},
            'scheduler_param.max_lr: must not be negative, got -1',
        ),
        (
            {'scheduler': 'cosineannealingwarmuplr'}
            | {'scheduler_param': {'warmup_steps': -3}},
            'scheduler_param.warmup_steps: must not be negative, got -3',
        ),
        ({'optim_param': {'betas': [0.9]}}, 'adam was given {betas: [0.9], lr: '),
        (
            {'scheduler': 'steplr', 'scheduler_param': {'step_size': 0}},
            'steplr was given {step_size: 0, gamma: 0.1}',
        ),
        (
            {'scheduler': 'cosineannealinglr', 'scheduler_param': {'T_max': 0}},
            'train.scheduler_param: ',
        ),
        ({'optim_param': {'lr': 0.1, 'beta': 1}}, 'beta is not a known key of adam'),
        (
            {'scheduler': 'linearlr', 'scheduler_param': {'start_factor': 2}},
            'train.scheduler_param: ',
        ),
        (
            {'scheduler': 'cosineannealingwarmuplr', 'epoch': 5}
            | {'scheduler_param': {'warmup_steps': 5}},
            'the warm-up takes the whole run; cosineannealingwarmuplr was given',
        ),
        ({'loss': 'huber', 'loss_param': {'delta': -1}}, 'train.loss_param: '),
        ({'loss': 'huber', 'loss_param': {'alpha': 1}}, 'alpha is not a known key'),
        ({'loss': 'mae'}, 'train.fidelity.loss has more, for each label'),
        ({'scheduler': ONE_CYCLE, 'scheduler_param': {'pct_start': 2}}, 'pct_start'),
        (
            {'scheduler': ONE_CYCLE, 'scheduler_param': {'max_lrs': 2}},
            "max_lrs is not a known key of onecyclelr. Did you mean 'max_lr'",
        ),
        (
            {'scheduler': ONE_CYCLE, 'scheduler_param': {'total_steps': 9}},
            'total_steps is not a known key',
        ),
        ({'scheduler': ONE_CYCLE, 'optimizer': 'adagrad'}, 'cycle_momentum'),
    ],
)
def test_parameters_are_tried_when_the_yaml_is_read(
    train: dict[str, Any], words: str
) -> None:
    assert words in refusal(**train)


@pytest.mark.parametrize(
    'train',
    [
        {'scheduler': ONE_CYCLE, 'scheduler_param': {'pct_start': 2}},
        {'scheduler': ONE_CYCLE, 'scheduler_param': {'div_factor': 0}},
        {'scheduler': 'linearlr', 'scheduler_param': {'start_factor': 2}}
        | {'fidelity': {'schedule_by': 'step'}},
    ],
)
def test_no_error_shows_a_number_of_steps_that_is_not_known(
    train: dict[str, Any],
) -> None:
    """The data, which tell how many there are, have not been read."""
    said = refusal(train.pop('fidelity', None), **train)
    [(name, value)] = train['scheduler_param'].items()
    assert f'{name}: {value}' in said
    assert 'total' not in said


@pytest.mark.parametrize('scheduler', ['exponentiallr', ONE_CYCLE])
def test_last_epoch_of_a_schedule_is_not_offered(scheduler: str) -> None:
    """Torch's parameter works with its default only."""
    given = {'last_epoch': 3}
    said = refusal(scheduler=scheduler, scheduler_param=given)
    assert 'scheduler_param.last_epoch cannot be used' in said
    said = refusal(scheduler=scheduler, scheduler_param={'last_epochs': 3})
    assert 'last_epochs is not a known key' in said
    assert 'last_epoch,' not in said
    assert "'last_epoch'" not in said
    gamma = {'gamma': 0.9} if scheduler == 'exponentiallr' else {}
    read(scheduler=scheduler, scheduler_param={**gamma, 'last_epoch': -1})


def test_a_schedule_of_a_metric_cannot_count_steps() -> None:
    said = refusal({'schedule_by': 'step'}, scheduler='reducelronplateau')
    assert "schedule_by: 'step' cannot be combined with the scheduler red" in said


# ---- schedules


def rates(schedule: Any, n: int) -> list[float]:
    """The learning rates of n steps."""
    weight = torch.nn.Parameter(torch.zeros(1))
    adam = {'optimizer': 'adam', 'optim_param': {'lr': 0.1}}
    optimizer = optimizer_of(adam, [weight])
    scheduler = schedule.made(optimizer)
    found = []
    for i in range(n):
        if i:
            scheduler.step()
        optimizer.step()
        found.append(optimizer.param_groups[0]['lr'])
    return found


@pytest.mark.parametrize(
    ('asked', 'given', 'ends'),
    [
        (None, {'scheduler': ONE_CYCLE}, [0.004, 0.1, 0.0]),
        ('step', {'scheduler': 'linearlr'}, [0.1, 0.1, 0.0001]),
        ('step', {'scheduler': 'cosineannealinglr'}, [0.1, 0.1, 0.0001]),
        ('step', {'scheduler': 'exponentiallr'}, [0.1, 0.1, 0.0001]),
        (
            'step',
            {'scheduler': 'cosineannealingwarmuplr'}
            | {'scheduler_param': {'warmup_steps': 40}},
            [0.0001, 0.1, 0.0001],
        ),
    ],
)
def test_a_schedule_by_step_spans_the_run(
    asked: str | None, given: dict[str, Any], ends: list[float]
) -> None:
    config = {'optim_param': {'lr': 0.1}, **given}
    schedule = schedule_of(config, asked, FROM_SCRATCH, epochs=10, steps=40)
    assert (schedule.by_step, schedule.length) == (True, 400)
    found = rates(schedule, 400)
    reached = [found[0], max(found), found[-1]]
    assert reached == pytest.approx(ends, abs=0.002 * 0.1 + 0.0002)
    assert '400 steps (10 epochs of 40)' in schedule.line(10)


def test_what_the_yaml_says_about_a_schedule_wins() -> None:
    config = {
        'scheduler': 'OneCycleLR',
        'scheduler_param': {'max_lr': 0.5, 'pct_start': 0.5},
        'optim_param': {'lr': 0.1},
    }
    schedule = schedule_of(config, None, CONTINUED, 2, 50)
    wanted = {'max_lr': 0.5, 'pct_start': 0.5, 'total_steps': 100}
    assert schedule.parameters == wanted
    assert max(rates(schedule, 100)) == pytest.approx(0.5, rel=0.01)


def test_a_schedule_by_epoch_is_complete_when_the_yaml_is_read() -> None:
    train = read(epoch=7).host
    assert train['scheduler_param']['total_iters'] == 7
    train = read({'schedule_by': 'epoch'}, scheduler=ONE_CYCLE, epoch=7).host
    assert train['scheduler_param']['total_steps'] == 7
    asked = read({'schedule_by': 'step'}, epoch=7)
    assert asked.host['scheduler_param'] == {}
    assert 'scheduler_param' not in asked.defaults.get('recipe', {})
    assert asked.epochs == 7
