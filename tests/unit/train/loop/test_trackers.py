"""TensorBoard and Weights & Biases get what lc.csv has."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sevennet_mf.errors import UserError
from sevennet_mf.train.loop.resume import State
from sevennet_mf.train.loop.trackers import Trackers, need

VALUES = {'validset': {'pbe': {'Energy_RMSE': 0.25, 'Force_RMSE': 0.5}}}
SECTIONS = {'train': {'epoch': 3}}


def report(folder: Path, names: list[str], state: State, *epochs: int) -> Trackers:
    """What a run does between its start and its end."""
    trackers = Trackers()
    trackers.open(names, str(folder), state, SECTIONS)
    for epoch in epochs:
        trackers.report(epoch, {'lr': 0.1 / epoch}, VALUES)
    trackers.close()
    return trackers


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """{tag: [(epoch, value)]} of the event files in a folder."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()['scalars']
    }


def test_tensorboard_shows_every_metric_by_epoch(tmp_path: Path) -> None:
    report(tmp_path, ['tensorboard'], State(curve='lc0.csv'), 1, 2)
    found = scalars(tmp_path / 'tensorboard' / 'lc0')
    assert set(found) == {
        'lr',
        'Energy_RMSE/validset_pbe',
        'Force_RMSE/validset_pbe',
    }
    assert found['Energy_RMSE/validset_pbe'] == [(1, 0.25), (2, 0.25)]
    assert [value for _, value in found['lr']] == pytest.approx([0.1, 0.05])


def test_epochs_that_are_done_again_are_shown_once(tmp_path: Path) -> None:
    report(tmp_path, ['tensorboard'], State(curve='lc.csv'), 1, 2, 3)
    report(tmp_path, ['tensorboard'], State(curve='lc.csv', epoch=3), 3, 4)
    found = scalars(tmp_path / 'tensorboard' / 'lc')
    assert [epoch for epoch, _ in found['lr']] == [1, 2, 3, 4]


# ---- Weights & Biases, whose client is large: what we call of it, as it is there


class FakeRun:
    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.is_over = False

    def log(self, data: dict[str, float], step: int | None = None) -> None:
        assert step is not None
        self.logged.append((step, data))

    def finish(self) -> None:
        self.is_over = True


class Wandb(ModuleType):
    runs: list[FakeRun]
    trouble: str = ''

    def init(
        self,
        *,
        dir: str,
        id: str,
        resume: str,
        config: dict[str, Any],
    ) -> FakeRun:
        if self.trouble:
            raise RuntimeError(self.trouble)
        options = {'dir': dir, 'id': id, 'resume': resume, 'config': config}
        self.runs.append(FakeRun(options))
        return self.runs[-1]


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Wandb:
    module = Wandb('wandb')
    module.runs = []
    monkeypatch.setitem(sys.modules, 'wandb', module)
    return module


def test_wandb_gets_every_metric_in_one_run(tmp_path: Path, wandb: Wandb) -> None:
    state = State(curve='lc.csv')
    report(tmp_path, ['wandb'], state, 1)
    report(tmp_path, ['wandb'], state, 2)  # resumed
    first, second = wandb.runs
    assert first.options['id'] == second.options['id'] == state.wandb != ''
    assert first.options['resume'] == 'allow'
    assert first.options['config'] == SECTIONS
    assert first.options['dir'] == str(tmp_path)
    assert first.is_over
    ((step, numbers),) = second.logged
    assert step == 2
    assert numbers == {
        'lr': 0.05,
        'Energy_RMSE/validset_pbe': 0.25,
        'Force_RMSE/validset_pbe': 0.5,
    }


def test_wandb_that_cannot_start(tmp_path: Path, wandb: Wandb) -> None:
    wandb.trouble = 'no API key\nconfigured.'
    with pytest.raises(UserError) as raised:
        report(tmp_path, ['wandb'], State())
    assert str(raised.value) == (
        "train.fidelity.report_to: 'wandb' could not be started: no API key "
        'configured. Run `wandb login`, set WANDB_MODE=offline, or remove the word.'
    )


def test_a_tracker_that_fails_does_not_end_the_run(
    tmp_path: Path, wandb: Wandb, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError('the service is gone')

    monkeypatch.setattr(FakeRun, 'log', fail)
    names = ['wandb', 'tensorboard']
    with pytest.warns(UserWarning, match='wandb gets no more numbers: the service'):
        trackers = report(tmp_path, names, State(curve='lc.csv'), 1, 2)
    assert list(trackers.opened) == ['tensorboard']
    assert not wandb.runs[0].is_over
    assert len(scalars(tmp_path / 'tensorboard' / 'lc')['lr']) == 2


@pytest.mark.parametrize('name', ['tensorboard', 'wandb'])
def test_what_is_not_installed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    words = rf"{name}.*pip install 'sevennet_mf\[{name}\]'"
    with pytest.raises(UserError, match=words):
        need(name)
