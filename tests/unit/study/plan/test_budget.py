"""Every method gets the same steps, whatever the YAML and its scheduler say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sevenn.train.optim import scheduler_dict

from sevennet_mf.errors import UserError
from sevennet_mf.study.plan.budget import Budget, budget_of, set_epochs


@pytest.mark.parametrize(
    ('steps', 'epochs', 'wanted'),
    [
        (None, 80, (80, 49)),  # what the YAML says
        (4000, 80, (80, 50)),
        (3000, 80, (75, 40)),  # no 80 epochs have 3000 steps; 75 have
        (3001, 80, (80, 38)),  # 3001 is a prime: as near as it gets
        (300, 80, (30, 10)),  # or validation would take most of the time
        (7, 80, (1, 7)),
        (1, 80, (1, 1)),
    ],
)
def test_steps_become_epochs(
    steps: int | None, epochs: int, wanted: tuple[int, int]
) -> None:
    found = budget_of(steps, epochs, 49)
    assert (found.epochs, found.steps_per_epoch) == wanted


@pytest.mark.parametrize('share', [0.01, 0.3, 0.5, 0.999])
@pytest.mark.parametrize('budget', [Budget(75, 40), Budget(7, 1), Budget(2, 1)])
def test_two_stages_have_the_steps_of_one(budget: Budget, share: float) -> None:
    first, second = budget.split(share)
    assert first.steps + second.steps == budget.steps
    assert first.steps > 0
    assert second.steps > 0


def test_half_is_half() -> None:
    assert Budget(75, 40).split(0.5) == (Budget(75, 20), Budget(75, 20))
    assert Budget(80, 1).split(0.25) == (Budget(20, 1), Budget(60, 1))


def test_one_step_cannot_be_divided() -> None:
    with pytest.raises(UserError, match=r'study.steps: 1 is too small'):
        Budget(1, 1).split(0.5)


SCHEDULERS: list[tuple[str, dict[str, Any]]] = [
    ('linearlr', {'start_factor': 1.0, 'end_factor': 0.01, 'total_iters': 40}),
    ('exponentiallr', {'gamma': 0.9}),
    ('cosineannealinglr', {'T_max': 40, 'eta_min': 1e-4}),
    ('steplr', {'step_size': 20, 'gamma': 0.1}),
    ('multisteplr', {'milestones': [20, 32], 'gamma': 0.1}),
    (
        'cosineannealingwarmuplr',
        {'first_cycle_steps': 40, 'max_lr': 0.01, 'min_lr': 1e-4, 'warmup_steps': 8},
    ),
]


@pytest.mark.parametrize(
    ('name', 'block'), SCHEDULERS, ids=[n for n, _ in SCHEDULERS]
)
@pytest.mark.parametrize('epochs', [20, 80])
def test_the_learning_rate_follows_the_same_curve(
    name: str, block: dict[str, Any], epochs: int
) -> None:
    train: dict[str, Any] = {
        'epoch': 40,
        'scheduler': name,
        'scheduler_param': block,
    }
    before = dict(block)
    curve = rates(train)
    set_epochs(train, Budget(epochs, 5), Budget(40, 3))
    assert block == before  # the input is no output
    assert (train['epoch'], train['per_epoch']) == (epochs, epochs)
    scaled = rates(train)
    for i in (0, 4, 16, 24, 36):
        # the same fraction of the training, the same learning rate
        assert scaled[i * epochs // 40] == pytest.approx(curve[i], rel=0.15)


def test_a_schedule_by_step_is_scaled_by_the_steps() -> None:
    train: dict[str, Any] = {
        'scheduler': 'cosineannealingwarmuplr',
        'scheduler_param': {'warmup_steps': 30, 'max_lr': 0.01},
        'fidelity': {'schedule_by': 'step'},
    }
    set_epochs(train, Budget(40, 6), Budget(40, 3))
    assert train['scheduler_param'] == {'warmup_steps': 60, 'max_lr': 0.01}
    train['fidelity']['schedule_by'] = 'epoch'
    set_epochs(train, Budget(40, 3), Budget(40, 6))
    assert train['scheduler_param']['warmup_steps'] == 60


def rates(train: dict[str, Any]) -> list[float]:
    """The learning rate of every epoch, from the host's own schedulers."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    scheduler = scheduler_dict[train['scheduler']](
        optimizer, **train['scheduler_param']
    )
    found = []
    for _ in range(train['epoch']):
        found.append(float(optimizer.param_groups[0]['lr']))
        optimizer.step()
        scheduler.step()
    return found


def test_waiting_for_better_is_scaled_too() -> None:
    train: dict[str, Any] = {
        'scheduler': 'reducelronplateau',
        'scheduler_param': {'patience': 10, 'factor': 0.5},
    }
    set_epochs(train, Budget(20, 5), Budget(40, 3))
    assert train['scheduler_param'] == {'patience': 5, 'factor': 0.5}


def test_a_scheduler_without_parameters_is_left_alone() -> None:
    train: dict[str, Any] = {'epoch': 40}
    set_epochs(train, Budget(20, 5), Budget(40, 3))
    assert train == {'epoch': 20, 'per_epoch': 20}
