"""What a YAML leaves out is by the recipe; what it says wins, with all that fits."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import sevenn._const as const
import sevenn._keys as KEY
import torch
from helpers import sections
from sevenn.train.optim import optim_dict, scheduler_dict

from sevennet_mf import keys
from sevennet_mf.config import inputs, recipe
from sevennet_mf.config.recipe import (
    CONTINUED,
    FROM_SCRATCH,
    OWN_WEIGHTS,
    StartingPoint,
)

LINEAR = {'start_factor': 1.0, 'end_factor': 0.001, 'total_iters': 30}
ALL = {
    'epoch': 30,
    'loss': 'huber',
    'loss_param': {'delta': 0.01},
    'force_loss_weight': 1.0,
    'stress_loss_weight': 0.001,
    'optimizer': 'adam',
    'optim_param': {'lr': 0.01},
    'scheduler': 'linearlr',
    'scheduler_param': LINEAR,
}


def trained_with(**train: Any) -> dict[str, Any]:
    """The training configuration of a YAML with these keys."""
    given = sections()
    given['train'] = train
    return inputs.from_sections(given)[1]


def completed(origin: StartingPoint | None = None, **train: Any) -> tuple[Any, Any]:
    before = copy.deepcopy(train)
    found = recipe.completed(train, origin or StartingPoint())
    assert train == before  # the YAML's own section is not touched
    return found


def test_nothing_said_is_the_recipe() -> None:
    config = trained_with()
    assert {name: config[name] for name in ALL} == ALL
    assert config[keys.DEFAULTS] == {'recipe': ALL}
    assert config[keys.FIDELITY_TRAIN][keys.LEAST_STEPS] == 100


@pytest.mark.parametrize(
    'train', [{'epoch': 7}, {'fidelity': {'steps_per_epoch': 7}}]
)
def test_a_length_of_the_users_own_is_not_stretched(train: dict[str, Any]) -> None:
    config = trained_with(**train)
    assert keys.LEAST_STEPS not in config[keys.FIDELITY_TRAIN]
    assert config['scheduler_param']['total_iters'] == config['epoch']
    assert config['epoch'] == train.get('epoch', 30)


def test_everything_said_is_left_alone() -> None:
    given = {
        'epoch': 3,
        'loss': 'Huber',
        'loss_param': {'delta': 0.5},
        'force_loss_weight': 0.2,
        'stress_loss_weight': 0.3,
        'optimizer': 'AdamW',
        'optim_param': {'lr': 0.5, 'weight_decay': 0.1},
        'scheduler': 'steplr',
        'scheduler_param': {'step_size': 2, 'gamma': 0.5},
    }
    assert completed(**given) == (given, {})


# ---- what belongs together


def test_another_loss_gets_the_weights_that_fit_it() -> None:
    """Squares of stress in kbar, times Huber's 0.001, would outweigh all else."""
    config, by = completed(loss='mse')
    known = const.DEFAULT_TRAINING_CONFIG
    weights = {n: known[n] for n in ('force_loss_weight', 'stress_loss_weight')}
    assert by['SevenNet'] == weights
    assert 'loss_param' not in config
    _, by = completed(loss='mse', is_train_stress=False)
    assert 'stress_loss_weight' not in by['SevenNet']


def test_a_named_huber_loss_gets_its_delta() -> None:
    assert completed(loss='huber')[0]['loss_param'] == {'delta': 0.01}
    assert completed(loss_param={})[1]['recipe']['loss_param.delta'] == 0.01
    config, by = completed(loss_param={'delta': 0.2})
    assert (config['loss'], config['loss_param']) == ('huber', {'delta': 0.2})
    assert not [name for name in by['recipe'] if name.startswith('loss_param')]


