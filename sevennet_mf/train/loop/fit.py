"""The epochs of a run: metrics, best checkpoint, interruption, resumption."""

from __future__ import annotations

import copy
import math
import warnings
from contextlib import closing
from typing import Any

import sevenn._keys as KEY
import torch.distributed as dist
from sevenn.logger import Logger
from tqdm import tqdm

from sevennet_mf.data.dataset import DRIFT
from sevennet_mf.distributed import Process
from sevennet_mf.errors import TrainingStopped, UserError
from sevennet_mf.interrupt import StopRequest
from sevennet_mf.train.loop import run_folder
from sevennet_mf.train.loop.curve import LearningCurve, Values, write_log
from sevennet_mf.train.loop.drift import Drift
from sevennet_mf.train.loop.metrics import (
    SetRecorder,
    check_best_metric,
    make_metrics,
)
from sevennet_mf.train.loop.saved_run import DataSet, SavedRun
from sevennet_mf.train.loop.settled import Settled
from sevennet_mf.train.loop.trackers import Trackers
from sevennet_mf.train.loop.trainer import BadLoss, FidelityTrainer
from sevennet_mf.train.loop.waiting import Waiting


class Fit(SavedRun):
    """A run of training, from its first or any later step to its last epoch.

    Attributes:
        validation: the name of the set that selects the best checkpoint.
        patience: epochs without a new best checkpoint that end the run; None for no
            such end.
        ended: why it ended before its last epoch.
    """

    ended = ''

    def __init__(
        self,
        trainer: FidelityTrainer,
        settled: Settled,
        sets: dict[str, DataSet],
        validation: str,
        working_dir: str,
        process: Process,
        drift: Drift | None = None,
    ) -> None:
        super().__init__(trainer, settled, sets, working_dir, process, drift)
        self.validation = validation
        stopping = settled.inputs.train.early_stopping
        self.patience = None if stopping is None else stopping.patience
        self.log = Logger()
        self.waiting = Waiting()
        self.has_advised = False
        self.target = settled.inputs.target
        names, config = settled.names, settled.config
        metrics = make_metrics(config, trainer.loss_functions, len(names))
        self.metric_names = [metric.name for metric in metrics]
        self.best_metric = check_best_metric(config, metrics)
        self._check_labels()
        indices = {name: i for i, name in enumerate(names)}
        for data in sets.values():
            own = {f: copy.deepcopy(metrics) for f in data.fidelities}
            data.recorder = SetRecorder(own, indices)

    def _check_labels(self) -> None:
        """Raise UserError if the validation set lacks labels for the best metric."""
        label = self.best_metric.split('_')[0].lower()
        dataset = self.sets[self.validation].dataset
        rows = dataset.rows_of(self.target)
        if label in dataset.has and not dataset.has[label][rows].any():
            raise UserError(
                f'train.best_metric: {self.best_metric!r} needs {label} labels, and '
                f'{self.validation} has none of the target {self.target!r}. Use '
                "'TotalLoss', or add such labels."
            )

    def run(self) -> None:
        """Train to the last epoch, or until nothing improves.

        Raises:
            TrainingStopped: After a signal, or a loss that is not finite; a
                resumable checkpoint is on disk.
        """
        last = self.config[KEY.EPOCH]
        is_new = not self.state.curve
        curve = self._open_curve()
        shown = self._open_trackers()
        if is_new and self.state.epoch == 1:
            self.write('checkpoint_0.pth', 0)
        if is_new:  # so that a stop in the first epoch has a checkpoint to name
            self.write_resumable(in_epoch=False)
        n_steps = len(self.sets['trainset'].loader)
        bar = tqdm(
            total=last * n_steps,
            initial=(self.state.epoch - 1) * n_steps + self.state.step,
            disable=None if self.process.rank == 0 else True,
            unit='step',
        )
        with StopRequest().listening() as stop, bar, closing(shown):
            while self.state.epoch <= last and not self._gives_up():
                bar.set_description(f'epoch {self.state.epoch}/{last}')
                if stop and not self.process.distributed:  # others: at the next step
                    self._stop(stop)
                self._train_epoch(stop, bar)
                self._finish_epoch(curve, shown)
        if self.drift is not None and self.drift.smallest[0] > 1.0:
            message = self.drift.advice()
            self.log.writeline(f'WARNING: {message}')
            warnings.warn(message, UserWarning, stacklevel=2)

    def _open_curve(self) -> LearningCurve:
        curve = LearningCurve(
            self.working_dir,
            {name: data.fidelities for name, data in self.sets.items()},
            self.metric_names,
            self.process.rank == 0,
            () if self.norms is None else self.norms.values(),
        )
        if self.state.curve:
            curve.reopen(self.state.curve, before_epoch=self.state.epoch)
        else:
            self.state.curve = curve.create()
        return curve

    def _open_trackers(self) -> Trackers:
        """Those of the first process; if they fail, they fail on all."""
        inputs, shown = self.settled.inputs, Trackers()
        names = ('model', 'train', 'data')
        sections = dict(zip(names, inputs.dumped(), strict=True))

        def start() -> str:
            asked = inputs.train.report_to
            shown.open(asked, self.working_dir, self.state, sections)
            return self.state.wandb

        self.state.wandb = self.process.share(start)
        return shown

    def _gives_up(self) -> bool:
        """Whether the run ends early; the same on all processes."""
        waited, patience = self.state.waited, self.patience
        if patience is None or not self.process.share(lambda: waited >= patience):
            return False
        self.ended = (
            f'ended early: no new best checkpoint for {waited} '
            f'epoch{"" if waited == 1 else "s"}, by {self.best_metric} of '
            f'{self.target} in {self.validation}'
        )
        self.log.writeline(f'Epoch {self.state.epoch - 1}: {self.ended}')
        return True

    def _train_epoch(self, stop: StopRequest, bar: Any) -> None:
        self.log.timer_start('epoch')
        data = self.sets['trainset']
        assert data.recorder is not None
        sampler = data.loader.batch_sampler
        sampler.set_epoch(self.state.epoch - 1)  # it counts from 0
        sampler.start_at(self.state.step)
        data.recorder.reset()
        if self.state.recorder:
            data.recorder.load(self.state.recorder)
            self.state.recorder = []
        if self.norms is not None:
            self.norms.reset()
            if self.state.gradient:
                self.norms.load(self.state.gradient)
                self.state.gradient = []
        every = self.settled.inputs.train.checkpoint_every
        n_steps = len(data.loader)
        self.trainer.model.train()
        for batch in self.waiting.batches(data.loader):
            present = sampler.present(self.state.step)
            try:
                seen, must_stop = self.trainer.step(batch, bool(stop), present)
            except BadLoss as bad:
                raise TrainingStopped(self._bad_loss(bad)) from None
            data.recorder.update(seen)
            if self.norms is not None:
                self.norms.update(self.trainer.gradient_norm)
            self.state.step += 1
            bar.update()
            done = (self.state.epoch - 1) * n_steps + self.state.step
            if must_stop or (stop and not self.process.distributed):
                self._stop(stop)
            if done % every == 0:
                self.write_resumable(in_epoch=True)
        sampler.start_at(0)
        self._advise()

    def _advise(self) -> None:
        """Log once that steps wait for batches, if they do."""
        workers = self.sets['trainset'].loader.num_workers
        advice = '' if self.has_advised else self.waiting.advice(workers)
        if advice:
            self.log.writeline(advice)
            self.has_advised = True

    def _stop(self, stop: StopRequest) -> None:
        self.write_resumable(in_epoch=self.state.step > 0)
        self.process.barrier()
        raise TrainingStopped(
            f'stopped by {stop.name or "another process"} after step '
            f'{self.state.step} of epoch {self.state.epoch}; '
            f'{self.path(run_folder.RESUME_FILE)} is complete. Resume with the same '
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
            f'checkpoint is {self.path(run_folder.RESUME_FILE)}. Check these '
            'structures, or lower the learning rate.'
        )

    def _evaluated(self) -> Values:
        """The errors of all sets at the end of an epoch."""
        trainer, values = self.trainer, {}
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
        return values

    def _finish_epoch(self, curve: LearningCurve, shown: Trackers) -> None:
        state, trainer = self.state, self.trainer
        epoch, lr, values = state.epoch, trainer.get_lr(), self._evaluated()
        norms = {} if self.norms is None else self.norms.values()
        curve.append(epoch, lr, values, norms)
        shown.report(epoch, {'lr': lr, **norms}, values)
        write_log(f'Epoch {epoch}/{self.config[KEY.EPOCH]}  lr: {lr:8f}', values)
        if self.norms is not None:
            self.norms.log()
        metric = values[self.validation][self.target][self.best_metric]
        if math.isnan(metric):
            self.log.writeline(
                f'WARNING: {self.best_metric} of {self.target} in {self.validation} '
                'is NaN: this epoch cannot become the best.'
            )
        trainer.scheduler_step(metric)
        holds = self._holds_drift(values, epoch)
        is_best = metric < state.best and holds
        state.waited = 0 if is_best else state.waited + 1
        if is_best:
            state.best, state.best_epoch = metric, epoch
            self.provenance['best'] = {
                'set': self.validation,
                'fidelity': self.target,
                'metric': self.best_metric,
                'value': metric,
                'epoch': epoch,
            }
        state.epoch, state.step = epoch + 1, 0
        if is_best:
            self.write(run_folder.BEST_FILE, epoch)
            self.log.writeline('Best checkpoint written')
        if epoch % self.config[KEY.PER_EPOCH] == 0:
            self.write(f'checkpoint_{epoch}.pth', epoch)
        self.write_resumable(in_epoch=False)
        self.log.timer_end('epoch', message=f'Epoch {epoch} elapsed')

    def _holds_drift(self, values: dict[str, Any], epoch: int) -> bool:
        if self.drift is None:
            return True
        holds = self.drift.update(values[DRIFT], epoch)
        self.state.least_drift = self.drift.smallest
        self.provenance['drift'] = self.drift.as_dict()
        if not holds:
            self.log.writeline(
                'max_drift is exceeded: this epoch cannot become the best.'
            )
        return holds
