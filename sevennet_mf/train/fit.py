"""The epochs of a run: metrics, best checkpoint, interruption, resumption."""

from __future__ import annotations

import copy
import math
import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sevenn._keys as KEY
import torch
import torch.distributed as dist
from sevenn.logger import Logger
from tqdm import tqdm

from sevennet_mf import keys
from sevennet_mf.errors import TrainingStopped, UserError
from sevennet_mf.train import checkpoint
from sevennet_mf.train.curve import LearningCurve
from sevennet_mf.train.distributed import Process
from sevennet_mf.train.metrics import SetRecorder, check_best_metric, make_metrics
from sevennet_mf.train.trainer import BadLoss, FidelityTrainer


@dataclass
class DataSet:
    """One named data set of a run: its batches and who is in it."""

    dataset: Any  # data.dataset.FidelityDataset
    loader: Any
    fidelities: list[str]
    probe: Any = None  # batches of a few structures of a set that is trained on
    recorder: SetRecorder | None = None


@dataclass
class State:
    """Where a run stands: everything but weights, optimiser and scheduler."""

    epoch: int = 1  # the one to do next, or that is under way
    step: int = 0  # optimiser steps done in it
    best: float = math.inf
    best_epoch: int | None = None
    curve: str = ''
    recorder: list[tuple[float, int]] = field(default_factory=list)