@pytest.mark.parametrize(
    ('train', 'rate', 'who'),
    [
        ({'optimizer': 'AdamW'}, 0.01, 'recipe'),
        ({'optim_param': {'weight_decay': 0.1}}, 0.01, 'recipe'),
        ({'optimizer': 'sgd'}, 0.001, 'SevenNet'),
        ({'optimizer': 'adagrad', 'optim_param': {}}, 0.01, 'SevenNet'),
    ],
)
def test_an_optimizer_without_a_rate(
    train: dict[str, Any], rate: float, who: str
) -> None:
    config, by = completed(**train)
    assert config['optim_param']['lr'] == rate
    said = 'optim_param.lr' if 'optim_param' in train else 'optim_param'
    assert said in by[who]
    weights = [torch.nn.Parameter(torch.zeros(1))]
    optim_dict[config['optimizer'].lower()](weights, **config['optim_param'])


@pytest.mark.parametrize('epochs', [1, 2, 3, 100])
@pytest.mark.parametrize('name', list(scheduler_dict))
def test_a_scheduler_without_parameters_ends_where_the_recipe_does(
    name: str, epochs: int
) -> None:
    config, by = completed(scheduler=name, epoch=epochs, optim_param={'lr': 0.5})
    weights = [torch.nn.Parameter(torch.zeros(1))]
    optimizer = torch.optim.Adam(weights, lr=0.5)
    parameters = config.get('scheduler_param', {})
    schedule = scheduler_dict[name](optimizer, **parameters)
    if name == 'reducelronplateau':
        assert 'scheduler_param' not in by['recipe']
        return
    rates = []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        schedule.step()
    if 'step' not in name:  # those have fallen before the last epoch
        rates.append(optimizer.param_groups[0]['lr'])
    assert max(rates) == pytest.approx(0.5) or epochs < 3
    if epochs == 100 and name != 'cosineannealingwarmuplr':  # that one starts again
        assert min(rates) == pytest.approx(0.5 * 0.001, rel=1e-3)
    assert 'scheduler_param' in by['recipe']


def test_parameters_without_a_scheduler_are_of_the_one_they_fit() -> None:
    config, by = completed(scheduler_param={'gamma': 0.9})
    assert config['scheduler'] == 'exponentiallr'  # SevenNet's default
    assert by['SevenNet'] == {'scheduler': 'exponentiallr'}
    assert config['scheduler_param'] == {'gamma': 0.9}
    config, by = completed(scheduler_param={'end_factor': 0.1}, epoch=4)
    assert config['scheduler'] == 'linearlr'
    assert by['recipe']['scheduler_param.total_iters'] == 4


# ---- from a checkpoint


@pytest.mark.parametrize(
    ('arguments', 'wanted'),
    [
        ((False, 'all', 'lora'), FROM_SCRATCH),
        ((True, 'all', 'lora'), CONTINUED),
        ((True, 'fidelity_only', 'bias'), CONTINUED),
        ((True, 'fidelity_only', 'gain'), OWN_WEIGHTS),
    ],
)
def test_which_recipe(arguments: Any, wanted: recipe.Recipe) -> None:
    assert recipe.recipe_for(*arguments) == wanted


BEFORE = {
    **{'loss': 'MSE', 'loss_param': {}, 'force_loss_weight': 0.1},
    **{'stress_loss_weight': 1e-6, 'optimizer': 'sgd', 'optim_param': {'lr': 3.0}},
    **{'scheduler': 'exponentiallr', 'scheduler_param': {'gamma': 0.9}},
}


def test_an_optimiser_that_goes_on_brings_its_loss_along() -> None:
    origin = StartingPoint(CONTINUED, 40, optimizer=BEFORE, schedule=BEFORE)
    config, by = completed(origin)
    assert by == {'checkpoint': BEFORE, 'recipe': {'epoch': 50}}
    assert config == {**BEFORE, 'epoch': 50}
    # nothing is added to what SevenNet's defaults leave to torch
    bare = {**BEFORE, 'optim_param': {}, 'scheduler_param': {}}
    start = StartingPoint(CONTINUED, 40, bare, bare)
    assert completed(start)[0] == {**bare, 'epoch': 50}


