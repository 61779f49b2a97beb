"""The epochs of a run: metrics, best checkpoint, interruption, resumption."""

from __future__ import annotations

import copy
import math
import os
import warnings
from dataclasses import dataclass
from typing import Any

import sevenn._keys as KEY
import torch
import torch.distributed as dist
from sevenn.logger import Logger
from tqdm import tqdm

from sevennet_mf import keys
from sevennet_mf.checkpoint import file as checkpoint_file
from sevennet_mf.data.dataset import DRIFT, FidelityDataset
from sevennet_mf.distributed import Process
from sevennet_mf.errors import TrainingStopped, UserError
from sevennet_mf.interrupt import StopRequest
from sevennet_mf.train.loop import run_folder
from sevennet_mf.train.loop.curve import LearningCurve, write_log
from sevennet_mf.train.loop.drift import Drift
from sevennet_mf.train.loop.metrics import (
    SetRecorder,
    check_best_metric,
    make_metrics,
)
from sevennet_mf.train.loop.resume import (
    State,
    moved_references,
    must_stay,
    random_state,
    refuse_changes,
    set_random_state,
)
from sevennet_mf.train.loop.settled import Settled
from sevennet_mf.train.loop.trainer import BadLoss, FidelityTrainer


@dataclass
class DataSet:
    """One named data set of a run: its batches and fidelities."""

    dataset: FidelityDataset
    loader: Any
    fidelities: list[str]
    probe: Any = None  # batches of a few structures of a training set
    recorder: SetRecorder | None = None


