"""One optimiser step after another: the host's Trainer for several fidelities."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import sevenn._keys as KEY
import torch
from sevenn.train.loss import LossDefinition
from sevenn.train.trainer import Trainer
from torch.nn.parallel import DistributedDataParallel as DDP

from sevennet_mf import keys
from sevennet_mf.distributed import Process
from sevennet_mf.errors import TrainingStopped, UserError
from sevennet_mf.model.build import common_potential, drop_absent_gradients
from sevennet_mf.model.runner import total_energy
from sevennet_mf.train.loop.loss import LABELS, PRESENT
from sevennet_mf.train.loop.metrics import SetRecorder, sum_over_processes
from sevennet_mf.train.loop.optimizer import classes_of, scheduler_arguments

SHIFT = 'rescale_atomic_energy.shift'
# what errors are computed from, besides the predictions
KEPT: Final[tuple[str, ...]] = (
    keys.FIDELITY_INDEX,
    keys.STRUCTURE_INDEX,
    keys.SAMPLE_WEIGHT,
    KEY.NUM_ATOMS,
    KEY.BATCH,
    *(ref_key for _, _, ref_key, _ in LABELS),
)
Seen = dict[str, torch.Tensor]


class BadLoss(TrainingStopped):
    """A batch whose loss is NaN or infinite.

    Attributes:
        structures: indices of the batch's structures.
    """

    def __init__(self, structures: list[int]) -> None:
        super().__init__('the loss is not finite')
        self.structures = structures


class FidelityTrainer(Trainer):
    """Trains on residual energies, fidelity by fidelity, in one or more processes.

    While it trains, the model's reference energies are taken out (the labels
    come without them, subtracted in float64), so that total energies of
    -6000 eV lose no digits in float32. Checkpoints contain them again.

    Args:
        config: the host's.
    """

    model: Any  # the module, or DDP around it

    def __init__(
        self,
        model: torch.nn.Module,
        losses: list[tuple[LossDefinition, float]],
        config: dict[str, Any],
        process: Process,
        n_fidelities: int,
    ) -> None:
        optimizer, scheduler = classes_of(config)
        device = process.device(config[KEY.DEVICE])
        try:
            super().__init__(
                model,
                losses,
                optimizer,
                config.get(KEY.OPTIM_PARAM) or {},
                scheduler,
                scheduler_arguments(config),
                device=device,
            )
        except (TypeError, ValueError) as error:
            raise UserError(
                f'train.optim_param or train.scheduler_param: {error}'
            ) from None
        self.module: Any = self.model
        self.rank = process.rank
        self.distributed = process.distributed
        self.n_fidelities = n_fidelities
        rescale = self.module._modules['rescale_atomic_energy']
        self.shift: torch.nn.Parameter = rescale.shift
        self.references = self.shift.detach().cpu().double()
        with torch.no_grad():
            self.shift.zero_()
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
        flags = self._flags(loss, stop)
        seen, (bad_here, bad, bad_gradient, stops) = fetch(labels, output, flags)
        if bad or bad_gradient:
            is_here = bad_here or not bad
            numbers = seen[keys.STRUCTURE_INDEX].tolist()
            raise BadLoss(numbers if is_here else [])
        drop_absent_gradients(self.module, present.tolist())
        with self._absent_rows_kept(present):
            self.optimizer.step()
        return seen, bool(stops)

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

    def _flags(self, loss: torch.Tensor, stop: bool) -> torch.Tensor:
        """(4,) on the device, nonzero where true: the loss of this process is bad,
        that of any is, the joint gradient is, any process was asked to stop."""
        gradients = [p.grad for p in self.module.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients).to(loss)
        bad = ~torch.isfinite(torch.stack([loss.detach(), norm]))
        flags = torch.cat([bad, torch.full_like(bad[:1], stop)]).int()
        own = flags[:1].clone()
        return torch.cat([own, sum_over_processes(flags)])

    def evaluate(self, loader: Iterable, recorder: SetRecorder) -> None:
        """Record the errors of a data set, and theta_T's part of its energies."""
        self.module.eval()
        for batch in loader:
            labels = labels_of(batch)
            batch = batch.to(self.device, non_blocking=True)
            common = self._common_energy(batch)
            output = self.module(batch)
            own = output[KEY.PRED_TOTAL_ENERGY].detach()
            theta = _theta(own, common, output[KEY.NUM_ATOMS])
            seen, parts = fetch(labels, output, theta)
            recorder.update(seen)
            if common is not None:
                recorder.update_theta(seen, torch.tensor(parts))
        self.module.train()

    def probe_theta(self, loader: Iterable, recorder: SetRecorder) -> None:
        """Record only theta_T's part of the energies, without forces."""
        if self.n_fidelities < 2:
            return
        self.module.eval()
        with torch.no_grad():
            for batch in loader:
                labels = labels_of(batch)
                batch = batch.to(self.device)
                common = self._common_energy(batch)
                own = total_energy(self.module, batch)
                theta = _theta(own, common, batch[KEY.NUM_ATOMS])
                recorder.update_theta(labels, theta.cpu())
        self.module.train()

    @torch.no_grad()
    def _common_energy(self, batch: Any) -> torch.Tensor | None:
        """Energies of the common potential, (n_graphs,) eV; None for one."""
        if self.n_fidelities < 2:
            return None
        with common_potential(self.module):
            return total_energy(self.module, batch.clone())

    def scheduler_step(self, metric: float | None = None) -> None:
        """As the host's; `metric` is the one that ReduceLROnPlateau uses."""
        with warnings.catch_warnings():
            # a run that is resumed at the end of an epoch comes here first
            warnings.filterwarnings('ignore', 'Detected call of `lr_scheduler.step')
            super().scheduler_step(metric)

    def get_checkpoint_dict(self) -> dict[str, Any]:
        """As the host's, with the reference energies put back."""
        model, self.model = self.model, self.module  # not DDP's names
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
        has added to them.
        """
        learnt = self.shift.detach().clone()
        self.module.load_state_dict(state)
        with torch.no_grad():
            self.shift.copy_(learnt)

    def weights_are_finite(self) -> bool:
        """Whether the weights are worth keeping."""
        finite = [torch.isfinite(p).all() for p in self.module.parameters()]
        return bool(torch.stack(finite).all())


def _theta(
    own: torch.Tensor, common: torch.Tensor | None, n_atoms: torch.Tensor
) -> torch.Tensor:
    """theta_T's part of energies, (n_graphs,) eV/atom; (0,) without it."""
    return own[:0] if common is None else (own - common) / n_atoms


def labels_of(batch: Any) -> Seen:
    """Return the labels of a batch; call it before the batch goes to a device."""
    return {name: batch[name].cpu() for name in KEPT}


def fetch(labels: Seen, output: Any, numbers: torch.Tensor) -> tuple[Seen, list]:
    """Bring predictions and some numbers to the CPU, in one transfer.

    This is the only time that a step waits for the device.

    Args:
        labels: as labels_of() returned them.
        output: what the model returned for the batch.
        numbers: (n,), on the model's device.

    Returns:
        Labels and predictions, without gradients, and the numbers.
    """
    predicted = {key: output[key].detach() for *_, key in LABELS}
    parts = [numbers, *predicted.values()]
    packed = torch.cat([part.reshape(-1).to(parts[-1]) for part in parts]).cpu()
    own, *flat = packed.split([part.numel() for part in parts])
    seen = dict(labels)
    for (key, value), part in zip(predicted.items(), flat, strict=True):
        seen[key] = part.view(value.shape)
    return seen, own.tolist()