def test_another_choice_beside_an_optimiser_that_goes_on() -> None:
    origin = StartingPoint(CONTINUED, 40, optimizer=BEFORE, schedule=BEFORE)
    config, _ = completed(
        origin, loss='huber', optimizer='SGD', scheduler='linearlr', epoch=60
    )
    assert config['loss_param'] == {'delta': 0.01}  # not of another loss
    assert config['force_loss_weight'] == 1.0
    assert config['optim_param'] == {'lr': 3.0}  # of the same
    assert config['scheduler_param']['total_iters'] == 20  # that are left


def test_epochs_that_are_counted_on_begin_a_schedule_of_their_own() -> None:
    config, _ = completed(StartingPoint(CONTINUED, 40))
    assert config['epoch'] == 50
    assert config['scheduler_param']['total_iters'] == 10
    assert config['optim_param'] == {'lr': 0.001}


# ---- resumed


def test_a_resumed_run_has_what_it_began_with() -> None:
    began = trained_with(optim_param={'lr': 0.5})
    given = sections()
    given['train'] = {'optim_param': {'lr': 0.5}, 'epoch': 60}  # to go on longer
    again = inputs.from_sections(given, began)[1]
    assert again['epoch'] == 60
    kept = [name for name in ALL if name != 'epoch']
    assert {n: again[n] for n in kept} == {n: began[n] for n in kept}
    assert again['scheduler_param']['total_iters'] == 30
    assert again[keys.FIDELITY_TRAIN] == began[keys.FIDELITY_TRAIN]


def test_a_run_from_before_the_recipe_is_resumed_as_it_was() -> None:
    old = {**const.DEFAULT_TRAINING_CONFIG, 'epoch': 5}
    given = sections()
    given['train'] = {}
    again = inputs.from_sections(given, old)[1]
    assert {name: again[name] for name in ALL} == {name: old[name] for name in ALL}
    assert keys.LEAST_STEPS not in again[keys.FIDELITY_TRAIN]


def test_a_key_that_is_not_said_any_more_is_as_the_run_began() -> None:
    began = trained_with(epoch=5, force_loss_weight=0.3)
    given = sections()
    given['train'] = {}
    again = inputs.from_sections(given, began)[1]
    assert (again['epoch'], again['force_loss_weight']) == (5, 0.3)


# ---- what is said


def test_the_lines_of_the_log() -> None:
    _, by = completed(loss='mse', epoch=3)
    said = recipe.lines(by)
    assert said[0].startswith("Defaults (SevenNet's or torch's, to go with the")
    assert 'force_loss_weight: 0.1, stress_loss_weight: 1e-06' in said[0]
    assert said[1].startswith('Defaults (the recipe): optimizer: adam, ')
    assert 'scheduler_param: {start_factor: 1, end_factor: 0.001, ' in said[1]
    assert recipe.lines({}) == []


@pytest.mark.parametrize(('epochs', 'share'), [(1, '100%'), (4, '25%'), (30, '')])
def test_few_epochs_are_a_coarse_schedule_and_that_is_said(
    epochs: int, share: str
) -> None:
    said = recipe.lines(completed(epoch=epochs)[1])[1:]
    assert [share in line for line in said] == ([True] if share else [])


def test_written_down_they_are_no_defaults_any_more() -> None:
    given = sections()
    given['train'] = {'optim_param': {'weight_decay': 0.1}}
    config = inputs.from_sections(given)[1]
    given['train'] = recipe.written(given['train'], config[keys.DEFAULTS])
    again = inputs.from_sections(given)[1]
    assert again[keys.DEFAULTS] == {}
    assert {n: again[n] for n in ALL} == {n: config[n] for n in ALL}
    assert again[KEY.OPTIM_PARAM] == {'lr': 0.01, 'weight_decay': 0.1}
