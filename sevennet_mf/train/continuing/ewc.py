"""Elastic weight consolidation: keep weights that old fidelities depend on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from sevenn.train.loss import LossDefinition

from sevennet_mf import keys
from sevennet_mf.errors import UserError
from sevennet_mf.model.build import theta_of
from sevennet_mf.train.continuing.start import Start
from sevennet_mf.train.loop.trainer import FidelityTrainer

Weights = dict[str, torch.Tensor]
WHERE: Final = 'train.continue.fisher_information'  # keys.FISHER, readable


class Consolidation(LossDefinition):
    """The sum of F (w - w*)^2.

    It needs only the weights, so it is the same on every process, and the mean of
    the gradients is that of one process. Weights without an F are free.

    Args:
        importance: F, by the names of parameters.
        optimum: w*, of the same.
    """

    def __init__(self, importance: Weights, optimum: Weights) -> None:
        super().__init__(name='EWC')
        self.importance, self.optimum = importance, optimum

    def get_loss(
        self, batch_data: dict[str, Any], model: Callable | None = None
    ) -> torch.Tensor:
        assert isinstance(model, torch.nn.Module)
        own = dict(model.named_parameters())
        device = next(iter(own.values())).device
        for kept in (self.importance, self.optimum):  # only once
            kept.update({name: value.to(device) for name, value in kept.items()})
        loss = torch.zeros((), device=device)
        for name, value in self.importance.items():
            apart = own[name] - self.optimum[name]
            loss = loss + (value * apart.square()).sum()
        return loss


def asked(start: Start) -> bool:
    """Whether `train.continue` has keys of EWC."""
    wanted = (keys.FISHER, keys.OPT_PARAMS, keys.EWC_LAMBDA)
    return any(start.options.get(key) for key in wanted)


def term(
    start: Start, trainer: FidelityTrainer
) -> tuple[LossDefinition, float]:
    """Return the loss and its factor, for the model that is trained.

    The Fisher information is that of the checkpoint's own weights, by its names;
    here it becomes that of the run's weights, which an extension has scaled. Weights
    that the trained fidelities own are free.

    Raises:
        UserError: A file cannot be used or belongs to another model.
    """
    block = start.options
    factor = _factor(block)
    fisher = _read(block[keys.FISHER], WHERE, start)
    optimum = None
    if block.get(keys.OPT_PARAMS):
        optimum = _read(
            block[keys.OPT_PARAMS], f'train.continue.{keys.OPT_PARAMS}', start
        )
    own = dict(start.loaded.model.named_parameters())
    zero = {name: torch.zeros_like(p) for name, p in own.items()}
    one = {name: torch.ones_like(p) for name, p in own.items()}
    constant = _as_trained(zero, start, trainer)
    slope = _minus(_as_trained(one, start, trainer), constant)
    moved = _minus(_as_trained({**zero, **fisher}, start, trainer), constant)
    free = _free(start, trainer)
    # w' = slope * w + constant, so F' = F / slope^2, and `moved` is slope * F
    importance = {
        name: torch.where(k == 0, torch.zeros_like(k), moved[name] / k**3)
        for name, k in slope.items()
        if name not in free
    }
    if not importance:
        raise UserError(
            f'{WHERE}: EWC protects shared weights, but with '
            'train.fidelity.update: fidelity_only none of them is trained. Remove '
            'one of the two.'
        )
    there = _as_trained(
        {n: p.detach() for n, p in own.items()} | (optimum or {}), start, trainer
    )
    loss = Consolidation(importance, {name: there[name] for name in importance})
    return loss, factor / 2


def _factor(block: dict[str, Any]) -> float:
    """`ewc_lambda`; UserError if a key of EWC is missing or not valid."""
    if not block.get(keys.FISHER):
        raise UserError(
            f'{WHERE} is missing, but EWC needs it; `sevennet-mf fisher` writes '
            'it.'
        )
    factor: Any = block.get(keys.EWC_LAMBDA)
    is_number = isinstance(factor, int | float) and not isinstance(factor, bool)
    if not is_number or factor <= 0:
        raise UserError(
            f'train.continue.{keys.EWC_LAMBDA} must be greater than 0, got '
            f'{factor!r}.'
        )
    return float(factor)


def _read(path: str, where: str, start: Start) -> Weights:
    """A file of tensors by the names of the checkpoint's parameters."""
    try:
        found = torch.load(path, map_location='cpu', weights_only=True)
    except FileNotFoundError:
        raise UserError(f'{where}: no such file: {path}.') from None
    except Exception:  # random bytes may raise anything in a pickle
        raise UserError(
            f'{where}: {path} is not a file of tensors, or it is truncated. Write '
            'it with `sevennet-mf fisher`.'
        ) from None
    own = dict(start.loaded.model.named_parameters())
    if not isinstance(found, dict) or not found:
        raise UserError(f'{where}: {path} contains no named tensors.')
    for name, value in found.items():
        if name not in own or own[name].shape != value.shape:
            raise UserError(
                f'{where}: {path} belongs to another model than {start.path}: it '
                f'has {name} {tuple(value.shape)}. Write it for this checkpoint '
                'with `sevennet-mf fisher`.'
            )
    return found


def _free(start: Start, trainer: FidelityTrainer) -> set[str]:
    """Names of what trained fidelities own, and of what is not trained at all."""
    several = len(start.names) > 1
    theta = {
        id(p)
        for name in (start.trained if several else ())
        for p in theta_of(trainer.module, start.names.index(name))
    }
    return {
        name
        for name, p in trainer.module.named_parameters()
        if id(p) in theta or not p.requires_grad or name.startswith('rescale_')
    }


def _minus(a: Weights, b: Weights) -> Weights:
    return {name: value - b[name] for name, value in a.items()}


def _as_trained(values: Weights, start: Start, trainer: FidelityTrainer) -> Weights:
    """Numbers in place of the checkpoint's weights, as the run's weights.

    What an extension draws at random does not depend on them: it is the same in
    every call, and left as it is for the run.
    """
    with _holding(start.loaded.model, values), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = start.state()
    module = trainer.module
    kept = {name: value.clone() for name, value in module.state_dict().items()}
    module.load_state_dict(state)
    found = {n: p.detach().clone() for n, p in module.named_parameters()}
    module.load_state_dict(kept)
    return found


@contextmanager
def _holding(model: torch.nn.Module, values: Weights) -> Iterator[None]:
    """Set parameters of `model` to `values` within the context."""
    own = dict(model.named_parameters())
    kept = {name: p.detach().clone() for name, p in own.items()}
    try:
        with torch.no_grad():
            for name, value in values.items():
                own[name].copy_(value)
        yield
    finally:
        with torch.no_grad():
            for name, value in kept.items():
                own[name].copy_(value)
