"""One optimiser step after another: the host's Trainer for several fidelities."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import sevenn._keys as KEY
import torch
from sevenn.train.loss import LossDefinition
from sevenn.train.trainer import Trainer
from torch.nn.parallel import DistributedDataParallel as DDP

from sevennet_mf import keys
from sevennet_mf.config.optimizer import RateSchedule, optimizer_of, schedule_of
from sevennet_mf.config.recipe import FROM_SCRATCH
from sevennet_mf.config.training import MovingAverage
from sevennet_mf.distributed import Process
from sevennet_mf.errors import TrainingStopped
from sevennet_mf.model.build import common_potential, drop_absent_gradients
from sevennet_mf.model.runner import total_energy
from sevennet_mf.train.loop.average import AveragedWeights
from sevennet_mf.train.loop.loss import PRESENT
from sevennet_mf.train.loop.metrics import SetRecorder, sum_over_processes
from sevennet_mf.train.loop.seen import Seen, fetch, labels_of

SHIFT = 'rescale_atomic_energy.shift'
# whether a schedule by step has seen a step; part of its state dict
STEPPED: Final = 'stepped'


class BadLoss(TrainingStopped):
    """A batch whose loss is NaN or infinite.

    Attributes:
        structures: indices of the batch's structures.
    """

    def __init__(self, structures: list[int]) -> None:
        super().__init__('the loss is not finite')
        self.structures = structures


@dataclass(frozen=True)
class StepOptions:
    """What belongs to a step beside the loss and the optimiser.

    Attributes:
        schedule: of the learning rate; None: the configuration's, by epoch.
        grad_clip: largest norm of the gradient.
        ema: the average of the weights that is evaluated and saved.
    """

    schedule: RateSchedule | None = None
    grad_clip: float | None = None
    ema: MovingAverage | None = None


class FidelityTrainer(Trainer):
    """Trains on residual energies, fidelity by fidelity, in one or more processes.

    While it trains, the model's reference energies are taken out (the labels
    come without them, subtracted in float64), so that total energies of
    -6000 eV lose no digits in float32. Checkpoints contain them again.

    Args:
        config: the host's.

    Attributes:
        average: the average of the weights, if there is one; it is what is
            evaluated and saved.
        gradient_norm: of the last step, over all weights and processes, before it
            was limited.
    """

    model: Any  # the module, or DDP around it
    average: AveragedWeights | None = None
    gradient_norm = 0.0

    def __init__(
        self,
        model: torch.nn.Module,
        losses: list[tuple[LossDefinition, float]],
        config: dict[str, Any],
        process: Process,
        n_fidelities: int,
        options: StepOptions | None = None,
    ) -> None:
        self.options = options or StepOptions()
        self.schedule = self.options.schedule or schedule_of(
            config, 'epoch', FROM_SCRATCH, config[KEY.EPOCH]
        )
        super().__init__(
            model=model,
            loss_functions=losses,
            optimizer_cls=lambda weights: optimizer_of(config, weights),
            scheduler_cls=self.schedule.made,
            device=process.device(config[KEY.DEVICE]),
        )
        self.module: Any = self.model
        self.rank = process.rank
        self.distributed = process.distributed
        self.n_fidelities = n_fidelities
        rescale = self.module._modules['rescale_atomic_energy']
        self.shift: torch.nn.Parameter = rescale.shift
        self.references = self.shift.detach().cpu().double()
        with torch.no_grad():
            self.shift.zero_()
        if self.options.ema is not None:
            self.average = AveragedWeights(self.module, self.options.ema)
        if self.distributed:
            on_gpu = self.device.type == 'cuda'
            self.model = DDP(
                self.module,
                device_ids=[self.device] if on_gpu else None,
                broadcast_buffers=False,  # all of them are constants
            )

    def step(
        self, batch: Any, stop: bool = False, present: torch.Tensor | None = None
    ) -> tuple[Seen, bool]:
        """Take one optimiser step.

        Waits for the device once, when everything but Adam is done there.

        Args:
            stop: whether this process was asked to stop.
            present: (n_fidelities,) bool, which fidelities the processes' joint
                batch has; None: those of this batch, if there is one process.

        Returns:
            Labels and predictions, and whether to stop, the same on all processes.

        Raises:
            BadLoss: The loss, or its gradient, is not finite; nothing was changed.
        """
        assert present is not None or not self.distributed
        self.optimizer.zero_grad()
        labels = labels_of(batch)
        present = self._present(labels) if present is None else present
        output = self.model(batch.to(self.device, non_blocking=True))
        output[PRESENT] = present
        loss = torch.zeros((), device=self.device)
        for definition, factor in self.loss_functions:
            loss = loss + definition.get_loss(output, self.module) * factor
        loss.backward()
        norm = torch.nn.utils.get_total_norm(self._gradients()).to(loss)
        flags = self._flags(loss, norm, stop)
        seen, numbers = fetch(labels, output, torch.cat([flags, norm[None]]))
        bad_here, bad, bad_gradient, stops, self.gradient_norm = numbers
        if bad or bad_gradient:
            is_here = bad_here or not bad
            numbers = seen[keys.STRUCTURE_INDEX].tolist()
            raise BadLoss(numbers if is_here else [])
        if self.options.grad_clip is not None:
            torch.nn.utils.clip_grads_with_norm_(
                self.module.parameters(), self.options.grad_clip, norm
            )
        drop_absent_gradients(self.module, present.tolist())
        if self.schedule.by_step:
            self._next_rate()
        with self._absent_rows_kept(present):
            self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.module)
        return seen, bool(stops)

    def _gradients(self) -> list[torch.Tensor]:
        """The gradients of all weights, averaged over the processes."""
        return [p.grad for p in self.module.parameters() if p.grad is not None]

    def _next_rate(self) -> None:
        """Move on a schedule by step, before every step but its first."""
        if getattr(self.scheduler, STEPPED, False):
            self._move_on()
        setattr(self.scheduler, STEPPED, True)

    @contextmanager
    def _absent_rows_kept(self, present: torch.Tensor) -> Iterator[None]:
        """Leave shift and scale of absent fidelities as they are.

        They are rows of one Parameter, which Adam moves as a whole.
        """
        rescale = self.module._modules['rescale_atomic_energy']
        kept = [
            (parameter, row, parameter.detach()[row].clone())
            for parameter in (rescale.shift, rescale.scale)
            if parameter.requires_grad and parameter.dim() == 2
            for row in (~present).nonzero().flatten().tolist()
        ]
        yield
        with torch.no_grad():
            for parameter, row, before in kept:
                parameter[row] = before

    def _present(self, labels: Seen) -> torch.Tensor:
        """Which fidelities a batch has, (n_fidelities,) bool."""
        real = labels[keys.FIDELITY_INDEX][labels[keys.SAMPLE_WEIGHT] > 0]
        return torch.bincount(real, minlength=self.n_fidelities) > 0

    def _flags(
        self, loss: torch.Tensor, norm: torch.Tensor, stop: bool
    ) -> torch.Tensor:
        """(4,) on the device, nonzero where true: the loss of this process is bad,
        that of any is, the joint gradient is, any process was asked to stop."""
        bad = ~torch.isfinite(torch.stack([loss.detach(), norm]))
        flags = torch.cat([bad, torch.full_like(bad[:1], stop)]).int()
        own = flags[:1].clone()
        return torch.cat([own, sum_over_processes(flags)])

    @property
    def evaluated(self) -> Any:
        """The module whose errors are recorded, and whose weights are saved."""
        return self.module if self.average is None else self.average.module

    def evaluate(self, loader: Iterable, recorder: SetRecorder) -> None:
        """Record the errors of a data set, and theta_T's part of its energies."""
        self.evaluated.eval()
        for batch in loader:
            labels = labels_of(batch)
            batch = batch.to(self.device, non_blocking=True)
            common = self._common_energy(batch)
            output = self.evaluated(batch)
            own = output[KEY.PRED_TOTAL_ENERGY].detach()
            theta = _theta(own, common, output[KEY.NUM_ATOMS])
            seen, parts = fetch(labels, output, theta)
            recorder.update(seen)
            if common is not None:
                recorder.update_theta(seen, torch.tensor(parts))
        self.evaluated.train()

    def probe_theta(self, loader: Iterable, recorder: SetRecorder) -> None:
        """Record only theta_T's part of the energies, without forces."""
        if self.n_fidelities < 2:
            return
        self.evaluated.eval()
        with torch.no_grad():
            for batch in loader:
                labels = labels_of(batch)
                batch = batch.to(self.device)
                common = self._common_energy(batch)
                own = total_energy(self.evaluated, batch)
                theta = _theta(own, common, batch[KEY.NUM_ATOMS])
                recorder.update_theta(labels, theta.cpu())
        self.evaluated.train()

    @torch.no_grad()
    def _common_energy(self, batch: Any) -> torch.Tensor | None:
        """Energies of the common potential, (n_graphs,) eV; None for one."""
        if self.n_fidelities < 2:
            return None
        with common_potential(self.evaluated):
            return total_energy(self.evaluated, batch.clone())

    def scheduler_step(self, metric: float | None = None) -> None:
        """As the host's, at the end of an epoch; nothing for a schedule by step.

        Args:
            metric: what ReduceLROnPlateau uses.
        """
        if not self.schedule.by_step:
            self._move_on(metric)

    def _move_on(self, metric: float | None = None) -> None:
        with warnings.catch_warnings():
            # a run that is resumed at the end of an epoch comes here first
            warnings.filterwarnings('ignore', 'Detected call of `lr_scheduler.step')
            super().scheduler_step(metric)

    def get_checkpoint_dict(self) -> dict[str, Any]:
        """As the host's, of `evaluated`, with the reference energies put back."""
        model, self.model = self.model, self.evaluated  # not DDP's names
        distributed, self.distributed = self.distributed, False
        try:
            content = super().get_checkpoint_dict()
        finally:
            self.model, self.distributed = model, distributed
        learnt = content['model_state_dict'][SHIFT]
        whole = learnt.cpu().double() + self.references
        content['model_state_dict'][SHIFT] = whole.to(learnt)
        return content

    def load_weights(self, state: dict[str, torch.Tensor]) -> None:
        """Load a checkpoint's weights, except its reference energies.

        Those stay as they were when the model was built, and so does what training
        has added to them. An average starts again from these weights.
        """
        learnt = self.shift.detach().clone()
        self.module.load_state_dict(state)
        with torch.no_grad():
            self.shift.copy_(learnt)
        if self.average is not None:
            self.average.restart(self.module.state_dict())

    def training_weights(self) -> dict[str, Any]:
        """Return what a resumed run needs besides `get_checkpoint_dict`."""
        found: dict[str, Any] = {'shift': self.shift.detach().cpu()}
        if self.average is not None:
            found['average'] = {
                'trained': self.module.state_dict(),
                'shift': self.average.module.state_dict()[SHIFT],
                'steps': self.average.steps,
            }
        return found

    def load_training_weights(
        self, state: dict[str, torch.Tensor], saved: dict[str, Any]
    ) -> None:
        """Restore the weights of a run that is resumed.

        Args:
            state: the weights of its checkpoint.
            saved: what `training_weights` returned.
        """
        average = saved.get('average')
        if self.average is None or average is None:
            self.load_weights(state)
            with torch.no_grad():
                self.shift.copy_(saved['shift'])
            return
        self.module.load_state_dict(average['trained'])
        self.average.restart({**state, SHIFT: average['shift']}, average['steps'])

    def weights_are_finite(self) -> bool:
        """Whether the weights are worth keeping."""
        modules = {id(m): m for m in (self.module, self.evaluated)}.values()
        finite = [torch.isfinite(p).all() for m in modules for p in m.parameters()]
        return bool(torch.stack(finite).all())


def _theta(
    own: torch.Tensor, common: torch.Tensor | None, n_atoms: torch.Tensor
) -> torch.Tensor:
    """theta_T's part of energies, (n_graphs,) eV/atom; (0,) without it."""
    return own[:0] if common is None else (own - common) / n_atoms
