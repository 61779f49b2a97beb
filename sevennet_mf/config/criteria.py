"""What the error of one label costs: SevenNet's loss functions, and more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import sevenn._keys as KEY
import torch
from sevenn.train.optim import loss_dict

from sevennet_mf.config.recipe import flow
from sevennet_mf.config.training import DELTA, LabelLoss, LabelLosses
from sevennet_mf.errors import UserError, unknown

Config = dict[str, Any]
# prediction and label, each (n, components) -> (n, components), or (n, 1) for all
# components together
Criterion = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

LOSSES: Final[Config] = {**loss_dict, 'mae': torch.nn.L1Loss}
NORM: Final = 'l2mae'


class Norm:
    """The norm of the error of a vector, or of a symmetric tensor.

    Args:
        is_tensor: whether the last three of six components stand for two each.
    """

    def __init__(self, is_tensor: bool) -> None:
        self.is_tensor = is_tensor

    def __call__(
        self, predicted: torch.Tensor, reference: torch.Tensor
    ) -> torch.Tensor:
        error = predicted - reference
        if self.is_tensor:  # xx yy zz, and three that are in the tensor twice
            error = torch.cat([error, error[:, 3:]], dim=1)
        return torch.linalg.vector_norm(error, dim=1, keepdim=True)


def criterion_of(label: str, config: Config, own: LabelLosses | None) -> Criterion:
    """Return what the error of a label costs, with a value per component.

    Args:
        label: energy, force or stress.
        config: the host's.
        own: train.fidelity.loss.

    Raises:
        UserError: `train.loss` or its parameters are not valid.
    """
    name, given = _chosen(label, config, own)
    if name == NORM:
        return Norm(label == 'stress')
    if name not in LOSSES:
        raise unknown(f'train.{KEY.LOSS}', str(config[KEY.LOSS]), loss_dict)
    try:
        criterion: Criterion = LOSSES[name](**{**given, 'reduction': 'none'})
        criterion(torch.zeros(1), torch.zeros(1))  # torch checks numbers here
    except (RuntimeError, TypeError, ValueError) as error:
        raise UserError(f'train.{KEY.LOSS_PARAM}: {error}') from None
    return criterion


def described(label: str, config: Config, own: LabelLosses | None) -> str:
    """Return a loss in words, as `huber {delta: 0.01}`."""
    name, given = _chosen(label, config, own)
    return f'{name} {flow(given)}' if given else name


def _chosen(
    label: str, config: Config, own: LabelLosses | None
) -> tuple[str, Config]:
    """Name and parameters of the loss of a label."""
    chosen: LabelLoss | None = getattr(own, label, None)
    if chosen is None:
        name = str(config[KEY.LOSS]).lower()
        return name, dict(config.get(KEY.LOSS_PARAM) or {})
    if chosen.type != 'huber':
        return chosen.type, {}
    return 'huber', {'delta': DELTA if chosen.delta is None else chosen.delta}
