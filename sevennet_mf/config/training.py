"""Blocks of `train.fidelity` that say how a run is trained, whatever its data."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field, StrictBool, model_validator

from sevennet_mf.config.validation import Block, Count, Positive, Share

# of the Huber loss, in eV/atom, eV/Å and kbar: the recipe's
DELTA: Final[float] = 0.01

Tracker = Literal['tensorboard', 'wandb']


class LabelLoss(Block):
    """The loss of one label."""

    type: Literal['mse', 'huber', 'mae', 'l2mae'] = Field(
        description='`mse`, `huber` and `mae` are means over the components; '
        '`l2mae` is the length of the error of a force, or the norm of that of a '
        'stress tensor.'
    )
    delta: Positive | None = Field(
        None,
        description='Of `huber`: the error from which on it is linear (eV/atom, '
        f'eV/Å or kbar). Default: {DELTA}.',
    )

    @model_validator(mode='before')
    @classmethod
    def _word_alone(cls, given: Any) -> Any:
        return {'type': given} if isinstance(given, str) else given

    @model_validator(mode='after')
    def _delta_of_huber(self) -> LabelLoss:
        if self.delta is not None and self.type != 'huber':
            raise ValueError(f'`delta` belongs to huber; {self.type} has none')
        return self


class LabelLosses(Block):
    """A loss for each label; a word such as `force: l2mae` is its `type`."""

    energy: LabelLoss | None = Field(
        None, description='Of energies per atom. Default: `train.loss`.'
    )
    force: LabelLoss | None = Field(
        None, description='Of forces; the same keys. Default: `train.loss`.'
    )
    stress: LabelLoss | None = Field(
        None, description='Of stresses; the same keys. Default: `train.loss`.'
    )

    @model_validator(mode='after')
    def _energy_has_no_direction(self) -> LabelLosses:
        if self.energy is not None and self.energy.type == 'l2mae':
            raise ValueError(
                '`l2mae` is the norm of a vector, and an energy is a number: use '
                '`energy: mae`'
            )
        return self


class MovingAverage(Block):
    """An exponential moving average of the weights."""

    decay: Share = Field(
        0.999,
        description='Share of the average that is kept at each step; the rest is '
        'taken from the weights.',
    )
    warmup: StrictBool = Field(
        True,
        description='Begin with a smaller decay, (1 + t)/(10 + t) after t steps, so '
        'that the initial weights are soon forgotten.',
    )


class EarlyStopping(Block):
    """When a run ends before its last epoch."""

    patience: Count = Field(
        description='Number of epochs in a row without a new best checkpoint after '
        'which the run ends.'
    )