class Fit:
    """A run of training, from its first or any later step to its last epoch.

    Attributes:
        settled: what stays the same during the run.
        config: the host's, for checkpoints; it contains the provenance as well.
        sets: by name; 'trainset' is one of them.
        validation: the name of the set that selects the best checkpoint.
        drift: of old fidelities of the initial checkpoint, on the set `drift`.
    """

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
        self.trainer = trainer
        self.settled = settled
        self.provenance = settled.provenance
        self.config = {**settled.config, keys.PROVENANCE: self.provenance}
        self.sets = sets
        self.validation = validation
        self.working_dir = working_dir
        self.process = process
        self.log = Logger()
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
        self.state = State()
        self.drift = drift

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

    # ---- checkpoints

    def path(self, name: str) -> str:
        return os.path.join(self.working_dir, name)

    def write(self, name: str, epoch: int, resumable: bool = False) -> None:
        """Write a checkpoint, in the first process only; whole or not at all."""
        if not self.trainer.weights_are_finite():  # the same on every process
            raise TrainingStopped(
                f'weights became NaN or infinite in epoch {self.state.epoch}; '
                f'{self.path(run_folder.RESUME_FILE)} keeps the last good ones. '
                'Lower the learning rate.'
            )
        if self.process.rank != 0:
            return
        content = self.trainer.get_checkpoint_dict()
        content.update(config=self.config, epoch=epoch)
        if resumable:
            content[keys.TRAINING_STATE] = {
                'state': vars(self.state),
                'references': self.trainer.references,
                'shift': self.trainer.shift.detach().cpu(),
                'random': random_state(),
                'must_stay': must_stay(self.config, self.process),
            }
        checkpoint_file.save(self.path(name), content)

    def write_resumable(self, in_epoch: bool) -> None:
        recorder = self.sets['trainset'].recorder
        assert recorder is not None
        joint = self.trainer.device if self.process.distributed else None
        self.state.recorder = recorder.state(joint) if in_epoch else []
        self.write(run_folder.RESUME_FILE, self.state.epoch - 1, resumable=True)
        self.state.recorder = []

    def follow(self, moved: str) -> None:
        """Record where the run's initial checkpoint is now, for its resumption.

        Args:
            moved: the folder to which the output folder's checkpoints were moved.
        """
        block = self.config[KEY.CONTINUE]
        path = block[KEY.CHECKPOINT]
        if path and run_folder.is_set_aside(path, self.working_dir):
            now = os.path.join(moved, os.path.basename(path))
            self.config[KEY.CONTINUE] = {**block, KEY.CHECKPOINT: now}

    def resume(self, content: dict[str, Any]) -> None:
        """Continue where a checkpoint left off.

        Raises:
            UserError: The input has changed.
        """
        saved = content[keys.TRAINING_STATE]
        refuse_changes(saved['must_stay'], must_stay(self.config, self.process))
        trainer = self.trainer
        self._take_references(saved['references'], content['config'])
        trainer.load_weights(content['model_state_dict'])
        with torch.no_grad():
            trainer.shift.copy_(saved['shift'])
        trainer.load_state_dicts(
            None, content['optimizer_state_dict'], content['scheduler_state_dict']
        )
        self.state = State(**saved['state'])
        if self.drift is not None:
            self.drift.smallest = self.state.least_drift
        if self.process.rank != 0:
            self.state.recorder = []  # the first process holds everyone's
        known = content['config'][keys.PROVENANCE]
        names = ('best', 'drift', 'reference_energies', 'defaults')
        kept = {key: known[key] for key in names if known.get(key)}
        self.provenance.update(kept)
        set_random_state(saved['random'])

    def _take_references(self, saved: torch.Tensor, config: dict[str, Any]) -> None:
        """Keep the reference energies of the run so far, in the data as well.

        Raises UserError if those found now differ.
        """
        now = self.trainer.references
        if torch.equal(saved, now):
            return
        datasets = [data.dataset for data in self.sets.values()]
        types = self.config[KEY.TYPE_MAP]
        energies = moved_references(saved, now, types, datasets)
        for dataset in datasets:
            dataset.set_reference(energies)
        self.trainer.references = saved
        self.config[KEY.SHIFT] = config[KEY.SHIFT]

    # ---- the run

    def run(self) -> None:
        """Train to the last epoch.

        Raises:
            TrainingStopped: After a signal, or a loss that is not finite; a
                resumable checkpoint is on disk.
        """
        last = self.config[KEY.EPOCH]
        is_new = not self.state.curve
        curve = self._open_curve()
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
        with StopRequest().listening() as stop, bar:
            while self.state.epoch <= last:
                bar.set_description(f'epoch {self.state.epoch}/{last}')
                if stop and not self.process.distributed:  # others: at the next step
                    self._stop(stop)
                self._train_epoch(stop, bar)
                self._finish_epoch(curve)
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
        sampler.set_epoch(self.state.epoch - 1)  # it counts from 0
        sampler.start_at(self.state.step)
        data.recorder.reset()
        if self.state.recorder:
            data.recorder.load(self.state.recorder)
            self.state.recorder = []
        every = self.settled.inputs.train.checkpoint_every
        n_steps = len(data.loader)
        self.trainer.model.train()
        for batch in data.loader:
            present = sampler.present(self.state.step)
            try:
                seen, must_stop = self.trainer.step(batch, bool(stop), present)
            except BadLoss as bad:
                raise TrainingStopped(self._bad_loss(bad)) from None
            data.recorder.update(seen)
            self.state.step += 1
            bar.update()
            done = (self.state.epoch - 1) * n_steps + self.state.step
            if must_stop or (stop and not self.process.distributed):
                self._stop(stop)
            if done % every == 0:
                self.write_resumable(in_epoch=True)
        sampler.start_at(0)

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
        write_log(f'Epoch {epoch}/{self.config[KEY.EPOCH]}  lr: {lr:8f}', values)
        metric = values[self.validation][self.target][self.best_metric]
        if math.isnan(metric):
            self.log.writeline(
                f'WARNING: {self.best_metric} of {self.target} in {self.validation} '
                'is NaN: this epoch cannot become the best.'
            )
        trainer.scheduler_step(metric)
        holds = self._holds_drift(values, epoch)
        is_best = metric < state.best and holds
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
