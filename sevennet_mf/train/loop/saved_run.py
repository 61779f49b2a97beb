"""A run and its files: checkpoints, how they are written, and how a run resumes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import sevenn._keys as KEY
import torch
from sevenn.logger import Logger

from sevennet_mf import keys
from sevennet_mf.checkpoint import file as checkpoint_file
from sevennet_mf.config.recipe import as_text
from sevennet_mf.data.dataset import FidelityDataset
from sevennet_mf.distributed import Process
from sevennet_mf.errors import TrainingStopped, UserError
from sevennet_mf.train.loop import run_folder
from sevennet_mf.train.loop.drift import Drift
from sevennet_mf.train.loop.gradient import GradientNorms
from sevennet_mf.train.loop.metrics import SetRecorder
from sevennet_mf.train.loop.resume import (
    State,
    moved_references,
    must_stay,
    random_state,
    refuse_changes,
    set_random_state,
)
from sevennet_mf.train.loop.settled import Settled
from sevennet_mf.train.loop.trainer import FidelityTrainer


@dataclass
class DataSet:
    """One named data set of a run: its batches and fidelities."""

    dataset: FidelityDataset
    loader: Any
    fidelities: list[str]
    probe: Any = None  # batches of a few structures of a training set
    recorder: SetRecorder | None = None


class SavedRun:
    """What is in the checkpoints of a run, and comes back from them.

    Attributes:
        settled: what stays the same during the run.
        config: the host's, for checkpoints; it contains the provenance as well.
        sets: by name; 'trainset' is one of them.
        drift: of old fidelities of the initial checkpoint, on the set `drift`.
        norms: of the gradient in this epoch, if it is limited.
    """

    def __init__(
        self,
        trainer: FidelityTrainer,
        settled: Settled,
        sets: dict[str, DataSet],
        working_dir: str,
        process: Process,
        drift: Drift | None = None,
    ) -> None:
        self.trainer = trainer
        self.settled = settled
        self.provenance = settled.provenance
        self.config = {**settled.config, keys.PROVENANCE: self.provenance}
        self.sets = sets
        self.working_dir = working_dir
        self.process = process
        self.state = State()
        self.drift = drift
        limit = trainer.options.grad_clip
        self.norms = None if limit is None else GradientNorms(limit)

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
        if self.trainer.average is not None:
            self.provenance['ema'] = self.trainer.average.as_dict()
        content = self.trainer.get_checkpoint_dict()
        content.update(config=self.config, epoch=epoch)
        if resumable:
            content[keys.TRAINING_STATE] = {
                'state': vars(self.state),
                'references': self.trainer.references,
                **self.trainer.training_weights(),
                'random': random_state(),
                'must_stay': must_stay(self.config, self.process),
            }
        checkpoint_file.save(self.path(name), content)

    def write_resumable(self, in_epoch: bool) -> None:
        recorder = self.sets['trainset'].recorder
        assert recorder is not None
        joint = self.trainer.device if self.process.distributed else None
        self.state.recorder = recorder.state(joint) if in_epoch else []
        if self.norms is not None:
            self.state.gradient = self.norms.state() if in_epoch else []
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
        trainer.load_training_weights(content['model_state_dict'], saved)
        trainer.load_state_dicts(
            None, content['optimizer_state_dict'], content['scheduler_state_dict']
        )
        self._check_cycle()
        self._tell_kept_numbers()
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

    def _tell_kept_numbers(self) -> None:
        """Log what a schedule keeps although a changed `epoch` asks for more."""
        schedule, scheduler = self.trainer.schedule, self.trainer.scheduler
        # those of the YAML may be from the beginning of the run already
        wanted = self.settled.inputs.scheduled_for(schedule.name, schedule.length)
        kept = {
            name: own
            for name, asked in schedule.parameters.items()
            if isinstance(own := getattr(scheduler, name, asked), int | float)
            and own != wanted.get(name, asked)
        }
        if kept:
            Logger().writeline(
                f'Schedule: {schedule.name} keeps {as_text(kept)}, as the run began '
                'with'
            )

    def _check_cycle(self) -> None:
        """Raise UserError if the schedule of a resumed run ends before the run."""
        schedule = self.trainer.schedule
        steps = getattr(self.trainer.scheduler, 'total_steps', None)
        assert schedule.length is not None
        if steps is not None and steps < schedule.length:
            raise UserError(
                f'--resume: the schedule {schedule.name} of this run ends after '
                f'{steps} {"steps" if schedule.by_step else "epochs"}, and '
                f'train.epoch now asks for {schedule.length}. Undo the change, or '
                'start anew without --resume (`continue: checkpoint:` keeps the '
                'weights).'
            )
