"""An exponential moving average of the weights, which is evaluated and saved."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sevennet_mf.config.training import MovingAverage

Many = tuple[torch.Tensor, ...] | list[torch.Tensor]


class AveragedWeights(AveragedModel):
    """torch's average of a model, with a decay that may begin small.

    The first step's weights are its first value.

    Attributes:
        module: the model with the averaged weights.
    """

    def __init__(self, module: torch.nn.Module, options: MovingAverage) -> None:
        super().__init__(module, multi_avg_fn=self._average)
        self.options = options

    @property
    def steps(self) -> int:
        """How many steps are in the average."""
        return int(self.n_averaged)  # on the CPU: no device is waited for

    def decay(self, steps: int) -> float:
        """Return the share of the average that is kept after so many steps."""
        full = self.options.decay
        return min(full, (1 + steps) / (10 + steps)) if self.options.warmup else full

    @torch.no_grad()
    def _average(self, averaged: Many, current: Many, _: Any) -> None:
        get_ema_multi_avg_fn(self.decay(self.steps))(averaged, current, _)

    def restart(self, state: dict[str, torch.Tensor], steps: int = 0) -> None:
        """Take weights, such as those that training starts from, as the average.

        Args:
            state: a state dict of the model.
            steps: how many steps are in it.
        """
        self.module.load_state_dict(state)
        self.n_averaged.fill_(steps)

    def as_dict(self) -> dict[str, float | bool | int]:
        """Return what a checkpoint says about its weights."""
        options = self.options
        return {
            'decay': options.decay,
            'warmup': options.warmup,
            'steps': self.steps,
        }