class StopRequest:
    """Set by SIGTERM or Ctrl-C; a second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.name = ''

    def __bool__(self) -> bool:
        return bool(self.name)

    def _handle(self, number: int, frame: Any) -> None:
        if self.name and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.name = signal.Signals(number).name

    @contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Catch the signals; only the main thread of a program can."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        numbers = (signal.SIGTERM, signal.SIGINT)
        before = {n: signal.signal(n, self._handle) for n in numbers}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Fit:
    """A run of training, from its first or any later step to its last epoch.

    sets: by name, 'trainset' among them; validation: the name of the set that
    picks the best checkpoint; resume: what `checkpoint.load_training_state`
    returned, or None.
    """

    def __init__(
        self,
        trainer: FidelityTrainer,
        config: dict[str, Any],
        sets: dict[str, DataSet],
        validation: str,
        working_dir: str,
        process: Process,
        names: list[str],
    ) -> None:
        self.trainer = trainer
        self.config = config
        self.sets = sets
        self.validation = validation
        self.working_dir = working_dir
        self.process = process
        self.log = Logger()
        self.target = config[keys.FIDELITY_TRAIN]['target']
        metrics = make_metrics(config, trainer.loss_functions)
        self.metric_names = [metric.name for metric in metrics]
        self.best_metric = check_best_metric(config, metrics)
        indices = {name: i for i, name in enumerate(names)}
        for data in sets.values():
            own = {f: copy.deepcopy(metrics) for f in data.fidelities}
            data.recorder = SetRecorder(own, indices)
        self.state = State()

    # ---- checkpoints

    def path(self, name: str) -> str:
        return os.path.join(self.working_dir, name)

    def write(self, name: str, epoch: int, resumable: bool = False) -> None:
        """Write a checkpoint on the one process that writes; whole or not at all."""
        if self.process.rank != 0:
            return
        if not self.trainer.weights_are_finite():
            raise TrainingStopped(
                f'weights became NaN or infinite in epoch {self.state.epoch}; '
                f'{self.path(name)} keeps the last good ones. Lower the learning '
                'rate.'
            )
        content = self.trainer.get_checkpoint_dict()
        content.update(config=self.config, epoch=epoch)
        if resumable:
            content[keys.TRAINING_STATE] = {
                'state': vars(self.state),
                'shift': self.trainer.shift.detach().cpu(),
                'random': _random_state(),
                'must_stay': must_stay(self.config, self.process),
            }
        checkpoint.save(self.path(name), content)

    def write_resumable(self, in_epoch: bool) -> None:
        recorder = self.sets['trainset'].recorder
        assert recorder is not None
        self.state.recorder = recorder.state() if in_epoch else []
        self.write(checkpoint.RESUME_FILE, self.state.epoch - 1, resumable=True)

    def resume(self, content: dict[str, Any]) -> None:
        """Take up where a checkpoint left off. UserError if the input changed."""
        saved = content[keys.TRAINING_STATE]
        now = must_stay(self.config, self.process)
        before = saved['must_stay']
        changed = [k for k in {**before, **now} if before.get(k) != now.get(k)]
        if changed:
            name = changed[0]
            raise UserError(
                f'--resume: {name} was {before.get(name)!r} and is now '
                f'{now.get(name)!r}. Undo the change, or start anew without '
                '--resume (`continue: checkpoint:` keeps the weights).'
            )
        trainer = self.trainer
        trainer.load_weights(content['model_state_dict'])
        with torch.no_grad():
            trainer.shift.copy_(saved['shift'])
        trainer.load_state_dicts(
            None, content['optimizer_state_dict'], content['scheduler_state_dict']
        )
        self.state = State(**saved['state'])
        _set_random_state(saved['random'])

    # ---- the run

    def run(self) -> None:
        """Train to the last epoch.

        Raises TrainingStopped after a signal or a loss that is not finite, with
        a resumable checkpoint on disk.
        """
        last = self.config[KEY.EPOCH]
        curve = self._open_curve()
        if self.state.epoch == 1 and self.state.step == 0:
            self.write('checkpoint_0.pth', 0)
            self.write_resumable(in_epoch=False)
        n_steps = len(self.sets['trainset'].loader)
        bar = tqdm(
            total=last * n_steps,
            initial=(self.state.epoch - 1) * n_steps + self.state.step,
            disable=None if self.process.rank == 0 else True,
            unit='step',
        )
        with StopRequest().listening() as stop, bar:
            while self.state.epoch <= last:
                bar.set_description(f'epoch {self.state.epoch}/{last}')
                self._train_epoch(stop, bar)
                self._finish_epoch(curve)

    def _open_curve(self) -> LearningCurve:
        curve = LearningCurve(
            self.working_dir,
            {name: data.fidelities for name, data in self.sets.items()},
            self.metric_names,
            self.process.rank == 0,
        )
        if self.state.curve:
            curve.reopen(self.state.curve, before_epoch=self.state.epoch)
        else:
            self.state.curve = curve.create()
        return curve

    def _train_epoch(self, stop: StopRequest, bar: Any) -> None:
        self.log.timer_start('epoch')
        data = self.sets['trainset']
        assert data.recorder is not None
        sampler = data.loader.batch_sampler
        sampler.set_epoch(self.state.epoch)
        sampler.start_at(self.state.step)
        data.recorder.reset()
        if self.state.recorder:
            data.recorder.load(self.state.recorder)
        every = self.config[keys.FIDELITY_TRAIN]['checkpoint_every']
        n_steps = len(data.loader)
        self.trainer.model.train()
        for batch in data.loader:
            try:
                output, must_stop = self.trainer.step(batch, bool(stop))
            except BadLoss as bad:
                raise TrainingStopped(self._bad_loss(bad)) from None
            data.recorder.update(output)
            self.state.step += 1
            bar.update()
            done = (self.state.epoch - 1) * n_steps + self.state.step
            if must_stop:
                self._stop(stop)
            if done % every == 0 and self.state.step < n_steps:
                self.write_resumable(in_epoch=True)
        sampler.start_at(0)

    def _stop(self, stop: StopRequest) -> None:
        self.write_resumable(in_epoch=True)
        self.process.barrier()
        raise TrainingStopped(
            f'stopped by {stop.name or "another process"} after step '
            f'{self.state.step} of epoch {self.state.epoch}; '
            f'{self.path(checkpoint.RESUME_FILE)} is whole. Go on with the same '
            'command and --resume.'
        )

    def _bad_loss(self, bad: BadLoss) -> str:
        dataset = self.sets['trainset'].dataset
        sources = [dataset.source(i) for i in bad.structures]
        if self.process.distributed:
            every: list[list[str]] = [[] for _ in range(self.process.world_size)]
            dist.all_gather_object(every, sources)
            sources = [source for some in every for source in some]
        return (
            f'the loss is NaN or infinite at step {self.state.step + 1} of epoch '
            f'{self.state.epoch}, in a batch of {", ".join(sources)}. The last good '
            f'checkpoint is {self.path(checkpoint.RESUME_FILE)}. Check these '
            'structures, or lower the learning rate.'
        )

    def _finish_epoch(self, curve: LearningCurve) -> None:
        state, trainer = self.state, self.trainer
        lr = trainer.get_lr()
        values = {}
        for name, data in self.sets.items():
            assert data.recorder is not None
            if name == 'trainset':
                trainer.probe_theta(data.probe, data.recorder)
            else:
                data.recorder.reset()
                trainer.evaluate(data.loader, data.recorder)
            if self.process.distributed:
                data.recorder.reduce(trainer.device)
            values[name] = data.recorder.values()
        epoch = state.epoch
        curve.append(epoch, lr, values)
        self._write_log(epoch, lr, values)
        metric = values[self.validation][self.target][self.best_metric]
        trainer.scheduler_step(metric)
        is_best = metric < state.best
        if is_best:
            state.best, state.best_epoch = metric, epoch
        state.epoch, state.step = epoch + 1, 0
        if is_best:
            self.write(checkpoint.BEST_FILE, epoch)
            self.log.writeline('Best checkpoint written')
        if epoch % self.config[KEY.PER_EPOCH] == 0:
            self.write(f'checkpoint_{epoch}.pth', epoch)
        self.write_resumable(in_epoch=False)
        self.log.timer_end('epoch', message=f'Epoch {epoch} elapsed')

    def _write_log(self, epoch: int, lr: float, values: dict[str, Any]) -> None:
        self.log.bar()
        self.log.writeline(f'Epoch {epoch}/{self.config[KEY.EPOCH]}  lr: {lr:8f}')
        self.log.bar()
        rows = {
            f'{name}_{fidelity}': metrics
            for name, by_fidelity in values.items()
            for fidelity, metrics in by_fidelity.items()
        }
        self.log.write_full_table(list(rows.values()), list(rows))


# what may change between a run and its resumption; everything else may not
MAY_CHANGE = (
    KEY.EPOCH,
    KEY.PER_EPOCH,
    KEY.DEVICE,
    KEY.NUM_WORKERS,
    KEY.PREPROCESS_NUM_CORES,
    KEY.CONTINUE,
    KEY.RANK,
    KEY.LOCAL_RANK,
    KEY.IS_DDP,
    KEY.DDP_BACKEND,
    KEY.SHIFT,  # these three follow from the data
    KEY.SCALE,
    KEY.CONV_DENOMINATOR,
    'version',
    'when',
    keys.PROVENANCE,
)


def must_stay(config: dict[str, Any], process: Process) -> dict[str, Any]:
    """The part of a configuration on which a resumed run depends."""
    kept = {
        k: v
        for k, v in config.items()
        if k not in MAY_CHANGE and not (k.startswith('load_') and k.endswith('_path'))
    }
    kept[keys.FIDELITY_TRAIN] = {
        k: v for k, v in config[keys.FIDELITY_TRAIN].items() if k != 'checkpoint_every'
    }
    kept['data files'] = sorted(config[keys.PROVENANCE]['files'].values())
    kept[KEY.WORLD_SIZE] = process.world_size
    return kept


def _random_state() -> dict[str, Any]:
    return {
        'python': random.getstate(),
        'numpy': np.random.get_state(),
        'torch': torch.get_rng_state(),
        'cuda': torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _set_random_state(state: dict[str, Any]) -> None:
    random.setstate(state['python'])
    np.random.set_state(state['numpy'])
    torch.set_rng_state(state['torch'])
    if state['cuda'] and torch.cuda.device_count() == len(state['cuda']):
        torch.cuda.set_rng_state_all(state['cuda'])
